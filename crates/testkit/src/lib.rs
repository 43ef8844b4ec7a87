//! Development only: real registries on the loopback with faults, honest images, keys, sites, hostile bundles.
//!
//! Everything here panics when something is wrong, with a message that says what: a test shall stop there.
//!
//! [`Site`] (feature `site`) is what the programs' tests use. It needs the crates that make keys and ledgers; the rest stands
//! on the shared types only, so that any crate's tests can use it.
//!
//! A test begins with what it needs: `if !testkit::need(&["docker-registry", "skopeo"]) { return; }`.

#![allow(clippy::unwrap_used, missing_docs)]

pub mod hostile;
pub mod http;
pub mod idle;
pub mod layout;
pub mod modern;
pub mod node;
pub mod proxy;
pub mod registry;
#[cfg(feature = "site")]
pub mod site;
pub mod tools;

pub use hostile::Opened;
pub use idle::{Ending, IdleRelay};
pub use layout::{Layout, fixtures};
pub use modern::{Features, Modern};
pub use node::Node;
pub use proxy::{Fault, Proxy, Rule};
pub use registry::{Options, Registry};
#[cfg(feature = "site")]
pub use site::{Key, Site};
pub use tools::{Gpg, Ran, command, need, run, run_fails, run_ok, sealift_export, sealift_import};

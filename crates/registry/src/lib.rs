//! Sources and destinations of images: registries (OCI distribution specification 1.1), OCI layouts, archives.
//!
//! A registry is an attacker until a digest or a signature says otherwise. What it can try, and what answers it:
//!
//! | attack | answer |
//! |---|---|
//! | other content than was asked for | documents are checked against their digest in `client.rs`; blobs are read through a `VerifyingReader` by the caller |
//! | a digest in a header that is not the content's | `client.rs`, on fetching and on pushing |
//! | endless or huge answers, headers, redirects | `transport.rs`, with [`LIMITS`](manifest_schema::LIMITS) |
//! | endless lists of referrers or signatures, pages in a circle | `referrers.rs`, `extension.rs` |
//! | a list that seems to end because nobody can tell where its next page is | `link.rs` |
//! | a size that is not the blob's, a download that breaks or jumps | `stream.rs` |
//! | a redirect or `Location` that collects credentials, or leads from https to http | `Url::may_share_credentials`, `Transport::step` |
//! | a layer that unpacks without end | `layer.rs` |
//! | a token realm without TLS | `Authenticator::realm` |
//! | text that moves a terminal's cursor | `OutsideText` in every [`Error`] |
//! | an upload completed with wrong content | `upload.rs`: the body is a `VerifyingReader`, and the last byte is part of the request; `chunks.rs` completes nothing before the reader's end |
//! | a remembered upload that leads to another server, or is not what it was | `continued.rs`: asked for at the registry itself, and read through the check from its first byte on |
//!
//! To add a quirk of a registry: remember it in `quirks.rs`, act on it in `upload.rs`, `chunks.rs` or `host.rs`, and test it against the
//! server with faults of `tests/uploads.rs`.

mod attached;
mod auth;
mod challenge;
mod chunks;
mod client;
mod config;
mod continued;
mod credentials;
mod dir;
mod docker_archive;
mod error;
mod extension;
mod host;
mod layer;
mod layout;
mod link;
mod lookup;
mod names;
mod oci_archive;
mod proxy;
mod quirks;
mod referrers;
mod registries;
mod retry;
pub mod source;
mod stream;
mod tls;
mod transport;
mod upload;
mod url;

pub use client::{FetchedDocument, PushedDocument, RepositoryClient};
pub use config::Config;
pub use continued::{NoJournal, UploadJournal, UploadMark};
pub use error::Error;
pub use layer::{LayerSays, find_in_layer};
pub use referrers::FoundReferrer;
pub use registries::Registries;
pub use upload::PushedBlob;

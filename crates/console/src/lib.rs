//! How both programs talk: stdout is data, stderr is talk; errors say what, why, what state the world is in and what to
//! do next; exit codes say who is at fault.

pub mod args;
mod failure;
mod files;
mod output;
mod passphrase;
mod progress;
mod qr;

pub use failure::{Explain, Failure, Fault, chain, run};
pub use files::{read_text, write_new, write_secret};
pub use output::{bytes, print, print_json, say, table};
pub use passphrase::{PassphraseError, PassphraseSource, new_passphrase};
pub use progress::{Item, Progress};
pub use qr::{Ink, QrError, qr};

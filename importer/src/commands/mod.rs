//! The commands: an `Args` struct and a `run` each.

pub mod approve;
mod evidence;
pub mod handover;
pub mod init;
pub mod inspect;
pub mod keygen;
pub mod ledger;
pub mod promote;
pub mod receipt;
pub mod receive;
pub mod reject;
pub mod resign;
pub mod serve;
pub mod trust;
pub mod verify;
mod watch;
pub mod withdraw;

use std::io;
use std::path::Path;

use crate::error::Error;

/// Writes a file that must not be there yet.
fn write_new(path: &Path, content: &[u8]) -> Result<(), Error> {
    console::write_new(path, content).map_err(|source| match source.kind() {
        io::ErrorKind::AlreadyExists => Error::OutputExists(path.into()),
        _ => commands::Error::Write { path: path.into(), source }.into(),
    })
}

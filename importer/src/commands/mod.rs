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
pub mod trust;
pub mod verify;
mod watch;
pub mod withdraw;

//! The commands: an `Args` struct and a `run` each.

pub mod init;
pub mod pack;
pub mod plan;
pub mod receipts;
pub mod sign;

//! Commands that both programs offer.

pub mod check;
mod error;
pub mod keygen;

pub use error::{Error, folder_fault, folder_hint};

//! What both programs share of their command lines: `check`, statements of custody, `keygen`, configuration files, the gate,
//! registry access, keys.

pub mod check;
mod error;
pub mod gate;
pub mod handover;
pub mod keygen;
pub mod settings;

pub use error::{
    Error, age_hint, folder_fault, folder_hint, registry_fault, registry_hint, rejected_hint, signing_hint,
    source_fault, source_hint,
};

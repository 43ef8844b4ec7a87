//! cosign signatures: verified with keys and signatures that OpenSSL made, and made for OpenSSL to verify.
#![allow(clippy::unwrap_used)]

#[path = "../common/mod.rs"]
mod common;

mod attachment;
mod bundle;
mod forge;
mod keyless;
mod keys;
mod support;
mod verify;

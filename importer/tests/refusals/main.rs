//! One fixture, one flaw, one expected refusal: its exit code, a message that says what is wrong, and proof that nothing
//! was published. `verify` must see every flaw too.

#![allow(clippy::unwrap_used)]

#[path = "../common/mod.rs"]
mod common;

mod admission;
mod content;
mod documents;
mod manifest;
mod media;
mod seal;
mod standing;

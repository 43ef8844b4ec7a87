//! `handover`: clusters with the files that it writes, played by stock skopeo and podman.

#![allow(clippy::unwrap_used)]

mod crd;
mod merge;
mod mirrors;
mod production;
mod staging;

//! `handover`: clusters with the files that it writes, played by stock skopeo and podman.

#![allow(clippy::unwrap_used)]

mod cosign;
mod crd;
mod ignition;
mod merge;
mod mirrors;
mod openshift;
mod portieris;
mod production;
mod staging;

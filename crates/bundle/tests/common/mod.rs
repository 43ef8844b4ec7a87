//! What the tests of this crate share.

use std::path::Path;

use age::secrecy::ExposeSecret;
use bundle::Identities;

/// Makes an identity in the file `enclave.key` of a folder. Gives its recipient, and the identity as it is loaded.
pub fn identity(folder: &Path) -> (String, Identities) {
    let made = bundle::generate_identity("2026-01-31T09:00:00Z", None).expect("an identity");
    let path = folder.join("enclave.key");
    std::fs::write(&path, made.file.expose_secret()).expect("written");
    (made.recipient, Identities::load(&path, || Err("asked".into())).expect("loaded"))
}

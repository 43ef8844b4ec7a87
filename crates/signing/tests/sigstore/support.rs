//! OpenSSL, and payloads to sign.

use std::path::Path;
use std::process::Command;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use manifest_schema::{Digest, Reference};
use signing::SigstoreSignature;
use signing::sigstore::{SIGNATURE_ANNOTATION, sigstore_payload};

use crate::common::time;

pub const DIGEST: &str = "sha256:20bf21ed457b390829cdbeec8795a7bea1626991fda603e0d01b4e7f60427e55";

/// The kinds of key that count, as `openssl genpkey` is asked for them.
pub const KINDS: [&[&str]; 4] = [
    &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"],
    &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"],
    &["-algorithm", "ED25519"],
    &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"],
];

/// OpenSSL in a folder of its own.
pub struct OpenSsl(tempfile::TempDir);

impl OpenSsl {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub fn run(&self, args: &[&str]) -> Vec<u8> {
        let output = Command::new("openssl").args(args).current_dir(self.0.path()).output().unwrap();
        assert!(output.status.success(), "openssl {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    pub fn write(&self, name: &str, bytes: &[u8]) {
        std::fs::write(self.path().join(name), bytes).unwrap();
    }

    /// Makes `NAME.key` (PKCS #8) and gives the public key in PEM, which is in `NAME.pub` too.
    pub fn make(&self, name: &str, kind: &[&str]) -> Vec<u8> {
        let (key, public) = (format!("{name}.key"), format!("{name}.pub"));
        self.run(&[&["genpkey", "-out", &key], kind].concat());
        self.run(&["pkey", "-in", &key, "-pubout", "-out", &public]);
        std::fs::read(self.path().join(public)).unwrap()
    }

    /// Signs as cosign does: SHA-256 for all kinds but Ed25519.
    pub fn sign(&self, name: &str, payload: &[u8]) -> Vec<u8> {
        self.write("payload", payload);
        let key = format!("{name}.key");
        let ed =
            self.run(&["pkey", "-pubin", "-in", &format!("{name}.pub"), "-noout", "-text"]).starts_with(b"ED25519");
        if ed {
            self.run(&["pkeyutl", "-sign", "-rawin", "-inkey", &key, "-in", "payload"])
        } else {
            self.run(&["dgst", "-sha256", "-sign", &key, "payload"])
        }
    }
}

pub fn reference() -> Reference {
    Reference::parse_normalized("registry.prod.example/payments/api:2.3.1").unwrap()
}

pub fn payload() -> Vec<u8> {
    sigstore_payload(&reference(), &digest(), "test", time("2026-01-02T03:04:05Z")).unwrap()
}

pub fn digest() -> Digest {
    DIGEST.parse().unwrap()
}

pub fn attached(payload: &[u8], signature: &[u8]) -> SigstoreSignature {
    let annotations = [(SIGNATURE_ANNOTATION.to_string(), STANDARD.encode(signature))].into();
    SigstoreSignature { payload: payload.into(), annotations }
}

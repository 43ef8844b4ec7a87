//! Keys in every state, and signatures by them.

use std::collections::BTreeMap;

use manifest_schema::Timestamp;
use secrecy::ExposeSecret;
use sequoia_openpgp as openpgp;
use signing::{Algorithm, GeneratedKey, KeyRequest};
use testkit::tools::{Gpg, run_ok};

use crate::common::{from_now, key, request};

pub const NAME: &str = "registry.example:5000/team/app:1";

/// Keys of every kind, with a GnuPG home that holds their certificates and one that holds their secret keys.
pub struct Keys {
    pub by_name: BTreeMap<&'static str, GeneratedKey>,
    /// A certificate whose signing key is a subkey.
    pub subkey: (String, Vec<u8>),
    pub signing: Gpg,
    pub verifying: Gpg,
}

impl Keys {
    pub fn new() -> Self {
        let day = 86_400;
        let rsa = |name: &str| KeyRequest { algorithm: Algorithm::Rsa3072, ..request(name) };
        let old = |name: &str, expires: i64| KeyRequest {
            created: from_now(-30 * day),
            expires: Some(from_now(expires)),
            ..request(name)
        };
        let made = [
            ("a", rsa("a")),
            ("b", request("b")),
            ("ed25519", KeyRequest { algorithm: Algorithm::Ed25519, ..request("ed25519") }),
            ("expires", old("expires", day)),
            ("expired", old("expired", -day)),
            ("revoked", request("revoked")),
            ("stranger", request("stranger")),
        ];
        let by_name: BTreeMap<_, _> = made.into_iter().map(|(name, request)| (name, key(&request).0)).collect();
        let (signing, verifying) = (Gpg::new(), Gpg::new());
        for key in by_name.values() {
            signing.import(key.secret_armored.expose_secret().as_bytes());
        }
        let fingerprint = signing.generate("sub", "rsa3072");
        let add = ["--passphrase", "", "--quick-add-key", &fingerprint, "rsa3072", "sign", "never"];
        run_ok(signing.command().args(add));
        let keys = Self { subkey: (fingerprint.clone(), signing.export(&fingerprint)), by_name, signing, verifying };
        for name in keys.by_name.keys().filter(|name| **name != "stranger") {
            keys.verifying.import(&keys.certificate(name));
        }
        keys.verifying.import(&keys.subkey.1);
        keys
    }

    /// The certificate of a key, with its revocation if it is revoked.
    pub fn certificate(&self, name: &str) -> Vec<u8> {
        if name == "subkey" {
            return self.subkey.1.clone();
        }
        let key = &self.by_name[name];
        let revocation = if name == "revoked" { &key.revocation_armored[..] } else { b"" };
        [&key.certificate_armored, revocation].concat()
    }

    pub fn fingerprint(&self, name: &str) -> &str {
        if name == "subkey" { &self.subkey.0 } else { self.by_name[name].fingerprint.as_str() }
    }

    /// An honest signature by a key under a name.
    pub fn sign(&self, name: &str, payload: &[u8]) -> Vec<u8> {
        if name == "subkey" {
            return self.gpg(&["-u", &self.subkey.0], payload);
        }
        let at = if name.starts_with("expire") { from_now(-20 * 86_400) } else { from_now(-1) };
        // A key that has expired signs no more, but a signature of when it could is as easily made.
        sign_message_at(&self.by_name[name], payload, at)
    }

    /// What gpg makes of a payload with these arguments (`--sign` unless they name another command).
    pub fn gpg(&self, args: &[&str], payload: &[u8]) -> Vec<u8> {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("payload"), payload).unwrap();
        let mut gpg = self.signing.command();
        gpg.args(["--trust-model", "always", "--no-auto-check-trustdb", "--output"]).arg(at("out"));
        gpg.args(args);
        let commands = ["--sign", "--detach-sign", "--clear-sign", "--store", "--encrypt"];
        if !args.iter().any(|arg| commands.contains(arg)) {
            gpg.arg("--sign");
        }
        run_ok(gpg.arg(at("payload")));
        std::fs::read(at("out")).unwrap()
    }
}

pub fn sign_message_at(key: &GeneratedKey, payload: &[u8], at: Timestamp) -> Vec<u8> {
    use openpgp::parse::Parse;
    use openpgp::serialize::stream::{LiteralWriter, Message, Signer};
    let cert = openpgp::Cert::from_bytes(key.secret_armored.expose_secret()).unwrap();
    let keypair = cert.primary_key().key().clone().parts_into_secret().unwrap().into_keypair().unwrap();
    let mut bytes = Vec::new();
    let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(at.unix().try_into().unwrap());
    let signer = Signer::new(Message::new(&mut bytes), keypair).unwrap().creation_time(time).build().unwrap();
    let mut message = LiteralWriter::new(signer).build().unwrap();
    std::io::Write::write_all(&mut message, payload).unwrap();
    message.finalize().unwrap();
    bytes
}

//! Keys, times and a throwaway GnuPG home for the tests.
#![allow(dead_code, clippy::unwrap_used)]

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use manifest_schema::Timestamp;
use secrecy::{ExposeSecret, SecretString};
use signing::{Algorithm, Certificates, Error, Fingerprint, GeneratedKey, KeyRequest, SecretKey, Trust, generate};

/// A time in UTC.
pub fn time(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// Now, moved by some seconds.
pub fn from_now(seconds: i64) -> Timestamp {
    Timestamp::from_unix(Timestamp::now().unix() + seconds).unwrap()
}

/// A request for a P-256 key without passphrase, made a minute ago.
pub fn request(name: &str) -> KeyRequest {
    KeyRequest {
        user_id: format!("{name} <{name}@example.org>"),
        algorithm: Algorithm::P256,
        passphrase: None,
        expires: None,
        created: from_now(-60),
    }
}

/// A key and its secret part, unlocked.
pub fn key(request: &KeyRequest) -> (GeneratedKey, SecretKey) {
    let made = generate(request).unwrap();
    let secret = unlock(made.secret_armored.expose_secret().as_bytes(), None).unwrap();
    (made, secret)
}

/// Unlocks a secret key.
pub fn unlock(bytes: &[u8], passphrase: Option<&str>) -> Result<SecretKey, Error> {
    SecretKey::from_bytes(bytes, Path::new("key.asc"), || match passphrase {
        Some(passphrase) => Ok(SecretString::from(passphrase)),
        None => panic!("asked for a passphrase"),
    })
}

/// Certificates out of several files' bytes.
pub fn certificates(files: &[&[u8]]) -> Certificates {
    let folder = tempfile::tempdir().unwrap();
    let paths: Vec<PathBuf> = files
        .iter()
        .enumerate()
        .map(|(i, bytes)| {
            let path = folder.path().join(format!("{i}.asc"));
            std::fs::write(&path, bytes).unwrap();
            path
        })
        .collect();
    Certificates::load(&paths).unwrap()
}

/// Trust in these certificates, now.
pub fn trust(files: &[&[u8]], threshold: usize) -> Trust {
    Trust::new(certificates(files), threshold, Timestamp::now()).unwrap()
}

/// Whether all these programs are there. In CI they must be.
pub fn have(programs: &[&str]) -> bool {
    for program in programs {
        let found = std::env::var_os("PATH")
            .is_some_and(|path| std::env::split_paths(&path).any(|folder: PathBuf| folder.join(program).is_file()));
        if !found {
            assert!(std::env::var_os("CI").is_none(), "{program} is needed");
            println!("skipped: {program} is not installed");
            return false;
        }
    }
    true
}

/// A GnuPG home of its own; its agent ends with it.
pub struct Gpg {
    pub home: tempfile::TempDir,
}

impl Gpg {
    pub fn new() -> Self {
        Self { home: tempfile::tempdir().unwrap() }
    }

    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env("GNUPGHOME", self.home.path()).env("LC_ALL", "C").current_dir(self.home.path());
        command
    }

    /// Runs gpg without questions; whether it succeeded is in the output.
    pub fn try_run(&self, args: &[&str]) -> Output {
        let mut command = self.command("gpg");
        command.args(["--batch", "--yes", "--pinentry-mode", "loopback", "--passphrase", ""]).args(args);
        command.output().unwrap()
    }

    /// Runs gpg, which must succeed, and gives its standard output.
    pub fn run(&self, args: &[&str]) -> Vec<u8> {
        let output = self.try_run(args);
        assert!(output.status.success(), "gpg {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    }

    pub fn write(&self, name: &str, bytes: &[u8]) -> String {
        let path = self.home.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path.to_str().unwrap().into()
    }

    pub fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.home.path().join(name)).unwrap()
    }

    pub fn import(&self, bytes: &[u8]) {
        let path = self.write("import.asc", bytes);
        self.run(&["--import", &path]);
    }

    /// Makes a key and gives its fingerprint.
    pub fn make(&self, user_id: &str, algorithm: &str, usage: &str) -> String {
        self.run(&["--quick-gen-key", user_id, algorithm, usage, "never"]);
        self.fingerprint(user_id)
    }

    pub fn fingerprint(&self, user_id: &str) -> String {
        let list = String::from_utf8(self.run(&["--with-colons", "--list-keys", user_id])).unwrap();
        let line = list.lines().find(|l| l.starts_with("fpr:")).unwrap();
        line.split(':').nth(9).unwrap().into()
    }
}

impl Drop for Gpg {
    fn drop(&mut self) {
        let _ = self.command("gpgconf").args(["--kill", "all"]).output();
    }
}

/// A fingerprint.
pub fn fingerprint(text: impl AsRef<OsStr>) -> Fingerprint {
    text.as_ref().to_str().unwrap().parse().unwrap()
}

/// Signs any payload as an inline message, as [`SecretKey::sign_simple`] does for an honest one.
pub fn sign_message(key: &GeneratedKey, payload: &[u8], at: Timestamp) -> Vec<u8> {
    use openpgp::parse::Parse;
    use openpgp::policy::StandardPolicy;
    use openpgp::serialize::stream::{LiteralWriter, Message, Signer};
    use sequoia_openpgp as openpgp;

    let cert = openpgp::Cert::from_bytes(key.secret_armored.expose_secret()).unwrap();
    let policy = StandardPolicy::new();
    // The last key that may sign: a subkey, if there is one.
    let keys = cert.keys().secret().with_policy(&policy, None).for_signing();
    let keypair = keys.last().unwrap().key().clone().into_keypair().unwrap();
    let mut bytes = Vec::new();
    let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(at.unix().try_into().unwrap());
    let message = Message::new(&mut bytes);
    let message = Signer::new(message, keypair).unwrap().creation_time(time).build().unwrap();
    let mut message = LiteralWriter::new(message).build().unwrap();
    std::io::Write::write_all(&mut message, payload).unwrap();
    message.finalize().unwrap();
    bytes
}

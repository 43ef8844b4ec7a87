//! `init`: everything a team needs to pack its first release.

use std::path::PathBuf;

use clap::Args;
use commands::keygen::{self, AlgorithmArg, ProtectArgs, Role};
use console::Failure;
use manifest_schema::Stream;

/// Makes a folder with a release key and a commented release.yaml
#[derive(Debug, Args)]
pub struct Init {
    /// The folder; made if it is not there
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// The release line
    #[arg(long, default_value = "my-release", env = "SEALIFT_STREAM")]
    stream: Stream,
    /// The receiving side's age recipient, if it is known already
    #[arg(short, long, value_name = "RECIPIENT", env = "SEALIFT_RECIPIENT", value_delimiter = ',')]
    recipient: Vec<String>,
    /// Use this OpenPGP secret key instead of making one
    #[arg(long, value_name = "FILE", env = "SEALIFT_SIGN_KEY")]
    sign_key: Option<PathBuf>,
    /// The signature algorithm of the new key
    #[arg(long, value_enum, default_value = "rsa3072", env = "SEALIFT_ALGORITHM")]
    algorithm: AlgorithmArg,
    #[command(flatten)]
    protect: ProtectArgs,
}

impl Init {
    /// Runs the command.
    ///
    /// # Errors
    /// A failure with its exit code.
    pub fn run(self) -> Result<(), Failure> {
        self.init().map_err(|e| Failure::new(&e))
    }

    fn init(self) -> Result<(), commands::Error> {
        let write = |path: PathBuf| move |source| commands::Error::Write { path, source };
        for recipient in &self.recipient {
            bundle::parse_recipient(recipient)?;
        }
        std::fs::create_dir_all(&self.folder).map_err(write(self.folder.clone()))?;
        let config = self.folder.join("release.yaml");
        if config.symlink_metadata().is_ok() {
            return Err(commands::Error::KeyExists(config));
        }
        let key = match &self.sign_key {
            Some(path) => std::path::absolute(path).map_err(write(path.clone()))?.display().to_string(),
            None => {
                let made = keygen::openpgp(&self.folder, Role::Release, None, self.algorithm, None, &self.protect)?;
                for note in &made.notes {
                    console::say(note);
                }
                console::say(&format!("fingerprint {}", made.public));
                "release.secret.asc".into()
            }
        };
        let text = TEMPLATE
            .replace("@STREAM@", self.stream.as_str())
            .replace("@KEY@", &serde_json::Value::from(key).to_string())
            .replace("@RECIPIENTS@", &serde_json::Value::from(self.recipient).to_string());
        console::write_new(&config, text.as_bytes()).map_err(write(config.clone()))?;
        console::print(&format!("{}\n", config.display())).map_err(commands::Error::Stdout)
    }
}

/// The release file that `init` writes; a test parses it.
pub const TEMPLATE: &str = r#"# What a release consists of. Every key is also a flag of `sealift-export plan` and `pack`.

# The release line. The receiving side must have a stream of this name in its import.yaml.
stream: @STREAM@

# Higher from release to release: a number, or `time` for the current time.
sequence: time

# Who can open the bundle: the content of enclave.recipient, from the receiving side (age1...).
recipients: @RECIPIENTS@

# The release key. Give release.asc to the receiving side, and tell them the fingerprint by another way. Instead of `key: FILE`,
# `by: FINGERPRINT` names a key that gpg-agent holds; if several sign, this is a list.
sign:
  key: @KEY@
  # passphrase_file: release.passphrase

# The images: a registry is the default; oci:DIR:NAME, oci-archive:FILE, docker-archive:FILE and dir:DIR are read too.
images: []
#  - registry.dev.example/payments/api:2.3.1
#  - oci:build/web:1.0=registry.dev.example/payments/web:1.0

# Only these platforms of multi-platform images; all of them if this is left out.
# platforms: [linux/amd64]

# Shown on LABEL.txt, for people.
# labels: {ticket: CHG-1234, classification: internal}

# Reports of scanners that travel with the images, and what they must say before anything is packed.
# attach: [trivy.json]
# gate: {scan: {max: {critical: 0}, max_age: 14d}}

# What is attached to images travels with them: signatures, SBOMs, attestations. `none`, or types, carries less.
# referrers: all

# Sign the images with the release key too, for clusters that demand a signature of the origin.
# sign_images: true

# After this the bundle is not admitted any more: a time, or a span such as 30d.
# expires: 30d

# The largest file (fat32, none, or a size), what one medium holds (cd, dvd, dvd-dl, bd, bd-dl, or a size), and recovery data.
# volumes: {size: fat32, media: dvd, recovery: 10%}

# An earlier bundle that the other side has received, of which no layer is carried again: its name, or `latest` for the newest
# that production's receipts (`sealift-export receipts add`) say is there. They count with the certificate of its ledger.
# base: payments-41
# receipts: {certificates: [ledger.asc]}
"#;

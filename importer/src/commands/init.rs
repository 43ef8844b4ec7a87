//! `init`: everything a production site needs to receive its first bundle.

use std::path::{Path, PathBuf};

use clap::Args;
use commands::keygen::{self, AlgorithmArg, ProtectArgs, Role};
use commands::settings::{KeyHolder, KeySource};
use console::{Failure, PassphraseSource};
use ledger::{Created, Ledger};
use manifest_schema::Timestamp;

use crate::access::{self, stamp, to_ledger};
use crate::audit::certify::certify_or_warn;
use crate::error::Error;

/// Makes a folder with identity, production key, ledger key, ledger, trust folder and a commented import.yaml
#[derive(Debug, Args)]
pub struct Init {
    /// The folder; made if it is not there
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// Use this age identity instead of making one
    #[arg(short, long, value_name = "FILE", env = "SEALIFT_IDENTITY")]
    identity: Option<PathBuf>,
    /// Use this OpenPGP secret key for production instead of making one
    #[arg(long, value_name = "FILE", env = "SEALIFT_SIGN_KEY")]
    sign_key: Option<PathBuf>,
    /// With --sign-key: a file whose first line is its passphrase [also: SEALIFT_SIGN_PASSPHRASE]
    #[arg(long, value_name = "FILE", env = "SEALIFT_SIGN_PASSPHRASE_FILE")]
    sign_passphrase_file: Option<PathBuf>,
    /// The signature algorithm of new keys
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

    fn init(self) -> Result<(), Error> {
        let write = |path: PathBuf| move |source| commands::Error::Write { path, source };
        let trust = self.folder.join("trust");
        std::fs::create_dir_all(&trust).map_err(write(trust.clone()))?;
        let config = self.folder.join("import.yaml");
        if config.symlink_metadata().is_ok() {
            return Err(commands::Error::KeyExists(config).into());
        }
        let now = Timestamp::now();
        // Before anything is made: it has to certify the ledger key.
        let given = self.sign_key.as_ref().map(|path| {
            let passphrase =
                PassphraseSource { file: self.sign_passphrase_file.clone(), variable: "SEALIFT_SIGN_PASSPHRASE" };
            KeySource { holder: KeyHolder::File(path.clone()), passphrase }.unlock(now)
        });
        let given = given.transpose()?;
        let identity = match &self.identity {
            Some(path) => absolute(path)?,
            None => {
                let made = keygen::identity(&self.folder, &self.protect)?;
                said(&made.public, &made.secret, &made.notes)
            }
        };
        let (key, production) = match (&self.sign_key, given) {
            (Some(path), Some(key)) => (absolute(path)?, key),
            _ => {
                let made = keygen::openpgp(&self.folder, Role::Production, None, self.algorithm, None, &self.protect)?;
                (said(&made.public, &made.secret, &made.notes), made.key)
            }
        };
        let made = keygen::openpgp(&self.folder, Role::Ledger, None, self.algorithm, None, &self.protect)?;
        let ledger_secret = said(&made.public, &made.secret, &made.notes);
        let ledger_key = certify_or_warn(&production, &made.key, &self.folder.join("ledger.asc"))?;
        let created = Created { production: Some(to_ledger(&production.fingerprint())), ledger_key: None };
        let ledger = self.folder.join("ledger.db");
        let custody = access::custody(ledger_key, access::default_second(&ledger));
        let id = Ledger::create(&ledger, &stamp()?, created, Some(&custody))?;
        let text = TEMPLATE
            .replace("@IDENTITY@", &serde_json::Value::from(identity).to_string())
            .replace("@LEDGER@", &id.to_string())
            .replace("@LEDGER_KEY@", &serde_json::Value::from(ledger_secret).to_string())
            .replace("@KEY@", &serde_json::Value::from(key).to_string());
        console::write_new(&config, text.as_bytes()).map_err(write(config.clone()))?;
        console::print(&format!("{}\n", config.display())).map_err(Error::Stdout)
    }
}

fn said(public: &str, secret: &Path, notes: &[String]) -> String {
    for note in notes {
        console::say(note);
    }
    console::say(&format!("  {public}"));
    secret.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn absolute(path: &Path) -> Result<String, Error> {
    let path = std::path::absolute(path).map_err(|source| commands::Error::Write { path: path.into(), source })?;
    Ok(path.display().to_string())
}

/// The configuration that `init` writes; a test parses it.
pub const TEMPLATE: &str = r#"# What this site accepts, from whom, and where it goes.

# Opens bundles. Give enclave.recipient to those who pack.
identity: @IDENTITY@
# identity_passphrase_file: enclave.passphrase

# Every other file under this name is refused. The ledger key signs the ledger's heads and receipts; the production key has
# certified it in ledger.asc, so that production.asc is enough to check them. The last head is written to a second file too, best
# on another disk: a ledger that is behind it is not written to.
ledger:
  file: ledger.db
  id: @LEDGER@
  sign:
    key: @LEDGER_KEY@
    # passphrase_file: ledger.passphrase
  # certificate: ledger.asc
  # head: /other/disk/ledger.head

# The release lines that are accepted; a bundle of any other is refused. For each: the certificates of those who release it
# (files, or a folder of them; compare the fingerprint by another way), what its images may claim to be, and where they go.
streams: {}
#  payments:
#    release: {certificates: [trust/release.asc], threshold: 1}
#    origins: [registry.dev.example/payments]
#    to:
#      - {from: registry.dev.example/payments, to: registry.prod.example/payments}
#    replace_tags: [latest, 'stable-*']
#    # What images are judged by: a containers-policy.json(5) file over the names they had at their origin.
#    # images: trust/policy.json
#    # What sigstore bundles beside them are verified with.
#    # sigstore: {keys: [trust/cosign.pub]}

# Signs images for production: `key: FILE`, or `by: FINGERPRINT` for a key that gpg-agent holds. Give production.asc to those who
# run the clusters. The folder is what they read as lookaside.
production:
  sign:
    key: @KEY@
    # passphrase_file: production.passphrase
  lookaside: sigstore/
  # The folder lies in a git working tree: every import becomes a commit.
  # lookaside_git: {author: Sealift <sealift@prod.example>, remote: origin}
  # What `sealift-import handover production` tells the clusters: whose signatures count, and where they are.
  # certificates: [production.asc]
  # lookaside_url: https://signatures.prod.example/sigstore
  # mirrors: digest
  # What nodes pull from others, and which clusters take more than files: docs/configuration.md has all keys.
  # handover: {for: [openshift], merge_policy: nodes/policy.json, images_in_use: nodes/images.txt}
  # Gives signatures to registries that keep them, too: OpenShift's.
  # registry_signatures: true
  # Signs in the form of cosign too; `sealift-import keygen cosign` makes the key.
  # cosign: {key: cosign.key}
  # Where clusters find the signatures of OpenShift release images.
  # release_signatures: release-signatures/

# A registry before production, by production's names: `receive` lets images wait there, and `promote` goes on.
# staging:
#   to: [{from: registry.prod.example, to: registry.qa.example}]
#   lookaside: qa-sigstore/

# A tag that names another image already: fail, skip or replace.
on_existing_tag: fail

# What reports of scanners must say of images before they are let in, and a scanner of this site's own.
# gate: {scan: {required: [vulnerabilities, sbom], max: {critical: 0}, max_age: 14d}}
# scan: {command: [trivy, image, --format, json, --input, "{archive}"], plaintext_dir: /run/sealift-scan}

# Certificates of couriers whose statements of custody count as signed by someone known.
# couriers: [trust/couriers/]

# Who must approve a bundle before its images are signed for production, and how many of them. Each makes a key of his own with
# `sealift-import keygen approver`. With exclude_promoter, an approval by whoever promotes does not count.
# approvers: {certificates: [trust/approvers/], threshold: 2, exclude_promoter: true}

# Let `receive --watch` receive into production whatever medium has a good seal, without a person.
# watch: {into: production}
"#;

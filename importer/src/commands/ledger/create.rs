//! `ledger create`

use std::path::{Path, PathBuf};

use clap::Args;
use commands::keygen::{self, AlgorithmArg, ProtectArgs, Role};
use commands::settings::SignArgs;
use ledger::{Created, Ledger, LedgerId};
use manifest_schema::Timestamp;
use serde::Serialize;

use super::{Context, production};
use crate::access::{custody, stamp, to_ledger};
use crate::audit::certify::certify_or_warn;
use crate::error::Error;

/// Makes a new ledger, and a key for it if none is named; `init` makes these and everything else
///
/// The new ledger knows nothing of what came in before.
#[derive(Debug, Args)]
pub(super) struct Create {
    /// The signature algorithm of a new key
    #[arg(long, value_enum, default_value = "rsa3072", env = "SEALIFT_ALGORITHM")]
    algorithm: AlgorithmArg,
    #[command(flatten)]
    protect: ProtectArgs,
    #[command(flatten)]
    sign: SignArgs,
}

#[derive(Serialize)]
struct Report {
    ledger: LedgerId,
    file: PathBuf,
    key: String,
}

impl Create {
    pub(super) fn run(self, context: Context) -> Result<(), Error> {
        let now = Timestamp::now();
        let (config, access) = (context.configuration()?, context.access()?);
        let path = access.path();
        if path.symlink_metadata().is_ok() {
            return Err(ledger::Error::Exists(path.into()).into());
        }
        let production = production(self.sign, config.as_ref(), now)?;
        let (key, certificate) = if access.has_key() {
            let key = access.key(now)?;
            context.suits(&key)?;
            (key, access.certificate_file())
        } else {
            let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
            let made = keygen::openpgp(folder, Role::Ledger, None, self.algorithm, None, &self.protect)?;
            for note in &made.notes {
                console::say(note);
            }
            console::say(&format!("in import.yaml, under `ledger:`: sign: {{key: {}}}", made.secret.display()));
            (made.key, Some(folder.join("ledger.asc")))
        };
        let key = match (&production, certificate) {
            (Some(production), Some(file)) => certify_or_warn(production, &key, &file)?,
            _ => {
                console::say(
                    "warning: no production key certifies the ledger key; `sealift-import ledger certify` does so later",
                );
                key
            }
        };
        let fingerprint = key.fingerprint().to_string();
        let facts = Created { production: production.map(|key| to_ledger(&key.fingerprint())), ledger_key: None };
        let id = Ledger::create(path, &stamp()?, facts, Some(&custody(key, access.second().into())))?;
        console::say(&format!("in import.yaml, under `ledger:`: id: {id}"));
        context.print(&Report { ledger: id, file: path.into(), key: fingerprint }, |r| format!("{}\n", r.ledger))
    }
}

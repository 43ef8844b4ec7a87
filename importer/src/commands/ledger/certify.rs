//! `ledger certify`

use std::path::PathBuf;

use clap::Args;
use commands::settings::SignArgs;
use ledger::Ledger;
use manifest_schema::Timestamp;
use serde::Serialize;

use super::{Context, production};
use crate::access::custody;
use crate::audit::certify::{Certified, certify};
use crate::error::Error;

/// Lets the production key certify the ledger key, so that production's certificate is enough to check what it signs
///
/// `init` does so. Certifications add up: do it again when the production key changes.
#[derive(Debug, Args)]
pub(super) struct Certify {
    #[command(flatten)]
    sign: SignArgs,
}

#[derive(Serialize)]
struct Report {
    file: PathBuf,
    key: String,
    by: String,
}

impl Certify {
    pub(super) fn run(self, context: Context) -> Result<(), Error> {
        let now = Timestamp::now();
        let (config, access) = (context.configuration()?, context.access()?);
        let file = access.certificate_file().ok_or(Error::Missing("a file for the ledger key's certificate"))?;
        let ledger_key = access.key(now)?;
        context.suits(&ledger_key)?;
        let production = production(self.sign, config.as_ref(), now)?.ok_or(Error::Missing("a production key"))?;
        let Certified { key, file, by } = certify(&production, &ledger_key, &file)?;
        let report = Report { file, key: key.fingerprint().to_string(), by: by.to_string() };
        // The ledger keeps the certificate beside the head.
        Ledger::open(access.path(), access.id(), Some(custody(key, access.second().into())))?.sign_head()?;
        context.print(&report, |r| format!("{}: ledger key {}, certified by {}\n", r.file.display(), r.key, r.by))
    }
}

//! `ledger prove`

use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use ledger::{About, EntryNumber};
use manifest_schema::{Digest, OutsideText};

use signing::Certificates;

use super::Context;
use super::output::Output;
use crate::access::LedgerChecker;
use crate::error::Error;

/// Writes a proof of what the ledger says of an image, for those who have production's certificate and not the ledger
///
/// It holds the signed head, the ledger key's certificate, and the entries about the bundle that brought the image, whole: the
/// other images of that bundle can be read in it too. `ledger check-proof` checks it.
#[derive(Debug, Args)]
pub(super) struct Prove {
    /// The digest of an index or image manifest, or the number of an entry
    #[arg(value_name = "DIGEST|ENTRY", value_parser = about)]
    about: About,
    /// Of an image that came in several times: the newest so many
    #[arg(long, default_value_t = 10)]
    limit: u32,
    /// The file [default: stdout]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

fn about(text: &str) -> Result<About, String> {
    match text.parse::<u64>() {
        Ok(number) => Ok(About::Entry(EntryNumber::try_from(number).map_err(|e| e.to_string())?)),
        Err(_) => text.parse::<Digest>().map(About::Digest).map_err(|e| e.to_string()),
    }
}

impl Prove {
    pub(super) fn run(self, context: Context) -> Result<(), Error> {
        let access = context.access()?;
        let ledger = access.read()?;
        let mut proof = ledger.prove(self.about, self.limit, &LedgerChecker)?;
        // The file may carry a certification that no head was signed with yet.
        let kept = Certificates::from_bytes(proof.certificate.raw().as_bytes(), ledger.path())?;
        if let Some(key) = ledger.key()?.and_then(|key| key.as_str().parse().ok()) {
            let certificate = access.with_certificate_file(kept)?.armored(&key)?;
            proof.certificate = OutsideText::whole(String::from_utf8_lossy(&certificate).into_owned());
        }
        let bytes = proof.to_bytes().map_err(|e| Error::Proof(Box::new(e)))?;
        let mut output = Output::open(self.output.as_deref(), 0o644)?;
        match output.write_all(&bytes).map_err(|e| output.error(e)) {
            Ok(()) => output.finish(),
            Err(Some(error)) => Err(error),
            Err(None) => Ok(()),
        }
    }
}

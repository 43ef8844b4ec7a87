//! `receipt`: what the other side is told.

use std::path::PathBuf;

use clap::Args;
use console::Failure;
use manifest_schema::{OutsideText, Receipt as Document, Timestamp};

use crate::access::{LedgerAccess, LedgerArgs};
use crate::commands::write_new;
use crate::error::Error;
use crate::promotion;
use crate::receipt::{receipt, signed};

/// Writes a receipt for a bundle: what production holds of it, signed with the ledger key, for those who packed it
#[derive(Debug, Args)]
pub struct Receipt {
    /// A bundle id, or <stream>-<sequence>
    bundle: String,
    /// The file to write; without, the receipt goes to stdout
    #[arg(short, long, value_name = "FILE", env = "SEALIFT_OUTPUT")]
    output: Option<PathBuf>,
    /// Print a page with the short form, as text and as QR code, where only paper goes back
    #[arg(long)]
    paper: bool,
    /// The configuration [default: import.yaml, if it is there and --ledger is not given]
    #[arg(short, long, value_name = "FILE", env = "SEALIFT_CONFIG")]
    config: Option<PathBuf>,
    #[command(flatten)]
    ledger: LedgerArgs,
}

impl Receipt {
    /// Runs the command.
    ///
    /// # Errors
    /// A failure with its exit code.
    pub fn run(self) -> Result<(), Failure> {
        self.receipt().map_err(|e| Failure::new(&e))
    }

    fn receipt(self) -> Result<(), Error> {
        let now = Timestamp::now();
        let access = LedgerAccess::named(self.ledger, self.config.as_deref())?;
        // As if to write: of a ledger that is not what it was, no receipt is given.
        let ledger = access.open(now)?;
        let row = promotion::bundle(&ledger, &self.bundle)?;
        let row = row.ok_or_else(|| Error::NoSuchBundle(OutsideText::new(&self.bundle)))?;
        let receipt = receipt(&ledger, &row)?;
        let file = signed(&receipt, &access.key(now)?)?;
        match &self.output {
            Some(path) => {
                write_new(path, &file)?;
                console::say(&format!("{}: the receipt", path.display()));
            }
            None if !self.paper => console::print(&String::from_utf8_lossy(&file)).map_err(Error::Stdout)?,
            None => {}
        }
        if self.paper {
            console::print(&paper(&receipt)?).map_err(Error::Stdout)?;
        }
        Ok(())
    }
}

fn paper(receipt: &Document) -> Result<String, Error> {
    let short = receipt.short();
    let rows: Vec<_> =
        receipt.images.iter().map(|i| vec![i.origin.to_string(), i.digest.to_string(), i.since.to_string()]).collect();
    let images = console::table(&["IMAGE", "DIGEST", "SINCE"], &rows);
    let code = console::qr(&short.to_string(), console::Ink::Dark).map_err(Error::Qr)?;
    Ok(format!(
        "Receipt for {}\n\nbundle    {}\nmanifest  {}\npublished {}\nledger    {}, entry {}\nhead      {}\n\n{images}\n\
         To be typed or scanned: `sealift-export receipts add` takes it.\n\n  {}\n\n{code}\n",
        receipt.name(),
        receipt.bundle,
        receipt.manifest,
        receipt.published,
        receipt.ledger,
        receipt.head.number,
        receipt.head.hash,
        short.grouped(),
    ))
}

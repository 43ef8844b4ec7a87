//! Statements of custody beside a bundle: `handover/0001.json` and so on, each with a signature and its certificate or without.
//!
//! Anyone who has the medium can write there. What is read is a list of claims and of what is wrong with their order; it
//! decides nothing.

use std::collections::BTreeSet;
use std::io;

use manifest_schema::{BundleId, Digest, LIMITS, OutsideText, Statement, StatementError, VolumeNumbers};

use crate::folder::{Folder, FolderError};

/// The file name of a statement: `0001.json`.
pub fn statement_name(number: u32) -> String {
    format!("{number:04}.json")
}

/// The file name of a statement's signature: `0001.json.asc`.
pub fn statement_signature_name(number: u32) -> String {
    format!("{number:04}.json.asc")
}

/// The file name of the certificate that a statement is signed with: `0001.cert.asc`.
pub fn statement_certificate_name(number: u32) -> String {
    format!("{number:04}.cert.asc")
}

/// The statement that a file belongs to.
fn number_of(name: &str) -> Option<u32> {
    let number = name.get(..4)?.parse().ok().filter(|n| (1..=LIMITS.statements).contains(n))?;
    let names = [statement_name(number), statement_signature_name(number), statement_certificate_name(number)];
    names.iter().any(|known| known == name).then_some(number)
}

/// A statement that could be read.
#[derive(Debug, Clone)]
pub struct FoundStatement {
    /// The number of its file.
    pub number: u32,
    /// What it says.
    pub statement: Statement,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Their digest.
    pub digest: Digest,
}

/// Something is wrong with the statements of a folder.
#[derive(Debug, thiserror::Error)]
pub enum ChainProblem {
    /// Statements are missing below the last.
    #[error("statements are missing: {0}")]
    Missing(VolumeNumbers),
    /// Cannot be read.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// Not a statement.
    #[error("statement {number}: {source}")]
    Malformed {
        /// The number of its file.
        number: u32,
        /// Why.
        source: StatementError,
    },
    /// It has another number than its file.
    #[error("statement {file} calls itself {number}")]
    Number {
        /// The number of its file.
        file: u32,
        /// The number that it gives.
        number: u32,
    },
    /// It does not name the one before.
    #[error("statement {0} does not follow from the one before it: one of them was changed or exchanged")]
    Previous(u32),
    /// It is about another bundle.
    #[error("statement {number} is about bundle {found}")]
    OtherBundle {
        /// Its number.
        number: u32,
        /// The bundle.
        found: BundleId,
    },
    /// It is about another seal.
    #[error("statement {number} is about a seal that is not here, {found}")]
    OtherSeal {
        /// Its number.
        number: u32,
        /// The seal's digest.
        found: Digest,
    },
    /// Other files.
    #[error("{count} files do not belong there, such as `{}`", .first.escaped())]
    Strangers {
        /// How many.
        count: usize,
        /// The name of one.
        first: OutsideText,
    },
}

/// Reads the statements of a folder in their order, and says what is wrong with it. `seals` are the digests of the bundle's
/// seals that are known here.
pub fn read_statements(
    folder: &Folder,
    bundle: BundleId,
    seals: &[Digest],
) -> (Vec<FoundStatement>, Vec<ChainProblem>) {
    let (mut statements, mut problems) = (Vec::new(), Vec::new());
    let Listing { numbers, strangers } = match list(folder) {
        Ok(listing) => listing,
        Err(e) => return (statements, vec![e.into()]),
    };
    let mut missing = Vec::new();
    // The digest of the file before, if there is one.
    let mut before: Option<Digest> = None;
    for number in 1..=numbers.last().copied().unwrap_or(0) {
        let bytes = match folder.read_file(&statement_name(number), LIMITS.statement) {
            Ok(bytes) => bytes,
            Err(e) => {
                match e {
                    FolderError::Missing(_) => missing.push(number),
                    other => problems.push(other.into()),
                }
                before = None;
                continue;
            }
        };
        let digest = blobs::sha256(&bytes);
        let previous = before.replace(digest);
        let statement = match Statement::parse(&bytes) {
            Ok(statement) => statement,
            Err(source) => {
                problems.push(ChainProblem::Malformed { number, source });
                continue;
            }
        };
        if statement.number != number {
            problems.push(ChainProblem::Number { file: number, number: statement.number });
        }
        // What should follow a statement that is missing has been told of already.
        if statement.previous != previous && (number == 1 || previous.is_some()) {
            problems.push(ChainProblem::Previous(number));
        }
        if statement.bundle != bundle {
            problems.push(ChainProblem::OtherBundle { number, found: statement.bundle });
        } else if !seals.contains(&statement.seal) {
            problems.push(ChainProblem::OtherSeal { number, found: statement.seal });
        }
        statements.push(FoundStatement { number, statement, bytes, digest });
    }
    if !missing.is_empty() {
        problems.insert(0, ChainProblem::Missing(missing.into_iter().collect()));
    }
    if let Some(first) = strangers.first() {
        problems.push(ChainProblem::Strangers { count: strangers.len(), first: OutsideText::new(first) });
    }
    (statements, problems)
}

struct Listing {
    numbers: BTreeSet<u32>,
    strangers: Vec<String>,
}

fn list(folder: &Folder) -> Result<Listing, FolderError> {
    let mut listing = Listing { numbers: BTreeSet::new(), strangers: Vec::new() };
    for name in folder.names()? {
        match number_of(&name) {
            Some(number) => {
                listing.numbers.insert(number);
            }
            None => listing.strangers.push(name),
        }
    }
    Ok(listing)
}

/// The last statement of a folder: its number, the digest of its bytes, and what it says if that can be read.
///
/// # Errors
/// If the folder or the statement cannot be read, or a signature lies there without its statement.
pub fn last_statement(folder: &Folder) -> Result<Option<(u32, Digest, Option<Statement>)>, FolderError> {
    let Some(number) = list(folder)?.numbers.last().copied() else { return Ok(None) };
    let bytes = folder.read_file(&statement_name(number), LIMITS.statement)?;
    Ok(Some((number, blobs::sha256(&bytes), Statement::parse(&bytes).ok())))
}

/// A statement's signature and the signer's certificate, both armored.
#[derive(Debug, Clone)]
pub struct StatementSignature {
    /// Over exactly the statement's bytes.
    pub signature: Vec<u8>,
    /// The certificate.
    pub certificate: Vec<u8>,
}

/// Writes a statement; the statement itself last, so that it never stands there without its signature. Gives the names of
/// the files.
///
/// # Errors
/// `AlreadyExists` if there is a statement of this number; any other I/O error.
pub fn write_statement(
    folder: &Folder,
    number: u32,
    bytes: &[u8],
    signed: Option<&StatementSignature>,
) -> io::Result<Vec<String>> {
    let mut files: Vec<(String, &[u8])> = Vec::new();
    if let Some(signed) = signed {
        files.push((statement_certificate_name(number), &signed.certificate));
        files.push((statement_signature_name(number), &signed.signature));
    }
    files.push((statement_name(number), bytes));
    for (written, (name, content)) in files.iter().enumerate() {
        if let Err(e) = folder.write_new(name, content) {
            for (name, _) in &files[..written] {
                let _ = folder.remove_file(name);
            }
            return Err(e);
        }
    }
    Ok(files.into_iter().map(|(name, _)| name).collect())
}

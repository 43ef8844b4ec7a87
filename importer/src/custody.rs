//! Who had the media on their way: statements that lie beside a bundle. They are recorded and decide nothing.

use std::collections::BTreeSet;

use bundle::{Folder, Seal};
use commands::handover::{Chain, ChainRules, read_chain};
use console::Progress;
use ledger::RecordedHandover;
use manifest_schema::Digest;

use crate::error::Error;
use crate::site::Site;

/// Statements that are recorded with one bundle. Anyone who has a medium can add some, and an entry has its limit.
const RECORDED: usize = 10_000;

/// Reads the statements of a folder whose seal was judged; `seals` are those of its bundle that were seen.
pub(crate) fn read<'a>(site: &Site, folder: &Folder, seals: impl Iterator<Item = &'a Seal>) -> Option<Chain> {
    let seals: Vec<&Seal> = seals.collect();
    let bundle = seals.first()?.bundle;
    let digests: Vec<Digest> = seals.iter().map(|seal| blobs::sha256(&seal.to_bytes())).collect();
    let rules = ChainRules { bundle, seals: &digests, couriers: site.couriers(), now: site.now };
    let chain = read_chain(folder, &rules);
    (!chain.statements.is_empty() || !chain.problems.is_empty()).then_some(chain)
}

/// Whether two chains have the same statements.
pub(crate) fn is_same(one: &Chain, other: &Chain) -> bool {
    one.folder == other.folder && one.statements.iter().map(|s| s.digest).eq(other.statements.iter().map(|s| s.digest))
}

/// Says what is wrong with the statements.
pub(crate) fn warn(chains: &[Chain], progress: &Progress) {
    for chain in chains {
        for problem in &chain.problems {
            progress.warn(format_args!("{}: {problem}", chain.folder.display()));
        }
    }
}

/// The statements for the ledger, each once.
///
/// # Errors
/// If a fingerprint is none that the ledger takes.
pub(crate) fn records(chains: &[Chain], progress: &Progress) -> Result<Vec<RecordedHandover>, Error> {
    let mut seen = BTreeSet::new();
    let mut records = Vec::new();
    for row in chains.iter().flat_map(|chain| &chain.statements).filter(|row| seen.insert(row.digest)) {
        if records.len() == RECORDED {
            progress.warn(format_args!("more than {RECORDED} statements of custody; the first are recorded"));
            break;
        }
        let signer = row.signature.signer();
        records.push(RecordedHandover {
            statement: row.digest,
            number: row.statement.number,
            at: row.statement.at,
            by: row.statement.by.clone(),
            to: row.statement.to.clone(),
            bag: row.statement.bag.clone(),
            signer: signer.map(|(key, _)| key.as_str().parse()).transpose().map_err(Error::LedgerName)?,
            known: signer.is_some_and(|(_, known)| known),
        });
    }
    Ok(records)
}

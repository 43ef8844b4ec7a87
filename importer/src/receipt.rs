//! Receipts: what the other side is told of a bundle. Nothing in one did not come from there, but for the ledger's id and head.

use ledger::{Act, BundleRow, Ledger};
use manifest_schema::{Digest, Receipt, ReceiptHead, ReceiptImage, ReceiptType, Reference, Timestamp};
use signing::SecretKey;

use crate::access::stamp;
use crate::error::Error;

/// So many records of one digest are looked for.
const RECORDS: u32 = 10_000;

/// What production holds of a bundle, and since when. What was withdrawn is not among it.
///
/// # Errors
/// [`Error::NotInProduction`]; or if the ledger fails.
pub fn receipt(ledger: &Ledger, row: &BundleRow) -> Result<Receipt, Error> {
    let subject = &row.subject;
    let nothing = || Error::NotInProduction { bundle: subject.bundle, status: row.status.as_str() };
    let mut images: Vec<ReceiptImage> = Vec::new();
    let mut published: Option<Timestamp> = None;
    for entry in ledger.bundle(&subject.bundle)?.into_iter().flat_map(|details| details.entries) {
        let (Act::Recorded(recorded) | Act::Promoted(recorded)) = entry.act else { continue };
        // Of a bundle that was promoted in parts the first time: it stays what it is.
        published.get_or_insert(entry.time);
        for image in recorded.images {
            let production = Reference::tagged(image.production.repository.clone(), image.production.tag.clone());
            let is_known = images.iter().any(|known| (&known.origin, known.digest) == (&image.origin, image.digest));
            if !is_known && !ledger.is_withdrawn(&production, &image.digest)? {
                let since = since(ledger, &image.digest)?.unwrap_or(entry.time);
                images.push(ReceiptImage { origin: image.origin, digest: image.digest, since });
            }
        }
    }
    let published = published.ok_or_else(nothing)?;
    let head = ledger.head()?;
    let stamp = stamp()?;
    Ok(Receipt {
        kind: ReceiptType::V1,
        ledger: *ledger.id(),
        bundle: subject.bundle,
        stream: subject.stream.clone(),
        sequence: subject.sequence,
        manifest: subject.manifest,
        published,
        images,
        newest: ledger.newest(&subject.stream)?.ok_or_else(nothing)?,
        head: ReceiptHead { number: head.number, hash: head.hash, root: head.root, time: head.time },
        made: stamp.now,
        tool: stamp.tool,
    })
}

/// Since when production holds a digest.
fn since(ledger: &Ledger, digest: &Digest) -> Result<Option<Timestamp>, Error> {
    Ok(ledger.images_by_digest(digest, RECORDS)?.iter().map(|row| row.recorded.time).min())
}

/// The receipt as a file, signed with the ledger key.
///
/// # Errors
/// [`Error::Receipt`] if it is larger than any reader takes; or if the key fails.
pub fn signed(receipt: &Receipt, key: &SecretKey) -> Result<Vec<u8>, Error> {
    let document = receipt.to_bytes().map_err(Error::Receipt)?;
    Ok(key.sign_statement(&document, receipt.made)?)
}

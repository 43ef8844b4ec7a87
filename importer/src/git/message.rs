//! What a commit says: all of it is in the ledger's entry.

use std::collections::BTreeSet;

use ledger::{Act, EntryNumber, Ledger, Recorded, Subject};
use manifest_schema::Digest;

use super::GitError;
use super::changes::Change;
use crate::error::Error;

/// A commit's message.
pub(super) struct Message {
    /// What the import is called in the name of a branch.
    pub name: String,
    /// All of it.
    pub text: String,
}

impl Message {
    /// For an entry, and the files that it changed.
    ///
    /// # Errors
    /// [`GitError::Entry`]; or if the ledger fails.
    pub fn of(ledger: &Ledger, entry: EntryNumber, changes: &[Change]) -> Result<Self, Error> {
        let act = ledger.entry(entry)?.map(|stored| stored.entry.act);
        let added = changes.iter().filter(|change| change.content.is_some()).count();
        let files = count(added, "signature");
        let (what, about, name, images) = match act {
            Some(Act::Recorded(recorded) | Act::Promoted(recorded)) => {
                let bundle = bundle(&recorded.subject);
                (format!("Import {bundle}: {files}"), subject(&recorded.subject), bundle, of_record(&recorded))
            }
            Some(Act::Resigned(resigned)) => {
                let bundle = bundle(&resigned.subject);
                let signed = resigned.signatures.iter().map(|s| image(&s.reference, &s.digest)).collect();
                (format!("Sign {bundle} again: {files}"), subject(&resigned.subject), bundle, signed)
            }
            Some(Act::Withdrawn(withdrawn)) => {
                let images: BTreeSet<_> = withdrawn.images.iter().map(|i| image(&i.reference, &i.digest)).collect();
                // An image has a digest for its index and one for each platform.
                let references: BTreeSet<_> = withdrawn.images.iter().map(|i| &i.reference).collect();
                let what = format!("Withdraw {}", count(references.len(), "image"));
                (what, vec![("Reason", withdrawn.reason.escaped().to_string())], "withdrawn".into(), images)
            }
            _ => return Err(GitError::Entry(entry).into()),
        };
        let images = images.into_iter().map(|image| ("Image", image));
        let ledger = [("Ledger", ledger.id().to_string()), ("Entry", entry.to_string())];
        let facts =
            about.into_iter().chain(images).chain(ledger).map(|(key, value)| format!("Sealift-{key}: {value}\n"));
        Ok(Self { name: format!("{name}.entry-{entry}"), text: format!("{what}\n\n{}", facts.collect::<String>()) })
    }

    /// The first line.
    pub fn subject(&self) -> &str {
        self.text.lines().next().unwrap_or_default()
    }
}

fn of_record(recorded: &Recorded) -> BTreeSet<String> {
    recorded.images.iter().map(|i| image(&i.production, &i.digest)).collect()
}

fn image(reference: &impl std::fmt::Display, digest: &Digest) -> String {
    format!("{reference}@{digest}")
}

fn bundle(subject: &Subject) -> String {
    format!("{}-{}", subject.stream, subject.sequence)
}

fn subject(subject: &Subject) -> Vec<(&'static str, String)> {
    vec![
        ("Bundle", subject.bundle.to_string()),
        ("Stream", subject.stream.to_string()),
        ("Sequence", subject.sequence.to_string()),
    ]
}

fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

//! `ledger verify`

use std::path::PathBuf;

use clap::Args;
use console::Failure;
use ledger::{EntryNumber, Head, HeadStanding, Ledger, LedgerId, Verified};
use manifest_schema::Timestamp;
use serde::Serialize;
use signing::Certificates;

use super::Context;
use crate::access::{LedgerAccess, LedgerChecker};
use crate::audit::AuditError;
use crate::audit::proof::{KeyVouched, vouched_for};
use crate::audit::signed::{LedgerKeys, Shown, SignedHead};
use crate::error::Error;

/// Checks every entry, every table against them, the signed head, and heads that were kept elsewhere
///
/// A ledger that lacks a head which one of its keys signed is not written to from then on, until `adopt` says why.
#[derive(Debug, Args)]
pub(super) struct Verify {
    /// A head that was kept elsewhere: what `ledger head` printed, the second file, a receipt, or a proof; several may be given
    #[arg(long, value_name = "FILE")]
    head: Vec<PathBuf>,
    /// Whose key must have signed: the ledger key's certificate, or the production key's, which certified it; several may be
    /// given
    #[arg(long, value_name = "FILE")]
    certificate: Vec<PathBuf>,
}

#[derive(Serialize)]
struct Report {
    ledger: LedgerId,
    #[serde(flatten)]
    verified: Verified,
    /// Who signed the head, and when.
    #[serde(skip_serializing_if = "Option::is_none")]
    signed: Option<SignedHead>,
    /// Why that key is the expected one, if one was.
    #[serde(skip_serializing_if = "Option::is_none")]
    key_vouched: Option<KeyVouched>,
    /// Heads that were kept elsewhere.
    heads: Vec<Shown>,
    /// Heads that it was shown before, and lacks.
    lacking: Vec<Lacking>,
    /// The second file, if it should be there and is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    no_second: Option<PathBuf>,
}

#[derive(Serialize)]
struct Lacking {
    #[serde(flatten)]
    head: Head,
    standing: HeadStanding,
}

impl Verify {
    pub(super) fn run(self, context: Context) -> Result<(), Failure> {
        let mut state = None;
        let done = self.verify(&context, &mut state);
        done.map_err(|e| match state {
            Some(state) => Failure::new(&e).with_state(state),
            None => Failure::new(&e),
        })
    }

    fn verify(self, context: &Context, state: &mut Option<String>) -> Result<(), Error> {
        let now = Timestamp::now();
        let access = context.access()?;
        let ledger = access.read()?;
        let known = (!self.certificate.is_empty()).then(|| Certificates::load(&self.certificate)).transpose()?;
        // The second file is a head that was kept elsewhere, if it is here.
        // One that cannot be looked for is read, which says why.
        let (second, no_second) = match access.second().try_exists() {
            Ok(false) => (None, Some(access.second().to_path_buf())),
            _ => (Some(access.second().to_path_buf()), None),
        };
        let files: Vec<_> = self.head.into_iter().chain(second).collect();
        let mut report = Report {
            ledger: *ledger.id(),
            verified: ledger.verify(&LedgerChecker)?,
            signed: None,
            key_vouched: None,
            heads: Vec::new(),
            lacking: Vec::new(),
            no_second: None,
        };
        if report.verified.key.is_none() && (known.is_some() || !files.is_empty()) {
            return Err(ledger::Error::NotSigned(ledger.path().into()).into());
        }
        if report.verified.key.is_some() {
            report.no_second = no_second.filter(|_| report.verified.head.number != EntryNumber::FIRST);
            let keys = LedgerKeys::of(&ledger, known.as_ref())?;
            let (signed, vouched) = expected(&access, &ledger, &keys, known.as_ref(), now)?;
            (report.signed, report.key_vouched) = (Some(signed), vouched);
            // All of them are judged before anything follows from one of them.
            for file in files {
                let signed = keys.read(&file, now)?;
                let (expected, found) = (*ledger.id(), signed.head().ledger);
                if expected != found {
                    return Err(AuditError::OtherLedger { path: file, expected, found }.into());
                }
                // Asked for after the file was read: a program that writes now puts the entry there before the head.
                let standing = ledger.standing_of(signed.head())?;
                report.heads.push(Shown { file, signed, standing });
            }
        }
        let lacking = ledger.lacking()?.into_iter().map(|(head, standing)| Lacking { head, standing });
        let is_new = |lacking: &Lacking| report.heads.iter().all(|shown| *shown.signed.head() != lacking.head);
        report.lacking = lacking.filter(is_new).collect();
        context.print(&report, text)?;
        let last = ledger.head()?.number;
        drop(ledger);
        let missing: Vec<_> = report.heads.iter().filter(|shown| is_missing(shown)).collect();
        let of_before = report.lacking.first().map(|lacking| (lacking.head, lacking.standing));
        let Some((head, standing)) = missing.first().map(|shown| (*shown.signed.head(), shown.standing)).or(of_before)
        else {
            return Ok(());
        };
        *state = Some(note(&access, &missing));
        let (path, head) = (access.path().into(), Box::new(head));
        Err(match standing {
            HeadStanding::Behind => ledger::Error::Behind { path, head, last },
            _ => ledger::Error::Forked { path, head },
        }
        .into())
    }
}

/// Who signed the head that the ledger keeps, and why that is the right key.
fn expected(
    access: &LedgerAccess,
    ledger: &Ledger,
    keys: &LedgerKeys,
    known: Option<&Certificates>,
    now: Timestamp,
) -> Result<(SignedHead, Option<KeyVouched>), Error> {
    let (kept, _) = ledger.checked_head(&LedgerChecker)?;
    let no_head = |reason| AuditError::NoHead { path: ledger.path().into(), reason };
    let signed = keys.judge(&kept.statement, now).map_err(no_head)?;
    let Some(known) = known else { return Ok((signed, None)) };
    let certificates = Certificates::from_bytes(&ledger.certificates()?, ledger.path())?;
    let certificates = access.with_certificate_file(certificates)?;
    let unknown = match vouched_for(signed.key(), &certificates, known, now) {
        Ok(vouched) => return Ok((signed, Some(vouched))),
        Err(e) => e,
    };
    // `verify` has seen that both keys signed each change: who knows an earlier key knows this one.
    for (_, earlier) in ledger.keys()?.into_iter().rev() {
        if let Ok(earlier) = earlier.as_str().parse()
            && vouched_for(&earlier, &certificates, known, now).is_ok()
        {
            return Ok((signed, Some(KeyVouched::After(earlier))));
        }
    }
    Err(unknown.into())
}

fn is_missing(shown: &Shown) -> bool {
    match shown.standing {
        HeadStanding::Has | HeadStanding::Adopted => false,
        HeadStanding::Behind | HeadStanding::Forked | HeadStanding::Foreign => true,
    }
}

/// Stops the ledger, and says whether that could be done.
fn note(access: &LedgerAccess, missing: &[&Shown]) -> String {
    for shown in missing {
        if let Err(e) = Ledger::refuse_from_now_on(access.path(), access.id(), &shown.signed.known()) {
            return format!(
                "this could not be noted in the ledger, which may still be written to: {}",
                console::chain(&e)
            );
        }
    }
    "noted in the ledger: nothing is written to it from now on, until `ledger adopt` says why".into()
}

fn text(report: &Report) -> String {
    let Verified { head, begun, recorded, refused, .. } = &report.verified;
    let mut text = format!("ledger {}: good, {} entries, head {}\n", report.ledger, head.number, head.hash);
    text += &format!("  {begun} bundles begun, {recorded} recorded, {refused} refusals; last entry at {}\n", head.time);
    match &report.signed {
        Some(signed) => text += &format!("  head signed by {}\n", signed.by()),
        None => text += "  heads are not signed\n",
    }
    if let Some(vouched) = &report.key_vouched {
        text += &format!("  {}\n", vouched.text());
    }
    for Shown { file, signed, standing } in &report.heads {
        let head = signed.head();
        text += &format!("{}: {}\n", file.display(), standing_text(*standing, &head.number.to_string()));
        text += &format!("  signed by {}\n", signed.by());
    }
    if let Some(second) = &report.no_second {
        text += &format!(
            "{}: the second file is not here; nothing is written to the ledger without it\n",
            second.display()
        );
    }
    for Lacking { head, standing } in &report.lacking {
        text += &format!("shown before: {}\n", standing_text(*standing, &head.number.to_string()));
    }
    text
}

fn standing_text(standing: HeadStanding, entry: &str) -> String {
    match standing {
        HeadStanding::Has => format!("entry {entry}, which the ledger has"),
        HeadStanding::Adopted => format!("entry {entry}, which the ledger lacks; somebody said why (`ledger adopt`)"),
        HeadStanding::Behind => format!("entry {entry}, which the ledger DOES NOT REACH"),
        HeadStanding::Forked => format!("entry {entry}, and the ledger HAS ANOTHER ENTRY there"),
        HeadStanding::Foreign => format!("entry {entry} of another ledger"),
    }
}

//! `ledger head`

use clap::Args;
use ledger::HeadStatement;
use manifest_schema::Timestamp;
use serde::Serialize;

use super::Context;
use crate::access::LedgerChecker;
use crate::audit::AuditError;
use crate::audit::signed::{LedgerKeys, SignedHead};
use crate::error::Error;

/// Prints the signed head, to be kept elsewhere
///
/// Who has the file can say later whether the ledger still has all that it had: `ledger verify --head FILE`.
#[derive(Debug, Args)]
pub(super) struct PrintHead {}

#[derive(Serialize)]
struct Report {
    statement: HeadStatement,
    signed: SignedHead,
}

impl PrintHead {
    pub(super) fn run(self, context: Context) -> Result<(), Error> {
        let now = Timestamp::now();
        let ledger = context.read()?;
        let (kept, statement) = ledger.checked_head(&LedgerChecker)?;
        let no_head = |reason| AuditError::NoHead { path: ledger.path().into(), reason };
        let signed = LedgerKeys::of(&ledger, None)?.judge(&kept.statement, now).map_err(no_head)?;
        context.print(&Report { statement, signed }, |_| String::from_utf8_lossy(&kept.statement).into_owned())
    }
}

//! `approve`: people say that a bundle may go into production, here or on another machine.

use std::path::{Path, PathBuf};

use clap::{ArgGroup, Args};
use commands::settings::{KeySource, SignArgs};
use console::Failure;
use ledger::{ApprovalWithdrawn, Approved, BundleRow, EntryNumber, Ledger, Received, Status};
use manifest_schema::{
    ApprovalRequest, ApprovalWithdrawal, BundleId, Digest, LIMITS, LabelValue, OneLine, OutsideText, Span, TagRef,
    Timestamp,
};
use serde::Serialize;
use signing::{Fingerprint, SecretKey, Signer};

use crate::access::{stamp, to_ledger};
use crate::approvals::{self, Approvers, Judged, Made, NotCounted, Standing, Statement, Wanted};
use crate::commands::write_new;
use crate::error::Error;
use crate::promotion;
use crate::site::{ProductionArgs, Site, SiteArgs};

/// Approves a bundle that waits for its promotion, or shows who has
///
/// Without a key, or with --list, shows who has approved until when, who is missing, and why a statement does not count.
/// --from and --withdraw-statement need neither ledger nor configuration: they are for approvers on other machines.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("what").args(["list", "request", "from", "add", "withdraw", "withdraw_statement"]))]
#[command(group = ArgGroup::new("elsewhere").args(["from", "withdraw_statement"]))]
#[command(group = ArgGroup::new("back").args(["withdraw", "withdraw_statement"]))]
pub struct Approve {
    /// A bundle id, or <stream>-<sequence>
    #[arg(
        value_name = "BUNDLE",
        required_unless_present_any = ["from", "add", "withdraw_statement"],
        conflicts_with_all = ["from", "add", "withdraw_statement"]
    )]
    bundle: Option<String>,
    /// Show how the approvals stand
    #[arg(long)]
    list: bool,
    /// Write what is to be approved into a new file, for an approver on another machine; `-` for stdout
    #[arg(long, value_name = "FILE")]
    request: Option<PathBuf>,
    /// Approve what is asked for in this file
    #[arg(long, value_name = "FILE", requires = "output")]
    from: Option<PathBuf>,
    /// Record statements that were made on other machines
    #[arg(long, value_name = "FILE", num_args = 1..)]
    add: Vec<PathBuf>,
    /// Take your approvals of the bundle back
    #[arg(long)]
    withdraw: bool,
    /// Make a statement that takes back your approval in this file
    #[arg(long, value_name = "FILE", requires = "output")]
    withdraw_statement: Option<PathBuf>,
    /// The new file for the statement
    #[arg(short, long, value_name = "FILE", requires = "elsewhere")]
    output: Option<PathBuf>,
    /// The approval counts until this time
    #[arg(long, value_name = "TIME", conflicts_with_all = ["list", "request", "add", "back"])]
    not_after: Option<Timestamp>,
    /// The approval counts for so long from now
    #[arg(long = "for", value_name = "SPAN", conflicts_with_all = ["not_after", "list", "request", "add", "back"])]
    span: Option<Span>,
    /// Anything that should be known with the approval
    #[arg(long, value_name = "TEXT", conflicts_with_all = ["list", "request", "add", "back"])]
    note: Option<LabelValue>,
    /// Why the approval is taken back
    #[arg(long, value_name = "TEXT", requires = "back")]
    reason: Option<LabelValue>,
    #[command(flatten)]
    key: ApproverKeyArgs,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    site: SiteArgs,
}

/// The approver's own key. Its variables are not those of the keys that sign releases and production.
#[derive(Debug, Default, Args)]
struct ApproverKeyArgs {
    /// Your own OpenPGP secret key file, as an approver
    #[arg(long, value_name = "FILE", env = "SEALIFT_APPROVER_KEY")]
    sign_key: Option<PathBuf>,
    /// Sign through gpg-agent, with the key of this fingerprint
    #[arg(long, value_name = "FINGERPRINT", env = "SEALIFT_APPROVER_BY")]
    sign_by: Option<Fingerprint>,
    /// With --sign-by: a file with the key's certificate [default: the one in GnuPG's keyring]
    #[arg(long, value_name = "FILE", env = "SEALIFT_APPROVER_CERTIFICATE")]
    sign_certificate: Option<PathBuf>,
    /// A file whose first line is the key's passphrase [also: SEALIFT_APPROVER_PASSPHRASE]
    #[arg(long, value_name = "FILE", env = "SEALIFT_APPROVER_PASSPHRASE_FILE")]
    sign_passphrase_file: Option<PathBuf>,
}

impl ApproverKeyArgs {
    fn source(self) -> Result<Option<KeySource>, Error> {
        let args = SignArgs {
            sign_key: self.sign_key.into_iter().collect(),
            sign_by: self.sign_by.into_iter().collect(),
            sign_certificate: self.sign_certificate.into_iter().collect(),
            sign_passphrase_file: self.sign_passphrase_file,
        };
        let mut source = KeySource::one(args, None)?;
        source.iter_mut().for_each(|source| source.passphrase.variable = "SEALIFT_APPROVER_PASSPHRASE");
        Ok(source)
    }
}

/// What is to be done.
enum What {
    Show(String),
    Request(String, PathBuf),
    Approve(String, KeySource, Terms),
    ApproveElsewhere(PathBuf, KeySource, Terms, PathBuf),
    Add(Vec<PathBuf>),
    Withdraw(String, KeySource, Option<LabelValue>),
    WithdrawElsewhere(PathBuf, KeySource, Option<LabelValue>, PathBuf),
}

/// What an approver says besides.
struct Terms {
    not_after: Timestamp,
    note: Option<LabelValue>,
}

impl Approve {
    /// Runs the command.
    ///
    /// # Errors
    /// A failure with its exit code, and one line that says what was recorded.
    pub fn run(self) -> Result<(), Failure> {
        let mut state = "nothing was recorded".to_string();
        self.approve(&mut state).map_err(|e| Failure::new(&e).with_state(state))
    }

    fn approve(self, state: &mut String) -> Result<(), Error> {
        let (what, json, site) = self.resolve()?;
        let site = || Site::resolve(site, ProductionArgs::default());
        match what {
            What::ApproveElsewhere(request, key, terms, output) => {
                approve_elsewhere(&request, &key, terms, &output, json)
            }
            What::WithdrawElsewhere(approval, key, reason, output) => {
                withdraw_elsewhere(&approval, &key, reason, &output, json)
            }
            What::Show(bundle) => show(&site()?, &bundle, json),
            What::Request(bundle, output) => write_request(&site()?, &bundle, &output, json),
            What::Approve(bundle, key, terms) => approve(&site()?, &bundle, &key, terms, json),
            What::Add(files) => add(&site()?, &files, json, state),
            What::Withdraw(bundle, key, reason) => withdraw(&site()?, &bundle, &key, reason, json, state),
        }
    }

    fn resolve(self) -> Result<(What, bool, SiteArgs), Error> {
        let key = self.key.source()?;
        let needed = |key: Option<KeySource>| key.ok_or(Error::Missing("an approver's key"));
        let has_terms = self.not_after.is_some() || self.span.is_some() || self.note.is_some();
        let note = self.note;
        let terms = || -> Result<Terms, Error> {
            let not_after = match (self.not_after, self.span) {
                (Some(time), _) => time,
                (None, Some(span)) => span.after(Timestamp::now()).ok_or(Error::TooLate)?,
                (None, None) => return Err(Error::Missing("the time until which the approval counts")),
            };
            Ok(Terms { not_after, note })
        };
        let output = self.output.unwrap_or_default();
        let what = match (self.bundle, self.from, self.withdraw_statement, self.request) {
            (_, Some(request), _, _) => What::ApproveElsewhere(request, needed(key)?, terms()?, output),
            (_, _, Some(approval), _) => What::WithdrawElsewhere(approval, needed(key)?, self.reason, output),
            (None, ..) => What::Add(self.add),
            (Some(bundle), _, _, Some(file)) => What::Request(bundle, file),
            (Some(bundle), ..) if self.withdraw => What::Withdraw(bundle, needed(key)?, self.reason),
            (Some(bundle), ..) => match key {
                Some(key) if !self.list => What::Approve(bundle, key, terms()?),
                None if has_terms => return Err(Error::Missing("an approver's key")),
                _ => What::Show(bundle),
            },
        };
        Ok((what, self.json, self.site))
    }
}

/// A bundle whose images wait, or have waited.
struct Waiting {
    row: BundleRow,
    received: Received,
}

impl Waiting {
    fn find(ledger: &Ledger, name: &str) -> Result<Self, Error> {
        let row = promotion::bundle(ledger, name)?.ok_or_else(|| Error::NoSuchBundle(OutsideText::new(name)))?;
        match promotion::received(ledger, &row.subject)? {
            Some(received) => Ok(Self { row, received }),
            None => Err(ledger::Error::NotReceived(row.subject.bundle).into()),
        }
    }

    /// `<stream>-<sequence>`
    fn name(&self) -> String {
        format!("{}-{}", self.row.subject.stream, self.row.subject.sequence)
    }

    /// Every image, with the reference that it is to have.
    fn images(&self) -> Vec<(TagRef, Digest)> {
        self.received.images.iter().map(|i| (i.image.production.clone(), i.image.digest)).collect()
    }

    fn request(&self, ledger: &Ledger) -> ApprovalRequest {
        approvals::request(*ledger.id(), &self.row.subject, &self.received.images)
    }

    fn standing(&self, site: &Site, ledger: &Ledger) -> Result<Standing, Error> {
        approvals::standing(site, ledger, &self.row.subject, &self.images())
    }

    /// Whether an approval can still matter.
    fn may_be_approved(&self) -> Result<(), Error> {
        match (self.row.status, self.row.recorded) {
            (Status::Recorded, Some(at)) => Err(Error::NothingToApprove { bundle: self.name(), at: at.time }),
            _ => Ok(()),
        }
    }
}

fn reading(site: &Site) -> Result<Ledger, Error> {
    site.read_ledger()?.ok_or(Error::Missing("a ledger"))
}

fn approvers(site: &Site) -> Result<&Approvers, Error> {
    site.approvers().ok_or(Error::Missing("a list of approvers"))
}

fn show(site: &Site, bundle: &str, json: bool) -> Result<(), Error> {
    let ledger = reading(site)?;
    let standing = Waiting::find(&ledger, bundle)?.standing(site, &ledger)?;
    if json { console::print_json(&standing) } else { console::print(&text(&standing)) }.map_err(Error::Stdout)
}

fn write_request(site: &Site, bundle: &str, output: &Path, json: bool) -> Result<(), Error> {
    let ledger = reading(site)?;
    let waiting = Waiting::find(&ledger, bundle)?;
    waiting.may_be_approved()?;
    let mut document = waiting.request(&ledger).to_bytes()?;
    document.push(b'\n');
    if output.as_os_str() == "-" {
        // It has printable characters only, which are printed as they are.
        return console::print(&String::from_utf8_lossy(&document)).map_err(Error::Stdout);
    }
    write_new(output, &document)?;
    let print = if json {
        console::print_json(&serde_json::json!({ "result": "asked", "file": output }))
    } else {
        console::print(&format!("{}\n", output.display()))
    };
    print.map_err(Error::Stdout)
}

/// An approval that was made.
#[derive(Serialize)]
struct MadeHere<'a> {
    result: &'static str,
    statement: Digest,
    approver: &'a Fingerprint,
    not_after: Timestamp,
    entry: EntryNumber,
    standing: Standing,
}

fn approve(site: &Site, bundle: &str, key: &KeySource, terms: Terms, json: bool) -> Result<(), Error> {
    let approvers = approvers(site)?;
    let ledger = reading(site)?;
    let waiting = Waiting::find(&ledger, bundle)?;
    waiting.may_be_approved()?;
    let request = waiting.request(&ledger);
    console::say(&table(&request, terms.not_after));
    let key = key.unlock(site.now)?;
    let made = approvals::make_approval(&key, &request, Timestamp::now(), terms.not_after, terms.note)?;
    // Not by the time at which the person was asked for a passphrase.
    let approvers = approvers.at(Timestamp::now());
    let images = waiting.images();
    let wanted = Wanted { ledger: *ledger.id(), subject: &waiting.row.subject, images: &images };
    let judged = approvals::judge(&approvers, &ledger, &wanted, made.file.as_bytes())?.map_err(Error::NotCounted)?;
    drop(ledger);
    let mut ledger = site.open_ledger()?;
    let entry = ledger.approved(&stamp()?, recorded(&waiting, &judged, made.file))?;
    let standing = waiting.standing(site, &ledger)?;
    let (statement, approver, not_after) = (judged.statement, &judged.approver.fingerprint, judged.approval.not_after);
    let print = if json {
        console::print_json(&MadeHere { result: "approved", statement, approver, not_after, entry, standing })
    } else {
        let (name, summary) = (waiting.name(), standing.summary());
        console::print(&format!(
            "approved: {name} by {approver} until {not_after}, ledger entry {entry}\napprovals: {summary}\n"
        ))
    };
    print.map_err(Error::Stdout)
}

fn recorded(waiting: &Waiting, judged: &Judged, file: String) -> Approved {
    Approved {
        subject: waiting.row.subject.clone(),
        approver: to_ledger(&judged.approver.fingerprint),
        statement: judged.statement,
        not_after: judged.approval.not_after,
        file: OutsideText::whole(file),
    }
}

fn approve_elsewhere(request: &Path, key: &KeySource, terms: Terms, output: &Path, json: bool) -> Result<(), Error> {
    let document = read(request)?;
    let document = document.strip_suffix('\n').unwrap_or(&document).as_bytes();
    let wrong = |source| Error::Request { file: request.into(), source };
    let request = ApprovalRequest::parse(document).map_err(wrong)?;
    console::say(&table(&request, terms.not_after));
    let key = key.unlock(Timestamp::now())?;
    let made = approvals::make_approval(&key, &request, Timestamp::now(), terms.not_after, terms.note)?;
    made_elsewhere("approval", &made, &key, output, json)
}

fn withdraw_elsewhere(
    approval: &Path,
    key: &KeySource,
    reason: Option<LabelValue>,
    output: &Path,
    json: bool,
) -> Result<(), Error> {
    let file = read(approval)?;
    let now = Timestamp::now();
    let key = key.unlock(now)?;
    let (statement, approval) = approvals::own_approval(file.as_bytes(), &key, now)?;
    let made = approvals::make_withdrawal(&key, (approval.ledger, approval.bundle), statement, now, reason)?;
    made_elsewhere("withdrawal", &made, &key, output, json)
}

fn made_elsewhere(kind: &str, made: &Made, key: &SecretKey, output: &Path, json: bool) -> Result<(), Error> {
    write_new(output, made.file.as_bytes())?;
    let (statement, by) = (made.statement, key.fingerprint());
    let print = if json {
        let (result, file) = ("made", output);
        console::print_json(&serde_json::json!({ "result": result, kind: statement, "by": by, "file": file }))
    } else {
        console::print(&format!("{kind} {statement} by {by}: {}\n", output.display()))
    };
    print.map_err(Error::Stdout)
}

/// A statement that was recorded.
#[derive(Debug, Serialize)]
struct Added {
    file: PathBuf,
    kind: &'static str,
    bundle: BundleId,
    name: String,
    approval: Digest,
    by: Fingerprint,
    entry: EntryNumber,
}

fn add(site: &Site, files: &[PathBuf], json: bool, state: &mut String) -> Result<(), Error> {
    let approvers = approvers(site)?;
    let mut ledger = site.open_ledger()?;
    let mut problems = Vec::new();
    let mut added: Vec<Added> = Vec::new();
    for file in files {
        match add_one(approvers, &mut ledger, file) {
            Ok(one) => added.push(one),
            Err(e) => problems.push((file.clone(), e)),
        }
    }
    if !added.is_empty() {
        *state = format!("{} of {} statements are recorded", added.len(), files.len());
    }
    let mut standings: Vec<Standing> = Vec::new();
    for one in &added {
        if standings.iter().all(|standing| standing.subject.bundle != one.bundle) {
            standings.push(Waiting::find(&ledger, &one.bundle.to_string())?.standing(site, &ledger)?);
        }
    }
    let print = if json {
        let (statements, standings) = (&added, &standings);
        console::print_json(
            &serde_json::json!({ "result": "recorded", "statements": statements, "standings": standings }),
        )
    } else {
        let mut text = String::new();
        for Added { file, kind, name, by, entry, .. } in &added {
            text += &format!("{}: {kind} of {name} by {by}, ledger entry {entry}\n", file.display());
        }
        for standing in &standings {
            text += &format!("\n{}", self::text(standing));
        }
        console::print(&text)
    };
    print.map_err(Error::Stdout)?;
    if problems.is_empty() { Ok(()) } else { Err(Error::Statements { given: files.len(), problems }) }
}

/// Records one statement, after judging it as it will be judged when the bundle is promoted.
fn add_one(approvers: &Approvers, ledger: &mut Ledger, path: &Path) -> Result<Added, Error> {
    let file = read(path)?;
    if file.starts_with(r#"{"type":"sealift/approval-request/"#) && !file.contains("-----BEGIN") {
        return Err(Error::NoStatement(path.into()));
    }
    let (here, path) = (*ledger.id(), path.to_path_buf());
    let elsewhere = |found| Err(Error::NotCounted(NotCounted::Ledger { expected: here, found }));
    match approvals::read_statement(approvers, file.as_bytes()).map_err(Error::NotCounted)? {
        Statement::Approval(approval) => {
            if approval.ledger != here {
                return elsewhere(approval.ledger);
            }
            let waiting = Waiting::find(ledger, &approval.bundle.to_string())?;
            waiting.may_be_approved()?;
            let images = waiting.images();
            let wanted = Wanted { ledger: here, subject: &waiting.row.subject, images: &images };
            let judged = approvals::judge(approvers, ledger, &wanted, file.as_bytes())?.map_err(Error::NotCounted)?;
            let (statement, by) = (judged.statement, judged.approver.fingerprint.clone());
            if let Some((entry, known)) = ledger.approval(&statement)? {
                let recorded = approvals::made_by(approvers, &known);
                if recorded != to_ledger(&by) {
                    return Err(Error::OthersStatement { statement, recorded, entry, given: by });
                }
            }
            let entry = ledger.approved(&stamp()?, recorded(&waiting, &judged, file))?;
            let (bundle, name) = (waiting.row.subject.bundle, waiting.name());
            Ok(Added { file: path, kind: "approval", bundle, name, approval: statement, by, entry })
        }
        Statement::Withdrawal(withdrawal, signer) => {
            if withdrawal.ledger != here {
                return elsewhere(withdrawal.ledger);
            }
            let waiting = Waiting::find(ledger, &withdrawal.bundle.to_string())?;
            let entry = take_back(approvers, ledger, &waiting, &withdrawal, &signer, file)?;
            let (bundle, name) = (withdrawal.bundle, waiting.name());
            let (approval, by) = (withdrawal.approval, signer.fingerprint);
            Ok(Added { file: path, kind: "withdrawal", bundle, name, approval, by, entry })
        }
    }
}

/// Records a withdrawal. Only the approver who made an approval can take it back; what is not known yet may be his.
fn take_back(
    approvers: &Approvers,
    ledger: &mut Ledger,
    waiting: &Waiting,
    withdrawal: &ApprovalWithdrawal,
    signer: &Signer,
    file: String,
) -> Result<EntryNumber, Error> {
    let (approval, given) = (withdrawal.approval, signer.fingerprint.clone());
    if let Some((entry, known)) = ledger.approval(&approval)? {
        let of = approvals::made_by(approvers, &known);
        if of != to_ledger(&given) {
            return Err(Error::OthersApproval { approval, entry, of, by: given });
        }
        if known.subject.bundle != withdrawal.bundle {
            let (recorded, given) = (known.subject.bundle, withdrawal.bundle);
            return Err(Error::OtherApproval { approval, recorded, given });
        }
    }
    let (subject, approver) = (waiting.row.subject.clone(), to_ledger(&given));
    let withdrawn = ApprovalWithdrawn { subject, approver, approval, file: OutsideText::whole(file) };
    Ok(ledger.approval_withdrawn(&stamp()?, withdrawn)?)
}

fn withdraw(
    site: &Site,
    bundle: &str,
    key: &KeySource,
    reason: Option<LabelValue>,
    json: bool,
    state: &mut String,
) -> Result<(), Error> {
    let approvers = approvers(site)?;
    let key = key.unlock(site.now)?;
    let mut ledger = site.open_ledger()?;
    let waiting = Waiting::find(&ledger, bundle)?;
    let mut withdrawn = Vec::new();
    for (_, recorded) in ledger.all_approvals(&waiting.row.subject.bundle)? {
        let now = Timestamp::now();
        let Ok((approval, _)) = approvals::own_approval(recorded.file.raw().as_bytes(), &key, now) else { continue };
        if ledger.approval_withdrawal(&approval, &to_ledger(&key.fingerprint()))?.is_some() {
            continue;
        }
        let of = (*ledger.id(), waiting.row.subject.bundle);
        let made = approvals::make_withdrawal(&key, of, approval, now, reason.clone())?;
        let read = approvals::read_statement(&approvers.at(Timestamp::now()), made.file.as_bytes());
        if let Statement::Withdrawal(withdrawal, signer) = read.map_err(Error::NotCounted)? {
            let entry = take_back(approvers, &mut ledger, &waiting, &withdrawal, &signer, made.file)?;
            withdrawn.push((approval, entry));
            *state = format!("{} approvals are withdrawn", withdrawn.len());
        }
    }
    if withdrawn.is_empty() {
        return Err(Error::NothingToWithdraw { bundle: waiting.name(), key: key.fingerprint() });
    }
    let standing = waiting.standing(site, &ledger)?;
    let print = if json {
        let (approvals, entries): (Vec<_>, Vec<_>) = withdrawn.into_iter().unzip();
        let result = "withdrawn";
        console::print_json(
            &serde_json::json!({ "result": result, "approvals": approvals, "entries": entries, "standing": standing }),
        )
    } else {
        let mut text = String::new();
        for (approval, entry) in &withdrawn {
            text += &format!("withdrawn: approval {approval} of {}, ledger entry {entry}\n", waiting.name());
        }
        console::print(&(text + &format!("approvals: {}\n", standing.summary())))
    };
    print.map_err(Error::Stdout)
}

fn read(path: &Path) -> Result<String, Error> {
    let limit = LIMITS.approval + LIMITS.signature;
    let read = console::read_text(path, limit);
    Ok(read.map_err(|source| commands::Error::ReadConfig { path: path.into(), source })?)
}

/// What is approved, for whoever signs it.
fn table(request: &ApprovalRequest, not_after: Timestamp) -> String {
    let r = request;
    let mut text = format!("approval  of {} {} for production\n", r.stream, r.sequence);
    text += &format!("ledger    {}\nbundle    {}\nmanifest  {}\n", r.ledger, r.bundle, r.manifest);
    text += &format!("until     {not_after}\n");
    let row = |i: &manifest_schema::RequestedImage| {
        vec![i.production.to_string(), i.digest.to_string(), i.origin.to_string()]
    };
    let rows: Vec<_> = r.images.iter().map(row).collect();
    text + "\n" + &console::table(&["PRODUCTION", "DIGEST", "ORIGIN (AS CLAIMED)"], &rows)
}

/// How the approvals of a bundle stand.
fn text(standing: &Standing) -> String {
    let s = &standing.subject;
    let mut text =
        format!("bundle     {}\nstream     {} {}\nmanifest   {}\n", s.bundle, s.stream, s.sequence, s.manifest);
    text += &format!("approvals  {}\n", standing.summary());
    if standing.exclude_promoter {
        text += "           an approval by whoever promotes will not count\n";
    }
    if let Some(entry) = standing.overridden {
        text += &format!("           overridden by ledger entry {entry}\n");
    }
    let name = |user_id: &Option<OutsideText>| user_id.as_ref().map_or("-".into(), |u| u.escaped().to_string());
    let mut rows = Vec::new();
    for stated in &standing.statements {
        let until = stated.not_after.map_or("-".into(), |t| t.to_string());
        let counts = stated.reason.as_ref().map_or("yes".into(), |reason| format!("no: {reason}"));
        let (approver, entry) = (&stated.approver, stated.entry.to_string());
        rows.push(vec![approver.fingerprint.to_string(), name(&approver.user_id), until, entry, counts]);
    }
    for approver in &standing.missing {
        if standing.statements.iter().all(|stated| stated.approver.fingerprint != approver.fingerprint) {
            let dash = || "-".to_string();
            rows.push(vec![
                approver.fingerprint.to_string(),
                name(&approver.user_id),
                dash(),
                dash(),
                "has not approved".into(),
            ]);
        }
    }
    if rows.is_empty() {
        return text;
    }
    text + "\n" + &console::table(&["APPROVER", "NAME", "UNTIL", ">ENTRY", "COUNTS"], &rows)
}

//! What can go wrong while exporting. Who is at fault and what to do next stands in `hints.rs`.

use std::io;
use std::path::PathBuf;

use manifest_schema::{
    BundleId, Digest, LedgerId, OutsideText, ReceiptError, Reference, Sequence, ShortReceiptError, Stream,
};

/// An export failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Something that is needed was not given.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// What both programs share: configuration files, keys.
    #[error(transparent)]
    Common(#[from] commands::Error),
    /// Not a time or span.
    #[error("`{}` is not a time (2026-01-31T09:00:00Z) or a span (12h, 30d, 8w)", .0.escaped())]
    Expires(OutsideText),
    /// Nobody would admit the bundle.
    #[error("the bundle would have expired already: at {expires}, and now is {now}")]
    Expired {
        /// When.
        expires: manifest_schema::Timestamp,
        /// Now.
        now: manifest_schema::Timestamp,
    },
    /// A line that is no recipient.
    #[error("{}, line {line}: not a recipient: expected age1... or ssh-ed25519 AAAA...", .file.display())]
    RecipientsFile {
        /// The file.
        file: PathBuf,
        /// The line, from 1.
        line: usize,
        /// Why, unless that would repeat the line.
        source: Option<Box<bundle::AgeError>>,
    },
    /// A line that names no image.
    #[error("{}, line {line}", .file.display())]
    ImagesFile {
        /// The file.
        file: PathBuf,
        /// The line, from 1.
        line: usize,
        /// Why.
        source: Box<registry::source::SourceRefError>,
    },
    /// A report that cannot be read as a file.
    #[error("the report {} cannot be read", .path.display())]
    ReportFile {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A report that is broken.
    #[error("the report {} is refused: {why}", .path.display())]
    Report {
        /// The file.
        path: PathBuf,
        /// Why, with the line.
        why: scan::ReadError,
    },
    /// A report that is not what it was.
    #[error("the report {} has changed: expected {expected}", .path.display())]
    ReportChanged {
        /// The file.
        path: PathBuf,
        /// What it was.
        expected: manifest_schema::Digest,
    },
    /// A report that is about something else.
    #[error("the report {} is about another image than {origin}: it names {named}", .path.display())]
    ReportOfAnother {
        /// The file.
        path: PathBuf,
        /// The image.
        origin: Box<manifest_schema::Reference>,
        /// A digest that it names.
        named: manifest_schema::Digest,
    },
    /// A report for an image that is not packed.
    #[error("the report {} is for {}, which is not packed", .path.display(), image.escaped())]
    ReportNamesImage {
        /// The file.
        path: PathBuf,
        /// The image that was named.
        image: OutsideText,
    },
    /// A report of which nobody says what it is about.
    #[error("the report {} names none of the images that are packed{}", .path.display(), named(names))]
    ReportForWhich {
        /// The file.
        path: PathBuf,
        /// What it names.
        names: Vec<OutsideText>,
    },
    /// Images have more reports than can be judged together.
    #[error("{origin}: its reports and those before it have more findings than are looked at in one bundle")]
    TooManyReports {
        /// The image with which there are too many.
        origin: Box<manifest_schema::Reference>,
    },
    /// Images that do not pass the gate.
    #[error("the gate refuses {} of {images} images:{refused}", refused.0.len())]
    Gate {
        /// Which, and why.
        refused: scan::Refusals,
        /// How many there are.
        images: usize,
    },
    /// A label without a value.
    #[error("--label `{}`: expected NAME=VALUE", .0.escaped())]
    LabelFlag(OutsideText),
    /// The output folder is not there.
    #[error("{}: the output folder does not exist", .0.display())]
    NoOutput(PathBuf),
    /// Not a number of seconds.
    #[error("SOURCE_DATE_EPOCH is `{}`; expected seconds since 1970", .0.escaped())]
    SourceDateEpoch(OutsideText),
    /// A label.
    #[error(transparent)]
    Label(manifest_schema::text::LabelError),
    /// A number or name.
    #[error(transparent)]
    Id(manifest_schema::ids::IdError),
    /// The release key.
    #[error(transparent)]
    Signing(#[from] signing::Error),
    /// One key, twice.
    #[error("key {0} is named twice; each signer signs once")]
    SameSigner(signing::Fingerprint),
    /// One key in two roles.
    #[error(transparent)]
    Roles(#[from] signing::RoleConflict),
    /// Signatures that cannot be joined.
    #[error("the signatures cannot be joined")]
    Join(#[from] signing::Rejected),
    /// Nobody signs the seal.
    #[error("the seal needs the signature of a release key, and none is named")]
    NoSealKey,
    /// Neither a plan nor a bundle.
    #[error("{}: neither a plan (`plan --write`) nor a sealed bundle", .0.display())]
    NothingToSign(PathBuf),
    /// A plan's folder is there already.
    #[error("{}: is already there", .0.display())]
    PlanExists(PathBuf),
    /// A file of a plan.
    #[error("{}: cannot be read", .path.display())]
    PlanRead {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file of a plan is malformed.
    #[error("{}: not part of a plan: {}", .path.display(), .reason.escaped())]
    PlanFile {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: OutsideText,
    },
    /// The manifest of a plan was changed.
    #[error("{}: changed since it was planned: expected {expected}, found {found}", .path.display())]
    PlanChanged {
        /// The file.
        path: PathBuf,
        /// The digest planned.
        expected: Digest,
        /// The digest found.
        found: Digest,
    },
    /// A signature in a plan that is not over its manifest, or does not count now.
    #[error("{}: not a good signature over this plan's manifest", .path.display())]
    PlanSignature {
        /// The file.
        path: PathBuf,
        /// Why.
        source: signing::Rejected,
    },
    /// What would be packed is not what was planned.
    #[error("{name} is not what was planned any more: {}", OutsideText::new(.what).escaped())]
    Unplanned {
        /// The bundle.
        name: String,
        /// The first difference.
        what: String,
    },
    /// A flag that a plan has decided.
    #[error("{flag} would change the plan, which is fixed")]
    FixedByPlan {
        /// The flag.
        flag: &'static str,
    },
    /// A bundle that is not of this plan.
    #[error("{}: not packed from this plan: expected manifest {expected}, sealed is {sealed}", .path.display())]
    OtherPlan {
        /// The bundle.
        path: PathBuf,
        /// The plan's manifest.
        expected: Digest,
        /// The bundle's.
        sealed: Digest,
    },
    /// A recipient.
    #[error(transparent)]
    Age(#[from] bundle::AgeError),
    /// Registry access.
    #[error(transparent)]
    Registry(#[from] registry::Error),
    /// A source.
    #[error(transparent)]
    Source(#[from] registry::source::SourceError),
    /// Not an image that can be asked for.
    #[error(transparent)]
    SourceRef(#[from] registry::source::SourceRefError),
    /// A document that cannot be carried.
    #[error("{origin}: {digest} cannot be carried")]
    Document {
        /// The image.
        origin: Box<Reference>,
        /// The document.
        digest: Digest,
        /// Why.
        source: manifest_schema::document::DocumentError,
    },
    /// Indexes nested too deeply.
    #[error("{origin}: indexes are nested too deeply")]
    Nesting {
        /// The image.
        origin: Box<Reference>,
    },
    /// More signatures than are carried.
    #[error(
        "{origin}: more than {} signatures of one document, or {} bytes of signatures in the release",
        manifest_schema::LIMITS.lookaside_signatures,
        manifest_schema::LIMITS.evidence
    )]
    TooManySignatures {
        /// The image.
        origin: Box<Reference>,
    },
    /// More referrers than are carried.
    #[error(
        "{origin}: more than {} signatures and referrers, or more than {} referrers in a row",
        manifest_schema::LIMITS.attachments,
        manifest_schema::LIMITS.referrer_depth
    )]
    TooManyReferrers {
        /// The image.
        origin: Box<Reference>,
    },
    /// Signatures of an image could not be read.
    #[error("{origin}: its signatures cannot be read")]
    Signatures {
        /// The image.
        origin: Box<Reference>,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The signatures kept beside the record.
    #[error(transparent)]
    Lookaside(#[from] signing::LookasideError),
    /// A tag that is made from a digest, for an image.
    #[error("{origin}: the tag {tag} is for what is attached to an image")]
    ReservedTag {
        /// The image.
        origin: Box<Reference>,
        /// The tag.
        tag: manifest_schema::Tag,
    },
    /// Not a release image.
    #[error(
        "{origin}: {manifest} is not an OpenShift release image: no layer holds {}",
        manifest_schema::release::IMAGE_REFERENCES
    )]
    NotARelease {
        /// The image.
        origin: Box<Reference>,
        /// The image manifest.
        manifest: Digest,
    },
    /// A release image whose list cannot be read.
    #[error("{origin}: its layer {layer} cannot be read")]
    ReleaseLayer {
        /// The image.
        origin: Box<Reference>,
        /// The layer.
        layer: Digest,
        /// Why.
        source: io::Error,
    },
    /// A release image whose list is wrong.
    #[error("{origin} is not a usable release image")]
    ReleaseList {
        /// The image.
        origin: Box<Reference>,
        /// Why.
        source: manifest_schema::release::ImageReferencesError,
    },
    /// Signatures that would be made on packing, in a plan that is signed before.
    #[error(
        "a plan that is signed before it is packed cannot hold signatures that are made on packing (--sign-images)"
    )]
    PlannedSignatures,
    /// Not a choice of referrers.
    #[error("`{}` is not a choice of referrers: expected all, none, or types such as sig,att,sbom,application/spdx+json", .0.escaped())]
    ReferrersChoice(OutsideText),
    /// One name, two images.
    #[error("{origin} stands for two images: {first} and {second}")]
    SameName {
        /// The name.
        origin: Box<Reference>,
        /// The one.
        first: Digest,
        /// The other.
        second: Digest,
    },
    /// No such platform.
    #[error("{origin} has none of the platforms asked for: {}", .platforms.join(", "))]
    NoPlatform {
        /// The image.
        origin: Box<Reference>,
        /// What was asked for.
        platforms: Vec<String>,
    },
    /// Several platforms of more.
    #[error("{origin}: carrying some of its platforms leaves an index with missing entries")]
    Sparse {
        /// The image.
        origin: Box<Reference>,
    },
    /// A digest with two sizes.
    #[error("{origin}: {digest} is said to have {} and {} bytes", .sizes.0, .sizes.1)]
    TwoSizes {
        /// The image.
        origin: Box<Reference>,
        /// The blob.
        digest: Digest,
        /// Both sizes.
        sizes: (u64, u64),
    },
    /// A digest that is a document and a blob.
    #[error("{origin}: {digest} is said to be both an image manifest and a blob")]
    TwoKinds {
        /// The image.
        origin: Box<Reference>,
        /// The blob.
        digest: Digest,
    },
    /// More than one bundle can hold.
    #[error("{images} images with {blobs} blobs and {bytes} bytes are more than one bundle can hold")]
    TooMuch {
        /// Images.
        images: usize,
        /// Blobs.
        blobs: usize,
        /// Bytes.
        bytes: u64,
    },
    /// The manifest.
    #[error(transparent)]
    Manifest(#[from] manifest_schema::manifest::ManifestError),
    /// The volume.
    #[error(transparent)]
    Volume(#[from] bundle::VolumeError),
    /// A blob could not be copied.
    #[error("{digest} could not be packed")]
    Pull {
        /// The blob.
        digest: Digest,
        /// Why.
        source: io::Error,
    },
    /// The output.
    #[error("{}: cannot be written", .path.display())]
    Output {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Not enough space.
    #[error("{}: up to {} are needed, {} are free", .path.display(), console::bytes(*.needed), console::bytes(*.free))]
    NoSpace {
        /// The folder.
        path: PathBuf,
        /// Bytes needed at most.
        needed: u64,
        /// Bytes free.
        free: u64,
    },
    /// Not a size of files.
    #[error("`{}` is not a volume size: expected fat32, none, or at least 1 MiB (700MB, 2GiB)", .0.escaped())]
    VolumeSize(OutsideText),
    /// Not a medium.
    #[error("`{}` is not a medium: expected cd, dvd, dvd-dl, bd, bd-dl, or at least 4 MiB (64GB)", .0.escaped())]
    Medium(OutsideText),
    /// Not a share.
    #[error("`{}` is not a share of recovery data: expected 1% to 100%", .0.escaped())]
    Recovery(OutsideText),
    /// Not even the head of the volume fits.
    #[error("a volume of {limit} bytes is too small: at least {needed} are needed")]
    VolumeTooSmall {
        /// Bytes needed.
        needed: u64,
        /// Bytes that a volume may have.
        limit: u64,
    },
    /// More than file names can number.
    #[error("the bundle would have more than {limit} volumes")]
    TooManyVolumes {
        /// The limit.
        limit: u32,
    },
    /// The record does not have every volume.
    #[error("the record has {noted} of {of} volumes, and a seal must name them all")]
    NotAllVolumes {
        /// Volumes in the record.
        noted: usize,
        /// Volumes of the bundle.
        of: u32,
    },
    /// A plan for a folder.
    #[error("the release was planned for {count} volumes, and a stream is one")]
    PlannedVolumes {
        /// The volumes planned.
        count: u32,
    },
    /// Media of one bundle with seals of several revisions.
    #[error("{} and {} have different seals", .first.display(), .other.display())]
    OtherSeal {
        /// A medium.
        first: PathBuf,
        /// Another one.
        other: PathBuf,
    },
    /// Recovery data.
    #[error("{}: no recovery data can be made", .path.display())]
    MakeRecovery {
        /// The volume.
        path: PathBuf,
        /// Why.
        source: bundle::recovery::RecoveryError,
    },
    /// The bound was none.
    #[error("volume {number} has {size} bytes, and was planned to have at most {planned}")]
    LargerThanPlanned {
        /// The volume.
        number: u32,
        /// Bytes it has.
        size: u64,
        /// Bytes planned.
        planned: u64,
    },
    /// Asked for again, and never there.
    #[error("there is no volume {number}: the bundle has {last}")]
    NoSuchVolume {
        /// The number asked for.
        number: u32,
        /// The last volume.
        last: u32,
    },
    /// Not in the record.
    #[error("{name} was not packed by this request with this state folder")]
    NotPacked {
        /// The bundle.
        name: String,
    },
    /// The manifest of an earlier bundle.
    #[error("{}: cannot serve as a base: {}", .path.display(), .reason.escaped())]
    Base {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: OutsideText,
    },
    /// A file that should hold a receipt or a manifest.
    #[error("{}: cannot be read", .path.display())]
    ReceiptRead {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Something else than a receipt.
    #[error("{}: neither a receipt nor the short form of one", .0.display())]
    NotAReceipt(PathBuf),
    /// A short form that is wrong.
    #[error("this is not the short form of a receipt")]
    ShortReceipt(#[source] ShortReceiptError),
    /// A receipt, and nobody who could vouch for it.
    #[error("{}: a receipt, and no certificate of a ledger is configured that could vouch for it", .path.display())]
    NoReceiptTrust {
        /// The file.
        path: PathBuf,
    },
    /// The signature of a receipt does not count.
    #[error("{}: the receipt is not signed by a ledger that is trusted here", .path.display())]
    ReceiptRejected {
        /// The file.
        path: PathBuf,
        /// Why.
        source: signing::Rejected,
    },
    /// Signed, and still no receipt.
    #[error("{}: what is signed is not a receipt", .path.display())]
    ReceiptForm {
        /// The file.
        path: PathBuf,
        /// Why.
        source: ReceiptError,
    },
    /// A receipt for another stream.
    #[error("the receipt is for {name}, of stream {found}: expected one of {expected}")]
    ReceiptStream {
        /// The bundle.
        name: String,
        /// Its stream.
        found: Stream,
        /// The stream of the request.
        expected: Stream,
    },
    /// A receipt of another ledger.
    #[error("the receipt for {name} is of ledger {found}: expected one of {expected}")]
    ReceiptLedger {
        /// The bundle.
        name: String,
        /// The ledger.
        found: LedgerId,
        /// The ledger that was named.
        expected: LedgerId,
    },
    /// A bundle that is not in the record.
    #[error("the receipt is for {name} (bundle {bundle}), which was not packed with this state folder")]
    ReceiptUnknown {
        /// The bundle.
        name: String,
        /// Its id.
        bundle: BundleId,
    },
    /// Something else was packed under that name.
    #[error("the receipt is not for the {name} that was packed here: its {what} is {found}, expected {expected}")]
    ReceiptOther {
        /// The bundle.
        name: String,
        /// What differs.
        what: &'static str,
        /// As in the record.
        expected: String,
        /// As in the receipt.
        found: String,
    },
    /// No bundle that could be the base.
    #[error("no bundle of {stream} before {sequence} is known to be delivered: {reason}")]
    NothingDelivered {
        /// The stream.
        stream: Stream,
        /// The number of the bundle that is to be packed.
        sequence: Sequence,
        /// What is known.
        reason: String,
    },
    /// The importing program.
    #[error("{}: the importing program cannot be copied", .path.display())]
    Importer {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Options that a stream cannot have.
    #[error("{flag} and --output - exclude each other: what goes through a pipe is one volume")]
    NotForStream {
        /// The flag.
        flag: &'static str,
    },
    /// A person would get the ciphertext on the screen.
    #[error("stdout is a terminal")]
    Terminal,
    /// Something of that name is there.
    #[error("{}: is already there, and was not made by this request", .path.display())]
    Exists {
        /// The file or folder.
        path: PathBuf,
    },
    /// A partial bundle without a record.
    #[error("{}: an unfinished bundle that no record here knows", .path.display())]
    ForeignPartial {
        /// The folder.
        path: PathBuf,
    },
    /// The name belongs to another request.
    #[error("{name} has been begun or packed from another request")]
    OtherRequest {
        /// The bundle.
        name: String,
        /// What the other request left unfinished.
        partial: Option<PathBuf>,
    },
    /// Released before with other content.
    #[error("{name} has been released before, and its images or volumes have changed since")]
    Released {
        /// The bundle.
        name: String,
    },
    /// Another process.
    #[error("{name} is being packed by another process")]
    Busy {
        /// The bundle.
        name: String,
    },
    /// The record.
    #[error("{}: the record cannot be kept", .path.display())]
    State {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The record is damaged.
    #[error("{}: not a record of this program: {}", .path.display(), .reason.escaped())]
    Record {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: OutsideText,
    },
    /// A bundle's folder.
    #[error(transparent)]
    Folder(#[from] bundle::FolderError),
    /// stdout.
    #[error("stdout cannot be written")]
    Stdout(#[source] io::Error),
}

/// What a report names, the first few of it.
fn named(names: &[OutsideText]) -> String {
    let first: Vec<String> = names.iter().take(3).map(|name| name.escaped().to_string()).collect();
    if first.is_empty() { String::new() } else { format!("; it is about {}", first.join(", ")) }
}

//! What can go wrong while importing. Who is at fault and what to do next stands in `hints.rs`.

use std::io;
use std::path::PathBuf;

use bundle::Repairable;
use manifest_schema::{BundleId, Digest, OutsideText, Reference, Repository, Scope, Stream, TagRef, Timestamp};

/// An import failed or was refused.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Something that is needed was not given.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// Two ways to say whom to trust.
    #[error("--config and --trust exclude each other")]
    BothTrustAndConfig,
    /// Flags that a configuration would make void.
    #[error("{flag} goes with --trust only; import.yaml says it for each stream")]
    OnlyWithTrust {
        /// The flag.
        flag: &'static str,
    },
    /// Neither.
    #[error("no release certificate is named: whose bundles are accepted?")]
    NoStreams,
    /// Not a ledger id.
    #[error("ledger.id: `{}` is not a ledger id", .0.escaped())]
    LedgerId(OutsideText),
    /// Two default destinations.
    #[error("--to has two prefixes without FROM=")]
    TwoPrefixes,
    /// Several trees need hosts.
    #[error("--lookaside {}: of several, each must be HOST=DIR", .0.escaped())]
    LookasideFlag(OutsideText),
    /// One tree for two hosts.
    #[error("one signature folder for several registries ({}): a lookaside path has no host in it", .hosts.join(", "))]
    SharedLookaside {
        /// The registries.
        hosts: Vec<String>,
    },
    /// No tree for a host.
    #[error("no signature folder is configured for registry {host}")]
    NoLookaside {
        /// The registry.
        host: String,
    },
    /// Staging would write into production.
    #[error("staging writes to {staging}, which is production of a stream")]
    StagingIsProduction {
        /// The destination.
        staging: Box<Scope>,
    },
    /// Staging and production would share signatures.
    #[error("{}: the signature folder of production is that of staging too", .path.display())]
    StagingLookaside {
        /// The folder.
        path: PathBuf,
    },
    /// No clusters pull from staging.
    #[error("no staging registry is configured")]
    NoStaging,
    /// What was received would go somewhere else now.
    #[error("{origin} was received to go to {recorded}, and would go to {now} by the configuration of now")]
    OtherDestination {
        /// The image.
        origin: Box<Reference>,
        /// Where it was to go.
        recorded: Box<TagRef>,
        /// Where it would go.
        now: Box<TagRef>,
    },
    /// Nothing of the kind waits.
    #[error("{}: nothing of that name waits for its promotion", .0.escaped())]
    NothingWaits(OutsideText),
    /// What was kept for the promotion is not there, or is not what was received.
    #[error("bundle {bundle}: {what} cannot be taken from what was kept when it was received")]
    NotKept {
        /// The bundle.
        bundle: BundleId,
        /// What.
        what: String,
        /// Why, if it is there.
        #[source]
        source: Option<io::Error>,
    },
    /// A blob that an image needs is nowhere.
    #[error("{digest} is needed, and nowhere to be had")]
    NoBlob {
        /// The blob.
        digest: Digest,
    },
    /// An image was withdrawn.
    #[error("{digest}, of {origin}, was withdrawn from production at {at}, in entry {entry}")]
    Withdrawn {
        /// The image.
        origin: Box<Reference>,
        /// What was withdrawn of it.
        digest: Digest,
        /// When.
        at: Timestamp,
        /// The ledger's entry.
        entry: ledger::EntryNumber,
    },
    /// Not in production, as far as the ledger knows.
    #[error("{0}: the ledger has no signatures of such an image in production")]
    NotPublished(Box<Reference>),
    /// An image that the approvals do not cover.
    #[error("{digest} may not be signed as {production}: nobody allowed it")]
    NotAllowed {
        /// The production reference.
        production: Box<TagRef>,
        /// The digest.
        digest: Digest,
    },
    /// Nothing of the bundle is in production.
    #[error("bundle {bundle}: nothing of it is in production, it is {status}")]
    NotInProduction {
        /// The bundle.
        bundle: BundleId,
        /// How it stands.
        status: &'static str,
    },
    /// A receipt cannot be written.
    #[error("the receipt cannot be written")]
    Receipt(#[source] manifest_schema::receipt::ReceiptError),
    /// A QR code cannot be made.
    #[error("the QR code cannot be made")]
    Qr(#[source] console::QrError),
    /// Something that needs a reason has none.
    #[error("a reason is missing")]
    NoReason,
    /// Two streams, one destination.
    #[error("streams {} and {} both write to {} and {}", .streams.0, .streams.1, .destinations.0, .destinations.1)]
    SharedDestination {
        /// The streams.
        streams: (Stream, Stream),
        /// The destinations.
        destinations: (Box<Scope>, Box<Scope>),
    },
    /// Nobody could ever promote.
    #[error("approvers: all {needed} must approve, and whoever promotes is one of them, whose approval does not count")]
    NobodyMayPromote {
        /// How many must approve.
        needed: usize,
    },
    /// Too few approvals.
    #[error("{}", not_approved(.0))]
    NotApproved(Box<crate::approvals::Standing>),
    /// A statement that does not count here.
    #[error("it does not count")]
    NotCounted(#[source] crate::approvals::NotCounted),
    /// Statements that were not recorded.
    #[error("{} of {given} statements cannot be recorded:{}", .problems.len(), of_files(.problems))]
    Statements {
        /// How many were given.
        given: usize,
        /// What is wrong with each.
        problems: Vec<(PathBuf, Error)>,
    },
    /// The same document, signed by another approver.
    #[error("approval {statement} is recorded as one of {recorded}, in entry {entry}; given as one of {given}")]
    OthersStatement {
        /// The digest of its document.
        statement: Digest,
        /// The approver it is recorded of.
        recorded: ledger::Fingerprint,
        /// The ledger's entry.
        entry: ledger::EntryNumber,
        /// The approver who signed this one.
        given: signing::Fingerprint,
    },
    /// A withdrawal by someone else.
    #[error("approval {approval} (entry {entry}) is of {of}, and cannot be taken back by {by}")]
    OthersApproval {
        /// The digest of the approval's document.
        approval: Digest,
        /// The ledger's entry.
        entry: ledger::EntryNumber,
        /// The approver who made it.
        of: ledger::Fingerprint,
        /// Who would take it back.
        by: signing::Fingerprint,
    },
    /// A withdrawal that names another bundle than the approval.
    #[error("it takes back approval {approval} of bundle {given}, which is of bundle {recorded}")]
    OtherApproval {
        /// The digest of the approval's document.
        approval: Digest,
        /// The bundle that it is of.
        recorded: BundleId,
        /// The bundle that the withdrawal names.
        given: BundleId,
    },
    /// Somebody else's approval.
    #[error("it is no approval that key {key} has made")]
    NotOwnApproval {
        /// The certificate.
        key: signing::Fingerprint,
        /// Why.
        source: crate::approvals::NotCounted,
    },
    /// No approval to take back.
    #[error("{bundle}: there is no approval of {key} that could be taken back")]
    NothingToWithdraw {
        /// `<stream>-<sequence>`.
        bundle: String,
        /// The approver.
        key: signing::Fingerprint,
    },
    /// Nothing is left to be approved.
    #[error("{bundle} is in production since {at}: there is nothing left to approve")]
    NothingToApprove {
        /// `<stream>-<sequence>`.
        bundle: String,
        /// When it was recorded.
        at: Timestamp,
    },
    /// A request for an approval.
    #[error("{}: no request for an approval", .file.display())]
    Request {
        /// The file.
        file: PathBuf,
        /// Why.
        source: manifest_schema::ApprovalError,
    },
    /// A request where a statement belongs.
    #[error("{}: this is a request for an approval, and no approval", .0.display())]
    NoStatement(PathBuf),
    /// A statement that cannot be made.
    #[error(transparent)]
    Approval(#[from] manifest_schema::ApprovalError),
    /// A time beyond what can be written.
    #[error("so long from now there is no time")]
    TooLate,
    /// Someone who may not promote.
    #[error("key {key}: neither an approver nor a promoter is configured with it")]
    UnknownPromoter {
        /// The certificate.
        key: signing::Fingerprint,
    },
    /// Someone who may not promote any more.
    #[error("the signature of whoever promotes does not count")]
    PromoterRejected {
        /// Why.
        source: Box<signing::Rejected>,
    },
    /// A fingerprint in the ledger.
    #[error(transparent)]
    Fingerprint(signing::FingerprintError),
    /// A reference or scope.
    #[error(transparent)]
    Reference(manifest_schema::reference::ReferenceError),
    /// A label.
    #[error(transparent)]
    Label(manifest_schema::text::LabelError),
    /// A fingerprint that the ledger does not take.
    #[error(transparent)]
    LedgerName(ledger::FingerprintError),
    /// The passphrase.
    #[error(transparent)]
    Passphrase(#[from] console::PassphraseError),
    /// Files for clusters.
    #[error(transparent)]
    HandOver(#[from] crate::handover::HandOverError),
    /// A key or certificate.
    #[error(transparent)]
    Signing(#[from] signing::Error),
    /// One key, two roles.
    #[error(transparent)]
    Role(#[from] signing::RoleConflict),
    /// The identity.
    #[error(transparent)]
    Age(#[from] bundle::AgeError),
    /// A shared command.
    #[error(transparent)]
    Common(#[from] commands::Error),
    /// The bundle's folder.
    #[error(transparent)]
    Folder(#[from] bundle::FolderError),
    /// The seal is malformed.
    #[error(transparent)]
    Seal(#[from] bundle::SealError),
    /// The bundle's name.
    #[error("`{}` is not the name of a bundle: expected <stream>-<sequence>", .0.escaped())]
    BundleName(OutsideText),
    /// Streams exist only by configuration.
    #[error("stream {stream} is not configured here")]
    UnknownStream {
        /// The stream.
        stream: Stream,
    },
    /// The seal's signatures do not count.
    #[error("the seal is not signed as stream {stream} demands")]
    SealRejected {
        /// The stream.
        stream: Stream,
        /// Why.
        source: Box<signing::Rejected>,
    },
    /// The manifest's signatures do not count.
    #[error("the manifest is not signed as stream {stream} demands")]
    ManifestRejected {
        /// The stream.
        stream: Stream,
        /// Why.
        source: Box<signing::Rejected>,
    },
    /// A file of the seal is not there.
    #[error("{}: is missing", .file.display())]
    MissingFile {
        /// The file.
        file: PathBuf,
    },
    /// Volumes are not there.
    #[error("{bundle}: volume {} of {of} {} missing{}", numbers(.missing), if .missing.len() == 1 { "is" } else { "are" },
        if .media.is_empty() { String::new() } else { format!(" (medium {})", numbers(.media)) })]
    MissingVolumes {
        /// `<stream>-<sequence>`.
        bundle: String,
        /// The volumes.
        missing: Vec<u32>,
        /// How many there are.
        of: usize,
        /// The media that they are on, if the bundle is split.
        media: std::collections::BTreeSet<u32>,
        /// Those that recovery data can make again.
        repairable: Vec<u32>,
        /// The folders that are here.
        folders: Vec<PathBuf>,
    },
    /// A folder of another bundle.
    #[error("{}: holds {found}, and not {expected}", .path.display())]
    OtherMedium {
        /// The folder.
        path: PathBuf,
        /// The bundle that is being received.
        expected: Box<crate::media::SealedAs>,
        /// The one in the folder.
        found: Box<crate::media::SealedAs>,
    },
    /// The base of an incremental bundle was not received here.
    #[error(
        "the bundle builds on {base} (bundle {bundle}, manifest {manifest}), which the ledger does not have recorded"
    )]
    UnknownBase {
        /// `<stream>-<sequence>`.
        base: String,
        /// Its id.
        bundle: BundleId,
        /// The digest of its manifest.
        manifest: Digest,
    },
    /// Production does not have what the bundle leaves out.
    #[error("the bundle builds on {base}, of which production lacks {}", digests(.missing))]
    BaseLacks {
        /// `<stream>-<sequence>`.
        base: String,
        /// The blobs.
        missing: Vec<Digest>,
    },
    /// A blob of the base that was read, and is not right.
    #[error("a blob of the base cannot be read")]
    BaseRead(#[source] io::Error),
    /// The file for a stream's admission section.
    #[error("the folder for temporary files cannot be written")]
    Spool(#[source] io::Error),
    /// A stream and folders at once.
    #[error("`-` reads one stream, and no folder beside it")]
    StreamAndFolders,
    /// Asking failed.
    #[error("stdin cannot be read")]
    Stdin(#[source] io::Error),
    /// The folder that is watched.
    #[error("{}: cannot be watched", .path.display())]
    Watch {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Nobody has said that production may be written to without a person.
    #[error("--watch receives into staging, and there is none")]
    WatchNeedsStaging,
    /// A stream that cannot be decrypted to its end.
    #[error("the stream is cut or damaged")]
    Stream {
        /// Why.
        source: bundle::VolumeError,
    },
    /// Something that is no manifest.
    #[error("the first entry of the stream is no manifest: it names no release line")]
    NoStreamNamed,
    /// The seal of a stream.
    #[error("the stream's seal is not the one of its manifest")]
    OtherStreamSeal,
    /// A file of the seal cannot be read.
    #[error("{}: cannot be read: {reason}", .file.display())]
    UnreadableFile {
        /// The file.
        file: PathBuf,
        /// Why.
        reason: String,
    },
    /// The ciphertext is not what was sealed.
    #[error("{}: differs from the seal: expected {expected}, found {found}", .file.display())]
    Damaged {
        /// The volume.
        file: PathBuf,
        /// The sealed digest.
        expected: Digest,
        /// The digest found.
        found: Digest,
        /// Of a volume, its number and whether recovery data can repair it.
        repair: Option<(u32, Repairable)>,
    },
    /// Packed for somebody else.
    #[error("{}: the identity here does not open it", .file.display())]
    NoIdentity {
        /// The volume.
        file: PathBuf,
    },
    /// The signature folder.
    #[error("lookaside {}: signatures cannot be written there", .path.display())]
    LookasideRoot {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// What a sound volume holds is wrong.
    #[error("{}: its content is not what a bundle holds", .file.display())]
    Contents {
        /// The volume.
        file: PathBuf,
        /// Why.
        source: Box<bundle::ContentsError>,
    },
    /// A blob is wrong.
    #[error("the bundle's blob is wrong: {0}")]
    Blob(blobs::BlobError),
    /// Another manifest than the sealed one.
    #[error("the volume holds another manifest than the sealed one: expected {sealed}, found {found}")]
    OtherManifest {
        /// The sealed one.
        sealed: Digest,
        /// The one found.
        found: Digest,
    },
    /// Another bundle than the sealed one.
    #[error("the manifest is of another bundle than the seal: expected {sealed}, found {found}")]
    OtherBundle {
        /// The sealed one.
        sealed: BundleId,
        /// The one found.
        found: BundleId,
    },
    /// Another name than the sealed one.
    #[error("the manifest has another name than the seal: expected {sealed}, found {found}")]
    OtherName {
        /// The sealed one.
        sealed: String,
        /// The one found.
        found: String,
    },
    /// Another number of volumes than the sealed one.
    #[error("the seal names {sealed} volumes, the manifest {manifest}")]
    VolumeCount {
        /// In the seal.
        sealed: usize,
        /// In the manifest.
        manifest: u32,
    },
    /// The manifest.
    #[error(transparent)]
    Manifest(#[from] manifest_schema::manifest::ManifestError),
    /// The bundle has expired.
    #[error("the bundle expired at {expires}; now is {now}")]
    Expired {
        /// When.
        expires: Timestamp,
        /// Now.
        now: Timestamp,
    },
    /// An origin the stream may not claim.
    #[error("{origin}: stream {stream} may not carry images from there")]
    Origin {
        /// The image.
        origin: Box<Reference>,
        /// The stream.
        stream: Stream,
    },
    /// No rule for this origin.
    #[error("{origin}: no destination is configured for it")]
    NoDestination {
        /// The image.
        origin: Box<Reference>,
    },
    /// The mapping gives no repository.
    #[error("{origin}: its destination is not a repository")]
    BadDestination {
        /// The image.
        origin: Box<Reference>,
        /// Why.
        source: manifest_schema::reference::ReferenceError,
    },
    /// Two images for one tag.
    #[error("{first} and {second} would both become {destination}")]
    TwoOrigins {
        /// The one.
        first: Box<Reference>,
        /// The other.
        second: Box<Reference>,
        /// The tag.
        destination: Box<TagRef>,
    },
    /// The tag names another image.
    #[error("{tag} names {names} already; the bundle would make it {image}")]
    TagTaken {
        /// The tag.
        tag: Box<TagRef>,
        /// What it names.
        names: Digest,
        /// What it would name.
        image: Digest,
    },
    /// The tag was moved by somebody else meanwhile.
    #[error("{tag} has been moved to {names} by somebody else meanwhile")]
    TagMoved {
        /// The tag.
        tag: Box<TagRef>,
        /// What it names.
        names: Digest,
    },
    /// A registry without the signature extension.
    #[error("{registry} keeps no signatures: it does not say `X-Registry-Supports-Signatures: 1`")]
    KeepsNoSignatures {
        /// The registry.
        registry: String,
    },
    /// The registry refuses sparse indexes.
    #[error("{tag}: the registry does not take an index of which entries are missing")]
    SparseRefused {
        /// The image.
        tag: Box<TagRef>,
    },
    /// A document that is not sound.
    #[error("{digest} is not a sound image manifest or index")]
    Document {
        /// The document.
        digest: Digest,
        /// Why.
        source: manifest_schema::document::DocumentError,
    },
    /// The image policy refuses an image.
    #[error(
        "{origin}: the image policy refuses {}{}: scope {}: {}",
        .verdict.digest,
        .verdict.platform.as_ref().map(|p| format!(" ({p})")).unwrap_or_else(|| if .verdict.is_index { " (the index)".into() } else { String::new() }),
        .verdict.verdict.scope,
        crate::provenance::reasons(.verdict)
    )]
    PolicyRefused {
        /// The image, as the sender calls it.
        origin: Box<Reference>,
        /// The verdict, with its reasons.
        verdict: Box<crate::provenance::DocumentVerdict>,
    },
    /// More signatures than are held to judge images by.
    #[error("the bundle has more than {} bytes of signatures", manifest_schema::LIMITS.evidence)]
    TooMuchEvidence,
    /// A document with cosign signatures that is none.
    #[error("{digest} is not what cosign writes: {reason}")]
    Attachment {
        /// The document.
        digest: Digest,
        /// Why.
        reason: String,
    },
    /// Something attached to an image that is an image itself.
    #[error("{origin}: {digest} is attached to it, and is an image itself that no policy has judged")]
    AttachedImage {
        /// The image.
        origin: Box<Reference>,
        /// What is attached.
        digest: Digest,
    },
    /// A tag that is made from a digest, for an image.
    #[error("{origin}: the tag {tag} is for what is attached to an image")]
    ReservedTag {
        /// The image.
        origin: Box<Reference>,
        /// The tag.
        tag: manifest_schema::Tag,
    },
    /// Images that do not pass the gate.
    #[error("the gate refuses {} of {images} images:{refused}", refused.0.len())]
    Gate {
        /// Which, and why.
        refused: scan::Refusals,
        /// How many were judged.
        images: usize,
    },
    /// Images that this site's scanner does not let pass.
    #[error("the scanner refuses:{0}")]
    Scanner(crate::scanner::Refused),
    /// A scanner that cannot be started.
    #[error("the scanner {} cannot be started", program.escaped())]
    ScanStart {
        /// The program.
        program: OutsideText,
        /// Why.
        source: io::Error,
    },
    /// A scanner that cannot be used.
    #[error("the scanner's command cannot be used: {0}")]
    ScanCommand(&'static str),
    /// A scanner that could not be run.
    #[error("the scanner {} could not be run", program.escaped())]
    ScanRun {
        /// The program.
        program: OutsideText,
        /// Why.
        source: io::Error,
    },
    /// A blob that could not be read for the scanner.
    #[error("{digest} cannot be read for the scanner")]
    ScanImage {
        /// The blob.
        digest: Digest,
        /// Why.
        source: io::Error,
    },
    /// The folder for image data in the clear cannot be used.
    #[error("{}: cannot be used for image data", .path.display())]
    PlaintextDir {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// More findings than can be judged.
    #[error("the reports of the bundle have more findings than are looked at")]
    TooManyReports,
    /// More to record than the ledger takes.
    #[error("what is attached to the images is more than one ledger entry takes: {found} bytes; at most {limit}")]
    TooMuchToRecord {
        /// Bytes to record.
        found: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// The registry's document with signatures was changed again and again by somebody else.
    #[error("{tag}: somebody else changes it at the same time")]
    Contended {
        /// The tag.
        tag: String,
    },
    /// A layer of a release image that cannot be looked into.
    #[error("the layer {digest} of a release image cannot be read")]
    ReleaseLayer {
        /// The layer.
        digest: Digest,
        /// Why.
        source: io::Error,
    },
    /// A release image whose list is wrong.
    #[error("{digest} is not a usable release image")]
    ReleaseList {
        /// The release image's manifest.
        digest: Digest,
        /// Why.
        source: manifest_schema::release::ImageReferencesError,
    },
    /// A tag for cosign signatures that cannot be made.
    #[error("{tag}: the cosign signatures cannot be put under it")]
    CosignTag {
        /// The tag.
        tag: String,
        /// Why.
        source: signing::sigstore::AttachmentError,
    },
    /// A digest too long for a tag.
    #[error("{digest}: no tag is that long, so no cosign signature can be found for it")]
    NoDigestTag {
        /// The digest.
        digest: Digest,
    },
    /// A payload in production that is not what its digest says, or cannot be read.
    #[error("the cosign signature {digest} in production cannot be read")]
    Payload {
        /// The payload.
        digest: Digest,
        /// Why.
        source: io::Error,
    },
    /// The production key is somebody else's too.
    #[error(
        "cosign key {fingerprint} is configured for two roles, production and a stream; each role needs a key of its own"
    )]
    CosignRole {
        /// The public key's fingerprint.
        fingerprint: String,
    },
    /// A public key for sigstore bundles.
    #[error("{}: not a usable public key", .path.display())]
    SigstoreKey {
        /// The file.
        path: PathBuf,
        /// Why.
        source: signing::sigstore::SigstoreError,
    },
    /// A trusted root for sigstore bundles.
    #[error("{}: not a usable trusted root", .path.display())]
    Keyless {
        /// The file.
        path: PathBuf,
        /// Why.
        source: signing::sigstore::KeylessError,
    },
    /// The key for cosign signatures.
    #[error(transparent)]
    CosignKey(#[from] signing::sigstore::SigstoreSecretError),
    /// An image that nobody judged.
    #[error("{origin}: it was not judged by the image policy")]
    NotJudged {
        /// The image.
        origin: Box<Reference>,
    },
    /// An image policy.
    #[error(transparent)]
    ImagePolicy(#[from] signing::PolicyError),
    /// Documents and manifest disagree.
    #[error("{digest}: {reason}")]
    Inconsistent {
        /// The document or blob.
        digest: Digest,
        /// Why.
        reason: String,
    },
    /// The registry lost a blob.
    #[error("{repository} no longer has {digest}, which was there before")]
    Lost {
        /// The blob.
        digest: Digest,
        /// Where.
        repository: Repository,
    },
    /// Never told: something else has failed, and is.
    #[error("stopped, because something else failed")]
    Stopped,
    /// A repository that was not planned.
    #[error("{repository} was not planned")]
    NoClient {
        /// The repository.
        repository: Repository,
    },
    /// Where an image is read.
    #[error(transparent)]
    Source(#[from] registry::source::SourceError),
    /// Not an image that can be asked for.
    #[error(transparent)]
    SourceRef(#[from] registry::source::SourceRefError),
    /// Signatures that are somewhere and cannot be read.
    #[error("{image}: the signatures of {digest} cannot be read")]
    ImageSignatures {
        /// The image.
        image: String,
        /// The index or image manifest.
        digest: Digest,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// No such platform.
    #[error("{image} has nothing for {platform}")]
    NoPlatform {
        /// The image.
        image: String,
        /// What was asked for.
        platform: manifest_schema::document::Platform,
    },
    /// The manifest for a platform is missing.
    #[error("{image}: the index lists {digest}, and it is not there")]
    NoManifest {
        /// The image.
        image: String,
        /// The image manifest.
        digest: Digest,
    },
    /// Nothing that a cluster could run.
    #[error("{image} has no image manifest that a cluster could run")]
    NothingToRun {
        /// The image.
        image: String,
    },
    /// A flag that means nothing for an image.
    #[error("{flag} goes with a bundle only")]
    OnlyForBundles {
        /// The flag.
        flag: &'static str,
    },
    /// A policy refuses what a cluster would ask it about.
    #[error("the policy refuses {refused} of the {counted} manifests that count")]
    NotAccepted {
        /// How many.
        refused: usize,
        /// Of how many.
        counted: usize,
    },
    /// Registry access.
    #[error(transparent)]
    Registry(#[from] registry::Error),
    /// The lookaside tree.
    #[error(transparent)]
    Lookaside(#[from] signing::LookasideError),
    /// The repository of the signatures.
    #[error(transparent)]
    Git(#[from] crate::git::GitError),
    /// Signatures that are published and recorded.
    #[error("the signatures are not committed")]
    NotCommitted(#[source] crate::git::GitError),
    /// Signatures that are published, recorded and committed.
    #[error("the signatures are committed, and not pushed")]
    NotPushed(#[source] crate::git::GitError),
    /// The ledger.
    #[error(transparent)]
    Ledger(#[from] ledger::Error),
    /// What an auditor checks.
    #[error(transparent)]
    Audit(#[from] crate::audit::AuditError),
    /// A proof that cannot be written.
    #[error(transparent)]
    Proof(Box<ledger::ProofError>),
    /// The file of the ledger key's certificate.
    #[error("{}: not the certificate of the ledger key", .path.display())]
    LedgerCertificate {
        /// The file.
        path: PathBuf,
        /// Why.
        source: signing::Error,
    },
    /// Another process recorded the bundle.
    #[error("the bundle was recorded by another process at {at}")]
    RecordedMeanwhile {
        /// When.
        at: Timestamp,
    },
    /// A threshold of approvers that cannot be met, or that is met by nobody.
    #[error("approvers: a threshold of {needed} does not fit {of} certificates: expected 1 to {of}")]
    ApproverThreshold {
        /// The threshold.
        needed: usize,
        /// How many approvers there are.
        of: usize,
    },
    /// Nothing can be served.
    #[error("{address}: cannot be served")]
    Serve {
        /// Where.
        address: std::net::SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// A folder of signatures, when serving begins.
    #[error("{}: signatures cannot be read there", .path.display())]
    ServedFolder {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file for TLS.
    #[error("{}: {}", .path.display(), .reason.escaped())]
    TlsFile {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: OutsideText,
    },
    /// No such bundle in the ledger.
    #[error("the ledger knows no bundle `{}`", .0.escaped())]
    NoSuchBundle(OutsideText),
    /// A file that is there already.
    #[error("{}: is already there, and is not overwritten", .0.display())]
    OutputExists(PathBuf),
    /// stdout.
    #[error("stdout cannot be written")]
    Stdout(#[source] io::Error),
}

/// What is missing of approvals, and why each statement does not count.
fn not_approved(standing: &crate::approvals::Standing) -> String {
    let mut text =
        format!("{}-{} is not approved: {}", standing.subject.stream, standing.subject.sequence, standing.summary());
    for stated in &standing.statements {
        if let Some(reason) = &stated.reason {
            let (statement, approver) = (&stated.statement, &stated.approver.fingerprint);
            text += &format!("\napproval {statement} of {approver} (entry {}): {reason}", stated.entry);
        }
    }
    text
}

/// What is wrong with each file.
fn of_files(problems: &[(PathBuf, Error)]) -> String {
    let line = |(file, error): &(PathBuf, Error)| {
        let (file, error) = (file.display().to_string(), console::chain(error));
        if error.starts_with(&file) { format!("\n{error}") } else { format!("\n{file}: {error}") }
    };
    problems.iter().map(line).collect()
}

/// Digests for people.
fn digests(digests: &[Digest]) -> String {
    digests.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// Numbers for people.
fn numbers<'a>(numbers: impl IntoIterator<Item = &'a u32>) -> String {
    numbers.into_iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

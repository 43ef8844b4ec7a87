//! Who is at fault for each error, and what to do next. The only place for either.

mod git;
mod handover;

use bundle::Repairable;
use console::{Explain, Fault};

use crate::approvals::NotCounted;
use crate::audit::AuditError;
use crate::error::Error;
use git::{git_fault, git_hint};
use handover::{handover_fault, handover_hint};

impl Explain for Error {
    fn fault(&self) -> Fault {
        match self {
            Error::Missing(_)
            | Error::ScanCommand(_)
            | Error::ScanStart { .. }
            | Error::PlaintextDir { .. }
            | Error::BothTrustAndConfig
            | Error::OnlyWithTrust { .. }
            | Error::NoIdentity { .. }
            | Error::LookasideRoot { .. }
            | Error::NoStreams
            | Error::LedgerId(_)
            | Error::TwoPrefixes
            | Error::LookasideFlag(_)
            | Error::SharedLookaside { .. }
            | Error::NoLookaside { .. }
            | Error::SharedDestination { .. }
            | Error::StagingIsProduction { .. }
            | Error::StagingLookaside { .. }
            | Error::NoStaging
            | Error::KeepsNoSignatures { .. }
            | Error::NothingWaits(_)
            | Error::NoReason
            | Error::NotInProduction { .. }
            | Error::NotPublished(_)
            | Error::Reference(_)
            | Error::Label(_)
            | Error::LedgerName(_)
            | Error::Passphrase(_)
            | Error::Signing(_)
            | Error::Role(_)
            | Error::Age(_)
            | Error::ImagePolicy(_)
            | Error::CosignKey(_)
            | Error::CosignRole { .. }
            | Error::SigstoreKey { .. }
            | Error::Keyless { .. }
            | Error::NoDigestTag { .. }
            | Error::NoSuchBundle(_)
            | Error::ApproverThreshold { .. }
            | Error::NoStatement(_)
            | Error::TlsFile { .. }
            | Error::ServedFolder { .. }
            | Error::SourceRef(_)
            | Error::NoPlatform { .. }
            | Error::LedgerCertificate { .. }
            | Error::OutputExists(_)
            | Error::OnlyForBundles { .. }
            | Error::NobodyMayPromote { .. }
            | Error::NothingToWithdraw { .. }
            | Error::NothingToApprove { .. }
            | Error::Request { .. }
            | Error::Approval(_)
            | Error::TooLate
            | Error::Fingerprint(_) => Fault::Usage,
            Error::Statements { problems, .. } => {
                problems.iter().map(|(_, error)| error.fault()).max().unwrap_or(Fault::Refused)
            }
            Error::NotApproved(_)
            | Error::NotCounted(_)
            | Error::OthersStatement { .. }
            | Error::OthersApproval { .. }
            | Error::OtherApproval { .. }
            | Error::NotOwnApproval { .. }
            | Error::UnknownPromoter { .. }
            | Error::PromoterRejected { .. } => Fault::Refused,
            Error::Audit(e) => audit_fault(e),
            Error::HandOver(e) => handover_fault(e),
            Error::Source(e) => commands::source_fault(e),
            Error::Common(e) => e.fault(),
            Error::Folder(e) => commands::folder_fault(e),
            Error::Damaged { .. }
            | Error::MissingFile { .. }
            | Error::MissingVolumes { .. }
            | Error::Stream { .. }
            | Error::UnreadableFile { .. } => Fault::Damaged,
            Error::StreamAndFolders | Error::WatchNeedsStaging => Fault::Usage,
            Error::Stdin(_) | Error::Watch { .. } => Fault::Failed,
            Error::Spool(_) => Fault::Failed,
            Error::OtherMedium { .. }
            | Error::NoStreamNamed
            | Error::OtherStreamSeal
            | Error::UnknownBase { .. }
            | Error::BaseLacks { .. } => Fault::Refused,
            Error::BaseRead(_) => Fault::Failed,
            Error::Contents { source, .. } => contents_fault(source),
            Error::Seal(_)
            | Error::BundleName(_)
            | Error::UnknownStream { .. }
            | Error::SealRejected { .. }
            | Error::ManifestRejected { .. }
            | Error::Blob(_)
            | Error::OtherManifest { .. }
            | Error::OtherBundle { .. }
            | Error::OtherName { .. }
            | Error::VolumeCount { .. }
            | Error::Manifest(_)
            | Error::Expired { .. }
            | Error::OtherDestination { .. }
            | Error::NotAllowed { .. }
            | Error::Withdrawn { .. }
            | Error::Origin { .. }
            | Error::NoDestination { .. }
            | Error::BadDestination { .. }
            | Error::TwoOrigins { .. }
            | Error::TagTaken { .. }
            | Error::SparseRefused { .. }
            | Error::PolicyRefused { .. }
            | Error::TooMuchEvidence
            | Error::TooMuchToRecord { .. }
            | Error::Gate { .. }
            | Error::Scanner(_)
            | Error::TooManyReports
            | Error::AttachedImage { .. }
            | Error::ReservedTag { .. }
            | Error::Attachment { .. }
            | Error::ReleaseLayer { .. }
            | Error::ReleaseList { .. }
            | Error::NotJudged { .. }
            | Error::NothingToRun { .. }
            | Error::NotAccepted { .. }
            | Error::Document { .. }
            | Error::Inconsistent { .. } => Fault::Refused,
            Error::TagMoved { .. }
            | Error::Lost { .. }
            | Error::NotKept { .. }
            | Error::NoBlob { .. }
            | Error::Receipt(_)
            | Error::Qr(_)
            | Error::Stopped
            | Error::NoClient { .. }
            | Error::Lookaside(_)
            | Error::CosignTag { .. }
            | Error::Contended { .. }
            | Error::Serve { .. }
            | Error::ScanRun { .. }
            | Error::ScanImage { .. }
            | Error::Payload { .. }
            | Error::ImageSignatures { .. }
            | Error::NoManifest { .. }
            | Error::RecordedMeanwhile { .. }
            | Error::Proof(_)
            | Error::Stdout(_) => Fault::Failed,
            Error::Git(e) => git_fault(e),
            Error::NotCommitted(_) | Error::NotPushed(_) => Fault::Failed,
            Error::Registry(e) => commands::registry_fault(e),
            Error::Ledger(e) => ledger_fault(e),
        }
    }

    fn hint(&self) -> Option<String> {
        let text = match self {
            Error::Missing("an identity") => "name it with --identity, or as `identity:` in import.yaml",
            Error::Missing("a ledger") => {
                "name it with --ledger, or as `ledger:` in import.yaml; `sealift-import init` makes one"
            }
            Error::Missing("a ledger key") => {
                "name it with --ledger-key or --ledger-by, or as `ledger: {sign: {key: FILE}}`; `sealift-import keygen ledger` makes one"
            }
            Error::Missing("a list of approvers") => {
                "name their certificates with `approvers: {certificates: [FILE]}` in import.yaml"
            }
            Error::Missing("an approver's key") => "name your own key with --sign-key or --sign-by",
            Error::Missing("the time until which the approval counts") => {
                "say --not-after TIME, or --for SPAN such as 7d; without a key, or with --list, the approvals are shown"
            }
            Error::Missing("the key of whoever promotes") => {
                "name your own key with --promoter-key or --promoter-by: your own approval does not count"
            }
            Error::NobodyMayPromote { .. } => {
                "lower `threshold:`, or name those who promote under `approvers: {promoters: [FILE]}`"
            }
            Error::NotApproved(standing) => {
                let (stream, sequence) = (&standing.subject.stream, standing.subject.sequence);
                return Some(format!(
                    "`sealift-import approve {stream}-{sequence}` shows how its approvals stand; have those who are missing approve it"
                ));
            }
            Error::NotCounted(why) => return not_counted_hint(why),
            Error::Statements { problems, .. } => return problems.first().and_then(|(_, error)| error.hint()),
            Error::OthersStatement { .. } => "each approver makes an approval of his own",
            Error::OthersApproval { .. } | Error::NotOwnApproval { .. } => {
                "only the key that has made an approval takes it back"
            }
            Error::OtherApproval { .. } => "have the withdrawal made anew from the approval's own file",
            Error::NothingToWithdraw { .. } => "`sealift-import approve BUNDLE` shows the approvals that there are",
            Error::UnknownPromoter { .. } => {
                "name your certificate under `approvers: {promoters: [FILE]}`, or use the key that is known here"
            }
            Error::PromoterRejected { .. } => "use a key that is good, and have its certificate configured",
            Error::Request { .. } => "have it written again with `sealift-import approve BUNDLE --request FILE`",
            Error::Missing("a production key") => {
                "name it with --sign-key or --sign-by, or as `production: {sign: {key: FILE}}`"
            }
            Error::Missing("the production key's certificate") => {
                "name it with --certificate, or as `production: {certificates: [FILE]}`"
            }
            Error::Missing("the public half of production's cosign key") => {
                "name it with --cosign-public-key; `production: {cosign: {key: FILE}}` signs with the other half"
            }
            Error::Missing("a folder for signatures") => {
                "name it with --lookaside, or as `production: {lookaside: DIR}`"
            }
            Error::NoIdentity { .. } => {
                "name the identity whose recipient the bundle was packed for, or have it packed for this one's"
            }
            Error::LookasideRoot { .. } => {
                "name a folder that can be written with `production: {lookaside: DIR}` or --lookaside"
            }
            Error::Age(e) => return commands::age_hint(e),
            Error::Signing(e) => return commands::signing_hint(e),
            Error::OnlyWithTrust { .. } => {
                "leave the flag (or its variable) out, or use --trust instead of a configuration"
            }
            Error::NoStreams => {
                "name the configuration with --config, or be where import.yaml is; for a single bundle without one, name the sender's \
                 certificate with --trust"
            }
            Error::SharedLookaside { .. } | Error::NoLookaside { .. } => {
                "give each registry a tree of its own: `lookaside: {HOST: DIR}` or --lookaside HOST=DIR"
            }
            Error::StagingIsProduction { .. } => {
                "name a part of a registry that no stream writes to under `staging: {to: ...}`"
            }
            Error::StagingLookaside { .. } => "give staging a folder of its own with `staging: {lookaside: DIR}`",
            Error::NoStaging => "name one under `staging:` in import.yaml, with `to:` and `lookaside:`",
            Error::HandOver(e) => return handover_hint(e),
            Error::NothingWaits(_) => {
                "`sealift-import ledger list --status received` shows which bundles wait, `sealift-import ledger show BUNDLE` their images; \
                 an image is named by its production reference"
            }
            Error::NotPublished(_) => "name it by its production reference; `sealift-import ledger show` has them",
            Error::NotInProduction { .. } => "receive or promote the bundle first",
            Error::Receipt(_) | Error::Qr(_) => return None,
            Error::NoReason => "say it for those who read the ledger",
            Error::NotAllowed { .. } => {
                "run the same command again; if it happens again, look at the approvals with `sealift-import approve BUNDLE`"
            }
            Error::OtherDestination { .. } => "put the configuration back, or receive the bundle again",
            Error::NotKept { .. } | Error::NoBlob { .. } => {
                "receive the bundle again from its media; what is there is found"
            }
            Error::Withdrawn { .. } => {
                "have the image released anew; if this one is to run all the same, use --override withdrawn --reason TEXT"
            }
            Error::SharedDestination { .. } => "give each stream destinations of its own",
            Error::Role(_) => "make another key with `sealift-import keygen`",
            Error::Passphrase(e) if e.hint().is_some() => return e.hint(),
            Error::Passphrase(_) => {
                "use --sign-passphrase-file or --identity-passphrase-file, SEALIFT_SIGN_PASSPHRASE or SEALIFT_IDENTITY_PASSPHRASE"
            }
            Error::Folder(e) => return commands::folder_hint(e),
            Error::Common(e) => return e.hint(),
            Error::UnknownStream { .. } => {
                "if it shall be accepted, add it under `streams:` in import.yaml, with the certificates of those who release it"
            }
            Error::SealRejected { source, .. } | Error::ManifestRejected { source, .. } => {
                commands::rejected_hint(source)
            }
            Error::Damaged { file, repair: Some((number, repairable)), .. } => {
                let folder = file.parent().unwrap_or(std::path::Path::new(".")).display();
                return Some(match repairable {
                    Repairable::Yes => {
                        format!("its recovery data can repair it: `sealift-import check --repair {folder}`")
                    }
                    Repairable::NoData | Repairable::TooLittle => format!(
                        "copy the file from the medium again; if it is damaged there, ask the sender for \
                         `sealift-export pack --volume {number}`{}; the other files stay good",
                        if *repairable == Repairable::TooLittle { " (its recovery data does not suffice)" } else { "" }
                    ),
                });
            }
            Error::Damaged { .. } | Error::MissingFile { .. } | Error::UnreadableFile { .. } => {
                "copy the file from the medium again, or ask the sender for it; the other files stay good"
            }
            Error::MissingVolumes { missing, repairable, folders, .. } => {
                let list = |numbers: &[u32]| numbers.iter().map(u32::to_string).collect::<Vec<_>>().join(",");
                let lost: Vec<u32> = missing.iter().copied().filter(|number| !repairable.contains(number)).collect();
                let mut hint =
                    "name every folder of the bundle, or run it at a terminal to be asked for them".to_string();
                if !repairable.is_empty() {
                    let folders: Vec<_> = folders.iter().map(|folder| folder.display().to_string()).collect();
                    let what = if lost.is_empty() { "it".into() } else { format!("volume {}", list(repairable)) };
                    hint += &format!(
                        "; if it is lost, recovery data can repair {what}: `sealift-import check --repair {}`",
                        folders.join(" ")
                    );
                }
                if !lost.is_empty() {
                    hint += &format!("; what is lost is made again by `sealift-export pack --volume {}`", list(&lost));
                }
                return Some(hint);
            }
            Error::UnknownBase { .. } => {
                "receive that bundle first, prove what is there by reading it with --base-proof read, or ask for a bundle that was \
                 packed without --base"
            }
            Error::BaseLacks { .. } => {
                "ask for a bundle that was packed without --base; if production has them in a repository that the base was not \
                 received into, --base-proof read looks where the images go"
            }
            Error::BaseRead(_) => "repair the registry, or ask for a bundle that was packed without --base",
            Error::StreamAndFolders => "receive one after the other",
            Error::WatchNeedsStaging => {
                "to let media into production without a person at the terminal, say `watch: {into: production}` in import.yaml"
            }
            Error::Watch { .. } => "name the folder below which the system mounts media, such as /media/station",
            Error::Stdin(_) => return None,
            Error::OtherMedium { .. } => "name the folders of one bundle at a time",
            Error::Spool(_) => "set TMPDIR to a folder with room for the bundle's image manifests and configurations",
            Error::Stream { .. } => "send the bundle again; what has been pushed is found",
            Error::OtherStreamSeal | Error::NoStreamNamed => "do not use it, and tell the sender",
            Error::Contents { source, .. } => match source.as_ref() {
                bundle::ContentsError::Volume(bundle::VolumeError::Io(_)) => {
                    "check the medium, then run the same command again"
                }
                bundle::ContentsError::Volume(bundle::VolumeError::Age(e)) => return commands::age_hint(e),
                _ => "the bundle was sealed like this: do not use it, and tell the sender",
            },
            Error::OtherManifest { .. }
            | Error::OtherBundle { .. }
            | Error::OtherName { .. }
            | Error::VolumeCount { .. } => "files of two bundles may have been mixed; copy the bundle's folder afresh",
            Error::Manifest(manifest_schema::manifest::ManifestError::Requires { .. }) => {
                "install that version of sealift-import"
            }
            Error::Expired { .. } => {
                "ask the sender for a new release; --override expired --reason TEXT lets this one in"
            }
            Error::Origin { .. } => "if it shall be accepted, add its scope to the stream's `origins:`",
            Error::NoDestination { .. } | Error::BadDestination { .. } => {
                "say where it goes with the stream's `to:`, or --to"
            }
            Error::TwoOrigins { .. } => "map them apart with the stream's `to:`",
            Error::TagTaken { .. } => {
                "a release should not reuse a tag; if this one is meant to move, name it in `replace_tags:`, or use \
                 --on-existing-tag replace or skip"
            }
            Error::TagMoved { .. } => "find out who writes to this repository, then run the same command again",
            Error::KeepsNoSignatures { .. } => {
                "leave `registry_signatures:` and --registry-signatures out: clusters read the folder for signatures (lookaside)"
            }
            Error::SparseRefused { .. } => "have the release packed with all platforms, or with one",
            Error::PolicyRefused { verdict, .. } if verdict.is_index => {
                "have the index signed too (`skopeo copy --all --sign-by` does), or accept that it is not with `allow_unsigned_index: true`"
            }
            Error::PolicyRefused { .. } => {
                "have the image signed by a key that the stream's image policy names, under the name it is packed as; \
                 `sealift-import trust check` explains a policy"
            }
            Error::NoDigestTag { .. } => {
                "leave --cosign-key out: images with SHA-512 digests can have simple signatures only"
            }
            Error::CosignTag { .. } => "find out what the tag names, and remove it if it is not needed",
            Error::CosignRole { .. } => "make another key with `sealift-import keygen cosign`",
            Error::CosignKey(_) => "check the file and its passphrase; `sealift-import keygen cosign` makes a key",
            Error::Scanner(_) => {
                "ask for a release with repaired images; `--override scanner --reason TEXT` lets this bundle pass (docs/scanning.md)"
            }
            Error::ScanStart { .. } => {
                "correct `scan: {command: [...]}`: a program with `/` in it is looked for from the folder of import.yaml, others in PATH"
            }
            Error::ScanCommand(_) => {
                "`scan: {command: [trivy, image, --format, json, --input, \"{archive}\"], plaintext_dir: DIR}` is an example"
            }
            Error::ScanRun { .. } | Error::ScanImage { .. } => "run the same command again",
            Error::PlaintextDir { .. } => {
                "make it a folder of this user's alone (mode 700), with room for the largest image"
            }
            Error::Gate { refused, .. } if refused.only_lacks_reports() => {
                "ask for a release with reports that count; `--override scan --reason TEXT` lets this bundle pass (docs/scanning.md)"
            }
            Error::Gate { .. } => {
                "ask for a release with repaired images; an exception (`gate: {scan: {exceptions: [...]}}`) needs an end and a reason, and \
                 `--override scan --reason TEXT` lets this bundle pass (docs/scanning.md)"
            }
            Error::TooMuchEvidence | Error::TooMuchToRecord { .. } | Error::TooManyReports => {
                "have the release split into several, or packed with fewer --referrers"
            }
            Error::AttachedImage { .. } => {
                "have it packed as an image of its own, or left out with --referrers; what is attached must not be runnable"
            }
            Error::ReservedTag { .. } => {
                "what is attached to an image travels with it; have the image packed, not its attachments"
            }
            Error::Contended { .. } => "find out who else signs there, then run the same command again",
            Error::ImagePolicy(_) => {
                "containers-policy.json(5) describes the form; the file is named by `images:` of the stream, or by --policy"
            }
            Error::Blob(_)
            | Error::Document { .. }
            | Error::ReleaseLayer { .. }
            | Error::ReleaseList { .. }
            | Error::Attachment { .. }
            | Error::NotJudged { .. }
            | Error::Inconsistent { .. }
            | Error::Manifest(_) => "the bundle was sealed like this: do not use it, and tell the sender",
            Error::Lost { .. } => {
                "run the same command again; if it happens again, look at the registry's garbage collection"
            }
            Error::Source(e) => return commands::source_hint(e),
            Error::ImageSignatures { .. } => {
                "a cluster would fail here too; where signatures are is said in registries.d (--registries-d), and a server must \
                 answer 404 for those that are not there"
            }
            Error::NoPlatform { .. } => "without --platform all platforms are shown",
            Error::NotAccepted { .. } => {
                "each line above that begins with REFUSED names the rule; have the image signed as that rule demands, or change the \
                 policy"
            }
            Error::Git(e) | Error::NotCommitted(e) | Error::NotPushed(e) => return git_hint(e),
            Error::Registry(e) => return commands::registry_hint(e),
            Error::Ledger(e) => return ledger_hint(e),
            Error::Audit(e) => return audit_hint(e),
            Error::LedgerCertificate { .. } => {
                "name the right file with `ledger: {certificate: FILE}` or --ledger-certificate, or move this one away"
            }
            Error::Proof(_) => "prove fewer at once: --limit",
            Error::OutputExists(_) => "choose another name, or move the file away",
            Error::Missing("a file for the ledger key's certificate") => {
                "name it with `ledger: {certificate: FILE}` or --ledger-certificate"
            }
            Error::ServedFolder { .. } => {
                "make the folder, and let the user that serves read it (mode 755); `receive` makes it like that"
            }
            Error::TlsFile { .. } => "give a certificate chain and its key, both in PEM",
            Error::Serve { .. } => "choose another address with --listen, or end what has it",
            Error::NoStatement(_) => {
                "make the approval of it: `sealift-import approve --from FILE --output FILE`, with your key"
            }
            Error::ApproverThreshold { .. } => {
                "correct `approvers: {threshold: N}` or --approver-threshold, or name more certificates"
            }
            Error::NoSuchBundle(_) => "`sealift-import ledger list` shows what there is",
            Error::Missing(_)
            | Error::BothTrustAndConfig
            | Error::LedgerId(_)
            | Error::TwoPrefixes
            | Error::LookasideFlag(_)
            | Error::Reference(_)
            | Error::Label(_)
            | Error::LedgerName(_)
            | Error::Seal(_)
            | Error::BundleName(_)
            | Error::Stopped
            | Error::NoClient { .. }
            | Error::Lookaside(_)
            | Error::Payload { .. }
            | Error::SigstoreKey { .. }
            | Error::Keyless { .. }
            | Error::SourceRef(_)
            | Error::NoManifest { .. }
            | Error::NothingToRun { .. }
            | Error::OnlyForBundles { .. }
            | Error::RecordedMeanwhile { .. }
            | Error::NothingToApprove { .. }
            | Error::Approval(_)
            | Error::TooLate
            | Error::Fingerprint(_)
            | Error::Stdout(_) => return None,
        };
        Some(text.into())
    }
}

/// What to do when an approval does not count.
fn not_counted_hint(why: &NotCounted) -> Option<String> {
    use signing::{Reason as R, Rejected};
    let text = match why {
        NotCounted::Signature(Rejected::BelowThreshold { faults, .. }) => match faults.first().map(|f| &f.reason) {
            Some(R::UnknownKey) => {
                "name the approver's certificate under `approvers: {certificates: [FILE]}`, if he may approve"
            }
            Some(R::Expired { .. }) => {
                "put the approver's extended certificate beside the old one, or have another approve"
            }
            Some(R::Revoked { .. }) => "have another approver approve, or this one with a new key",
            Some(R::Future { .. }) => "compare the clocks; clock_tolerance says how far they may differ",
            _ => "ask the approver for the file again",
        },
        NotCounted::Signature(_) => "ask the approver for the file again",
        NotCounted::TooLong { .. } => {
            "approve for a shorter time; `approvers: {greatest_validity: SPAN}` says how long it may be"
        }
        NotCounted::Future { .. } => "compare the clocks; clock_tolerance says how far they may differ",
        NotCounted::Ended { .. } | NotCounted::Withdrawn { .. } | NotCounted::Signers { .. } => {
            "have a new approval made"
        }
        NotCounted::Ledger { .. }
        | NotCounted::Bundle { .. }
        | NotCounted::Name { .. }
        | NotCounted::Manifest { .. }
        | NotCounted::NotListed { .. }
        | NotCounted::Image { .. } => {
            "have it approved by what `sealift-import approve BUNDLE --request FILE` writes here"
        }
        NotCounted::Document(_) | NotCounted::Promoter | NotCounted::Again => return None,
    };
    Some(text.into())
}

fn contents_fault(error: &bundle::ContentsError) -> Fault {
    use bundle::{ContentsError as C, VolumeError as V};
    match error {
        C::Volume(V::NoIdentity) | C::Volume(V::Age(_)) => Fault::Usage,
        C::Volume(V::Io(_)) => Fault::Failed,
        C::Volume(V::NotAge | V::Corrupt(_) | V::Tar(_))
        | C::Entry { .. }
        | C::Size { .. }
        | C::TooLarge { .. }
        | C::Derived(_)
        | C::OtherManifest { .. }
        | C::Blob(_) => Fault::Refused,
    }
}

fn audit_fault(error: &AuditError) -> Fault {
    match error {
        AuditError::Read { .. } => Fault::Usage,
        AuditError::Certify { .. } => Fault::Usage,
        AuditError::NoHead { .. }
        | AuditError::OtherLedger { .. }
        | AuditError::UnknownKey { .. }
        | AuditError::Proof { .. }
        | AuditError::OtherImage { .. }
        | AuditError::OtherEntry { .. } => Fault::Refused,
    }
}

fn audit_hint(error: &AuditError) -> Option<String> {
    let text = match error {
        AuditError::Read { .. } => return None,
        AuditError::NoHead { .. } => {
            "it says nothing about the ledger; if it was signed by a key that the ledger does not know (any more, or yet), name \
             that key's certificate with --certificate, beside production's"
        }
        AuditError::OtherLedger { .. } => "name the ledger that it is of, or a file of this one",
        AuditError::UnknownKey { source: signing::CertificationError::NotCertified { .. }, .. } => {
            "check which certificate is named; if it is the right one, have the ledger key certified where both keys are: \
             `sealift-import ledger certify`"
        }
        AuditError::UnknownKey { .. } => "ask production which key signs its ledger",
        AuditError::Proof { .. } | AuditError::OtherImage { .. } | AuditError::OtherEntry { .. } => {
            "do not rely on it; have it made anew: `sealift-import ledger prove`"
        }
        AuditError::Certify { source, .. } => return Some(certify_hint(source)),
    };
    Some(text.into())
}

/// What to do about a production key that cannot certify the ledger key.
fn certify_hint(error: &signing::Error) -> String {
    match error {
        signing::Error::SubkeyOnly { .. } | signing::Error::CannotCertify { .. } => {
            "certify it where the primary key is: `gpg --import ledger.asc`, `gpg -u PRODUCTION --quick-sign-key LEDGER`, \
             `gpg --armor --export LEDGER`, and put the result back as ledger.asc; until then nobody can check this ledger's \
             proofs with production's certificate"
                .into()
        }
        e => commands::signing_hint(e).unwrap_or_else(|| "make another key with `sealift-import keygen ledger`".into()),
    }
}

fn ledger_fault(error: &ledger::Error) -> Fault {
    use ledger::Error as E;
    match error {
        E::Refusal(ledger::Refusal::ClockBehind { .. }) => Fault::Failed,
        E::Refusal(_) => Fault::Refused,
        E::Missing(_)
        | E::Exists(_)
        | E::NotAFile(_)
        | E::NotALedger { .. }
        | E::OtherLedger { .. }
        | E::Newer { .. }
        | E::Older { .. }
        | E::NeedsKey { .. }
        | E::OtherKey { .. }
        | E::SameKey { .. }
        | E::EarlierKey { .. }
        | E::NothingToAdopt(_)
        | E::NotSigned(_)
        | E::NoSuchImage(_)
        | E::NoSuchEntry(_)
        | E::NetworkFileSystem { .. } => Fault::Usage,
        E::Busy { .. }
        | E::ReadOnly(_)
        | E::Full(_)
        | E::Damaged { .. }
        | E::Io { .. }
        | E::Database { .. }
        | E::Unwritable(_)
        | E::NotBegun(_)
        | E::NotReceived(_)
        | E::NotAnnounced(_)
        | E::Key { .. }
        | E::NoSecond { .. }
        | E::BadSecond { .. }
        | E::Behind { .. }
        | E::Forked { .. }
        | E::SignatureNotAnnounced { .. }
        | E::RecordedOtherwise { .. }
        | E::Tampered { .. } => Fault::Failed,
    }
}

fn ledger_hint(error: &ledger::Error) -> Option<String> {
    use ledger::{Error as E, Refusal as R};
    let text = match error {
        E::Refusal(R::Rollback { .. }) => {
            "have a newer one sent; if the older one is wanted, --override rollback --reason TEXT lets it in"
        }
        E::Refusal(R::OtherManifest { .. } | R::OtherBundle { .. } | R::SameBundleOtherNumber { .. }) => {
            "a number stands for one release; ask the sender which is the right one, and have the other sent under a new number"
        }
        E::Refusal(R::ClockBehind { .. }) => "set the clock, then run the same command again",
        E::Missing(_) => {
            "check the path; for a site that has everything else, `sealift-import ledger create` makes a new ledger, which knows nothing \
             of what came before"
        }
        E::OtherLedger { .. } => {
            "put the right ledger back, or name its id in the configuration if this is the right one"
        }
        E::Older { .. } => {
            "`sealift-import receive` and every other command that writes to it does; if its key has signed no head yet, the first is \
             `sealift-import ledger adopt --reason TEXT`"
        }
        E::NeedsKey { .. } => "name it with --ledger-key or --ledger-by, or as `ledger: {sign: {key: FILE}}`",
        E::OtherKey { expected: None, .. } => "a ledger that was made without a key stays without: leave the key out",
        E::OtherKey { .. } => {
            "name the right key; to change it, `sealift-import ledger rotate-key`. A ledger that was put back from before its key was \
             changed needs the key of then"
        }
        E::EarlierKey { .. } => "make a new one: `sealift-import keygen ledger -o DIR`",
        E::NotSigned(_) => "only a ledger that was made with a key can be held against a head, or prove anything",
        E::NoSuchImage(_) => {
            "give the digest of an index or image manifest that is in production; `sealift-import ledger list` shows bundles"
        }
        E::NoSuchEntry(_) => "`sealift-import ledger log` shows the last ones",
        E::NoSecond { .. } => {
            "bring the file back from where it was kept; if it is lost, compare the ledger with the receipts and the heads that were \
             kept elsewhere (`sealift-import ledger verify --head FILE`), then go on with `sealift-import ledger adopt --reason TEXT`"
        }
        E::BadSecond { .. } => {
            "bring the file back from where it was kept; if the ledger was put back from before its key was changed, go on with \
             `sealift-import ledger adopt --reason TEXT --certificate FILE` and the certificate of the key that came then; if the file is \
             beyond repair, move it away: it is lost"
        }
        E::Behind { .. } | E::Forked { .. } => {
            "stop, keep the file as it is, and look for the one that it replaced; if that is lost for good, go on with \
             `sealift-import ledger adopt --reason TEXT`"
        }
        E::NotReceived(_) => "receive it first",
        E::Refusal(R::Rejected { .. }) => "have it released under a new number",
        E::Refusal(R::Unfinished { .. }) => {
            "run the same `sealift-import promote` again, so that it ends; then reject the rest"
        }
        E::Refusal(R::InProduction { .. }) => "take its images back with `sealift-import withdraw`",
        E::Refusal(R::ApprovalWithdrawn { .. }) => "make a new approval",
        E::NetworkFileSystem { .. } => "keep the ledger on a local disk",
        E::Newer { .. } => "use the newer version of sealift-import that wrote it",
        E::Busy { .. } => "wait for the other program to end",
        E::Full(_) => "make room on the disk, then run the same command again",
        E::Tampered { fault: ledger::Fault::Head { .. }, .. } => {
            "stop, keep the file as it is, and compare it with a backup and with the heads that were kept elsewhere \
             (`sealift-import ledger verify --head FILE`); a ledger from before heads were signed, or whose head is lost for good, goes on \
             with `sealift-import ledger adopt --reason TEXT`"
        }
        E::Tampered { .. } | E::Damaged { .. } => "stop, keep the file as it is, and compare it with a backup",
        _ => return None,
    };
    Some(text.into())
}

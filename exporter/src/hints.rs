//! Who is at fault for each error, and what to do next. The only place for either.

use std::io::ErrorKind;

use console::{Explain, Fault};

use crate::error::Error;

impl Explain for Error {
    fn fault(&self) -> Fault {
        match self {
            Error::Missing(_)
            | Error::Expires(_)
            | Error::Expired { .. }
            | Error::RecipientsFile { .. }
            | Error::ImagesFile { .. }
            | Error::LabelFlag(_)
            | Error::NoOutput(_)
            | Error::SourceDateEpoch(_)
            | Error::Label(_)
            | Error::SourceRef(_)
            | Error::Id(_)
            | Error::Signing(_)
            | Error::SameSigner(_)
            | Error::NoSealKey
            | Error::NothingToSign(_)
            | Error::PlanExists(_)
            | Error::FixedByPlan { .. }
            | Error::Age(_)
            | Error::SameName { .. }
            | Error::NoPlatform { .. }
            | Error::ReferrersChoice(_)
            | Error::PlannedSignatures
            | Error::NotARelease { .. }
            | Error::ReservedTag { .. }
            | Error::Sparse { .. }
            | Error::TooManySignatures { .. }
            | Error::TooManyReferrers { .. }
            | Error::TooMuch { .. }
            | Error::Exists { .. }
            | Error::ForeignPartial { .. }
            | Error::OtherRequest { .. }
            | Error::VolumeSize(_)
            | Error::Medium(_)
            | Error::Recovery(_)
            | Error::VolumeTooSmall { .. }
            | Error::TooManyVolumes { .. }
            | Error::NoSuchVolume { .. }
            | Error::NotPacked { .. }
            | Error::Base { .. }
            | Error::ReceiptRead { .. }
            | Error::NotAReceipt(_)
            | Error::ShortReceipt(_)
            | Error::NoReceiptTrust { .. }
            | Error::ReceiptUnknown { .. }
            | Error::NothingDelivered { .. }
            | Error::Roles(_)
            | Error::Importer { .. }
            | Error::NotForStream { .. }
            | Error::PlannedVolumes { .. }
            | Error::Terminal
            | Error::Released { .. }
            | Error::ReportNamesImage { .. }
            | Error::ReportForWhich { .. }
            | Error::TooManyReports { .. } => Fault::Usage,
            Error::ReportFile { source, .. } if source.kind() == ErrorKind::NotFound => Fault::Usage,
            Error::Join(_)
            | Error::ReceiptRejected { .. }
            | Error::ReceiptForm { .. }
            | Error::ReceiptStream { .. }
            | Error::ReceiptLedger { .. }
            | Error::ReceiptOther { .. }
            | Error::PlanFile { .. }
            | Error::PlanChanged { .. }
            | Error::PlanSignature { .. }
            | Error::Unplanned { .. }
            | Error::OtherPlan { .. }
            | Error::OtherSeal { .. }
            | Error::Report { .. }
            | Error::ReportChanged { .. }
            | Error::ReportOfAnother { .. }
            | Error::Gate { .. } => Fault::Refused,
            Error::Common(e) => e.fault(),
            Error::Registry(e) => commands::registry_fault(e),
            Error::Source(e) => commands::source_fault(e),
            Error::Document { .. }
            | Error::Nesting { .. }
            | Error::TwoSizes { .. }
            | Error::TwoKinds { .. }
            | Error::Signatures { .. }
            | Error::ReleaseLayer { .. }
            | Error::ReleaseList { .. }
            | Error::Lookaside(_)
            | Error::Manifest(_)
            | Error::Volume(_)
            | Error::PlanRead { .. }
            | Error::Pull { .. }
            | Error::LargerThanPlanned { .. }
            | Error::MakeRecovery { .. }
            | Error::NotAllVolumes { .. }
            | Error::Output { .. }
            | Error::NoSpace { .. }
            | Error::Busy { .. }
            | Error::State { .. }
            | Error::ReportFile { .. }
            | Error::Record { .. }
            | Error::Folder(_)
            | Error::Stdout(_) => Fault::Failed,
        }
    }

    fn hint(&self) -> Option<String> {
        let text = match self {
            Error::Missing("an image") => "name images on the command line, in release.yaml or with --images-file",
            Error::Missing("a stream") => "name the release line with --stream, or as `stream:` in release.yaml",
            Error::Missing("a sequence") => "say --sequence NUMBER or --sequence time, or `sequence:` in release.yaml",
            Error::Missing("a release key") => {
                "name one with --sign-key or --sign-by, or as `sign: {key: FILE}` in release.yaml; `sealift-export init DIR` makes one"
            }
            Error::Age(e) | Error::Volume(bundle::VolumeError::Age(e)) => return commands::age_hint(e),
            Error::Signing(e) => return commands::signing_hint(e),
            Error::SameSigner(_) => "name each key once",
            Error::NoSealKey => {
                "pack on the machine of one of the signers, with --sign-key or --sign-by; the others sign the seal afterwards with \
                 `sealift-export sign BUNDLE`"
            }
            Error::NothingToSign(_) => {
                "name the folder that `plan --write` made, or a bundle's own folder (it holds SHA256SUMS)"
            }
            Error::Report { .. } => {
                "make the report anew; what was cut off must not pass for a scan that found nothing"
            }
            Error::ReportChanged { .. } => "run the same command again, when nobody writes to the report any more",
            Error::ReportOfAnother { .. } => "scan the image that is packed: `sealift-export plan` shows its digests",
            Error::ReportNamesImage { .. } => "name an image of this release, as it is asked for or called",
            Error::ReportForWhich { .. } => "say which image it is for: --attach FILE=IMAGE",
            Error::ReportFile { .. } => "name a file that is there: --attach FILE[=IMAGE]",
            Error::TooManyReports { .. } => "split the release into several, or limit fewer severities",
            Error::Gate { refused, .. } if refused.only_lacks_reports() => {
                "scan the images again, and attach the reports: --attach FILE[=IMAGE] (docs/scanning.md)"
            }
            Error::Gate { .. } => {
                "repair the images, or add an exception with an end and a reason to `gate: {scan: {exceptions: [...]}}` (docs/scanning.md)"
            }
            Error::PlanExists(_) => "choose another folder, or move it away",
            Error::FixedByPlan { .. } => "leave it out (or its variable), or plan anew",
            Error::PlanFile { .. } | Error::PlanChanged { .. } => {
                "copy the folder again from whoever planned the release; if it was changed on purpose, plan anew, and have it signed anew"
            }
            Error::PlanSignature { .. } => "have this plan signed by its owner, or remove the file",
            Error::Unplanned { .. } => "plan anew, and have the new plan signed",
            Error::OtherPlan { .. } => "do not sign it; ask whoever packed it",
            Error::Common(e) => return e.hint(),
            Error::SameName { .. } => "give one of them another name: SOURCE=HOST/PATH:TAG",
            Error::NoPlatform { .. } => "`sealift-export plan` without --platform lists the platforms there are",
            Error::Sparse { .. } => {
                "leave out --platform to carry all, name one platform, or allow it with --sparse-index (many registries refuse \
                 such an index)"
            }
            Error::TooMuch { .. } | Error::TooManySignatures { .. } => "split the release into several",
            Error::ReservedTag { .. } => "leave it out: what is attached to an image travels with it (--referrers)",
            Error::NotARelease { .. } => "leave --release out for images that are none",
            Error::PlannedSignatures => {
                "sign the images at their origin (`skopeo copy --sign-by`), or pack without a plan"
            }
            Error::TooManyReferrers { .. } => "choose what is carried with --referrers",
            Error::Signatures { .. } => {
                "where signatures are is said in registries.d (--registries-d); a server must answer 404 for those that are not there"
            }
            Error::Exists { .. } => "choose another --output or another sequence, or move it away",
            Error::ForeignPartial { .. } => "remove it if nobody is writing to it, or choose another --output",
            Error::OtherRequest { partial: Some(partial), .. } => {
                return Some(format!(
                    "run the command that began it again, or remove {} to begin anew",
                    partial.display()
                ));
            }
            Error::OtherRequest { partial: None, .. } => {
                "a number stands for one release: the same images, recipients, labels, platforms, volumes and base; choose the next sequence"
            }
            Error::Released { .. } => {
                "choose the next sequence; `plan --lock` keeps tags from moving between two runs of the same release (a stream and several \
                 volumes are two releases, too)"
            }
            Error::Busy { .. } => "wait for it to end",
            Error::VolumeTooSmall { .. } => "choose a larger --volume-size or --media, or less --recovery",
            Error::TooManyVolumes { .. } => "choose a larger --volume-size or --media, or split the release",
            Error::NotPacked { .. } => {
                "give the same request and the same --state as when it was packed; a base may also be the file of its manifest.json; without \
                 that record, pack the release anew"
            }
            Error::Base { .. } => {
                "name a bundle that was packed with this --state (payments-41), the manifest.json of one, or a receipt for one"
            }
            Error::NotAReceipt(_) | Error::ReceiptForm { .. } => "ask production for the receipt again",
            Error::ShortReceipt(_) => {
                "compare it with the paper; between quotes it may have spaces, in upper or lower case"
            }
            Error::NoReceiptTrust { .. } => {
                "name the ledger's certificate, which production hands over, with --receipt-trust, or as `receipts: {certificates: \
                 [FILE]}` in release.yaml"
            }
            Error::ReceiptRejected { source, .. } => receipt_hint(source),
            Error::ReceiptStream { .. } => "name a receipt for a bundle of this stream",
            Error::ReceiptLedger { .. } => "name a receipt of that ledger, or leave out --base-ledger",
            Error::ReceiptUnknown { .. } => {
                "name the --state that it was packed with; a base may also be the file of its manifest.json (from the state folder of \
                 whoever packed it, or from volume 1); `receipts add --elsewhere` keeps the receipt all the same"
            }
            Error::ReceiptOther { .. } => {
                "find out what was released under this name, and by whom: production has received something else than what was packed here"
            }
            Error::NothingDelivered { .. } => {
                "add receipts with `sealift-export receipts add FILE`, name one ledger with --base-ledger ID, or name a base that \
                 production has"
            }
            Error::Roles(_) => "receipts are signed by the ledger's key, which is in no other role",
            Error::NotAllVolumes { .. } => "pack the whole release again, under the next sequence",
            Error::PlannedVolumes { .. } => "plan it with `--output -`",
            Error::OtherSeal { .. } => "sign them one after the other",
            Error::NotForStream { .. } => "leave it out, or name a folder with --output",
            Error::Terminal => "send it on: sealift-export pack --output - ... | PROGRAM",
            Error::NoSpace { .. } => "choose another --output, or make room",
            Error::NoOutput(_) => "mount the medium, or make the folder",
            Error::RecipientsFile { .. } => "name the file that the receiving side calls enclave.recipient",
            Error::Expired { .. } => "give a later time with --expires, or as `expires:`",
            Error::Pull { source, .. }
                if matches!(source.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded) =>
            {
                "choose another --output, or make room"
            }
            Error::Pull { source, .. } if source.kind() == ErrorKind::FileTooLarge => {
                "this file system does not hold so large a file; leave --volume-size out (FAT32 takes the default), or choose another --output"
            }
            Error::Pull { source, .. } if blobs::BlobError::of(source).is_some() => {
                "run the same command again; if it fails in the same way, the source is damaged"
            }
            Error::Pull { .. } => "run the same command again",
            Error::Record { .. } => "it may have been changed by hand or by a newer version; choose another --state",
            Error::Registry(e) => return commands::registry_hint(e),
            Error::Source(e) => return commands::source_hint(e),
            Error::Missing(_)
            | Error::Expires(_)
            | Error::VolumeSize(_)
            | Error::Medium(_)
            | Error::Recovery(_)
            | Error::NoSuchVolume { .. }
            | Error::LargerThanPlanned { .. }
            | Error::MakeRecovery { .. }
            | Error::ReceiptRead { .. }
            | Error::Importer { .. }
            | Error::ReferrersChoice(_)
            | Error::ImagesFile { .. }
            | Error::LabelFlag(_)
            | Error::SourceDateEpoch(_)
            | Error::Label(_)
            | Error::Id(_)
            | Error::SourceRef(_)
            | Error::Document { .. }
            | Error::Nesting { .. }
            | Error::TwoSizes { .. }
            | Error::TwoKinds { .. }
            | Error::ReleaseLayer { .. }
            | Error::ReleaseList { .. }
            | Error::Lookaside(_)
            | Error::Manifest(_)
            | Error::Volume(_)
            | Error::Join(_)
            | Error::PlanRead { .. }
            | Error::Output { .. }
            | Error::State { .. }
            | Error::Folder(_)
            | Error::Stdout(_) => return None,
        };
        Some(text.into())
    }
}

/// What to do when the signature of a receipt does not count.
fn receipt_hint(error: &signing::Rejected) -> &'static str {
    use signing::{Reason as R, Rejected};
    let is = |wanted: fn(&R) -> bool| match error {
        Rejected::BelowThreshold { faults, .. } => faults.iter().any(|fault| wanted(&fault.reason)),
        _ => false,
    };
    if is(|r| matches!(r, R::UnknownKey)) {
        "ask production, by another way than this file, for the certificate of its ledger key; name it with --receipt-trust"
    } else if is(|r| matches!(r, R::Revoked { .. } | R::Expired { .. })) {
        "ask production for the ledger's new certificate, and for a receipt that its new key has signed"
    } else if is(|r| matches!(r, R::Future { .. })) {
        "compare the clocks of both sides"
    } else {
        "ask production for the receipt again: this file is damaged or was changed"
    }
}

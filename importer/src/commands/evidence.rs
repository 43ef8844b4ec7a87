//! Tables of what is attached to images and of what vouches for them.

use ledger::{RecordedEvidence, Vouched};
use manifest_schema::Digest;

use crate::provenance::Judged;

/// What vouches for each image, and a row for everything attached to it.
pub(super) fn text(judged: &[Judged]) -> String {
    let mut rows = Vec::new();
    let mut text = String::from("\n");
    for image in judged {
        let why = match (image.vouched(), image.refused()) {
            (Some(vouched), _) => vouched_for(vouched),
            (None, Some(reasons)) => format!("REFUSED by the image policy: {reasons}"),
            (None, None) => "REFUSED by the image policy".into(),
        };
        text += &format!("{}: {why}\n", image.origin);
        rows.extend(image.evidence.iter().map(|e| {
            let mut row = vec![image.origin.to_string()];
            row.extend(cells(e));
            row
        }));
    }
    if rows.is_empty() {
        return text + "nothing is attached to the images\n";
    }
    text + "\n" + &console::table(&["IMAGE", "ATTACHED", "TO", "VERIFIED", "SAYS"], &rows)
}

/// What vouched for an image, in words.
pub(super) fn vouched_for(vouched: &Vouched) -> String {
    match vouched {
        Vouched::Manifest => "the signed manifest vouches for it; no image policy is configured".into(),
        Vouched::Policy { scopes } => {
            let scopes: Vec<_> = scopes.iter().map(ToString::to_string).collect();
            format!("accepted by the image policy ({})", scopes.join(", "))
        }
        Vouched::Release { by } => format!("listed by the release image {by}, which the image policy accepts"),
    }
}

/// One thing that is attached: what it is, to what, whether it is verified, and what it says.
pub(super) fn cells(evidence: &RecordedEvidence) -> Vec<String> {
    let verified = match evidence.verified {
        Some(true) => "yes",
        Some(false) => "NO",
        None => "-",
    };
    let what = evidence.what.as_ref().map(|w| w.escaped().to_string());
    let signer = evidence.signer.as_ref().map(|s| format!("by {}", s.escaped()));
    let note = evidence.note.as_ref().map(|n| n.escaped().to_string());
    let says: Vec<_> = [what, signer, note].into_iter().flatten().collect();
    vec![evidence.kind.as_str().into(), short(&evidence.subject), verified.into(), says.join(" ")]
}

/// A digest as far as people compare it in a table that is about one bundle.
fn short(digest: &Digest) -> String {
    format!("{}:{}", digest.algorithm().name(), &digest.hex()[..12])
}

//! What is attached to an image, in words: for evidence tables.

use manifest_schema::{Document, OutsideText};

use super::attachment::PAYLOAD_MEDIA_TYPE;

/// What something attached to an image is. It is what its labels say, not what was verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EvidenceKind {
    /// A cosign signature.
    CosignSignature,
    /// A sigstore bundle, of which it is not known what it holds.
    SigstoreBundle,
    /// A list of contents in SPDX.
    SpdxSbom,
    /// A list of contents in CycloneDX.
    CycloneDxSbom,
    /// An in-toto attestation.
    InToto {
        /// What it attests, if that is known.
        predicate_type: Option<OutsideText>,
    },
    /// A signature of Notary Project (`notation`).
    NotationSignature,
    /// Anything else: its artifact type.
    Other(OutsideText),
}

/// The predicate type of a cosign signature that is a sigstore bundle.
const SIGN_PREDICATE: &str = "https://sigstore.dev/cosign/sign/v1";

impl EvidenceKind {
    /// Judges by what is known of it: the artifact type, the media types of its layers, and the predicate type of the
    /// attestation inside.
    pub fn of(artifact_type: Option<&str>, layers: &[&str], predicate_type: Option<&str>) -> Self {
        match predicate_type {
            Some(SIGN_PREDICATE) => return Self::CosignSignature,
            Some(predicate) => return Self::InToto { predicate_type: Some(OutsideText::new(predicate)) },
            None => {}
        }
        let types = artifact_type.into_iter().chain(layers.iter().copied());
        if let Some(known) = types.clone().find_map(Self::by_media_type) {
            return known;
        }
        Self::Other(OutsideText::new(types.clone().next().unwrap_or("artifact without a type")))
    }

    /// Judges a document that refers to another, by what it says of itself and of its layers.
    pub fn of_document(document: &Document) -> Self {
        let artifact_type = document.attached().artifact_type.as_ref().map(OutsideText::raw);
        let layers: Vec<&str> = match document {
            Document::Manifest { layers, .. } => layers.iter().map(|layer| layer.media_type.as_str()).collect(),
            Document::Index { .. } => Vec::new(),
        };
        Self::of(artifact_type, &layers, None)
    }

    fn by_media_type(media_type: &str) -> Option<Self> {
        // Media types have no case, and parameters may follow.
        let lower = media_type.to_ascii_lowercase();
        let bare = lower.split(';').next().unwrap_or(&lower).trim();
        Some(match bare {
            PAYLOAD_MEDIA_TYPE | "application/vnd.dev.cosign.artifact.sig.v1+json" => Self::CosignSignature,
            "application/vnd.cncf.notary.signature" => Self::NotationSignature,
            "application/vnd.in-toto+json" | "application/vnd.dsse.envelope.v1+json" => {
                Self::InToto { predicate_type: None }
            }
            _ if is(bare, "application/vnd.dev.sigstore.bundle") => Self::SigstoreBundle,
            _ if is(bare, "text/spdx") || is(bare, "application/spdx") => Self::SpdxSbom,
            _ if is(bare, "application/vnd.cyclonedx") => Self::CycloneDxSbom,
            _ => return None,
        })
    }

    /// The words for a table; text from outside is escaped.
    pub fn label(&self) -> String {
        match self {
            Self::CosignSignature => "cosign signature".into(),
            Self::SigstoreBundle => "sigstore bundle".into(),
            Self::SpdxSbom => "SPDX SBOM".into(),
            Self::CycloneDxSbom => "CycloneDX SBOM".into(),
            Self::InToto { predicate_type: Some(predicate) } => format!("in-toto attestation: {}", predicate.escaped()),
            Self::InToto { predicate_type: None } => "in-toto attestation".into(),
            Self::NotationSignature => "notation signature".into(),
            Self::Other(text) => text.escaped().to_string(),
        }
    }
}

/// Whether a media type is this one, a version of it (`.v0.3`) or an encoding of it (`+json`).
fn is(media_type: &str, name: &str) -> bool {
    media_type.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '+']))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_attached_has_a_name() {
        let bundle = "application/vnd.dev.sigstore.bundle.v0.3+json";
        for (artifact_type, layers, predicate, label) in [
            (None, &[PAYLOAD_MEDIA_TYPE][..], None, "cosign signature"),
            (Some("application/vnd.oci.image.config.v1+json"), &[PAYLOAD_MEDIA_TYPE], None, "cosign signature"),
            (Some("application/vnd.dev.cosign.artifact.sig.v1+json"), &[], None, "cosign signature"),
            (Some(bundle), &[bundle], Some(SIGN_PREDICATE), "cosign signature"),
            (Some(bundle), &[bundle], None, "sigstore bundle"),
            (Some("application/vnd.dev.sigstore.bundle+json;version=0.2"), &[], None, "sigstore bundle"),
            (
                Some(bundle),
                &[],
                Some("https://slsa.dev/provenance/v1"),
                "in-toto attestation: https://slsa.dev/provenance/v1",
            ),
            (None, &["application/vnd.dsse.envelope.v1+json"], None, "in-toto attestation"),
            (None, &["application/vnd.in-toto+json"], Some("\u{1b}[2J"), "in-toto attestation: \\u{1b}[2J"),
            (None, &["text/spdx+json"], None, "SPDX SBOM"),
            (Some("application/spdx+json"), &[], None, "SPDX SBOM"),
            (Some("text/SPDX"), &[], None, "SPDX SBOM"),
            (None, &["application/vnd.cyclonedx+xml"], None, "CycloneDX SBOM"),
            (Some("application/vnd.cyclonedx"), &[], None, "CycloneDX SBOM"),
            (Some("application/vnd.cncf.notary.signature"), &["application/jose+json"], None, "notation signature"),
            (Some("application/vnd.example.scan"), &["application/json"], None, "application/vnd.example.scan"),
            (Some("application/vnd.dev.sigstore.bundles"), &[], None, "application/vnd.dev.sigstore.bundles"),
            (None, &["application/x\u{202e}"], None, "application/x\\u{202e}"),
            (None, &[], None, "artifact without a type"),
        ] {
            assert_eq!(EvidenceKind::of(artifact_type, layers, predicate).label(), label);
        }
    }
}

//! What a cosign signature signs: the document of a simple signature with another type (containers/image
//! `signature/internal/sigstore_payload.go`; cosign `specs/SIGNATURE_SPEC.md`).

use manifest_schema::reference::ReferenceError;
use manifest_schema::{Digest, OutsideText, Reference, Timestamp};
use serde::Deserializer;

use super::SigstoreRejected;
use crate::simple::{self, Critical, Optional, PayloadError};

const TYPE: &str = "cosign container image signature";

/// What a verified cosign signature says. It is the signer's claim: compare reference and digest with the image at hand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SigstorePayload {
    /// The reference the image was signed as, as the signer wrote it. cosign itself writes the repository only.
    pub reference: OutsideText,
    /// The digest of the image manifest or index.
    pub digest: Digest,
    /// The program that signed, if it says.
    pub creator: Option<OutsideText>,
    /// When, if it says; in no way checked.
    pub timestamp: Option<Timestamp>,
    /// The fingerprint of the key that signed.
    pub key: String,
}

/// The payload of a cosign signature in the form containers/image writes: keys sorted, no white space.
///
/// Most policies want a reference with a tag (`matchExact`, `matchRepoDigestOrExact`).
///
/// # Errors
/// [`ReferenceError`] for a reference with a tag and a digest, which is no signer's identity.
pub fn sigstore_payload(
    reference: &Reference,
    digest: &Digest,
    creator: &str,
    timestamp: Timestamp,
) -> Result<Vec<u8>, ReferenceError> {
    if reference.tag().is_some() && reference.digest().is_some() {
        let reason = "a signature names a tag or a digest, not both";
        return Err(ReferenceError::Grammar { text: reference.to_string(), reason });
    }
    Ok(simple::document(TYPE, &reference.to_string(), digest, creator, timestamp))
}

/// Reads a payload whose signature is good.
///
/// Stricter than containers/image in what no signer writes: text that is not Unicode, times beyond the calendar.
pub(super) fn read(bytes: &[u8], key: String) -> Result<SigstorePayload, SigstoreRejected> {
    let json = |e: serde_json::Error| PayloadError::Json(OutsideText::new(e.to_string()));
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let document: Document = simple::object(&mut reader).map_err(json)?;
    reader.end().map_err(json)?;
    let Critical { kind, image, identity } = document.critical;
    if kind != TYPE {
        return Err(SigstoreRejected::Type(OutsideText::new(kind)));
    }
    let digest = image.digest.parse().map_err(|_| PayloadError::Digest(OutsideText::new(image.digest)))?;
    let timestamp = document.optional.timestamp.map(simple::seconds).transpose()?;
    let creator = document.optional.creator.map(OutsideText::new);
    Ok(SigstorePayload { reference: OutsideText::new(identity.reference), digest, creator, timestamp, key })
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    #[serde(deserialize_with = "simple::object")]
    critical: Critical,
    #[serde(deserialize_with = "nullable")]
    optional: Optional,
}

/// cosign writes `null` if there are no annotations; the member has to be there.
fn nullable<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Optional, D::Error> {
    Ok(<Option<Optional> as serde::Deserialize>::deserialize(deserializer)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:20bf21ed457b390829cdbeec8795a7bea1626991fda603e0d01b4e7f60427e55";

    fn good() -> String {
        let reference = Reference::parse_normalized("r.example/a:1").expect("a reference");
        let time = Timestamp::from_unix(1_700_000_000).expect("a time");
        let payload = sigstore_payload(&reference, &DIGEST.parse().expect("a digest"), "sealift <1>", time);
        String::from_utf8(payload.expect("a payload")).expect("text")
    }

    fn read(text: &str) -> Result<SigstorePayload, SigstoreRejected> {
        super::read(text.as_bytes(), "key".into())
    }

    #[test]
    fn payloads_have_the_form_containers_image_writes() {
        assert_eq!(
            good(),
            format!(
                r#"{{"critical":{{"identity":{{"docker-reference":"r.example/a:1"}},"image":{{"docker-manifest-digest":"{DIGEST}"}},"type":"cosign container image signature"}},"optional":{{"creator":"sealift \u003c1\u003e","timestamp":1700000000}}}}"#
            )
        );
        let payload = read(&good()).expect("reads back");
        assert_eq!(payload.reference.raw(), "r.example/a:1");
        assert_eq!(payload.digest.to_string(), DIGEST);
        assert_eq!(payload.creator.as_ref().map(OutsideText::raw), Some("sealift <1>"));
        assert_eq!(payload.timestamp.map(Timestamp::unix), Some(1_700_000_000));
    }

    #[test]
    fn a_signer_names_a_tag_or_a_digest() {
        let reference = Reference::parse_normalized("r.example/a:1").expect("a reference");
        let digest = DIGEST.parse().expect("a digest");
        let time = Timestamp::from_unix(0).expect("a time");
        assert!(sigstore_payload(&reference.with_digest(digest), &digest, "x", time).is_err());
    }

    #[test]
    fn optional_is_lenient() {
        let optional = r#""optional":{"creator":"sealift \u003c1\u003e","timestamp":1700000000}"#;
        for to in [
            r#""optional":null"#,
            r#""optional":{}"#,
            r#""optional": { "other": {"a":[null,1.5]}, "creator":"" }"#,
            r#""optional":{"timestamp":1.7e9}"#,
            r#""optional":{"timestamp":null,"creator":null}"#,
        ] {
            let changed = good().replacen(optional, to, 1);
            assert_ne!(changed, good());
            read(&changed).expect(&changed);
        }
    }

    #[test]
    fn everything_else_is_refused() {
        let optional = r#","optional":{"creator":"sealift \u003c1\u003e","timestamp":1700000000}"#;
        for (from, to) in [
            (optional, ""),
            (optional, r#","optional":[]"#),
            (optional, r#","optional":"""#),
            (optional, r#","optional":null,"optional":null"#),
            (optional, r#","optional":{"x":1,"x":1}"#),
            (optional, r#","optional":{"creator":1}"#),
            (optional, r#","optional":{"timestamp":1.5}"#),
            (optional, r#","optional":{"timestamp":1e30}"#),
            (optional, r#","optional":{"timestamp":"1"}"#),
            (optional, r#","optional":null,"more":1"#),
            (r#""critical":{"#, r#""critical":{"more":1,"#),
            (r#""critical":{"#, r#""critical":{"type":"cosign container image signature","#),
            (r#""critical":{"#, r#""Critical":{"#),
            (r#""image":{"#, r#""image":{"x":"","#),
            (r#""identity":{"#, r#""identity":{"docker-reference":"evil/a:1","#),
            (r#"{"docker-reference":"r.example/a:1"}"#, r#"["r.example/a:1"]"#),
            ("cosign container image signature", "atomic container signature"),
            ("sha256:20bf", "sha256:20BF"),
            ("sha256:20bf", "md5:20bf"),
            ("{\"critical\"", "{}{\"critical\""),
        ] {
            let changed = good().replacen(from, to, 1);
            assert_ne!(changed, good(), "{from}");
            assert!(read(&changed).is_err(), "{changed}");
        }
        for bad in [good() + "x", good() + &good(), good() + "\0", "null".into(), "[]".into(), String::new()] {
            assert!(read(&bad).is_err(), "{bad}");
        }
    }
}

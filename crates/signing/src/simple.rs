//! Simple signing (containers/image, `containers-signature(5)`): who vouches for which digest under which reference.

use std::collections::BTreeSet;
use std::fmt;

use manifest_schema::reference::ReferenceError;
use manifest_schema::{Digest, OutsideText, Reference, Timestamp};
use serde::de::{self, Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};

use crate::packets::{self, Inline};
use crate::rejected::Rejected;
use crate::trust::{Authentic, Signer, Trust};

const TYPE: &str = "atomic container signature";

/// What a simple signature says. It is the signer's claim: compare reference and digest with the image at hand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SimpleSignature {
    /// The reference the image was signed as, as the signer wrote it.
    pub reference: OutsideText,
    /// The digest of the image manifest or index.
    pub digest: Digest,
    /// The program that signed, if it says.
    pub creator: Option<OutsideText>,
    /// When, if it says; in no way checked.
    pub timestamp: Option<Timestamp>,
    /// Who signed.
    pub signer: Signer,
}

impl SimpleSignature {
    /// The reference, with the defaults of the Docker client filled in for the host. A tag is never filled in.
    ///
    /// # Errors
    /// [`ReferenceError`] if it is not a reference, or names neither a tag nor a digest.
    pub fn parsed_reference(&self) -> Result<Reference, ReferenceError> {
        let text = self.reference.raw();
        let last = text.rsplit('/').next().unwrap_or(text);
        if !last.contains([':', '@']) {
            let reason = "a signature names a tag or a digest";
            return Err(ReferenceError::Grammar { text: text.chars().take(300).collect(), reason });
        }
        Reference::parse_normalized(text)
    }
}

/// Why signed bytes are not a simple signature.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum PayloadError {
    /// Not the JSON a simple signature has.
    #[error("{}", .0.escaped())]
    Json(OutsideText),
    /// Another type.
    #[error("critical.type: expected `{TYPE}`, found `{}`", .0.escaped())]
    Type(OutsideText),
    /// Not a digest.
    #[error("critical.image.docker-manifest-digest: `{}` is not a digest", .0.escaped())]
    Digest(OutsideText),
    /// Not a time.
    #[error("optional.timestamp: {} is not a whole number of seconds in range", .0.escaped())]
    Timestamp(OutsideText),
}

/// The document of a simple signature in the form containers/image writes: keys sorted, no white space.
pub fn payload(reference: &str, digest: &Digest, creator: &str, timestamp: Timestamp) -> Vec<u8> {
    document(TYPE, reference, digest, creator, timestamp)
}

/// The same document, of a given type: cosign's differs in nothing else.
pub(crate) fn document(kind: &str, reference: &str, digest: &Digest, creator: &str, timestamp: Timestamp) -> Vec<u8> {
    let json = serde_json::json!({
        "critical": {
            "identity": { "docker-reference": reference },
            "image": { "docker-manifest-digest": digest },
            "type": kind,
        },
        "optional": { "creator": creator, "timestamp": timestamp.unix() },
    });
    go_json(json.to_string()).into_bytes()
}

/// JSON as Go writes it: its encoder also escapes these five, which in JSON text can only stand inside strings.
pub(crate) fn go_json(mut text: String) -> String {
    for c in ['<', '>', '&', '\u{2028}', '\u{2029}'] {
        text = text.replace(c, &format!("\\u{:04x}", u32::from(c)));
    }
    text
}

/// Verifies a simple signature: a binary inline OpenPGP message by one signer over exactly the members of
/// `containers-signature(5)`.
///
/// One signature has one signer, so a trust with a threshold above one is never met here: count signers over several.
///
/// # Errors
/// [`Rejected`].
pub fn read_simple(bytes: &[u8], trust: &Trust) -> Result<Authentic<SimpleSignature>, Rejected> {
    let content = trust.verify_inline(bytes)?;
    let [signer] = content.signers() else {
        return Err(Rejected::SeveralSigners { found: content.signers().len() });
    };
    let signer = signer.clone();
    Ok(content.parse(|bytes| read_payload(bytes, signer))?)
}

/// What a simple signature claims. Anybody can write that; it is for tables, where no key is at hand.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize)]
pub struct UntrustedSimple {
    /// The fingerprint or key id of the key that is said to have signed, in hexadecimal.
    pub issuer: Option<String>,
    /// The reference, if the payload is that of a simple signature.
    pub reference: Option<OutsideText>,
    /// The digest of the image manifest or index, if the payload is that of a simple signature.
    pub digest: Option<Digest>,
}

/// Reads what a simple signature claims, without verifying anything.
///
/// # Errors
/// [`Rejected`] if it is not even a signed message.
pub fn peek_simple(bytes: &[u8]) -> Result<UntrustedSimple, Rejected> {
    let Inline { content, signature } = packets::inline(bytes)?;
    let issuer = signature.ok().and_then(|signature| packets::issuer(&signature));
    let mut reader = serde_json::Deserializer::from_slice(&content);
    let document: Option<Document> = object(&mut reader).ok();
    let critical = document.map(|document| document.critical).filter(|critical| critical.kind == TYPE);
    let (reference, digest) = match critical {
        Some(critical) => (Some(OutsideText::new(critical.identity.reference)), critical.image.digest.parse().ok()),
        None => (None, None),
    };
    Ok(UntrustedSimple { issuer, reference, digest })
}

fn read_payload(bytes: &[u8], signer: Signer) -> Result<SimpleSignature, PayloadError> {
    let document = document_of(bytes).map_err(|e| PayloadError::Json(OutsideText::new(e.to_string())))?;
    let Critical { kind, image, identity } = document.critical;
    if kind != TYPE {
        return Err(PayloadError::Type(OutsideText::new(kind)));
    }
    let digest = image.digest.parse().map_err(|_| PayloadError::Digest(OutsideText::new(image.digest)))?;
    let timestamp = document.optional.timestamp.map(seconds).transpose()?;
    let creator = document.optional.creator.map(OutsideText::new);
    Ok(SimpleSignature { reference: OutsideText::new(identity.reference), digest, creator, timestamp, signer })
}

/// The document, and nothing behind it.
fn document_of(bytes: &[u8]) -> Result<Document, serde_json::Error> {
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let document = object(&mut reader)?;
    reader.end()?;
    Ok(document)
}

/// A whole number of seconds, also if it is written as `1.5e9`: JSON has one kind of number.
pub(crate) fn seconds(number: serde_json::Number) -> Result<Timestamp, PayloadError> {
    // Beyond 2^53 a number read as floating point is no longer the one that was written.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    let whole = number.as_i64().or_else(|| {
        let float = number.as_f64()?;
        (float.fract() == 0.0 && float.abs() < EXACT).then_some(float as i64)
    });
    whole.and_then(Timestamp::from_unix).ok_or_else(|| PayloadError::Timestamp(OutsideText::new(number.to_string())))
}

/// serde's derived readers of structs refuse a member that is given twice.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    #[serde(deserialize_with = "object")]
    critical: Critical,
    optional: Optional,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Critical {
    #[serde(rename = "type")]
    pub(crate) kind: String,
    #[serde(deserialize_with = "object")]
    pub(crate) image: Image,
    #[serde(deserialize_with = "object")]
    pub(crate) identity: Identity,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Image {
    #[serde(rename = "docker-manifest-digest")]
    pub(crate) digest: String,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Identity {
    #[serde(rename = "docker-reference")]
    pub(crate) reference: String,
}

/// Reads a struct from a JSON object only: derived readers take an array of the members too.
pub(crate) fn object<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<T, D::Error> {
    struct Object<T>(std::marker::PhantomData<T>);
    impl<'de, T: Deserialize<'de>> Visitor<'de> for Object<T> {
        type Value = T;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }
        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
            T::deserialize(de::value::MapAccessDeserializer::new(map))
        }
    }
    deserializer.deserialize_map(Object(std::marker::PhantomData))
}

/// `optional`: two members with a type, and any others, none of them twice.
#[derive(Default)]
pub(crate) struct Optional {
    pub(crate) creator: Option<String>,
    pub(crate) timestamp: Option<serde_json::Number>,
}

impl<'de> Deserialize<'de> for Optional {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = Optional;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Optional, A::Error> {
                let (mut optional, mut seen) = (Optional::default(), BTreeSet::new());
                while let Some(key) = map.next_key::<String>()? {
                    match key.as_str() {
                        // Like Go, which takes `null` for a member left out.
                        "creator" => optional.creator = map.next_value()?,
                        "timestamp" => optional.timestamp = map.next_value()?,
                        _ => _ = map.next_value::<IgnoredAny>()?,
                    }
                    if !seen.insert(key) {
                        return Err(de::Error::custom("a member of `optional` is given twice"));
                    }
                }
                Ok(optional)
            }
        }
        deserializer.deserialize_map(Members)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:20bf21ed457b390829cdbeec8795a7bea1626991fda603e0d01b4e7f60427e55";

    fn signer() -> Signer {
        let fingerprint: crate::Fingerprint = "AB".repeat(20).parse().expect("a fingerprint");
        let signed_at = Timestamp::from_unix(0).expect("a time");
        Signer { fingerprint: fingerprint.clone(), user_id: None, signed_at, key: fingerprint }
    }

    fn good() -> String {
        let digest = DIGEST.parse().expect("a digest");
        let time = Timestamp::from_unix(1_458_239_713).expect("a time");
        String::from_utf8(payload("r.example/a:1", &digest, "sealift <1>", time)).expect("text")
    }

    #[test]
    fn payloads_have_the_form_containers_image_writes() {
        assert_eq!(
            good(),
            format!(
                r#"{{"critical":{{"identity":{{"docker-reference":"r.example/a:1"}},"image":{{"docker-manifest-digest":"{DIGEST}"}},"type":"atomic container signature"}},"optional":{{"creator":"sealift \u003c1\u003e","timestamp":1458239713}}}}"#
            )
        );
        let read = read_payload(good().as_bytes(), signer()).expect("reads back");
        assert_eq!(read.creator.as_ref().map(OutsideText::raw), Some("sealift <1>"));
        assert_eq!(read.timestamp.map(Timestamp::unix), Some(1_458_239_713));
        assert_eq!(read.parsed_reference().expect("a reference").to_string(), "r.example/a:1");
    }

    #[test]
    fn optional_is_lenient() {
        for (from, to) in [
            (r#""timestamp":1458239713"#, r#""timestamp":1.458239713e9"#),
            (r#""timestamp":1458239713"#, r#""other":{"a":[1]}"#),
            (r#","optional":{"creator":"sealift \u003c1\u003e","timestamp":1458239713}"#, r#","optional":{}"#),
            ("{\"critical\":{", "{\n \"critical\" : { "),
        ] {
            let changed = good().replacen(from, to, 1);
            assert_ne!(changed, good());
            read_payload(changed.as_bytes(), signer()).expect(&changed);
        }
    }

    #[test]
    fn everything_else_is_refused() {
        for (from, to) in [
            (r#""timestamp":1458239713"#, r#""timestamp":1458239713.5"#),
            (r#""timestamp":1458239713"#, r#""timestamp":1e30"#),
            (r#""timestamp":1458239713"#, r#""timestamp":"1458239713""#),
            (r#""timestamp":1458239713"#, r#""timestamp":1,"timestamp":1"#),
            (r#""timestamp":1458239713"#, r#""x":1,"x":1"#),
            (r#""creator":"sealift \u003c1\u003e""#, r#""creator":1"#),
            (r#","optional":{"#, r#","other":{},"optional":{"#),
            (r#","optional":{"#, r#","optional":{},"optional":{"#),
            (r#""optional":{"#, r#""Optional":{"#),
            (r#""critical":{"#, r#""critical":{"more":1,"#),
            (r#""critical":{"#, r#""critical":{"type":"atomic container signature","#),
            (r#""image":{"#, r#""image":{"x":"","#),
            (r#""identity":{"#, r#""identity":{"docker-reference":"evil/a:1","#),
            ("atomic container signature", "cosign container image signature"),
            ("sha256:20", "sha256:"),
            ("sha256:20bf", "sha256:20BF"),
            (r#"{"docker-reference":"r.example/a:1"}"#, r#"["r.example/a:1"]"#),
            (r#""docker-reference":"r.example/a:1""#, r#""docker-reference":null"#),
            ("{\"critical\"", "{}{\"critical\""),
        ] {
            let changed = good().replacen(from, to, 1);
            assert_ne!(changed, good(), "{from}");
            assert!(read_payload(changed.as_bytes(), signer()).is_err(), "{changed}");
        }
        for bad in [
            good() + "x",
            good() + &good(),
            good() + "\0",
            "This is not JSON".into(),
            "[]".into(),
            format!("[{}]", good()),
            "null".into(),
        ] {
            assert!(read_payload(bad.as_bytes(), signer()).is_err(), "{bad}");
        }
        assert!(read_payload(&good().into_bytes().repeat(2), signer()).is_err());
    }

    #[test]
    fn a_name_alone_is_not_a_reference() {
        for (text, ok) in [
            ("r.example:5000/a", false),
            ("r.example:5000/a:1", true),
            ("busybox", false),
            ("busybox:1", true),
            ("r.example/UPPER:1", false),
            ("\u{1b}[2J:1", false),
        ] {
            let digest = DIGEST.parse().expect("a digest");
            let simple = SimpleSignature {
                reference: OutsideText::new(text),
                digest,
                creator: None,
                timestamp: None,
                signer: signer(),
            };
            assert_eq!(simple.parsed_reference().is_ok(), ok, "{text}");
        }
    }
}

//! What a file beside an image or in a lookaside tree holds (containers/image, `internal/signature`).

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::SigstoreSignature;

/// A file that readers take for a signature.
#[derive(Debug)]
pub(crate) enum SignatureFile<'a> {
    /// Simple signing: an OpenPGP message, by its first byte.
    Simple(&'a [u8]),
    /// What containers/image stores of cosign's; `None` if it is an attachment that is no signature.
    Sigstore(Option<SigstoreSignature>),
}

impl<'a> SignatureFile<'a> {
    /// Tells what a file is by its beginning, as containers/image does before it looks at anything else.
    ///
    /// # Errors
    /// What the file is instead, to follow "it is".
    pub fn read(bytes: &'a [u8]) -> Result<Self, &'static str> {
        const COSIGN: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
        if looks_like_message(bytes) {
            return Ok(Self::Simple(bytes));
        }
        let Some(typed) = bytes.strip_prefix(b"\0") else {
            return Err(match bytes {
                [] => "an empty file",
                _ if bytes.starts_with(b"-----BEGIN PGP") => "armored, not binary",
                _ => "not a signature",
            });
        };
        if let Some(message) = typed.strip_prefix(b"simple-signing\n") {
            return Ok(Self::Simple(message));
        }
        let json = typed.strip_prefix(b"sigstore-json\n").ok_or("a signature of an unknown format")?;
        // Not strict: nothing here is signed but the payload, and containers/image expects to meet members of the future.
        let stored: Stored = serde_json::from_slice(json).map_err(|_| "a damaged cosign signature")?;
        let payload = STANDARD.decode(stored.payload).map_err(|_| "a damaged cosign signature")?;
        let signature = SigstoreSignature { payload, annotations: stored.annotations };
        Ok(Self::Sigstore((stored.mime_type == COSIGN).then_some(signature)))
    }
}

#[derive(serde::Deserialize)]
struct Stored {
    #[serde(rename = "mimeType", default)]
    mime_type: String,
    #[serde(default)]
    payload: String,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

/// The first bytes readers of lookaside trees take for a binary OpenPGP message: a signature, one-pass signature or
/// compressed packet, in the old or the new format.
pub(crate) fn looks_like_message(bytes: &[u8]) -> bool {
    matches!(bytes.first(), Some(0xa0..=0xa3 | 0xc8 | 0x90..=0x92 | 0xc4 | 0x88..=0x8b | 0xc2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_told_apart_by_their_beginning() {
        for bytes in [&b"\xa3\x01"[..], b"\x90\x0d", b"\xc4\x0d", b"\x89\x01", b"\0simple-signing\n\x90\x0d"] {
            match SignatureFile::read(bytes) {
                Ok(SignatureFile::Simple(message)) => assert!(bytes.ends_with(message) && message[0] != 0),
                other => panic!("{bytes:x?}: {other:?}"),
            }
        }
        let cosign = b"\0sigstore-json\n{\"mimeType\":\"application/vnd.dev.cosign.simplesigning.v1+json\",\
            \"payload\":\"e30=\",\"annotations\":{\"a\":\"b\"},\"more\":1}";
        match SignatureFile::read(cosign) {
            Ok(SignatureFile::Sigstore(Some(signature))) => {
                assert_eq!((signature.payload.as_slice(), signature.annotations["a"].as_str()), (&b"{}"[..], "b"));
            }
            other => panic!("{other:?}"),
        }
        assert!(matches!(
            SignatureFile::read(b"\0sigstore-json\n{\"mimeType\":\"text/spdx\",\"payload\":\"\"}"),
            Ok(SignatureFile::Sigstore(None))
        ));
        for bytes in [
            &b""[..],
            b"-----BEGIN PGP MESSAGE-----\n",
            b"-----BEGIN PGP SIGNED MESSAGE-----\n",
            b"<html>404</html>",
            b"\0sigstore-json\nx",
            b"\0sigstore-json\n{\"payload\":\"!\"}",
            b"\0of-the-future\n",
            b"\0simple-signing",
            b"\xcb\x02b\0",
        ] {
            assert!(SignatureFile::read(bytes).is_err(), "{bytes:x?}");
        }
    }
}

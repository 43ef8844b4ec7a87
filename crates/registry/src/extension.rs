//! Simple signatures that a registry keeps itself: the extension of OpenShift's registry, which says
//! `X-Registry-Supports-Signatures: 1` at `/v2/` (containers/image, `signature-protocols.md`).
//!
//! `GET` and `PUT /extensions/v2/<repository>/signatures/<digest>`. The bytes are not verified here, so that a list may
//! say anything but take no more than [`LIMITS`].

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use blobs::sha256;
use manifest_schema::{Digest, LIMITS, OutsideText};
use serde::{Deserialize, Serialize};
use ureq::http::Method;
use ureq::http::header::{ACCEPT, CONTENT_TYPE};

use crate::client::RepositoryClient;
use crate::error::Error;
use crate::host::Action;
use crate::transport::{Payload, Request};

/// The one version of the form.
const VERSION: u32 = 2;
/// The type of a simple signature.
const ATOMIC: &str = "atomic";
const JSON: &str = "application/json";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    /// `null` is how Go writes a list that was never made. That nothing is said is another matter.
    #[serde(deserialize_with = "Option::deserialize")]
    signatures: Option<Vec<Signature>>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Signature {
    #[serde(rename = "schemaVersion")]
    version: u32,
    /// `<digest of the manifest>@<32 characters>`
    name: String,
    #[serde(rename = "type")]
    kind: String,
    content: String,
}

impl RepositoryClient {
    /// Whether the registry keeps simple signatures.
    ///
    /// # Errors
    /// Anything but an answer.
    pub fn has_signature_extension(&self) -> Result<bool, Error> {
        self.host().supports_signatures(&self.repository().to_string())
    }

    /// The simple signatures that the registry keeps for an index or image manifest, in its order; none if it knows
    /// nothing of that digest. Their content is not verified yet. What is no simple signature is left out, with a warning.
    ///
    /// # Errors
    /// [`Error::Malformed`]; [`Error::TooLarge`] and [`Error::TooMany`] over [`LIMITS`].
    pub fn fetch_signatures(&self, digest: &Digest) -> Result<Vec<Vec<u8>>, Error> {
        let what = self.signatures_of(digest);
        let request = Request::new(Method::GET, self.signatures_url(digest, &what)?, &what).header(ACCEPT, JSON);
        let answer = self.host().send(self.access(Action::Pull), request)?;
        match answer.status {
            200 => {}
            404 => {
                answer.discard();
                return Ok(Vec::new());
            }
            _ => return Err(answer.into_error(&what)),
        }
        let server = answer.url.authority();
        let malformed = |reason: String| Error::Malformed {
            what: what.clone(),
            server: server.clone(),
            reason: OutsideText::new(reason),
        };
        let body = answer.bytes(&what, LIMITS.registry_answer)?;
        let list: List = serde_json::from_slice(&body).map_err(|e| malformed(e.to_string()))?;
        let list = list.signatures.unwrap_or_default();
        if list.len() > LIMITS.lookaside_signatures {
            return Err(Error::TooMany { what, limit: LIMITS.lookaside_signatures });
        }
        let mut found = Vec::new();
        for signature in list {
            if signature.name.rsplit_once('@').map(|(of, _)| of) != Some(digest.to_string().as_str()) {
                return Err(malformed(format!("the signature `{}` is for something else", signature.name)));
            }
            if signature.version != VERSION || signature.kind != ATOMIC {
                let (name, kind) = (OutsideText::new(signature.name), OutsideText::new(signature.kind));
                tracing::warn!(
                    "{what}: left out: `{}` of type `{}`, version {}",
                    name.escaped(),
                    kind.escaped(),
                    signature.version
                );
                continue;
            }
            let bytes = STANDARD.decode(&signature.content);
            let bytes = bytes.map_err(|e| malformed(format!("the signature `{}`: {e}", signature.name)))?;
            if bytes.len() as u64 > LIMITS.signature {
                return Err(Error::TooLarge { what, limit: LIMITS.signature });
            }
            found.push(bytes);
        }
        Ok(found)
    }

    /// Gives the registry a simple signature for an index or image manifest that it has. One that it keeps already is not
    /// given again.
    ///
    /// # Errors
    /// [`Error::TooLarge`] and [`Error::TooMany`] if readers would refuse the list with it; [`Error::Denied`].
    pub fn put_signature(&self, digest: &Digest, signature: &[u8]) -> Result<(), Error> {
        let what = self.signatures_of(digest);
        if signature.len() as u64 > LIMITS.signature {
            return Err(Error::TooLarge { what, limit: LIMITS.signature });
        }
        let kept = self.fetch_signatures(digest)?;
        if kept.iter().any(|kept| kept == signature) {
            return Ok(());
        }
        if kept.len() >= LIMITS.lookaside_signatures {
            return Err(Error::TooMany { what, limit: LIMITS.lookaside_signatures });
        }
        // Writers take a random name; this one is the same whenever the signature is.
        let mut name = sha256(signature).hex();
        name.truncate(32);
        let body = Signature {
            version: VERSION,
            name: format!("{digest}@{name}"),
            kind: ATOMIC.into(),
            content: STANDARD.encode(signature),
        };
        let body = serde_json::to_vec(&body).map_err(|e| Error::Malformed {
            what: what.clone(),
            server: self.repository().registry().into(),
            reason: OutsideText::new(e.to_string()),
        })?;
        let url = self.signatures_url(digest, &what)?;
        let mut request = Request::new(Method::PUT, url, &what).header(CONTENT_TYPE, JSON);
        request.payload = Payload::Bytes(&body);
        let answer = self.host().send(self.access(Action::Push), request)?;
        match answer.status {
            200 | 201 | 204 => {
                answer.discard();
                Ok(())
            }
            // The name is taken: by this signature, if an earlier answer was lost.
            409 if self.fetch_signatures(digest)?.iter().any(|kept| kept == signature) => {
                answer.discard();
                Ok(())
            }
            _ => Err(answer.into_error(&what)),
        }
    }

    fn signatures_of(&self, digest: &Digest) -> String {
        format!("{}@{digest}: signatures", self.repository())
    }

    fn signatures_url(&self, digest: &Digest, what: &str) -> Result<crate::url::Url, Error> {
        self.host().url(what, &format!("/extensions/v2/{}/signatures/{digest}", self.repository().path()))
    }
}

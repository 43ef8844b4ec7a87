//! Where our verdict is another one than that of skopeo 1.9.3, and why.

/// A difference that is meant.
pub struct Difference {
    /// The group of cases.
    pub group: &'static str,
    /// What the case's name begins with.
    pub case: &'static str,
    /// Whether we accept what skopeo refuses; otherwise the other way round.
    pub accepted: bool,
    /// Why.
    pub reason: &'static str,
}

const fn accepted(group: &'static str, case: &'static str, reason: &'static str) -> Difference {
    Difference { group, case, accepted: true, reason }
}

const fn refused(group: &'static str, case: &'static str, reason: &'static str) -> Difference {
    Difference { group, case, accepted: false, reason }
}

/// All of them. Each has to show in some case.
#[rustfmt::skip]
pub const DIFFERENCES: &[Difference] = &[
    // Current containers/image does what we do.
    accepted("signatures", "key: subkey",
        "1.9.3 compares the subkey with the fingerprint; current containers/image knows subkeys"),
    accepted("requirements", "subkey demanded, signed by subkey",
        "1.9.3 compares the subkey with the certificate's fingerprint; current containers/image knows subkeys"),
    refused("registries.d", "a scope twice in one file",
        "1.9.3 takes the last; the YAML reader of current containers/image refuses it"),
    // We are stricter.
    refused("signatures", "form: SHA-1",
        "a hash that is broken"),
    refused("signatures", "form: RIPEMD-160",
        "a hash that is broken"),
    refused("signatures", "form: from the future",
        "it would outlive a revocation; GnuPG only warns"),
    refused("signatures", "form: detached, before its document",
        "anybody can make it of a detached signature over a document"),
    refused("signatures", "form: bzip2",
        "nobody was seen to sign so, and unfolding it needs another library"),
    refused("signatures", "form: in a compressed packet with a byte behind it",
        "every byte of a message belongs to it; GnuPG passes over the rest"),
    refused("signatures", "payload: \"creator\":\"test\" -> \"\\\"creator\\\":\\\"\\\\ud800\\\"\"",
        "half a surrogate pair is no text; Go puts U+FFFD there"),
    refused("signatures", "payload: Latin-1 in the creator",
        "JSON is UTF-8; Go puts U+FFFD there"),
    refused("policies", MISSING,
        "keys are read when the policy is, so that a missing one shows before it matters"),
    // Not a verdict on the image.
    refused("signatures", "form: armored",
        "standalone-verify reads it, but no image with such a signature can be copied"),
    refused("signatures", "form: cleartext",
        "standalone-verify reads it, but no image with such a signature can be copied"),
    refused("signatures", "form: with a marker before it",
        "standalone-verify reads it, but no image with such a signature can be copied"),
    accepted("requirements", "anything demanded, signed by armored",
        "the policy accepts it; what skopeo fails at is copying the signature"),
    accepted("requirements", "anything demanded, signed by a page",
        "the policy accepts it; what skopeo fails at is copying the signature"),
];

/// A policy with a key that is not there, in a scope that is not asked for.
const MISSING: &str = r#"{"default":[{"type":"insecureAcceptAnything"}],"transports":{"docker":{"x.example":[{"type":"signedBy","keyType":"GPGKeys","keyPath":"/not/there"}]}}}"#;

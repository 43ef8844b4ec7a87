//! Image policies, judged: which scope decides, which signature counts, and what the verdict says.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeMap;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use common::{from_now, key, request, sign_message, time};
use manifest_schema::{Digest, Reference, Timestamp};
use p256::ecdsa::signature::Signer;
use p256::ecdsa::{Signature, SigningKey};
use p256::pkcs8::{EncodePublicKey, LineEnding};
use serde_json::{Value, json};
use signing::sigstore::{SIGNATURE_ANNOTATION, sigstore_payload};
use signing::{
    Certificates, GeneratedKey, ImagePolicy, KeyRequest, PolicyImage, PolicyName, PolicyVerdict, SigstoreKey,
    SigstoreSignature, payload,
};

const MANIFEST: &[u8] = br#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json"}"#;
const NAME: &str = "registry.example:5000/team/app:1";

fn digest() -> Digest {
    blobs::sha256(MANIFEST)
}

/// A key, by name, made a minute ago.
fn make(name: &str) -> GeneratedKey {
    key(&request(name)).0
}

fn sign(key: &GeneratedKey, reference: &str) -> Vec<u8> {
    sign_message(key, &payload(reference, &digest(), "test", Timestamp::now()), from_now(-1))
}

fn signed_by(keys: &[&GeneratedKey], identity: Value) -> Value {
    let data: Vec<u8> = keys.iter().flat_map(|key| key.certificate_armored.clone()).collect();
    json!({
        "type": "signedBy", "keyType": "GPGKeys", "keyData": STANDARD.encode(data), "signedIdentity": identity
    })
}

fn exact() -> Value {
    json!({ "type": "matchExact" })
}

fn policy(default: Value) -> ImagePolicy {
    let text = json!({ "default": default }).to_string();
    ImagePolicy::parse(text.as_bytes(), Path::new("")).unwrap()
}

/// Judges the image [`NAME`] with these files of signatures.
fn judge(policy: &ImagePolicy, files: &[&[u8]]) -> PolicyVerdict {
    let reference: Reference = NAME.parse().unwrap();
    let image =
        PolicyImage { name: PolicyName::Docker(&reference), digests: &[digest()], simple: files, sigstore: &[] };
    policy.judge(&image, Timestamp::now())
}

#[test]
fn the_most_specific_scope_decides() {
    let accept = json!([{ "type": "insecureAcceptAnything" }]);
    let document = json!({
        "default": [{ "type": "reject" }],
        "transports": {
            "docker": {
                "registry.example:5000/team/app:1": accept,
                "registry.example:5000/team/app": [{ "type": "reject" }],
                "registry.example:5000/open": accept,
                "registry.example": accept,
                "*.wild.example": accept,
                "*.closed.wild.example": [{ "type": "reject" }],
            },
            "dir": { "/srv/images": accept, "/srv/images/not": [{ "type": "reject" }] },
            "oci": { "": accept }
        }
    });
    let policy = ImagePolicy::parse(document.to_string().as_bytes(), Path::new("")).unwrap();
    let pinned = format!("registry.example:5000/team/app@{}", digest());
    let both = format!("registry.example:5000/team/app:1@{}", digest());
    for (name, scope, accepted) in [
        ("registry.example:5000/team/app:1", "docker: registry.example:5000/team/app:1", true),
        ("registry.example:5000/team/app:2", "docker: registry.example:5000/team/app", false),
        (&pinned, "docker: registry.example:5000/team/app", false),
        // The tag says nothing when there is a digest.
        (&both, "docker: registry.example:5000/team/app", false),
        ("registry.example:5000/open/a/b:1", "docker: registry.example:5000/open", true),
        ("registry.example:5000/opened:1", "default", false),
        ("registry.example/team/app:2", "docker: registry.example", true),
        ("other.example/team/app:1", "default", false),
        ("a.wild.example/app:1", "docker: *.wild.example", true),
        ("a.b.wild.example:443/app:1", "docker: *.wild.example", true),
        ("a.closed.wild.example/app:1", "docker: *.closed.wild.example", false),
        ("wild.example/app:1", "default", false),
    ] {
        let reference: Reference = name.parse().unwrap();
        let image =
            PolicyImage { name: PolicyName::Docker(&reference), digests: &[digest()], simple: &[], sigstore: &[] };
        let verdict = policy.judge(&image, Timestamp::now());
        assert_eq!((verdict.scope.as_str(), verdict.accepted), (scope, accepted), "{name}");
    }
    for (transport, scope, decides, accepted) in [
        ("dir", "/srv/images", "dir: /srv/images", true),
        ("dir", "/srv/images/a/b", "dir: /srv/images", true),
        ("dir", "/srv/images/not/a", "dir: /srv/images/not", false),
        ("dir", "/srv/imagesque", "default", false),
        ("oci", "/srv/images", "oci: \"\"", true),
        ("docker-archive", "", "default", false),
    ] {
        let name = PolicyName::Other { transport, scope };
        let image = PolicyImage { name, digests: &[digest()], simple: &[], sigstore: &[] };
        let verdict = policy.judge(&image, Timestamp::now());
        assert_eq!((verdict.scope.as_str(), verdict.accepted), (decides, accepted), "{transport}:{scope}");
    }
}

#[test]
fn one_good_signature_is_enough_and_every_requirement_counts() {
    let (a, b, stranger) = (make("a"), make("b"), make("stranger"));
    let (by_a, by_b, by_stranger) = (sign(&a, NAME), sign(&b, NAME), sign(&stranger, NAME));
    let other_tag = sign(&a, "registry.example:5000/team/app:2");

    let either = policy(json!([signed_by(&[&a, &b], exact())]));
    for files in [[&by_a[..], &by_stranger], [&by_stranger, &by_b], [&other_tag, &by_a]] {
        let verdict = judge(&either, &files);
        assert!(verdict.accepted, "{verdict:?}");
        assert_eq!(verdict.requirements[0].identity.as_ref().unwrap().raw(), NAME);
        assert!(verdict.requirements[0].reasons.is_empty());
    }
    assert_eq!(judge(&either, &[&by_b]).requirements[0].signer.as_deref(), Some(b.fingerprint.as_str()));

    let refused = judge(&either, &[&by_stranger, &other_tag]);
    assert!(!refused.accepted);
    let reasons = &refused.requirements[0].reasons;
    assert!(reasons[0].starts_with("signature 1: ") && reasons[0].contains("unknown key"), "{reasons:?}");
    let expected = format!(
        "signature 2: by {}, it is for `registry.example:5000/team/app:2`, matchExact wants {NAME}",
        a.fingerprint
    );
    assert_eq!(reasons[1], expected);

    let both = policy(json!([signed_by(&[&a], exact()), signed_by(&[&b], exact())]));
    assert!(judge(&both, &[&by_a, &by_b]).accepted);
    for files in [&[&by_a[..], &by_a][..], &[&by_b], &[]] {
        let verdict = judge(&both, files);
        assert!(!verdict.accepted && verdict.requirements.len() == 2, "{verdict:?}");
    }
    let shut = policy(json!([{ "type": "insecureAcceptAnything" }, { "type": "reject" }]));
    let verdict = judge(&shut, &[&by_a]);
    assert!(!verdict.accepted && verdict.requirements[0].accepted && !verdict.requirements[1].accepted);
    assert_eq!(judge(&either, &[]).requirements[0].reasons, ["there is no signature"]);
}

#[test]
fn a_signature_is_for_one_manifest() {
    let a = make("a");
    let policy = policy(json!([signed_by(&[&a], json!({ "type": "matchRepository" }))]));
    let reference: Reference = NAME.parse().unwrap();
    let signature = sign(&a, NAME);
    let other = blobs::sha256(b"another manifest");
    let verdict = |digests: &[Digest]| {
        let image = PolicyImage { name: PolicyName::Docker(&reference), digests, simple: &[&signature], sigstore: &[] };
        policy.judge(&image, Timestamp::now())
    };
    assert!(verdict(&[digest()]).accepted);
    assert!(verdict(&[other, digest()]).accepted);
    let refused = verdict(&[other]);
    assert!(!refused.accepted);
    assert!(refused.requirements[0].reasons[0].ends_with(&format!("it is for {}, the image is {other}", digest())));
    assert!(!verdict(&[]).accepted);
}

#[test]
fn keys_are_judged_now() {
    let (created, expires) = (time("2024-01-01T00:00:00Z"), time("2024-12-31T00:00:00Z"));
    let (old, secret) = key(&KeyRequest { created, expires: Some(expires), ..request("old") });
    let reference: Reference = NAME.parse().unwrap();
    let bytes = secret.sign_simple(&reference, &digest(), time("2024-06-01T00:00:00Z"), "x").unwrap();
    let expired = policy(json!([signed_by(&[&old], exact())]));
    let verdict = judge(&expired, &[&bytes]);
    assert!(!verdict.accepted && verdict.requirements[0].reasons[0].contains("expired on 2024-12-31"), "{verdict:?}");
    let image =
        PolicyImage { name: PolicyName::Docker(&reference), digests: &[digest()], simple: &[&bytes], sigstore: &[] };
    assert!(expired.judge(&image, time("2024-07-01T00:00:00Z")).accepted);

    let a = make("a");
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a.asc"), &a.certificate_armored).unwrap();
    std::fs::write(folder.path().join("a.rev"), &a.revocation_armored).unwrap();
    let load = |paths: Value| {
        let text = json!({ "default": [{
            "type": "signedBy", "keyType": "GPGKeys", "keyPaths": paths, "signedIdentity": exact()
        }] });
        let file = folder.path().join("policy.json");
        std::fs::write(&file, text.to_string()).unwrap();
        ImagePolicy::load(&file).unwrap()
    };
    let bytes = sign(&a, NAME);
    assert!(judge(&load(json!(["a.asc"])), &[&bytes]).accepted);
    let verdict = judge(&load(json!(["a.asc", "a.rev"])), &[&bytes]);
    assert!(!verdict.accepted && verdict.requirements[0].reasons[0].contains("revoked"), "{verdict:?}");
}

#[test]
fn a_signature_may_be_ahead_by_the_clock_tolerance() {
    let a = make("a");
    let ahead = |seconds: i64| sign_message(&a, &payload(NAME, &digest(), "test", Timestamp::now()), from_now(seconds));
    let policy = || policy(json!([signed_by(&[&a], exact())]));
    let [soon, later] = [ahead(600), ahead(7200)];
    assert!(judge(&policy(), &[&soon]).accepted, "by default an hour");
    for (policy, signature) in [(policy(), &later), (policy().with_clock_tolerance(60), &soon)] {
        let verdict = judge(&policy, &[signature]);
        assert!(!verdict.accepted && verdict.requirements[0].reasons[0].contains("in the future"), "{verdict:?}");
    }
    assert!(judge(&policy().with_clock_tolerance(8000), &[&later]).accepted);
}

#[test]
fn images_without_a_name_need_a_fixed_identity() {
    let a = make("a");
    let signature = sign(&a, NAME);
    for (identity, accepted) in [
        (json!({ "type": "exactReference", "dockerReference": NAME }), true),
        (json!({ "type": "exactReference", "dockerReference": "registry.example:5000/team/app:2" }), false),
        (json!({ "type": "exactRepository", "dockerRepository": "registry.example:5000/team/app" }), true),
        (json!({ "type": "exactRepository", "dockerRepository": "registry.example/team/app" }), false),
        (exact(), false),
        (json!({ "type": "matchRepoDigestOrExact" }), false),
        (json!({ "type": "matchRepository" }), false),
        (json!({ "type": "remapIdentity", "prefix": "a", "signedPrefix": "registry.example:5000" }), false),
    ] {
        let policy = policy(json!([signed_by(&[&a], identity.clone())]));
        for transport in ["dir", "oci"] {
            let name = PolicyName::Other { transport, scope: "/srv/image" };
            let image = PolicyImage { name, digests: &[digest()], simple: &[&signature], sigstore: &[] };
            let verdict = policy.judge(&image, Timestamp::now());
            assert_eq!(verdict.accepted, accepted, "{identity}");
            let reason = verdict.requirements[0].reasons.first();
            let nameless = identity["type"].as_str().unwrap().starts_with(['m', 'r']);
            assert_eq!(reason.is_some_and(|r| r.contains("without a Docker reference")), nameless, "{reason:?}");
        }
    }
}

/// containers/image reads no further when a file is no signature, so whatever else is there does not count.
#[test]
fn a_file_that_is_no_signature_spoils_the_others() {
    let a = make("a");
    let good = sign(&a, NAME);
    let demanding = policy(json!([signed_by(&[&a], exact())]));
    for bad in [&b""[..], b"<html>404</html>", b"-----BEGIN PGP MESSAGE-----\n\n-----END PGP MESSAGE-----\n"] {
        for files in [[&good[..], bad], [bad, &good]] {
            let verdict = judge(&demanding, &files);
            assert!(!verdict.accepted, "{bad:?}");
            assert!(verdict.requirements[0].reasons[0].contains("no signature of the image counts"), "{verdict:?}");
        }
    }
    let anything = policy(json!([{ "type": "insecureAcceptAnything" }]));
    assert!(judge(&anything, &[b"<html>"]).accepted);
    let prefixed = [b"\0simple-signing\n", &good[..]].concat();
    assert!(judge(&demanding, &[&prefixed]).accepted);
}

struct Cosign(SigningKey);

impl Cosign {
    fn new(seed: u8) -> Self {
        Self(SigningKey::from_slice(&[seed; 32]).unwrap())
    }

    fn pem(&self) -> String {
        self.0.verifying_key().to_public_key_pem(LineEnding::LF).unwrap()
    }

    fn sign(&self, payload: &[u8]) -> SigstoreSignature {
        let signature: Signature = self.0.sign(payload);
        let encoded = STANDARD.encode(signature.to_der().as_bytes());
        SigstoreSignature {
            payload: payload.to_vec(),
            annotations: BTreeMap::from([(SIGNATURE_ANNOTATION.to_string(), encoded)]),
        }
    }
}

#[test]
fn cosign_signatures() {
    let (one, two, stranger) = (Cosign::new(1), Cosign::new(2), Cosign::new(3));
    let reference: Reference = NAME.parse().unwrap();
    let honest = sigstore_payload(&reference, &digest(), "test", Timestamp::now()).unwrap();
    let simple_type = payload(NAME, &digest(), "test", Timestamp::now());
    let other_tag =
        sigstore_payload(&"registry.example:5000/team/app:2".parse().unwrap(), &digest(), "test", Timestamp::now())
            .unwrap();
    let demand = |rest: Value| {
        let mut requirement = json!({ "type": "sigstoreSigned" });
        requirement.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
        policy(json!([requirement]))
    };
    let key_datas = json!([STANDARD.encode(one.pem()), STANDARD.encode(two.pem())]);
    let either = demand(json!({ "keyDatas": key_datas }));
    let judge = |policy: &ImagePolicy, simple: &[&[u8]], sigstore: &[SigstoreSignature]| {
        let image = PolicyImage { name: PolicyName::Docker(&reference), digests: &[digest()], simple, sigstore };
        policy.judge(&image, Timestamp::now())
    };
    for signer in [&one, &two] {
        let verdict = judge(&either, &[], &[stranger.sign(&honest), signer.sign(&honest)]);
        assert!(verdict.accepted, "{verdict:?}");
        assert_eq!(verdict.requirements[0].signer.as_ref().unwrap().len(), 64);
        assert_eq!(verdict.requirements[0].identity.as_ref().unwrap().raw(), NAME);
    }
    for (bad, reason) in [
        (stranger.sign(&honest), "is not by key"),
        (one.sign(&simple_type), "critical.type"),
        (one.sign(&other_tag), "matchRepoDigestOrExact wants"),
        (SigstoreSignature { annotations: BTreeMap::new(), ..one.sign(&honest) }, "is missing"),
    ] {
        let verdict = judge(&either, &[], &[bad]);
        assert!(!verdict.accepted);
        let found = &verdict.requirements[0].reasons[0];
        assert!(found.starts_with("cosign signature 1: ") && found.contains(reason), "{found}");
    }
    let repository = demand(json!({
        "keyData": STANDARD.encode(one.pem()), "signedIdentity": { "type": "matchRepository" }
    }));
    assert!(judge(&repository, &[], &[one.sign(&other_tag)]).accepted);
    assert!(!judge(&repository, &[], &[two.sign(&other_tag)]).accepted);

    // What needs more than a key is never met, however good the signature.
    for (rest, reason) in [
        (json!({ "keyData": STANDARD.encode(one.pem()), "rekorPublicKeyData": "eA==" }), "Rekor"),
        (
            json!({ "rekorPublicKeyData": "eA==",
                "fulcio": { "caData": "eA==", "oidcIssuer": "i", "subjectEmail": "e" } }),
            "Fulcio",
        ),
        (json!({ "pki": { "caRootsData": "eA==", "subjectEmail": "e" } }), "PKI"),
    ] {
        let verdict = judge(&demand(rest), &[], &[one.sign(&honest)]);
        assert!(!verdict.accepted && verdict.requirements[0].reasons[0].contains(reason), "{verdict:?}");
    }

    // The two kinds of signatures do not stand in for each other.
    let a = make("a");
    let simple = sign(&a, NAME);
    let by_gpg = policy(json!([signed_by(&[&a], exact())]));
    let verdict = judge(&by_gpg, &[], &[one.sign(&honest)]);
    assert_eq!(verdict.requirements[0].reasons, ["there is no signature of this kind (1 of another)"]);
    assert!(!judge(&either, &[&simple], &[]).accepted);

    // As containers/image stores them beside an image.
    let signature = one.sign(&honest);
    let stored = json!({
        "mimeType": "application/vnd.dev.cosign.simplesigning.v1+json",
        "payload": STANDARD.encode(&signature.payload),
        "annotations": signature.annotations,
    });
    let file = format!("\0sigstore-json\n{stored}").into_bytes();
    assert!(judge(&either, &[&file], &[]).accepted);
    assert!(judge(&by_gpg, &[&file, &simple], &[]).accepted);
    let other_kind = format!("\0sigstore-json\n{}", stored.to_string().replace("simplesigning", "other")).into_bytes();
    assert!(!judge(&either, &[&other_kind], &[]).accepted);
}

/// No requirement is left out, whatever its scope and whether anything can meet it.
#[test]
fn a_policy_names_all_its_keys() {
    let (a, b) = (make("a"), make("b"));
    let signed_by_cosign = |seeds: &[u8], rest: Value| {
        let data: Vec<_> = seeds.iter().map(|seed| STANDARD.encode(Cosign::new(*seed).pem())).collect();
        let mut requirement = json!({ "type": "sigstoreSigned", "keyDatas": data });
        requirement.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
        requirement
    };
    let document = json!({
        "default": [signed_by(&[&a], exact()), signed_by_cosign(&[1], json!({}))],
        "transports": {
            "docker": {
                "r.example": [{ "type": "reject" }, signed_by_cosign(&[2, 3], json!({}))],
                "r.example/logged": [signed_by_cosign(&[4], json!({ "rekorPublicKeyData": "eA==" }))],
                "r.example/pki": [
                    { "type": "sigstoreSigned", "pki": { "caRootsData": "eA==", "subjectEmail": "e" } },
                    signed_by(&[&b], exact()),
                ],
            },
            "of-the-future": { "": [signed_by_cosign(&[5], json!({}))] }
        }
    });
    let policy = ImagePolicy::parse(document.to_string().as_bytes(), Path::new("")).unwrap();
    let mut found: Vec<_> = policy.sigstore_keys().into_iter().map(SigstoreKey::to_pem).collect();
    let mut expected: Vec<_> = (1..=5).map(|seed| Cosign::new(seed).pem()).collect();
    found.sort();
    expected.sort();
    assert_eq!(found, expected);
    let mut found: Vec<_> = policy.certificates().into_iter().flat_map(Certificates::fingerprints).collect();
    let mut expected = [a.fingerprint, b.fingerprint];
    found.sort();
    expected.sort();
    assert_eq!(found, expected);
}

#[test]
fn what_nothing_meets() {
    let a = make("a");
    let signature = sign(&a, NAME);
    for requirement in [
        json!({ "type": "signedBaseLayer", "baseLayerIdentity": { "type": "matchRepository" } }),
        json!({ "type": "signedBy", "keyType": "signedByGPGKeys", "keyData": STANDARD.encode(&a.certificate_armored) }),
        json!({ "type": "signedBy", "keyType": "X509Certificates", "keyData": "eA==" }),
        json!({ "type": "signedBy", "keyType": "signedByX509CAs", "keyPath": "/not/there" }),
    ] {
        let verdict = judge(&policy(json!([requirement])), &[&signature]);
        assert!(!verdict.accepted && verdict.requirements[0].reasons[0].contains("nothing meets"), "{verdict:?}");
    }
}

#[test]
fn a_verdict_is_data() {
    let a = make("a");
    let policy = policy(json!([signed_by(&[&a], exact())]));
    let verdict = serde_json::to_value(judge(&policy, &[&sign(&a, NAME)])).unwrap();
    let expected = json!({
        "accepted": true,
        "scope": "default",
        "requirements": [{
            "requirement": "signedBy", "accepted": true, "signer": a.fingerprint, "identity": NAME, "reasons": []
        }]
    });
    assert_eq!(verdict, expected);
    let hostile = sign(&a, "\u{1b}[2J");
    assert!(judge(&policy, &[&hostile]).requirements[0].reasons[0].contains(r"`\u{1b}[2J`"));
}

/// A verdict goes into a ledger: nobody else decides how long it is.
#[test]
fn reasons_are_short() {
    let a = make("a");
    let by_a = policy(json!([signed_by(&[&a], exact())]));
    let reason = |verdict: PolicyVerdict| {
        let reason = verdict.requirements[0].reasons[0].clone();
        assert!(!verdict.accepted && reason.chars().count() <= 300, "{reason}");
        reason
    };
    // What a signature calls the image does not hide what is wanted.
    for name in ["x".repeat(100_000), "\u{10ffff}\u{1b}".repeat(1000)] {
        let reason = reason(judge(&by_a, &[&sign(&a, &name)]));
        assert!(
            reason.contains("it is for `") && reason.ends_with(&format!("…`, matchExact wants {NAME}")),
            "{reason}"
        );
    }
    // A name of our own, and what a signature's other members say.
    let long = format!("{}/{}:1", "registry.example:5000", "y".repeat(200));
    let elsewhere = policy(json!([signed_by(&[&a], json!({ "type": "exactReference", "dockerReference": long }))]));
    assert!(reason(judge(&elsewhere, &[&sign(&a, &"x".repeat(1000))])).ends_with('…'));
    let text = String::from_utf8(payload(NAME, &digest(), "test", Timestamp::now())).unwrap();
    let text = text.replace("atomic container signature", &"é".repeat(5000));
    assert!(reason(judge(&by_a, &[&sign_message(&a, text.as_bytes(), from_now(-1))])).ends_with('…'));

    let cosign = |pems: Vec<String>| {
        let data: Vec<_> = pems.iter().map(|pem| STANDARD.encode(pem)).collect();
        policy(json!([{ "type": "sigstoreSigned", "keyDatas": data }]))
    };
    let reference: Reference = NAME.parse().unwrap();
    let judge = |policy: &ImagePolicy, signature: SigstoreSignature| {
        let (name, digests) = (PolicyName::Docker(&reference), &[digest()]);
        policy.judge(&PolicyImage { name, digests, simple: &[], sigstore: &[signature] }, Timestamp::now())
    };
    let many = cosign((2..20).map(|seed| Cosign::new(seed).pem()).collect());
    let one = Cosign::new(1);
    assert!(reason(judge(&many, one.sign(b"{}"))).starts_with("cosign signature 1: the signature is not by key"));
    let honest = sigstore_payload(&reference, &digest(), "test", Timestamp::now()).unwrap();
    let odd = String::from_utf8(honest).unwrap().replace("cosign container image signature", &"z".repeat(5000));
    let reason = reason(judge(&cosign(vec![one.pem()]), one.sign(odd.as_bytes())));
    assert!(reason.contains("critical.type") && reason.ends_with('…'), "{reason}");
}

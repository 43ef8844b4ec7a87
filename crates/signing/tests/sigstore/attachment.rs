//! The manifest under an image's `.sig` tag.

use std::path::Path;

use manifest_schema::Reference;
use secrecy::ExposeSecret;
use signing::sigstore::{
    AttachedLayer, Attachment, AttachmentError, GeneratedSigstoreKey, SIGNATURE_ANNOTATION, SigstoreSecretError,
    generate_sigstore,
};
use signing::{SigstoreKey, SigstoreSecretKey, SigstoreSignature};

use crate::common::time;
use crate::support::{attached, digest, payload, reference};

const PAYLOAD: &str = "application/vnd.dev.cosign.simplesigning.v1+json";

fn one() -> SigstoreSignature {
    attached(&payload(), b"first")
}

fn layer(signature: &SigstoreSignature) -> String {
    let annotations = serde_json::to_string(&signature.annotations).unwrap();
    let (digest, size) = (blobs::sha256(&signature.payload), signature.payload.len());
    format!(r#"{{"mediaType":"{PAYLOAD}","digest":"{digest}","size":{size},"annotations":{annotations}}}"#)
}

#[test]
fn an_attachment_has_the_form_containers_image_writes() {
    let bytes = Attachment::new().with(&one()).unwrap().to_bytes().unwrap();
    let digest = blobs::sha256(&one().payload);
    let config =
        format!(r#"{{"architecture":"","os":"","config":{{}},"rootfs":{{"type":"layers","diff_ids":["{digest}"]}}}}"#);
    assert_eq!(String::from_utf8(bytes.config.clone()).unwrap(), config);
    assert_eq!(bytes.config_digest, blobs::sha256(config.as_bytes()));
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{}","size":{}}},"layers":[{}]}}"#,
        bytes.config_digest,
        config.len(),
        layer(&one())
    );
    assert_eq!(String::from_utf8(bytes.manifest.clone()).unwrap(), manifest);
    assert_eq!(bytes.manifest_digest, blobs::sha256(manifest.as_bytes()));

    let read = Attachment::parse(&bytes.manifest).unwrap();
    assert_eq!(read.to_bytes().unwrap(), bytes);
    let found: Vec<_> = read.payload_descriptors().collect();
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].digest, found[0].size), (digest, one().payload.len() as u64));
    assert_eq!(found[0].annotations, one().annotations);
}

#[test]
fn signatures_are_added_behind_what_is_there() {
    let first = Attachment::new().with(&one()).unwrap();
    assert_eq!(first.clone().with(&one()).unwrap(), first, "no duplicate");
    // The same payload, signed by another key.
    let second = attached(&payload(), b"second");
    let both = first.clone().with(&second).unwrap();
    let signatures: Vec<_> = both.layers().iter().map(|l| l.annotations[SIGNATURE_ANNOTATION].as_str()).collect();
    assert_eq!(signatures, ["Zmlyc3Q=", "c2Vjb25k"]);
    let other = Attachment::new().with(&second).unwrap();
    assert_eq!(first.union(&other), both);
    assert_eq!(both.clone().union(&other), both);
    let config = both.to_bytes().unwrap().config;
    let digest = blobs::sha256(&payload());
    assert!(String::from_utf8(config).unwrap().contains(&format!(r#""diff_ids":["{digest}","{digest}"]"#)));
}

#[test]
fn nothing_that_is_there_is_lost() {
    let other = format!(
        r#"{{"mediaType":"application/vnd.example","digest":"{}","size":3,"annotations":{{"a":"<&>"}},"urls":["https://x.example"]}}"#,
        blobs::sha256(b"abc")
    );
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{}","size":2}},"layers":[{other},{}],"annotations":{{"k":"v"}}}}"#,
        blobs::sha256(b"{}"),
        layer(&one())
    );
    let read = Attachment::parse(manifest.as_bytes()).unwrap();
    assert_eq!((read.layers().len(), read.payload_descriptors().count()), (2, 1));
    let bytes = read.with(&attached(&payload(), b"second")).unwrap().to_bytes().unwrap();
    let value: serde_json::Value = serde_json::from_slice(&bytes.manifest).unwrap();
    assert_eq!(value["layers"][0], serde_json::from_str::<serde_json::Value>(&other).unwrap());
    assert_eq!(value["annotations"]["k"], "v");
    assert_eq!(value["layers"].as_array().unwrap().len(), 3);
    assert!(String::from_utf8(bytes.manifest).unwrap().contains(r#""a":"\u003c\u0026\u003e""#), "as Go escapes it");
}

#[test]
fn signatures_are_taken_out_and_nothing_else() {
    let other = format!(
        r#"{{"mediaType":"application/vnd.example","digest":"{}","size":3,"urls":["https://x.example"]}}"#,
        blobs::sha256(b"abc")
    );
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{}","size":2}},"layers":[{},{other},{}],"annotations":{{"k":"v"}}}}"#,
        blobs::sha256(b"{}"),
        layer(&one()),
        layer(&attached(&payload(), b"second"))
    );
    let read = Attachment::parse(manifest.as_bytes()).unwrap();
    let first = |layer: &AttachedLayer| layer.annotations[SIGNATURE_ANNOTATION] == "Zmlyc3Q=";
    let less = read.without(first);
    assert_eq!((less.layers().len(), less.payload_descriptors().count()), (2, 1));
    assert_eq!(less.without(first), less);
    let none = less.without(|_| true);
    let value: serde_json::Value = serde_json::from_slice(&none.to_bytes().unwrap().manifest).unwrap();
    assert_eq!(value["layers"], serde_json::from_str::<serde_json::Value>(&format!("[{other}]")).unwrap());
    assert_eq!(value["annotations"]["k"], "v");

    let empty = Attachment::new().with(&one()).unwrap().without(|_| true);
    assert_eq!(empty, Attachment::new());
    let bytes = empty.to_bytes().unwrap();
    assert!(Attachment::parse(&bytes.manifest).unwrap().layers().is_empty());
}

#[test]
fn the_signatures_of_one_public_key_are_found() {
    let made: Vec<_> = (0..2).map(|_| generate_sigstore(None).unwrap()).collect();
    let secret = |made: &GeneratedSigstoreKey| {
        let bytes = made.secret_pem.expose_secret().as_bytes();
        SigstoreSecretKey::from_bytes(bytes, Path::new("key"), || Err(SigstoreSecretError::Generate("asked"))).unwrap()
    };
    let second = Reference::parse_normalized("registry.prod.example/payments/api:2.3.2").unwrap();
    let sign = |made, reference, digest| {
        secret(made).sign_image(reference, digest, time("2026-01-02T03:04:05Z"), "test").unwrap()
    };
    let another = blobs::sha256(b"another manifest");
    let signatures = [
        sign(&made[0], &reference(), &digest()),
        sign(&made[1], &reference(), &digest()),
        sign(&made[0], &second, &digest()),
        sign(&made[0], &reference(), &another),
    ];
    let public = SigstoreKey::from_pem(made[0].public_pem.as_bytes()).unwrap();
    let found = |reference: Option<&Reference>| {
        signatures.each_ref().map(|signature| public.has_signed(signature, reference, &digest()))
    };
    assert_eq!(found(Some(&reference())), [true, false, false, false]);
    assert_eq!(found(None), [true, false, true, false]);

    // As an importer does: it has the layers, and fetches their payloads.
    let all = signatures.iter().fold(Attachment::new(), |all, signature| all.with(signature).unwrap());
    let fetched = |layer: &AttachedLayer| {
        let payload = signatures.iter().map(|s| &s.payload).find(|payload| blobs::sha256(payload) == layer.digest);
        SigstoreSignature { payload: payload.unwrap().clone(), annotations: layer.annotations.clone() }
    };
    let left = all.without(|layer| public.has_signed(&fetched(layer), Some(&reference()), &digest()));
    let expected = signatures[1..].iter().fold(Attachment::new(), |all, signature| all.with(signature).unwrap());
    assert_eq!(left, expected);
}

#[test]
fn what_is_no_attachment_is_refused() {
    let good = String::from_utf8(Attachment::new().with(&one()).unwrap().to_bytes().unwrap().manifest).unwrap();
    Attachment::parse(good.as_bytes()).unwrap();
    for (from, to) in [
        ("vnd.oci.image.manifest.v1+json", "vnd.oci.image.index.v1+json"),
        (r#""layers":["#, r#""manifests":[],"layers":["#),
        (r#""layers":["#, r#""Layers":[],"layers":["#),
        (r#""schemaVersion":2"#, r#""schemaVersion":1"#),
        (r#""annotations":{"#, r#""annotations":{"dev.cosignproject.cosign/signature":"x","#),
        (r#""annotations":{"#, r#""annotations":{"n":1,"#),
        ("sha256:", "md5:"),
    ] {
        let changed = good.replacen(from, to, 1);
        assert_ne!(changed, good);
        assert!(Attachment::parse(changed.as_bytes()).is_err(), "{changed}");
    }
    assert!(Attachment::parse(b"[]").is_err());
    assert!(Attachment::parse(format!("{good} x").as_bytes()).is_err());
    let none = SigstoreSignature { payload: payload(), annotations: Default::default() };
    assert!(matches!(Attachment::new().with(&none), Err(AttachmentError::NoSignature)));

    let mut large = one();
    large.annotations.insert("filler".into(), "x".repeat(4 << 20));
    let large = Attachment::new().with(&large).unwrap().to_bytes();
    assert!(matches!(large, Err(AttachmentError::TooLarge { .. })));
    assert!(Attachment::parse(good.replacen('}', &" ".repeat(4 << 20), 1).as_bytes()).is_err());
}

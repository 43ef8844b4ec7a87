//! Simple signatures: exchanged with skopeo and gpg, and every other form refused.
#![allow(clippy::unwrap_used)]

mod common;

use common::{Gpg, certificates, fingerprint, from_now, have, key, request, time, trust};
use manifest_schema::{Digest, Reference, Timestamp};
use secrecy::ExposeSecret;
use sequoia_openpgp::armor::{Kind, Reader, ReaderMode};
use signing::{Algorithm, KeyRequest, PayloadError, Reason, Rejected, Trust, payload, peek_simple, read_simple};

const REFERENCE: &str = "registry.example:5000/payments/api:1.2";
const MANIFEST: &[u8] =
    br#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{},"layers":[]}"#;

fn reference() -> Reference {
    REFERENCE.parse().unwrap()
}

fn digest() -> Digest {
    blobs::sha256(MANIFEST)
}

/// The payload this crate signs.
fn honest() -> Vec<u8> {
    payload(REFERENCE, &digest(), "test", Timestamp::now())
}

/// Removes armor.
fn binary(armored: &[u8], kind: Kind) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut reader = Reader::from_bytes(armored, ReaderMode::Tolerant(Some(kind)));
    std::io::Read::read_to_end(&mut reader, &mut bytes).unwrap();
    bytes
}

/// A literal packet (RFC 9580 section 5.9) with this content, in the old format with a two-byte length.
fn literal(content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(content.len() + 6).unwrap().to_be_bytes();
    [&[0xad, length[0], length[1], b'b', 0, 0, 0, 0, 0][..], content].concat()
}

#[test]
fn what_is_signed_is_read() {
    let (made, secret) = key(&request("production"));
    let signed_at = from_now(-10);
    let bytes = secret.sign_simple(&reference(), &digest(), signed_at, "sealift 0.1.0").unwrap();
    let authentic = read_simple(&bytes, &trust(&[&made.certificate_armored], 1)).unwrap();
    let simple = authentic.get();
    assert_eq!(simple.reference.raw(), REFERENCE);
    assert_eq!(simple.parsed_reference().unwrap(), reference());
    assert_eq!(simple.digest, digest());
    assert_eq!(simple.creator.as_ref().unwrap().raw(), "sealift 0.1.0");
    assert_eq!(simple.timestamp, Some(signed_at));
    assert_eq!((&simple.signer.fingerprint, simple.signer.signed_at), (&made.fingerprint, signed_at));
    let both = reference().with_digest(digest());
    assert!(secret.sign_simple(&both, &digest(), signed_at, "x").is_err());
}

#[test]
fn no_flipped_bit_passes() {
    let (made, secret) = key(&request("production"));
    let bytes = secret.sign_simple(&reference(), &digest(), from_now(-10), "x").unwrap();
    let trust = trust(&[&made.certificate_armored], 1);
    let honest = read_simple(&bytes, &trust).unwrap().get().clone();
    for at in 0..bytes.len() {
        for bit in [0x01, 0x80] {
            let mut changed = bytes.clone();
            changed[at] ^= bit;
            // Some bytes are covered by nothing (a hint, the literal's file name): those must not change what is read.
            if let Ok(read) = read_simple(&changed, &trust) {
                assert_eq!(read.get(), &honest, "byte {at}");
            }
        }
        assert!(read_simple(&bytes[..at], &trust).is_err(), "cut at {at}");
    }
}

#[test]
fn skopeo_accepts_our_signatures_and_only_those() {
    if !have(&["gpg", "skopeo"]) {
        return;
    }
    for algorithm in [Algorithm::Rsa3072, Algorithm::P256, Algorithm::Ed25519] {
        let gpg = Gpg::new();
        let (made, secret) = key(&KeyRequest { algorithm, ..request("production") });
        let (other, _) = key(&request("other"));
        gpg.import(&made.certificate_armored);
        gpg.import(&other.certificate_armored);
        let manifest = gpg.write("manifest.json", MANIFEST);
        let good = secret.sign_simple(&reference(), &digest(), Timestamp::now(), "sealift").unwrap();
        let verify = |bytes: &[u8], reference: &str, fingerprint: &str| {
            let file = gpg.write("signature-1", bytes);
            let mut skopeo = gpg.command("skopeo");
            skopeo.args(["standalone-verify", &manifest, reference, fingerprint, &file]);
            skopeo.output().unwrap()
        };
        let output = verify(&good, REFERENCE, made.fingerprint.as_str());
        assert!(output.status.success(), "{algorithm:?}: {}", String::from_utf8_lossy(&output.stderr));

        let mut flipped = good.clone();
        let middle = flipped.len() / 2;
        flipped[middle] ^= 1;
        assert!(!verify(&flipped, REFERENCE, made.fingerprint.as_str()).status.success());
        assert!(!verify(&good, REFERENCE, other.fingerprint.as_str()).status.success());
        assert!(!verify(&good, "registry.example:5000/payments/api:1.3", made.fingerprint.as_str()).status.success());
    }
}

#[test]
fn skopeo_and_gpg_signatures_are_read() {
    if !have(&["gpg", "skopeo"]) {
        return;
    }
    let gpg = Gpg::new();
    let signer = gpg.make("signer", "rsa3072", "sign");
    let trust = trust(&[&gpg.run(&["--export"])], 1);
    let manifest = gpg.write("manifest.json", MANIFEST);
    let mut skopeo = gpg.command("skopeo");
    skopeo.args(["standalone-sign", &manifest, REFERENCE, &signer, "--output", "by-skopeo"]);
    let output = skopeo.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let by_skopeo = read_simple(&gpg.read("by-skopeo"), &trust).unwrap();
    assert_eq!(by_skopeo.get().digest, digest());
    assert_eq!(by_skopeo.get().reference.raw(), REFERENCE);
    assert_eq!(by_skopeo.get().signer.fingerprint, fingerprint(&signer));

    let document = gpg.write("payload", &honest());
    for compression in ["0", "6"] {
        for algorithm in ["zip", "zlib"] {
            gpg.run(&["--output", "by-gpg", "-z", compression, "--compress-algo", algorithm, "--sign", &document]);
            assert_eq!(read_simple(&gpg.read("by-gpg"), &trust).unwrap().get().digest, digest());
        }
    }
    gpg.run(&["--output", "text", "--textmode", "--sign", &document]);
    assert_eq!(read_simple(&gpg.read("text"), &trust).unwrap().get().digest, digest());
}

/// Sequoia's `sq` signs with a subkey, and writes no compressed packet.
#[test]
fn sq_and_we_read_each_other() {
    if !have(&["sq"]) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let sq = |args: &[&str]| {
        let output = std::process::Command::new("sq").args(args).current_dir(folder.path()).output().unwrap();
        assert!(output.status.success(), "sq {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    };
    let at = |name: &str| folder.path().join(name);
    sq(&["key", "generate", "--userid", "Images <images@example.org>", "--export", "key.asc"]);
    std::fs::write(at("payload"), honest()).unwrap();
    sq(&["sign", "--binary", "--signer-key", "key.asc", "--output", "by-sq", "payload"]);
    let certificate = sq(&["key", "extract-cert", "key.asc"]);
    let trusted = trust(&[&certificate], 1);
    let read = read_simple(&std::fs::read(at("by-sq")).unwrap(), &trusted).unwrap();
    assert_eq!((read.get().digest, read.get().reference.raw()), (digest(), REFERENCE));
    assert_ne!(read.get().signer.key, read.get().signer.fingerprint, "a subkey signed");
    sq(&["sign", "--signer-key", "key.asc", "--output", "armored", "payload"]);
    assert!(read_simple(&std::fs::read(at("armored")).unwrap(), &trusted).is_err());

    let (made, secret) = key(&request("production"));
    std::fs::write(at("ours.asc"), &made.certificate_armored).unwrap();
    std::fs::write(at("ours"), secret.sign_simple(&reference(), &digest(), Timestamp::now(), "x").unwrap()).unwrap();
    let content = sq(&["verify", "--signer-cert", "ours.asc", "ours"]);
    assert!(content.starts_with(br#"{"critical":"#), "{}", String::from_utf8_lossy(&content));
}

/// gpg writes what it reads from a pipe in parts of unknown length (RFC 9580 section 4.2.1.4).
#[test]
fn messages_as_gpg_writes_them_are_read() {
    if !have(&["gpg"]) {
        return;
    }
    let gpg = Gpg::new();
    let signer = gpg.make("signer", "rsa3072", "sign");
    gpg.run(&["--quick-add-key", &signer, "rsa3072", "sign", "never"]);
    let trust = trust(&[&gpg.run(&["--export"])], 1);
    let pretty = serde_json::from_slice::<serde_json::Value>(&honest()).unwrap();
    let pretty = format!("{pretty:#}{}\n", " ".repeat(2000)).into_bytes();
    let stream = |args: &[&str]| {
        let mut command = gpg.command("gpg");
        command.args(["--batch", "--pinentry-mode", "loopback", "--passphrase", "", "--output", "-"]).args(args);
        command.args(["--sign", "-"]).stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
        let mut child = command.stderr(std::process::Stdio::null()).spawn().unwrap();
        std::io::Write::write_all(child.stdin.as_mut().unwrap(), &pretty).unwrap();
        drop(child.stdin.take());
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "gpg {args:?}");
        output.stdout
    };
    let primary = format!("{signer}!");
    for (form, args) in [
        ("in parts", &["-z", "0"][..]),
        ("in parts, as text", &["-z", "0", "--textmode"]),
        ("compressed", &["--compress-algo", "zip"]),
        ("compressed, as text", &["--compress-algo", "zlib", "--textmode"]),
        ("SHA-512", &["--digest-algo", "SHA512"]),
        ("by the primary key", &["-u", &primary]),
    ] {
        let bytes = stream(args);
        if form.starts_with("in parts") {
            // A literal packet in the new format whose first length is a power of two.
            assert!(bytes.windows(2).any(|w| w[0] == 0xcb && (0xe0..0xff).contains(&w[1])), "{form}: {bytes:x?}");
        }
        let read = read_simple(&bytes, &trust).unwrap();
        assert_eq!((read.get().digest, read.get().reference.raw()), (digest(), REFERENCE), "{form}");
        assert_eq!(read.get().signer.fingerprint, fingerprint(&signer), "{form}");
        assert_eq!(read.get().signer.key == fingerprint(&signer), form == "by the primary key", "{form}");

        let peeked = peek_simple(&bytes).unwrap();
        assert_eq!((peeked.reference.unwrap().raw(), peeked.digest), (REFERENCE, Some(digest())), "{form}");
        assert_eq!(peeked.issuer.as_deref(), Some(read.get().signer.key.as_str()), "{form}");
    }
}

#[test]
fn what_a_signature_claims_is_read_without_trusting_it() {
    let (made, secret) = key(&request("stranger"));
    let mut bytes = secret.sign_simple(&reference(), &digest(), from_now(-1), "x").unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    let peeked = peek_simple(&bytes).unwrap();
    assert_eq!(peeked.issuer.as_deref(), Some(made.fingerprint.as_str()));
    assert_eq!((peeked.reference.unwrap().raw(), peeked.digest), (REFERENCE, Some(digest())));

    let peek = |payload: &[u8]| peek_simple(&common::sign_message(&made, payload, from_now(-1))).unwrap();
    for payload in [&b"This is not JSON"[..], b"{}", br#"{"critical":{}}"#] {
        let peeked = peek(payload);
        assert_eq!((peeked.reference, peeked.digest, peeked.issuer.is_some()), (None, None, true));
    }
    for bad in [&b""[..], b"<html>", b"-----BEGIN PGP MESSAGE-----\n", &literal(&honest())] {
        assert!(peek_simple(bad).is_err());
    }
}

#[test]
fn every_other_form_is_refused() {
    if !have(&["gpg"]) {
        return;
    }
    let gpg = Gpg::new();
    let (a, b) = (gpg.make("a", "rsa3072", "sign"), gpg.make("b", "rsa3072", "sign"));
    gpg.make("reader", "rsa3072", "encrypt");
    let trust = trust(&[&gpg.run(&["--export", &a]), &gpg.run(&["--export", &b])], 1);
    let document = gpg.write("payload", &honest());
    let output = |args: &[&str]| {
        gpg.run(&[&["--trust-model", "always", "-u", &a, "--output", "out"], args, &[&document]].concat());
        gpg.read("out")
    };
    let good = output(&["--sign"]);
    let _ = read_simple(&good, &trust).unwrap();
    for (form, bytes) in [
        ("detached", output(&["--detach-sign"])),
        ("detached and armored", output(&["--armor", "--detach-sign"])),
        ("cleartext", output(&["--clear-sign"])),
        ("armored", output(&["--armor", "--sign"])),
        ("compressed with BZIP2", output(&["--compress-algo", "bzip2", "--sign"])),
        ("encrypted", output(&["-r", "reader", "--encrypt"])),
        ("signed and encrypted", output(&["-r", "reader", "--sign", "--encrypt"])),
        ("stored", output(&["--store"])),
        ("bare literal", literal(&honest())),
        ("SHA-1", output(&["--digest-algo", "SHA1", "--sign"])),
        ("two signers", output(&["-u", &b, "--sign"])),
        ("two messages", good.repeat(2)),
        ("a byte after it", [good.as_slice(), b"\n"].concat()),
        ("a packet after it", [good.as_slice(), &literal(b"{}")].concat()),
        ("a certificate", gpg.run(&["--export", &a])),
        ("a web page", b"<html>404</html>".to_vec()),
        ("the payload alone", honest()),
        ("nothing", Vec::new()),
    ] {
        let rejected = read_simple(&bytes, &trust);
        assert!(rejected.is_err(), "{form}: {rejected:?}");
    }
}

#[test]
fn other_payloads_are_refused_however_well_signed() {
    if !have(&["gpg"]) {
        return;
    }
    let gpg = Gpg::new();
    gpg.make("signer", "rsa3072", "sign");
    let trust = trust(&[&gpg.run(&["--export"])], 1);
    let read = |payload: &[u8]| {
        let document = gpg.write("payload", payload);
        gpg.run(&["--output", "out", "--sign", &document]);
        read_simple(&gpg.read("out"), &trust)
    };
    let honest = String::from_utf8(honest()).unwrap();
    let _ = read(honest.as_bytes()).unwrap();
    for (from, to) in [
        (r#""critical":{"#, r#""critical":{"more":"x","#),
        (r#""type":"#, r#""type":"x","type":"#),
        (r#"{"critical""#, r#"{"extra":1,"critical""#),
        ("atomic container signature", "cosign container image signature"),
    ] {
        let changed = honest.replacen(from, to, 1);
        assert!(matches!(read(changed.as_bytes()), Err(Rejected::Payload(_))), "{changed}");
    }
    for text in [
        "This is not JSON",
        "",
        "{\"type\":\"sealift/manifest/1\"}",
        &(honest.clone() + "{}"),
        &(honest.clone() + "\0"),
    ] {
        assert!(matches!(read(text.as_bytes()), Err(Rejected::Payload(PayloadError::Json(_)))), "{text}");
    }
    let mut large = honest.replace("}}}", "}}");
    large.insert_str(0, &" ".repeat(2 << 20));
    assert!(matches!(read(large.as_bytes()), Err(Rejected::TooLarge { .. })), "a megabyte of content at most");
}

/// Whoever gets a key to sign a document of theirs as a detached signature can make it an inline message.
#[test]
fn a_detached_signature_cannot_be_replayed_as_a_simple_signature() {
    let (made, secret) = key(&KeyRequest { algorithm: Algorithm::Rsa3072, ..request("release") });
    let trust = trust(&[&made.certificate_armored], 1);
    let replay = |document: &[u8]| {
        let detached = binary(&secret.sign_detached_armored(document).unwrap(), Kind::Signature);
        [detached, literal(document)].concat()
    };
    let manifest = b"{\"type\":\"sealift/manifest/1\"}";
    for replayed in [replay(manifest), replay(&honest())] {
        let rejected = read_simple(&replayed, &trust);
        assert!(matches!(rejected, Err(Rejected::Form { .. })), "{rejected:?}");
    }

    // skopeo and gpg take such a message, so what keeps our documents from being simple signatures is what they say.
    let worked = replay(&honest());
    if have(&["gpg", "skopeo"]) {
        let gpg = Gpg::new();
        gpg.import(&made.certificate_armored);
        let manifest = gpg.write("manifest.json", MANIFEST);
        let file = gpg.write("signature", &worked);
        let mut skopeo = gpg.command("skopeo");
        skopeo.args(["standalone-verify", &manifest, REFERENCE, made.fingerprint.as_str(), &file]);
        assert!(skopeo.output().unwrap().status.success());
    }
}

#[test]
fn keys_are_judged_as_for_detached_signatures() {
    let (created, expires) = (time("2024-01-01T00:00:00Z"), time("2024-12-31T00:00:00Z"));
    let (made, secret) = key(&KeyRequest { created, expires: Some(expires), ..request("old") });
    let bytes = secret.sign_simple(&reference(), &digest(), time("2024-06-01T00:00:00Z"), "x").unwrap();
    let reason = |trust: &Trust, bytes: &[u8]| match read_simple(bytes, trust) {
        Err(Rejected::BelowThreshold { mut faults, .. }) if faults.len() == 1 => faults.remove(0).reason,
        other => panic!("{other:?}"),
    };
    let then = Trust::new(certificates(&[&made.certificate_armored]), 1, time("2024-07-01T00:00:00Z")).unwrap();
    let _ = read_simple(&bytes, &then).unwrap();
    assert!(matches!(reason(&trust(&[&made.certificate_armored], 1), &bytes), Reason::Expired { .. }));

    let (made, secret) = key(&request("release"));
    let (other, _) = key(&request("other"));
    let bytes = secret.sign_simple(&reference(), &digest(), Timestamp::now(), "x").unwrap();
    let revoked = trust(&[&made.certificate_armored, &made.revocation_armored], 1);
    assert!(matches!(reason(&revoked, &bytes), Reason::Revoked { .. }));
    assert_eq!(reason(&trust(&[&other.certificate_armored], 1), &bytes), Reason::UnknownKey);
    let future = secret.sign_simple(&reference(), &digest(), from_now(7200), "x").unwrap();
    assert!(matches!(reason(&trust(&[&made.certificate_armored], 1), &future), Reason::Future { .. }));
    let two = trust(&[&made.certificate_armored, &other.certificate_armored], 2);
    assert!(
        matches!(read_simple(&bytes, &two), Err(Rejected::BelowThreshold { required: 2, found: 1, .. })),
        "one signature never meets a threshold of two"
    );
}

#[test]
fn messages_that_unfold_without_end_are_refused() {
    if !have(&["gpg"]) {
        return;
    }
    let gpg = Gpg::new();
    let (made, secret) = key(&KeyRequest { algorithm: Algorithm::Rsa3072, ..request("release") });
    gpg.import(made.secret_armored.expose_secret().as_bytes());
    let trust = trust(&[&made.certificate_armored], 1);
    let document = gpg.write("zeros", &vec![0; 64 << 20]);
    gpg.run(&["--output", "bomb", "--sign", &document]);
    let bomb = gpg.read("bomb");
    assert!(bomb.len() < 1 << 20, "small when packed");
    assert!(matches!(read_simple(&bomb, &trust), Err(Rejected::TooLarge { .. })));

    let honest = honest();
    let detached = binary(&secret.sign_detached_armored(&honest).unwrap(), Kind::Signature);
    let many = [detached.repeat(1000), literal(&honest)].concat();
    assert!(matches!(read_simple(&many, &trust), Err(Rejected::Unreadable(_))), "many packets");
}

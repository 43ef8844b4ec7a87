//! Is the signature good?

use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use manifest_schema::Timestamp;
use serde_json::json;
use signing::{ImagePolicy, PolicyImage, PolicyName, payload};
use testkit::tools::{need, run};

use crate::common::from_now;
use crate::keys::{Keys, NAME};
use crate::world::Image;
use crate::{Numbers, Verdicts, each};

struct SignatureCase {
    name: String,
    key: &'static str,
    reference: String,
    bytes: Vec<u8>,
}

#[test]
fn signatures_are_judged_as_skopeo_does() {
    if !need(&["gpg", "skopeo"]) {
        return;
    }
    let (keys, image) = (Keys::new(), Image::new());
    let mut cases = Vec::new();
    forms(&keys, &image, &mut cases);
    payloads(&keys, &image, &mut cases);
    flips(&keys, &image, &mut cases);
    let verdicts = Verdicts::new("signatures");
    let folder = tempfile::tempdir().unwrap();
    let manifest = folder.path().join("manifest.json");
    std::fs::write(&manifest, &image.manifest).unwrap();
    let (digests, number) = ([image.digest()], AtomicUsize::new(0));
    each(&cases, |case| {
        let file = folder.path().join(number.fetch_add(1, Ordering::Relaxed).to_string());
        std::fs::write(&file, &case.bytes).unwrap();
        let mut skopeo = keys.verifying.with_home("skopeo", &["standalone-verify"]);
        skopeo.arg(&manifest).args([&case.reference, keys.fingerprint(case.key)]).arg(&file);
        let ran = run(&mut skopeo);
        let theirs = (ran.code == Some(0), ran.stderr.lines().last().unwrap_or_default().into());

        let policy = json!({ "default": [{
            "type": "signedBy", "keyType": "GPGKeys", "keyData": STANDARD.encode(keys.certificate(case.key)),
            "signedIdentity": { "type": "exactReference", "dockerReference": case.reference }
        }] });
        let policy = ImagePolicy::parse(policy.to_string().as_bytes(), Path::new("")).unwrap();
        let name = PolicyName::Other { transport: "dir", scope: "/image" };
        let image = PolicyImage { name, digests: &digests, simple: &[&case.bytes], sigstore: &[] };
        let verdict = policy.judge(&image, Timestamp::now());
        verdicts.compare(&case.name, (verdict.accepted, format!("{:?}", verdict.requirements[0].reasons)), theirs);
    });
    verdicts.end(300);
}

/// Every form of OpenPGP message, and every state a key can be in.
fn forms(keys: &Keys, image: &Image, cases: &mut Vec<SignatureCase>) {
    let honest = payload(NAME, &image.digest(), "test", Timestamp::now());
    let mut add = |name: &str, key: &'static str, bytes: Vec<u8>| {
        cases.push(SignatureCase { name: name.into(), key, reference: NAME.into(), bytes });
    };
    for key in ["a", "b", "ed25519", "expires", "expired", "revoked", "subkey"] {
        add(&format!("key: {key}"), key, keys.sign(key, &honest));
    }
    add("key: unknown", "a", keys.sign("stranger", &honest));
    add("key: another known one", "a", keys.sign("b", &honest));
    let (a, b) = (keys.fingerprint("a").to_string(), keys.fingerprint("b").to_string());
    let u = ["-u", a.as_str()];
    let with = |args: &[&str]| keys.gpg(&[&u, args].concat(), &honest);
    let signed = with(&["-z", "0"]);
    let primary = format!("{}!", keys.subkey.0);
    for (name, bytes) in [
        ("zip", with(&["--compress-algo", "zip"])),
        ("zlib", with(&["--compress-algo", "zlib"])),
        ("bzip2", with(&["--compress-algo", "bzip2"])),
        ("not compressed", signed.clone()),
        ("text mode", with(&["--textmode"])),
        ("text mode, not compressed", with(&["--textmode", "-z", "0"])),
        ("SHA-1", with(&["--digest-algo", "SHA1"])),
        ("RIPEMD-160", with(&["--digest-algo", "RIPEMD160"])),
        ("SHA-224", with(&["--digest-algo", "SHA224"])),
        ("SHA-384", with(&["--digest-algo", "SHA384"])),
        ("SHA-512", with(&["--digest-algo", "SHA512"])),
        ("without a version 4 issuer", with(&["--rfc4880", "--digest-algo", "SHA256"])),
        ("with a notation", with(&["--sig-notation", "a@example.org=b"])),
        ("with a policy URL", with(&["--sig-policy-url", "https://example.org"])),
        ("that expires", with(&["--default-sig-expire", "1d"])),
        ("from the future", with(&["--faked-system-time", &stamp(from_now(7200))])),
        ("from before its key", with(&["--faked-system-time", "20200101T000000!", "--ignore-time-conflict"])),
        ("armored", with(&["--armor"])),
        ("cleartext", with(&["--clear-sign"])),
        ("detached", with(&["--detach-sign"])),
        ("detached and armored", with(&["--detach-sign", "--armor"])),
        ("detached, before its document", [with(&["--detach-sign"]), literal(&honest)].concat()),
        ("document, then detached", [literal(&honest), with(&["--detach-sign"])].concat()),
        ("bare literal", literal(&honest)),
        ("stored", keys.gpg(&["--store"], &honest)),
        ("two signers", with(&["-u", &b])),
        ("twice", signed.repeat(2)),
        ("with a byte behind it", [&signed[..], b"\n"].concat()),
        ("with a literal behind it", [&signed[..], &literal(b"{}")].concat()),
        ("with a marker before it", [&b"\xca\x03PGP"[..], &signed].concat()),
        ("in a compressed packet with a byte behind it", [with(&["--compress-algo", "zip"]), vec![0]].concat()),
        ("cut by a byte", signed[..signed.len() - 1].to_vec()),
        ("cut in half", signed[..signed.len() / 2].to_vec()),
        ("a certificate", keys.certificate("a")),
        ("a binary certificate", run_binary(keys.verifying.command().args(["--export", &a]))),
        ("the payload", honest.clone()),
        ("a web page", b"<html>404</html>".to_vec()),
        ("nothing", Vec::new()),
    ] {
        add(&format!("form: {name}"), "a", bytes);
    }
    add("form: by the primary key of several", "subkey", keys.gpg(&["-u", &primary], &honest));
}

/// Payloads that a good key signed: honest ones in other words, and all kinds of others.
fn payloads(keys: &Keys, image: &Image, cases: &mut Vec<SignatureCase>) {
    let digest = image.digest();
    let honest =
        String::from_utf8(payload(NAME, &digest, "test", Timestamp::from_unix(1_700_000_000).unwrap())).unwrap();
    let mut texts: Vec<(String, Vec<u8>)> = Vec::new();
    let sha512 = "0".repeat(128);
    let upper = digest.hex().to_uppercase();
    for (from, to) in [
        // Honest, written differently.
        ("{\"critical\":{", "{\n \"critical\" : {\t"),
        ("}}", "}}\r\n \n"),
        ("registry.example", "registry\\u002eexample"),
        ("\"critical\"", "\"\\u0063ritical\""),
        (r#""creator":"test","timestamp":1700000000"#, ""),
        (r#""creator":"test","#, ""),
        ("1700000000", "1.7e9"),
        ("1700000000", "17e8"),
        ("1700000000", "-1"),
        ("1700000000", "0"),
        (r#""creator":"test""#, r#""creator":"\u00e4\u0000""#),
        (r#""creator":"test""#, r#""more":{"a":[1,{"b":null}]}"#),
        (r#""creator":"test""#, r#""more":1,"more2":1"#),
        // Not honest, or not written as it should be.
        ("1700000000", "1700000000.5"),
        ("1700000000", "1e30"),
        ("1700000000", "\"1700000000\""),
        ("1700000000", "null"),
        ("1700000000", "true"),
        ("1700000000", "01"),
        ("1700000000", "9223372036854775807"),
        ("1700000000", "99999999999999999999"),
        (r#""creator":"test""#, r#""creator":1"#),
        (r#""creator":"test""#, r#""creator":null"#),
        (r#""creator":"test""#, r#""more":1,"more":1"#),
        (r#""creator":"test""#, r#""creator":"a","creator":"b""#),
        (r#""creator":"test""#, r#""more":{"a":1,"a":2}"#),
        (r#""creator":"test""#, r#""creator":"\ud800""#),
        (r#""optional":{"creator":"test","timestamp":1700000000}"#, r#""optional":null"#),
        (r#""optional":{"creator":"test","timestamp":1700000000}"#, r#""optional":[]"#),
        (r#","optional":{"creator":"test","timestamp":1700000000}"#, ""),
        (r#","optional":{"#, r#","more":{},"optional":{"#),
        (r#","optional":{"#, r#","optional":{},"optional":{"#),
        (r#""optional":{"#, r#""Optional":{"#),
        (r#""critical":{"#, r#""critical":{"more":1,"#),
        (r#""critical":{"#, r#""critical":{"type":"atomic container signature","#),
        (r#""critical":{"#, r#""Critical":{"#),
        (r#""image":{"#, r#""image":{"more":"","#),
        (r#""identity":{"#, r#""identity":{"more":"","#),
        (r#""identity":{"#, r#""identity":{"docker-reference":"registry.example:5000/team/app:1","#),
        (r#"{"docker-reference":"registry.example:5000/team/app:1"}"#, r#"["registry.example:5000/team/app:1"]"#),
        (r#""docker-reference":"registry.example:5000/team/app:1""#, r#""docker-reference":null"#),
        (r#""docker-reference":"registry.example:5000/team/app:1""#, r#""docker-reference":1"#),
        ("atomic container signature", "cosign container image signature"),
        ("atomic container signature", "Atomic container signature"),
        ("atomic container signature", ""),
        ("\"atomic container signature\"", "null"),
        ("sha256:", ""),
        ("sha256:", "sha512:"),
        ("sha256:", "SHA256:"),
        ("sha256:", "md5:"),
        ("sha256:", "sha256::"),
        (digest.hex().as_str(), upper.as_str()),
        (&digest.hex()[..4], "0000"),
        (digest.hex().as_str(), ""),
        (&format!("sha256:{}", digest.hex()), &format!("sha512:{sha512}")),
        (&format!("\"sha256:{}\"", digest.hex()), "null"),
        ("{\"critical\"", "{}{\"critical\""),
        ("}}", "}}{}"),
        ("}}", "}},"),
        ("}}", "}}\0"),
        ("}}", "}"),
        ("{\"critical\"", "\u{feff}{\"critical\""),
        ("{\"critical\"", "[{\"critical\""),
        // Other names for the image.
        (NAME, "registry.example:5000/team/app:2"),
        (NAME, "registry.example:5000/team/app:1 "),
        (NAME, " registry.example:5000/team/app:1"),
        (NAME, "registry.example:5000/team/App:1"),
        (NAME, "REGISTRY.example:5000/team/app:1"),
        (NAME, "registry.example:5000/team/app"),
        (NAME, "registry.example/team/app:1"),
        (NAME, "registry.example:05000/team/app:1"),
        (NAME, "team/app:1"),
        (NAME, "docker://registry.example:5000/team/app:1"),
        (NAME, ""),
        (NAME, &format!("registry.example:5000/team/app@{digest}")),
        (NAME, &format!("registry.example:5000/team/app:1@{digest}")),
    ] {
        // The end is where a change belongs that follows the last brace.
        let changed = match from {
            "}}" => format!("{}{to}", &honest[..honest.len() - 2]),
            _ => honest.replacen(from, to, 1),
        };
        assert_ne!(changed, honest, "{from}");
        texts.push((format!("{from} -> {to:?}"), changed.into_bytes()));
    }
    texts.push(("not UTF-8".into(), honest.replace("test", "\u{1}").replace('\u{1}', "\\u0001").into_bytes()));
    let mut latin = honest.clone().into_bytes();
    let at = honest.find("test").unwrap();
    latin[at] = 0xe4;
    texts.push(("Latin-1 in the creator".into(), latin));
    for text in ["This is not JSON", "", "null", "[]", "\"\"", "{\"type\":\"sealift/manifest/1\"}"] {
        texts.push((format!("{text:?}"), text.into()));
    }
    for (name, text) in texts {
        let bytes = keys.sign("b", &text);
        cases.push(SignatureCase { name: format!("payload: {name}"), key: "b", reference: NAME.into(), bytes });
    }
    // The same payload under names that are the same, and such that are not.
    let pinned = format!("registry.example:5000/team/app@{digest}");
    for (signed, wanted) in [
        ("busybox:1", "docker.io/library/busybox:1"),
        ("docker.io/library/busybox:1", "busybox:1"),
        ("index.docker.io/busybox:1", "docker.io/library/busybox:1"),
        ("docker.io/team/app:1", "team/app:1"),
        ("localhost/app:1", "localhost/app:1"),
        ("localhost:5000/app:1", "localhost/app:1"),
        ("team.x/app:1", "docker.io/team.x/app:1"),
        (pinned.as_str(), pinned.as_str()),
        (pinned.as_str(), NAME),
        (NAME, pinned.as_str()),
        ("busybox", "busybox:latest"),
        ("r.example/a__b.c---d:1", "r.example/a__b.c---d:1"),
        ("r.example/a___b:1", "r.example/a__b:1"),
    ] {
        let bytes = keys.sign("b", &payload(signed, &digest, "test", Timestamp::now()));
        let name = format!("name: {signed} for {wanted}");
        cases.push(SignatureCase { name, key: "b", reference: wanted.into(), bytes });
    }
}

/// Honest signatures with a bit or a byte changed somewhere.
fn flips(keys: &Keys, image: &Image, cases: &mut Vec<SignatureCase>) {
    let honest = payload(NAME, &image.digest(), "test", Timestamp::now());
    let a = keys.fingerprint("a");
    let mut numbers = Numbers(20);
    for (form, key, bytes) in [
        ("P-256", "b", keys.sign("b", &honest)),
        ("RSA", "a", keys.gpg(&["-u", a, "-z", "0"], &honest)),
        ("compressed", "a", keys.gpg(&["-u", a], &honest)),
        ("text", "a", keys.gpg(&["-u", a, "-z", "0", "--textmode"], &honest)),
    ] {
        for _ in 0..40 {
            let mut changed = bytes.clone();
            let (at, bit) = (numbers.below(bytes.len()), 1 << numbers.below(8));
            changed[at] ^= bit;
            cases.push(SignatureCase {
                name: format!("flip: {form} {at} {bit:#x}"),
                key,
                reference: NAME.into(),
                bytes: changed,
            });
        }
    }
}

/// A literal packet, in the old format.
fn literal(content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(content.len() + 6).unwrap().to_be_bytes();
    [&[0xad, length[0], length[1], b'b', 0, 0, 0, 0, 0][..], content].concat()
}

/// A time as `--faked-system-time` takes it.
fn stamp(at: Timestamp) -> String {
    at.unix().to_string()
}

fn run_binary(command: &mut Command) -> Vec<u8> {
    let output = command.output().unwrap();
    assert!(output.status.success());
    output.stdout
}

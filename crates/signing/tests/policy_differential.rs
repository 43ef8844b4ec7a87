//! The same questions to this crate and to Debian's skopeo (1.9.3): is the signature good, does the policy accept the image?
//!
//! Signatures go to `skopeo standalone-verify`, policies to `skopeo copy` from a folder (`dir:`) or from a registry, whose
//! signatures lie in a lookaside tree. The verdicts must be equal, except for what [`DIFFERENCES`] names with its reason;
//! a difference that no longer shows is an error too.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use common::{from_now, key, request};
use manifest_schema::{Digest, Reference, Timestamp};
use secrecy::ExposeSecret;
use sequoia_openpgp as openpgp;
use serde_json::{Value, json};
use signing::{
    Algorithm, FetchSmall, GeneratedKey, ImagePolicy, KeyRequest, PolicyImage, PolicyName, RegistriesD,
    fetch_signatures, payload,
};
use testkit::Registry;
use testkit::tools::{Gpg, Ran, command, need, run, run_ok};

/// What we refuse and skopeo 1.9.3 accepts, or the other way round: the group, how the case's name begins, whether we
/// accept, and why.
const DIFFERENCES: &[(&str, &str, bool, &str)] = &[
    (
        "signatures",
        "key: subkey",
        true,
        "1.9.3 compares the subkey with the fingerprint; current containers/image knows subkeys",
    ),
    ("signatures", "form: SHA-1", false, "a hash that is broken"),
    ("signatures", "form: RIPEMD-160", false, "a hash that is broken"),
    ("signatures", "form: from the future", false, "it would outlive a revocation; GnuPG only warns"),
    (
        "signatures",
        "form: detached, before its document",
        false,
        "anybody can make it of a detached signature over a document",
    ),
    ("signatures", "form: bzip2", false, "nobody was seen to sign so, and unfolding it needs another library"),
    (
        "signatures",
        "form: armored",
        false,
        "standalone-verify reads it, but no image with such a signature can be copied",
    ),
    (
        "signatures",
        "form: cleartext",
        false,
        "standalone-verify reads it, but no image with such a signature can be copied",
    ),
    (
        "signatures",
        "form: with a marker before it",
        false,
        "standalone-verify reads it, but no image with such a signature can be copied",
    ),
    (
        "signatures",
        "form: in a compressed packet with a byte behind it",
        false,
        "every byte of a message belongs to it; GnuPG passes over the rest",
    ),
    (
        "signatures",
        "payload: \"creator\":\"test\" -> \"\\\"creator\\\":\\\"\\\\ud800\\\"\"",
        false,
        "half a surrogate pair is no text; Go puts U+FFFD there",
    ),
    ("signatures", "payload: Latin-1 in the creator", false, "JSON is UTF-8; Go puts U+FFFD there"),
    (
        "requirements",
        "subkey demanded, signed by subkey",
        true,
        "1.9.3 compares the subkey with the certificate's fingerprint; current containers/image knows subkeys",
    ),
    (
        "requirements",
        "anything demanded, signed by armored",
        true,
        "the policy accepts it; what skopeo fails at is copying the signature",
    ),
    (
        "requirements",
        "anything demanded, signed by a page",
        true,
        "the policy accepts it; what skopeo fails at is copying the signature",
    ),
    ("policies", MISSING, false, "keys are read when the policy is, so that a missing one shows before it matters"),
    (
        "registries.d",
        "a scope twice in one file",
        false,
        "1.9.3 takes the last; the YAML reader of current containers/image refuses it",
    ),
];

/// A policy with a key that is not there, in a scope that is not asked for.
const MISSING: &str = r#"{"default":[{"type":"insecureAcceptAnything"}],"transports":{"docker":{"x.example":[{"type":"signedBy","keyType":"GPGKeys","keyPath":"/not/there"}]}}}"#;

/// The verdicts of one group of cases.
struct Verdicts {
    group: &'static str,
    differences: Mutex<BTreeSet<&'static str>>,
    wrong: Mutex<String>,
    counts: [AtomicUsize; 2],
    spared: AtomicUsize,
}

impl Verdicts {
    fn new(group: &'static str) -> Self {
        let counts = [AtomicUsize::new(0), AtomicUsize::new(0)];
        Self { group, differences: Mutex::default(), wrong: Mutex::default(), counts, spared: AtomicUsize::new(0) }
    }

    /// Compares one case.
    fn compare(&self, case: &str, ours: (bool, String), theirs: (bool, String)) {
        self.counts[usize::from(theirs.0)].fetch_add(1, Ordering::Relaxed);
        if ours.0 == theirs.0 {
            return;
        }
        if case.starts_with("flip: ") && theirs.0 {
            // GnuPG passes over some damage at the end of a compressed packet. The other way round is never right.
            self.spared.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let known = DIFFERENCES
            .iter()
            .find(|(group, name, accepted, _)| *group == self.group && case.starts_with(name) && *accepted == ours.0);
        match known {
            Some((_, name, ..)) => _ = self.differences.lock().unwrap().insert(name),
            None => {
                let (ours, theirs) = (shown(&ours), shown(&theirs));
                let mut wrong = self.wrong.lock().unwrap();
                writeln!(wrong, "{}: {case}\n  ours:   {ours}\n  theirs: {theirs}", self.group).unwrap();
            }
        }
    }

    /// Fails if there was a difference that has no reason, or a reason that no case shows.
    fn end(self, least: usize) {
        let wrong = self.wrong.into_inner().unwrap();
        assert!(wrong.is_empty(), "verdicts differ:\n{wrong}");
        let shown = self.differences.into_inner().unwrap();
        for (group, name, ..) in DIFFERENCES {
            assert!(*group != self.group || shown.contains(name), "{group}: no case shows the difference `{name}`");
        }
        let spared = self.spared.into_inner();
        assert!(spared <= 5, "{spared} flipped bits refused here alone");
        let [refused, accepted] = self.counts.map(AtomicUsize::into_inner);
        println!("{}: {accepted} accepted, {refused} refused, {} differences", self.group, shown.len());
        assert!(accepted + refused >= least, "only {accepted} + {refused} cases");
        assert!(accepted * 8 >= least && refused * 8 >= least, "one-sided: {accepted} accepted, {refused} refused");
    }
}

fn shown((accepted, why): &(bool, String)) -> String {
    format!("{} {why}", if *accepted { "accepted" } else { "refused:" })
}

/// Runs the cases on as many threads as there are processors.
fn each<T: Sync>(cases: &[T], run: impl Fn(&T) + Sync) {
    let next = AtomicUsize::new(0);
    let threads = std::thread::available_parallelism().map_or(2, usize::from).clamp(2, 8);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    run(case);
                }
            });
        }
    });
}

/// The same numbers in every run (Marsaglia's xorshift).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % u64::try_from(limit).unwrap()).unwrap()
    }

    fn one<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len())]
    }
}

/// An image that has no layers, so that copying it takes no time.
struct Image {
    config: Vec<u8>,
    manifest: Vec<u8>,
}

const OCI: &str = "application/vnd.oci.image.manifest.v1+json";

impl Image {
    fn new() -> Self {
        let config = br#"{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}"#.to_vec();
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": OCI,
            "config": {
                "mediaType": "application/vnd.oci.image.config.v1+json",
                "size": config.len(),
                "digest": blobs::sha256(&config),
            },
            "layers": [],
        });
        Self { config, manifest: manifest.to_string().into_bytes() }
    }

    fn digest(&self) -> Digest {
        blobs::sha256(&self.manifest)
    }

    /// Writes it in the form of `dir:`, with its signatures.
    fn write(&self, folder: &Path, signatures: &[&[u8]]) {
        std::fs::create_dir_all(folder).unwrap();
        std::fs::write(folder.join("version"), "Directory Transport Version: 1.1\n").unwrap();
        std::fs::write(folder.join("manifest.json"), &self.manifest).unwrap();
        std::fs::write(folder.join(blobs::sha256(&self.config).hex()), &self.config).unwrap();
        write_numbered(folder, signatures);
    }
}

fn write_numbered(folder: &Path, signatures: &[&[u8]]) {
    std::fs::create_dir_all(folder).unwrap();
    for (n, signature) in (1..).zip(signatures) {
        std::fs::write(folder.join(format!("signature-{n}")), signature).unwrap();
    }
}

/// The verdict of a `skopeo copy`; stops the test if it failed for another reason than its policy or the signatures.
fn copied(ran: &Ran) -> (bool, String) {
    if ran.code == Some(0) {
        return (true, String::new());
    }
    let why = ran.stderr.lines().last().unwrap_or_default().to_string();
    let known = [
        "Source image rejected",
        "invalid policy in",
        "reading signatures",
        "nrecognized signature format",
        "rror parsing signature storage configuration",
        "parsing /",
    ];
    assert!(known.iter().any(|k| why.contains(k)), "unexpected failure\n{ran}");
    (false, why)
}

/// Our verdict for an image under a policy file; a policy that cannot be loaded accepts nothing.
fn judged(policy: &Path, image: &PolicyImage<'_>) -> (bool, String) {
    match ImagePolicy::load(policy) {
        Ok(policy) => {
            let verdict = policy.judge(image, Timestamp::now());
            (verdict.accepted, format!("{verdict:?}"))
        }
        Err(e) => (false, format!("{e}: {:?}", std::error::Error::source(&e).map(ToString::to_string))),
    }
}

// Signatures.

const NAME: &str = "registry.example:5000/team/app:1";

/// Keys of every kind, with a GnuPG home that holds their certificates and one that holds their secret keys.
struct Keys {
    by_name: BTreeMap<&'static str, GeneratedKey>,
    /// A certificate whose signing key is a subkey.
    subkey: (String, Vec<u8>),
    signing: Gpg,
    verifying: Gpg,
}

impl Keys {
    fn new() -> Self {
        let day = 86_400;
        let rsa = |name: &str| KeyRequest { algorithm: Algorithm::Rsa3072, ..request(name) };
        let old = |name: &str, expires: i64| KeyRequest {
            created: from_now(-30 * day),
            expires: Some(from_now(expires)),
            ..request(name)
        };
        let made = [
            ("a", rsa("a")),
            ("b", request("b")),
            ("ed25519", KeyRequest { algorithm: Algorithm::Ed25519, ..request("ed25519") }),
            ("expires", old("expires", day)),
            ("expired", old("expired", -day)),
            ("revoked", request("revoked")),
            ("stranger", request("stranger")),
        ];
        let by_name: BTreeMap<_, _> = made.into_iter().map(|(name, request)| (name, key(&request).0)).collect();
        let (signing, verifying) = (Gpg::new(), Gpg::new());
        for key in by_name.values() {
            signing.import(key.secret_armored.expose_secret().as_bytes());
        }
        let fingerprint = signing.generate("sub", "rsa3072");
        let add = ["--passphrase", "", "--quick-add-key", &fingerprint, "rsa3072", "sign", "never"];
        run_ok(signing.command().args(add));
        let keys = Self { subkey: (fingerprint.clone(), signing.export(&fingerprint)), by_name, signing, verifying };
        for name in keys.by_name.keys().filter(|name| **name != "stranger") {
            keys.verifying.import(&keys.certificate(name));
        }
        keys.verifying.import(&keys.subkey.1);
        keys
    }

    /// The certificate of a key, with its revocation if it is revoked.
    fn certificate(&self, name: &str) -> Vec<u8> {
        if name == "subkey" {
            return self.subkey.1.clone();
        }
        let key = &self.by_name[name];
        let revocation = if name == "revoked" { &key.revocation_armored[..] } else { b"" };
        [&key.certificate_armored, revocation].concat()
    }

    fn fingerprint(&self, name: &str) -> &str {
        if name == "subkey" { &self.subkey.0 } else { self.by_name[name].fingerprint.as_str() }
    }

    /// An honest signature by a key under a name.
    fn sign(&self, name: &str, payload: &[u8]) -> Vec<u8> {
        if name == "subkey" {
            return self.gpg(&["-u", &self.subkey.0], payload);
        }
        let at = if name.starts_with("expire") { from_now(-20 * 86_400) } else { from_now(-1) };
        // A key that has expired signs no more, but a signature of when it could is as easily made.
        sign_message_at(&self.by_name[name], payload, at)
    }

    /// What gpg makes of a payload with these arguments (`--sign` unless they name another command).
    fn gpg(&self, args: &[&str], payload: &[u8]) -> Vec<u8> {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("payload"), payload).unwrap();
        let mut gpg = self.signing.command();
        gpg.args(["--trust-model", "always", "--no-auto-check-trustdb", "--output"]).arg(at("out"));
        gpg.args(args);
        let commands = ["--sign", "--detach-sign", "--clear-sign", "--store", "--encrypt"];
        if !args.iter().any(|arg| commands.contains(arg)) {
            gpg.arg("--sign");
        }
        run_ok(gpg.arg(at("payload")));
        std::fs::read(at("out")).unwrap()
    }
}

fn sign_message_at(key: &GeneratedKey, payload: &[u8], at: Timestamp) -> Vec<u8> {
    use openpgp::parse::Parse;
    use openpgp::serialize::stream::{LiteralWriter, Message, Signer};
    let cert = openpgp::Cert::from_bytes(key.secret_armored.expose_secret()).unwrap();
    let keypair = cert.primary_key().key().clone().parts_into_secret().unwrap().into_keypair().unwrap();
    let mut bytes = Vec::new();
    let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(at.unix().try_into().unwrap());
    let signer = Signer::new(Message::new(&mut bytes), keypair).unwrap().creation_time(time).build().unwrap();
    let mut message = LiteralWriter::new(signer).build().unwrap();
    std::io::Write::write_all(&mut message, payload).unwrap();
    message.finalize().unwrap();
    bytes
}

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

// Policies.

/// Everything that the cases of one test share: an image in a registry that has every name, and a home without
/// configuration but for that.
struct World {
    image: Image,
    registry: Registry,
    home: tempfile::TempDir,
    number: AtomicUsize,
}

/// The names the image has. The registry itself is on the loopback; `registries.conf` leads there.
const REPOSITORIES: [&str; 7] = [
    "registry.dev.example/team/app",
    "registry.dev.example:5000/team/app",
    "registry.dev.example:5000/team/sub/app",
    "registry.dev.example/teams/app",
    "a.b.wild.example/app",
    "docker.io/library/busybox",
    "docker.io/team/app",
];
const TAGS: [&str; 2] = ["1", "latest"];

impl World {
    fn new() -> Self {
        let (image, registry) = (Image::new(), Registry::start());
        let home = tempfile::tempdir().unwrap();
        let mut conf = String::new();
        let mut hosts = BTreeSet::new();
        for name in REPOSITORIES {
            let (host, path) = name.split_once('/').unwrap();
            registry.put_blob(path, &blobs::sha256(&image.config), &image.config);
            for tag in TAGS {
                registry.put_manifest(path, tag, OCI, &image.manifest);
            }
            if hosts.insert(host) {
                let location = registry.host();
                write!(conf, "[[registry]]\nprefix = \"{host}\"\nlocation = \"{location}\"\ninsecure = true\n\n")
                    .unwrap();
            }
        }
        let folder = home.path().join(".config/containers");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("registries.conf"), conf).unwrap();
        Self { image, registry, home, number: AtomicUsize::new(0) }
    }

    /// A folder of its own for one case.
    fn folder(&self) -> PathBuf {
        let folder = self.home.path().join(format!("case-{}", self.number.fetch_add(1, Ordering::Relaxed)));
        std::fs::create_dir(&folder).unwrap();
        folder
    }

    /// The verdict of `skopeo copy` from a source, with a policy file and signatures in a lookaside tree.
    fn skopeo(&self, folder: &Path, source: &str, signatures: &[&[u8]]) -> (bool, String) {
        let registries = folder.join("registries.d");
        std::fs::create_dir(&registries).unwrap();
        let tree = folder.join("tree");
        let located = format!("default-docker:\n  lookaside: file://{}\n  sigstore: file://{0}\n", tree.display());
        std::fs::write(registries.join("default.yaml"), located).unwrap();
        if let Some(name) = source.strip_prefix("docker://") {
            let path = REPOSITORIES.iter().find_map(|repository| {
                let rest = name.strip_prefix(repository)?;
                rest.starts_with([':', '@']).then(|| repository.split_once('/').unwrap().1)
            });
            let digest = self.image.digest();
            write_numbered(&tree.join(format!("{}@sha256={}", path.unwrap(), digest.hex())), signatures);
        }
        let mut skopeo = self.command(&folder.join("policy.json"), &registries);
        skopeo.arg(source).arg(format!("dir:{}", folder.join("out").display()));
        copied(&run(&mut skopeo))
    }

    fn command(&self, policy: &Path, registries: &Path) -> Command {
        let mut skopeo = command("skopeo", self.home.path());
        skopeo.arg("--policy").arg(policy).arg("--registries.d").arg(registries).arg("copy");
        skopeo
    }

    /// Compares one case of an image in the registry.
    fn compare(&self, verdicts: &Verdicts, case: &str, policy: &Value, name: &str, signatures: &[&[u8]]) {
        let folder = self.folder();
        std::fs::write(folder.join("policy.json"), policy.to_string()).unwrap();
        let theirs = self.skopeo(&folder, &format!("docker://{name}"), signatures);
        let reference: Reference = name.parse().unwrap();
        let image = PolicyImage {
            name: PolicyName::Docker(&reference),
            digests: &[self.image.digest()],
            simple: signatures,
            sigstore: &[],
        };
        let ours = judged(&folder.join("policy.json"), &image);
        verdicts.compare(case, ours, theirs);
        std::fs::remove_dir_all(folder).unwrap();
    }

    /// Compares one case of an image in a folder.
    fn compare_folder(&self, verdicts: &Verdicts, case: &str, policy: &str, signatures: &[&[u8]]) {
        let folder = self.folder();
        let image = folder.join("image");
        self.image.write(&image, signatures);
        std::fs::write(folder.join("policy.json"), policy).unwrap();
        let theirs = self.skopeo(&folder, &format!("dir:{}", image.display()), &[]);
        let scope = image.canonicalize().unwrap();
        let image = PolicyImage {
            name: PolicyName::Other { transport: "dir", scope: scope.to_str().unwrap() },
            digests: &[self.image.digest()],
            simple: signatures,
            sigstore: &[],
        };
        let ours = judged(&folder.join("policy.json"), &image);
        verdicts.compare(case, ours, theirs);
        std::fs::remove_dir_all(folder).unwrap();
    }
}

const ACCEPT: &str = "insecureAcceptAnything";

/// Policies with random scopes, each of which accepts or refuses everything.
#[test]
fn scopes_are_chosen_as_skopeo_does() {
    if !need(&["skopeo", "docker-registry"]) {
        return;
    }
    let world = World::new();
    let digest = world.image.digest();
    let mut scopes = BTreeSet::from(["".to_string(), "*".into(), "docker.io".into(), "*.io".into(), "busybox".into()]);
    for repository in REPOSITORIES {
        let mut name = repository;
        scopes.extend([format!("{name}:1"), format!("{name}:latest"), format!("{name}@{digest}"), format!("{name}/")]);
        while let Some((parent, _)) = name.rsplit_once('/') {
            scopes.insert(name.into());
            name = parent;
        }
        let host = name.split(':').next().unwrap();
        scopes.extend([name.to_string(), host.into(), format!("*.{host}"), format!("{host}:*"), format!("*{name}")]);
        for (dot, _) in host.match_indices('.') {
            scopes.extend([format!("*{}", &host[dot..]), host[dot..].into(), format!("*{}:5000", &host[dot..])]);
        }
    }
    let scopes: Vec<String> = scopes.into_iter().collect();
    let mut numbers = Numbers(7);
    let mut cases = Vec::new();
    for case in 0..140 {
        let repository = *numbers.one(&REPOSITORIES);
        let name = match numbers.below(3) {
            0 => format!("{repository}@{digest}"),
            _ => format!("{repository}:{}", numbers.one(&TAGS)),
        };
        // What could be meant is taken more often than what could not.
        let meant: Vec<&String> = scopes.iter().filter(|s| !s.is_empty() && name.starts_with(*s)).collect();
        let accepted = numbers.below(2) == 0;
        let kind = |accepted: bool| json!([{ "type": if accepted { ACCEPT } else { "reject" } }]);
        let mut chosen = serde_json::Map::new();
        for _ in 0..numbers.below(4) {
            chosen.insert((*numbers.one(&meant)).clone(), kind(numbers.below(2) == 0));
        }
        for _ in 0..numbers.below(8) {
            chosen.insert(numbers.one(&scopes).clone(), kind(numbers.below(2) == 0));
        }
        let transport = if numbers.below(12) == 0 { "dir-like" } else { "docker" };
        let policy = json!({ "default": kind(accepted), "transports": { transport: chosen, "dir": {} } });
        cases.push((format!("scopes: {case} {name} {policy}"), name, policy));
    }
    let verdicts = Verdicts::new("scopes");
    each(&cases, |(case, name, policy)| world.compare(&verdicts, case, policy, name, &[]));
    folders_are_scopes(&world, &verdicts);
    verdicts.end(140);
    assert!(world.registry.tags().len() >= REPOSITORIES.len());
}

/// The same with folders, of which links are another name.
fn folders_are_scopes(world: &World, verdicts: &Verdicts) {
    let folder = world.folder();
    let real = folder.join("real/images/app");
    world.image.write(&real, &[]);
    let link = folder.join("link");
    std::os::unix::fs::symlink(folder.join("real/images"), &link).unwrap();
    let layout = folder.join("real/layout");
    let copy = ["copy", "--insecure-policy"];
    let mut skopeo = command("skopeo", world.home.path());
    skopeo.args(copy.iter().rev()).arg(format!("dir:{}", real.display())).arg(format!("oci:{}:name", layout.display()));
    run_ok(&mut skopeo);
    let top = folder.canonicalize().unwrap();
    let at = |path: &str| top.join(path).display().to_string();
    let mut cases = Vec::new();
    for (transport, source) in [("dir", real), ("dir", link.join("app")), ("oci", layout)] {
        for (scope, accept) in [
            (at("real/images/app"), true),
            (at("real/images"), true),
            (at("real/imag"), true),
            (at("real/layout"), true),
            (at("real/layout:name"), true),
            (at("real"), true),
            (at("link"), true),
            (at("link/app"), true),
            (at(""), true),
            ("/".into(), true),
            ("".into(), true),
            ("relative".into(), true),
            ("/tmp".into(), true),
            (at("real/./images"), true),
        ] {
            let (scope, kind) = (scope.trim_end_matches('/').to_string(), if accept { ACCEPT } else { "reject" });
            let policy = json!({
                "default": [{ "type": "reject" }],
                "transports": { transport: { scope: [{ "type": kind }] } }
            });
            cases.push((transport, source.clone(), policy));
        }
    }
    each(&cases, |(transport, source, policy)| {
        let folder = world.folder();
        let file = folder.join("policy.json");
        std::fs::write(&file, policy.to_string()).unwrap();
        let name = if *transport == "oci" { ":name" } else { "" };
        let theirs = world.skopeo(&folder, &format!("{transport}:{}{name}", source.display()), &[]);
        let scope = source.canonicalize().unwrap();
        let name = PolicyName::Other { transport, scope: scope.to_str().unwrap() };
        let image = PolicyImage { name, digests: &[world.image.digest()], simple: &[], sigstore: &[] };
        let case = format!("folders: {transport}:{} {policy}", source.display());
        verdicts.compare(&case, judged(&file, &image), theirs);
    });
}

/// Every kind of `signedIdentity`, for images by tag and by digest, against what a signature may call the image.
#[test]
fn identities_are_matched_as_skopeo_does() {
    if !need(&["gpg", "skopeo", "docker-registry"]) {
        return;
    }
    let world = World::new();
    let signer = key(&request("signer")).0;
    let digest = world.image.digest();
    let key_data = STANDARD.encode(&signer.certificate_armored);
    let names = [
        "registry.dev.example/team/app:1".to_string(),
        format!("registry.dev.example/team/app@{digest}"),
        "registry.dev.example:5000/team/sub/app:latest".into(),
        "docker.io/library/busybox:1".into(),
        format!("docker.io/team/app@{digest}"),
    ];
    let other_digest = format!("sha256:{}", "0".repeat(64));
    let mut cases = Vec::new();
    for name in &names {
        let repository = name.split('@').next().unwrap();
        let repository = match repository.rsplit_once(':') {
            Some((repository, tag)) if !tag.contains('/') => repository,
            _ => repository,
        };
        let (host, path) = repository.split_once('/').unwrap();
        let parent = repository.rsplit_once('/').unwrap().0;
        let remap =
            |prefix: &str, signed: &str| json!({ "type": "remapIdentity", "prefix": prefix, "signedPrefix": signed });
        let identities = [
            Value::Null,
            json!({ "type": "matchExact" }),
            json!({ "type": "matchRepository" }),
            json!({ "type": "exactReference", "dockerReference": format!("vendor.example/{path}:1") }),
            json!({ "type": "exactRepository", "dockerRepository": format!("vendor.example/{path}") }),
            remap(host, "vendor.example"),
            remap(parent, "vendor.example:5000/x"),
            remap(repository, "vendor.example/x/y"),
            remap(&host[..host.len() - 1], "vendor.example"),
        ];
        let short = repository.strip_prefix("docker.io/library/").or(repository.strip_prefix("docker.io/"));
        let signed: BTreeSet<String> = BTreeSet::from([
            name.clone(),
            format!("{repository}:1"),
            format!("{repository}:other"),
            repository.to_string(),
            format!("{repository}@{digest}"),
            format!("{repository}@{other_digest}"),
            format!("{}:1", short.unwrap_or("team/app")),
            format!("vendor.example/{path}:1"),
            format!("vendor.example:5000/x/{}:1", path.rsplit('/').next().unwrap()),
            "vendor.example/x/y:1".into(),
        ]);
        for signed in signed {
            let bytes =
                common::sign_message(&signer, &payload(&signed, &digest, "test", Timestamp::now()), from_now(-1));
            for identity in &identities {
                let mut requirement = json!({ "type": "signedBy", "keyType": "GPGKeys", "keyData": key_data });
                if !identity.is_null() {
                    requirement["signedIdentity"] = identity.clone();
                }
                let policy = json!({ "default": [requirement] });
                cases.push((format!("{name} signed as {signed}: {identity}"), name, policy, bytes.clone()));
            }
        }
    }
    // A third of them, spread evenly: all take a minute.
    let cases: Vec<_> = cases.into_iter().enumerate().filter(|(i, _)| i * 5 % 13 < 6).map(|(_, case)| case).collect();
    let verdicts = Verdicts::new("identities");
    each(&cases, |(case, name, policy, bytes)| world.compare(&verdicts, case, policy, name, &[bytes]));
    verdicts.end(150);
}

/// Random lists of requirements against random lists of signatures by keys in every state.
#[test]
fn requirements_are_weighed_as_skopeo_does() {
    if !need(&["gpg", "skopeo", "docker-registry"]) {
        return;
    }
    let (world, keys) = (World::new(), Keys::new());
    let digest = world.image.digest();
    let payload = |name: &str, digest: &Digest| payload(name, digest, "test", Timestamp::now());
    let honest = payload(NAME, &digest);
    let mut corrupt = keys.sign("b", &honest);
    let last = corrupt.len() - 1;
    corrupt[last] ^= 1;
    let armored = keys.gpg(&["-u", keys.fingerprint("a"), "--armor"], &honest);
    let mut pool: Vec<(&str, Vec<u8>)> =
        ["a", "b", "expired", "revoked", "stranger", "subkey"].map(|k| (k, keys.sign(k, &honest))).into();
    pool.extend([
        ("a, other tag", keys.sign("a", &payload("registry.example:5000/team/app:2", &digest))),
        ("b, other image", keys.sign("b", &payload(NAME, &blobs::sha256(b"x")))),
        ("b, not JSON", keys.sign("b", b"not JSON")),
        ("b, corrupt", corrupt),
        ("armored", armored),
        ("a page", b"<html>".to_vec()),
        ("typed", [b"\0simple-signing\n", &keys.sign("a", &honest)[..]].concat()),
    ]);
    let certificates = world.home.path().join("keys");
    std::fs::create_dir(&certificates).unwrap();
    for name in ["a", "b", "expired", "revoked", "subkey"] {
        std::fs::write(certificates.join(name), keys.certificate(name)).unwrap();
    }
    let path = |name: &str| certificates.join(name).display().to_string();
    let data = |names: &[&str]| STANDARD.encode(names.iter().flat_map(|n| keys.certificate(n)).collect::<Vec<_>>());
    let exact = json!({ "type": "exactReference", "dockerReference": NAME });
    let repository = json!({ "type": "exactRepository", "dockerRepository": "registry.example:5000/team/app" });
    let signed_by = |source: (&str, Value), identity: &Value| json!({ "type": "signedBy", "keyType": "GPGKeys", source.0: source.1, "signedIdentity": identity });
    let demands = [
        ("a", signed_by(("keyPath", json!(path("a"))), &exact)),
        ("a in its repository", signed_by(("keyPath", json!(path("a"))), &repository)),
        ("b", signed_by(("keyData", json!(data(&["b"]))), &exact)),
        ("a or b", signed_by(("keyPaths", json!([path("a"), path("b")])), &exact)),
        ("a and b in one file", signed_by(("keyData", json!(data(&["a", "b"]))), &exact)),
        ("expired", signed_by(("keyPath", json!(path("expired"))), &exact)),
        ("revoked", signed_by(("keyPath", json!(path("revoked"))), &exact)),
        ("a or revoked", signed_by(("keyPaths", json!([path("revoked"), path("a")])), &exact)),
        ("b by name", signed_by(("keyPath", json!(path("b"))), &json!({ "type": "matchRepository" }))),
        ("X.509", json!({ "type": "signedBy", "keyType": "X509Certificates", "keyPath": path("a") })),
        ("base layer", json!({ "type": "signedBaseLayer", "baseLayerIdentity": exact })),
        ("anything", json!({ "type": ACCEPT })),
        ("nothing", json!({ "type": "reject" })),
    ];
    let mut numbers = Numbers(99);
    let mut cases = Vec::new();
    let case = |signatures: Vec<&(&str, Vec<u8>)>, demands: Vec<&(&str, Value)>| {
        let names = |list: Vec<&str>| list.join(" + ");
        let name = format!(
            "{} demanded, signed by {}",
            names(demands.iter().map(|d| d.0).collect()),
            names(signatures.iter().map(|s| s.0).collect())
        );
        let policy = json!({ "default": demands.iter().map(|d| &d.1).collect::<Vec<_>>() });
        (name, policy.to_string(), signatures.iter().map(|s| s.1.clone()).collect::<Vec<_>>())
    };
    // Each demand against a good signature of each key, then mixtures; mostly of those that can be met.
    for demand in &demands {
        cases.push(case(vec![&pool[0]], vec![demand]));
        cases.push(case(vec![&pool[1], &pool[0]], vec![demand]));
        cases.push(case(Vec::new(), vec![demand]));
    }
    for signature in &pool {
        cases.push(case(vec![signature], vec![&demands[3]]));
        cases.push(case(vec![signature], vec![&demands[11]]));
    }
    for key in ["expired", "revoked", "subkey"] {
        let signature = pool.iter().find(|s| s.0 == key).unwrap();
        let demand = (key, signed_by(("keyPath", json!(path(key))), &exact));
        cases.push(case(vec![signature], vec![&demand]));
    }
    for _ in 0..60 {
        let signatures =
            (0..numbers.below(4)).map(|_| numbers.below(pool.len())).map(|i| &pool[i]).collect::<Vec<_>>().into_iter();
        let demanded = (0..=numbers.below(3)).map(|_| &demands[numbers.below(demands.len()).min(numbers.below(13))]);
        let demanded: Vec<_> = demanded.collect();
        let mut signatures: Vec<_> = signatures.collect();
        if demanded.iter().all(|demand| demand.0 == "anything") {
            signatures.retain(|signature| !matches!(signature.0, "armored" | "a page"));
        }
        cases.push(case(signatures, demanded));
    }
    let verdicts = Verdicts::new("requirements");
    each(&cases, |(case, policy, signatures)| {
        let signatures: Vec<&[u8]> = signatures.iter().map(Vec::as_slice).collect();
        world.compare_folder(&verdicts, case, policy, &signatures);
    });
    verdicts.end(100);
}

/// Files that are policies, and files that are none.
#[test]
fn policies_are_read_as_skopeo_does() {
    if !need(&["gpg", "skopeo", "docker-registry"]) {
        return;
    }
    let world = World::new();
    let signer = key(&request("signer")).0;
    let signature =
        common::sign_message(&signer, &payload(NAME, &world.image.digest(), "test", Timestamp::now()), from_now(-1));
    let key_path = world.home.path().join("key.asc");
    std::fs::write(&key_path, &signer.certificate_armored).unwrap();
    let (path, data) = (key_path.display().to_string(), STANDARD.encode(&signer.certificate_armored));
    let accept = format!(r#"[{{"type":"{ACCEPT}"}}]"#);
    let exact = format!(r#""signedIdentity":{{"type":"exactReference","dockerReference":"{NAME}"}}"#);
    let signed =
        |members: &str| format!(r#"{{"default":[{{"type":"signedBy","keyType":"GPGKeys",{members},{exact}}}]}}"#);
    let identity = |identity: &str| {
        let key =
            format!(r#"{{"type":"signedBy","keyType":"GPGKeys","keyPath":"{path}","signedIdentity":{identity}}}"#);
        // Whether it is read is the question, not whether it matches.
        format!(r#"{{"default":{accept},"transports":{{"docker":{{"x.example":[{key}]}}}}}}"#)
    };
    let aside = |requirement: &str| {
        format!(r#"{{"default":{accept},"transports":{{"docker":{{"x.example":[{requirement}]}}}}}}"#)
    };
    let whole = |rest: &str| format!(r#"{{"default":{accept}{rest}}}"#);
    let repeated = data.as_bytes().chunks(60).map(|c| std::str::from_utf8(c).unwrap()).collect::<Vec<_>>().join("\\n");
    let texts = [
        whole(""),
        format!("\n\t {} \r\n", whole("")),
        whole(r#","transports":{}"#),
        whole(r#","transports":{"docker":{}}"#),
        whole(r#","transports":{"of-the-future":{"x y":[{"type":"reject"}]}}"#),
        whole(r#","transports":{"docker":{"":[{"type":"reject"}],"A B":[{"type":"reject"}]}}"#),
        whole(r#","transports":{"docker-daemon":{"":[{"type":"reject"}]}}"#),
        whole(r#","transports":{"docker-daemon":{"x":[{"type":"reject"}]}}"#),
        whole(r#","transports":{"docker-archive":{"x":[{"type":"reject"}]}}"#),
        whole(r#","transports":{"oci-archive":{"x":[{"type":"reject"}]}}"#),
        whole(r#","transports":{"oci-archive":{"/x":[{"type":"reject"}]}}"#),
        whole(r#","transports":{"sif":{"x":[{"type":"reject"}]}}"#),
        whole(r#","transports":{"tarball":{"x":[{"type":"reject"}]}}"#),
        whole(r#","transports":{"dir":{"/":[{"type":"reject"}]}}"#),
        whole(r#","transports":{"dir":{"/x/":[{"type":"reject"}]}}"#),
        whole(r#","transports":{"oci":{"x":[{"type":"reject"}]}}"#),
        whole(r#","transports":{"docker":{"x":[]}}"#),
        whole(r#","transports":{"docker":{"x":{}}}"#),
        whole(r#","transports":{"docker":{"x":null}}"#),
        whole(r#","transports":{"docker":null}"#),
        whole(r#","transports":{"docker":[]}"#),
        whole(r#","transports":null"#),
        whole(r#","transports":[]"#),
        whole(r#","transports":{"docker":{},"docker":{}}"#),
        whole(r#","transports":{"docker":{"x":[{"type":"reject"}],"x":[{"type":"reject"}]}}"#),
        whole(r#","transport":{}"#),
        whole(r#","Transports":{}"#),
        whole(r#","default":[{"type":"reject"}]"#),
        whole(r#","comment":"""#),
        "{}".into(),
        String::new(),
        "null".into(),
        "[]".into(),
        r#"{"transports":{}}"#.into(),
        r#"{"default":[]}"#.into(),
        r#"{"default":null}"#.into(),
        r#"{"default":{}}"#.into(),
        r#"{"default":[null]}"#.into(),
        r#"{"default":[{}]}"#.into(),
        r#"{"default":["insecureAcceptAnything"]}"#.into(),
        format!("{}{}", whole(""), whole("")),
        format!("{}x", whole("")),
        format!("{},", whole("")),
        format!("{{\"default\":{accept},}}"),
        format!("// comment\n{}", whole("")),
        format!("\u{feff}{}", whole("")),
        r#"{"default":[{"type":"insecureAcceptAnything","type":"insecureAcceptAnything"}]}"#.into(),
        r#"{"default":[{"type":"insecureAcceptAnything","x":1}]}"#.into(),
        r#"{"default":[{"type":"insecureAcceptAnything"},{"type":"x"}]}"#.into(),
        r#"{"default":[{"Type":"insecureAcceptAnything"}]}"#.into(),
        r#"{"default":[{"type":"InsecureAcceptAnything"}]}"#.into(),
        r#"{"default":[{"type":"insecureAcceptAnythin\u0067"}]}"#.into(),
        r#"{"d\u0065fault":[{"type":"insecureAcceptAnything"}]}"#.into(),
        r#"{"default":[{"type":["insecureAcceptAnything"]}]}"#.into(),
        signed(&format!(r#""keyPath":"{path}""#)),
        signed(&format!(r#""keyPaths":["{path}"]"#)),
        signed(&format!(r#""keyPaths":["{path}","{path}"]"#)),
        signed(&format!(r#""keyData":"{data}""#)),
        signed(&format!(r#""keyData":"{repeated}""#)),
        signed(&format!(r#""keyData":"{}""#, data.trim_end_matches('='))),
        signed(&format!(r#""keyData":"{}""#, STANDARD.encode(b"no key"))),
        signed(r#""keyData":"""#),
        signed(r#""keyData":null"#),
        signed(r#""keyData":"%""#),
        signed(r#""keyData":["eA=="]"#),
        signed(r#""keyPaths":[]"#),
        signed(r#""keyPaths":null"#),
        signed(r#""keyPaths":[1]"#),
        signed(r#""keyPath":"""#),
        signed(r#""keyPath":null"#),
        signed(r#""keyPath":1"#),
        signed(r#""keyPath":"/not/there""#),
        signed(&format!(r#""keyPaths":["{path}","/not/there"]"#)),
        signed(&format!(r#""keyPath":"{path}","keyPaths":["{path}"]"#)),
        signed(&format!(r#""keyPath":"{path}","keyData":"{data}""#)),
        signed(&format!(r#""keyPath":"{path}","keyPath":"{path}""#)),
        signed(&format!(r#""keyPath":"{path}","x":1"#)),
        signed(&format!(r#""keyPath":"{path}","signedIdentity":{{"type":"matchExact"}}"#)),
        signed(r#""x":1"#),
        aside(&format!(r#"{{"type":"signedBy","keyPath":"{path}"}}"#)),
        aside(&format!(r#"{{"type":"signedBy","keyType":"X509Certificates","keyPath":"{path}"}}"#)),
        aside(&format!(r#"{{"type":"signedBy","keyType":"gpgkeys","keyPath":"{path}"}}"#)),
        aside(&format!(r#"{{"type":"signedBy","keyType":null,"keyPath":"{path}"}}"#)),
        aside(r#"{"type":"signedBy","keyType":"GPGKeys","keyPath":"/not/there"}"#),
        aside(r#"{"type":"signedBaseLayer"}"#),
        aside(r#"{"type":"signedBaseLayer","baseLayerIdentity":null}"#),
        aside(r#"{"type":"signedBaseLayer","baseLayerIdentity":{"type":"matchExact"}}"#),
        aside(r#"{"type":"signedBaseLayer","baseLayerIdentity":{"type":"matchExact"},"x":1}"#),
        aside(r#"{"type":"sigstoreSigned"}"#),
        aside(r#"{"type":"sigstoreSigned","keyPath":"","keyData":"eA=="}"#),
        identity("null"),
        identity("{}"),
        identity("[]"),
        identity(r#"{"type":"x"}"#),
        identity(r#"{"type":"matchExact"}"#),
        identity(r#"{"type":"matchRepoDigestOrExact"}"#),
        identity(r#"{"type":"matchRepository"}"#),
        identity(r#"{"type":"matchExact","dockerReference":"a:1"}"#),
        identity(r#"{"type":"matchExact","type":"matchExact"}"#),
        identity(r#"{"type":"exactReference"}"#),
        identity(r#"{"type":"exactReference","dockerReference":null}"#),
        identity(r#"{"type":"exactReference","dockerReference":""}"#),
        identity(r#"{"type":"exactReference","dockerReference":"busybox"}"#),
        identity(r#"{"type":"exactReference","dockerReference":"busybox:1"}"#),
        identity(r#"{"type":"exactReference","dockerReference":"BUSYBOX:1"}"#),
        identity(r#"{"type":"exactReference","dockerReference":"x.example/a:1","dockerRepository":"x"}"#),
        identity(r#"{"type":"exactRepository","dockerRepository":"busybox"}"#),
        identity(r#"{"type":"exactRepository","dockerRepository":"busybox:1"}"#),
        identity(r#"{"type":"exactRepository","dockerRepository":"x.example/"}"#),
        identity(r#"{"type":"exactRepository","dockerReference":"busybox:1"}"#),
        identity(r#"{"type":"remapIdentity"}"#),
        identity(r#"{"type":"remapIdentity","prefix":"a"}"#),
    ];
    let mut texts: Vec<String> = texts.into();
    for name in [
        "a",
        "a.example",
        "a.example:5000",
        "a.example:",
        "a.example:x",
        ":5000",
        "A.example",
        "a.example/b",
        "a.example/B",
        "a.example/b/",
        "a.example//b",
        "/b",
        "a_b",
        "a_b/c",
        "a.example/b:1",
        "a.example:5000/b__c/d-e",
        "a.example/b___c",
        "*.example",
        "",
        " ",
        "-a",
        "a-",
        "a..b",
        "a.example/-b",
        "localhost",
        "ns/short",
        "a.example/b@sha256",
    ] {
        texts.push(identity(&format!(r#"{{"type":"remapIdentity","prefix":"{name}","signedPrefix":"b.example"}}"#)));
    }
    texts.push(identity(r#"{"type":"remapIdentity","prefix":"a","signedPrefix":"b/"}"#));
    texts.push(identity(r#"{"type":"remapIdentity","prefix":"a","signedPrefix":"b","x":1}"#));
    let verdicts = Verdicts::new("policies");
    each(&texts, |text| {
        let case = text.replace(&data, "KEY").replace(&path, "PATH");
        world.compare_folder(&verdicts, &case, text, &[&signature]);
    });
    verdicts.end(120);
}

// Where signatures lie.

/// Fetches files, as a program would.
struct Files;

impl FetchSmall for Files {
    type Error = std::io::Error;
    fn fetch(&self, url: &str, _: u64) -> Result<Option<Vec<u8>>, Self::Error> {
        let path = url.strip_prefix("file://").ok_or_else(|| std::io::Error::other("not a file"))?;
        match std::fs::read(path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }
}

/// Folders of registries.d files with random sections: whether the tree that is found has the signature.
#[test]
fn signatures_are_looked_for_where_skopeo_does() {
    if !need(&["gpg", "skopeo", "docker-registry"]) {
        return;
    }
    let world = World::new();
    let signer = key(&request("signer")).0;
    let (digest, host) = (world.image.digest(), world.registry.host());
    let name: Reference = format!("{host}/team/app:1").parse().unwrap();
    let honest = payload(&name.to_string(), &digest, "test", Timestamp::now());
    let signature = common::sign_message(&signer, &honest, from_now(-1));
    let trees = world.home.path().join("trees");
    let at = |tree: &str| trees.join(tree).join(format!("team/app@sha256={}", digest.hex()));
    write_numbered(&at("signed"), &[&signature]);
    write_numbered(&at("second"), &[&common::sign_message(&signer, b"{}", from_now(-1)), &signature]);
    write_numbered(&at("spoilt"), &[&signature, b"<html>404</html>"]);
    write_numbered(&at("other-host"), &[]);
    let tree = |tree: &str| format!("file://{}", trees.join(tree).display());
    let policy = world.home.path().join("policy.json");
    let document = json!({ "default": [{
        "type": "signedBy", "keyType": "GPGKeys", "keyData": STANDARD.encode(&signer.certificate_armored)
    }] });
    std::fs::write(&policy, document.to_string()).unwrap();

    let host_only = host.split(':').next().unwrap();
    let scopes = [
        format!("{host}/team/app:1"),
        format!("{host}/team/app:2"),
        format!("{host}/team/app"),
        format!("{host}/team"),
        format!("{host}/tea"),
        host.to_string(),
        host_only.into(),
        "*.0.0.1".into(),
        "*.1".into(),
    ];
    let mut numbers = Numbers(3);
    let section = |numbers: &mut Numbers| {
        let mut lines = Vec::new();
        for member in ["lookaside", "sigstore", "lookaside-staging", "sigstore-staging", "unknown"] {
            let tree = match numbers.below(8) {
                0 | 1 => tree("signed"),
                2 => tree("empty"),
                3 => tree(["second", "spoilt"][numbers.below(2)]),
                4 => String::new(),
                _ => continue,
            };
            lines.push(format!("{member}: '{tree}'"));
        }
        format!("{{{}}}", lines.join(", "))
    };
    let mut cases: Vec<Vec<(String, String)>> = (0..70)
        .map(|_| {
            let (mut files, mut used) = (Vec::new(), BTreeSet::new());
            for n in 0..numbers.below(3) {
                let mut text = String::new();
                if numbers.below(2) == 0 && used.insert(String::new()) {
                    writeln!(text, "default-docker: {}", section(&mut numbers)).unwrap();
                }
                text += "docker:\n";
                for _ in 0..numbers.below(5) {
                    let scope = numbers.one(&scopes).clone();
                    // A section in two files is an error, which is not always what a case is about.
                    if used.insert(scope.clone()) || numbers.below(8) == 0 {
                        let section = section(&mut numbers);
                        if !text.contains(&format!("'{scope}'")) {
                            writeln!(text, "  '{scope}': {section}").unwrap();
                        }
                    }
                }
                let ending = if numbers.below(10) == 0 { "yml" } else { "yaml" };
                files.push((format!("{n}.{ending}"), text));
            }
            files
        })
        .collect();
    let default = format!("default-docker: {{lookaside: '{}'}}\n", tree("signed"));
    let file = |text: &str| ("a.yaml".to_string(), text.to_string());
    for text in
        ["", "# nothing", "{}", "null", "docker:", "docker: {}", "default-docker:", "x: 1", "- x", "x", "docker: [x]"]
    {
        cases.push(vec![("0.yaml".into(), default.clone()), file(text)]);
    }
    for text in [
        format!("docker: {{'{host}': }}"),
        format!("docker: {{'{host}': x}}"),
        format!("docker: {{'{host}': {{lookaside: [x]}}}}"),
        format!("docker: {{'{host}': {{use-sigstore-attachments: x}}}}"),
        format!("docker: {{'{host}': {{}}, '{host}': {{}}}}"),
        format!("docker: {{'{host}': {{lookaside: '{}', x: {{y: z}}}}}}", tree("signed")),
    ] {
        cases.push(vec![("0.yaml".into(), default.clone()), file(&text)]);
    }

    let verdicts = Verdicts::new("registries.d");
    each(&cases, |files| {
        let folder = world.folder();
        let registries = folder.join("registries.d");
        std::fs::create_dir(&registries).unwrap();
        for (name, text) in files {
            std::fs::write(registries.join(name), text).unwrap();
        }
        let mut skopeo = world.command(&policy, &registries);
        skopeo
            .args(["--src-tls-verify=false", &format!("docker://{name}")])
            .arg(format!("dir:{}", folder.join("out").display()));
        let theirs = copied(&run(&mut skopeo));
        let ours = RegistriesD::load(&[registries]).map_err(|e| e.to_string()).and_then(|registries| {
            let base =
                registries.lookaside(name.repository(), name.tag()).map_or_else(|| tree("built in"), str::to_string);
            let found = fetch_signatures(&base, name.repository(), &digest, &Files).map_err(|e| e.to_string())?;
            let found: Vec<&[u8]> = found.iter().map(Vec::as_slice).collect();
            let image =
                PolicyImage { name: PolicyName::Docker(&name), digests: &[digest], simple: &found, sigstore: &[] };
            Ok(judged(&policy, &image))
        });
        let twice = files.iter().any(|(_, text)| text.contains("{}, '"));
        let case = if twice { "a scope twice in one file".into() } else { format!("{files:?}") };
        verdicts.compare(&case, ours.unwrap_or_else(|e| (false, e)), theirs);
    });
    verdicts.end(80);
}

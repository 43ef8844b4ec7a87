use super::*;

/// A key that `openssl ecparam -name prime256v1` made.
const COSIGN: &str = "-----BEGIN PUBLIC KEY-----\n\
    MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAELMtVII6d/0TPkzL2QDyEB4cWrZVZ\n\
    AHtUluo5WqE1pCiCYN7q+1POVvO6zruraPTZJ6uUbAT3gLh/y2BCboX67w==\n-----END PUBLIC KEY-----\n";

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let request = crate::KeyRequest {
        user_id: "signer".into(),
        algorithm: crate::Algorithm::P256,
        passphrase: None,
        expires: None,
        created: manifest_schema::Timestamp::now(),
    };
    let made = crate::generate(&request).expect("a key");
    for (name, bytes) in [
        ("key.asc", made.certificate_armored.as_slice()),
        ("secret.asc", secrecy::ExposeSecret::expose_secret(&made.secret_armored).as_bytes()),
        ("text.asc", b"no key"),
        ("cosign.pub", COSIGN.as_bytes()),
    ] {
        std::fs::write(folder.path().join(name), bytes).expect("a file");
    }
    folder
}

#[test]
fn the_format_is_checked_without_the_keys() {
    let policy = |members: &str| {
        let demand = format!(r#"{{"type": "signedBy", "keyType": "GPGKeys", {members}}}"#);
        let cosign = r#"{"type": "sigstoreSigned", "keyPath": "/nowhere/cosign.pub"}"#;
        format!(
            r#"{{"default": [{{"type": "reject"}}], "transports": {{"docker": {{"r.example": [{demand}, {cosign}]}}}}}}"#
        )
    };
    let check = |text: &str| crate::ImagePolicy::check_format(text.as_bytes()).map_err(|e| e.to_string());
    assert_eq!(check(&policy(r#""keyPath": "/nowhere/key.asc""#)), Ok(()));
    let folder = folder();
    assert!(parse(&policy(r#""keyPath": "/nowhere/key.asc""#), folder.path()).is_err(), "it cannot be judged by");
    for wrong in
        [r#""keyPath": """#, r#""keyData": "?""#, r#""keyPath": "a", "more": 1"#, r#""keyPath": "a", "keyPath": "a""#]
    {
        assert!(check(&policy(wrong)).is_err(), "{wrong}");
    }
}

fn parse(text: &str, base: &Path) -> Result<Document, String> {
    read(text.as_bytes(), base).map_err(|e| {
        let mut text = e.to_string();
        let mut cause = std::error::Error::source(&e);
        while let Some(next) = cause {
            text += &format!(": {next}");
            cause = next.source();
        }
        text
    })
}

#[test]
fn everything_there_is() {
    let folder = folder();
    let key_data = STANDARD.encode(std::fs::read(folder.path().join("key.asc")).expect("a key"));
    let cosign_data = STANDARD.encode(COSIGN);
    let absolute = folder.path().join("key.asc").display().to_string();
    let text = format!(
        r#"{{"default": [{{"type": "reject"}}],
        "transports": {{
            "docker": {{
                "": [{{"type": "insecureAcceptAnything"}}],
                "any thing": [{{"type": "reject"}}],
                "r.example/a": [
                    {{"type": "signedBy", "keyType": "GPGKeys", "keyPath": "key.asc"}},
                    {{"type": "signedBy", "keyType": "GPGKeys", "keyPaths": ["key.asc", "{absolute}"],
                        "signedIdentity": {{"type": "matchExact"}}}},
                    {{"type": "signedBy", "keyType": "GPGKeys", "keyData": "{key_data}",
                        "signedIdentity": {{"type": "matchRepository"}}}},
                    {{"type": "signedBy", "keyType": "X509Certificates", "keyPath": "not-there",
                        "signedIdentity": {{"type": "matchRepoDigestOrExact"}}}},
                    {{"signedIdentity": {{"dockerReference": "busybox:1", "type": "exactReference"}},
                        "keyPath": "key.asc", "keyType": "GPGKeys", "type": "signedBy"}},
                    {{"type": "signedBaseLayer", "baseLayerIdentity":
                        {{"type": "exactRepository", "dockerRepository": "r.example/base"}}}}
                ],
                "*.example": [
                    {{"type": "sigstoreSigned", "keyPath": "cosign.pub"}},
                    {{"type": "sigstoreSigned", "keyPaths": ["cosign.pub"], "rekorPublicKeyPath": "rekor.pub"}},
                    {{"type": "sigstoreSigned", "keyData": "{cosign_data}", "rekorPublicKeyDatas": ["eA=="]}},
                    {{"type": "sigstoreSigned", "keyDatas": ["{cosign_data}", "{cosign_data}"], "signedIdentity":
                        {{"type": "remapIdentity", "prefix": "a.example", "signedPrefix": "b.example:5000/c"}}}},
                    {{"type": "sigstoreSigned", "rekorPublicKeyPaths": ["rekor.pub"], "fulcio":
                        {{"caData": "eA==", "oidcIssuer": "https://issuer.example", "subjectEmail": "a@b.example"}}}},
                    {{"type": "sigstoreSigned", "pki": {{"caRootsPath": "ca", "caIntermediatesData": "eA==",
                        "subjectHostname": "h.example"}}}}
                ]
            }},
            "dir": {{"/srv/images": [{{"type": "reject"}}]}},
            "of-the-future": {{"*": [{{"type": "reject"}}]}},
            "oci": {{}}
        }}}}"#
    );
    let document = parse(&text, folder.path()).expect("a policy");
    assert_eq!(document.transports.len(), 4);
    let signed: Vec<_> = document.transports["docker"]["r.example/a"]
        .iter()
        .map(|requirement| match requirement {
            Requirement::SignedBy { keys: GpgKeys::Certificates { certificates, .. }, identity } => {
                (certificates.count(), identity.kind())
            }
            Requirement::SignedBy { keys: GpgKeys::Unimplemented(_), identity } => (0, identity.kind()),
            Requirement::SignedBaseLayer => (0, "base layer"),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(
        signed,
        [
            (1, "matchRepoDigestOrExact"),
            (1, "matchExact"),
            (1, "matchRepository"),
            (0, "matchRepoDigestOrExact"),
            (1, "exactReference"),
            (0, "base layer"),
        ]
    );
    let cosign: Vec<_> = document.transports["docker"]["*.example"]
        .iter()
        .map(|requirement| match requirement {
            Requirement::SigstoreSigned { keys: CosignKeys::Keys { keys, .. }, identity } => {
                (keys.len(), identity.kind())
            }
            Requirement::SigstoreSigned { keys: CosignKeys::Unsupported { .. }, .. } => (0, "unsupported"),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(
        cosign,
        [
            (1, "matchRepoDigestOrExact"),
            (0, "unsupported"),
            (0, "unsupported"),
            (2, "remapIdentity"),
            (0, "unsupported"),
            (0, "unsupported"),
        ]
    );
}

/// Each row is a requirement and a part of the reason it is refused for.
#[test]
fn requirements_that_are_refused() {
    let folder = folder();
    let gpg = |rest: &str| format!(r#"{{"type": "signedBy", "keyType": "GPGKeys", {rest}}}"#);
    let identity = |identity: &str| gpg(&format!(r#""keyPath": "key.asc", "signedIdentity": {identity}"#));
    let cosign = |rest: &str| format!(r#"{{"type": "sigstoreSigned", {rest}}}"#);
    let with_key = |rest: &str| cosign(&format!(r#""keyPath": "cosign.pub", {rest}"#));
    let fulcio = |fulcio: &str| cosign(&format!(r#""rekorPublicKeyData": "eA==", "fulcio": {fulcio}"#));
    let pki = |pki: &str| cosign(&format!(r#""pki": {pki}"#));
    for (requirement, reason) in [
        ("{}".into(), "`type` is missing"),
        ("null".into(), "expected an object, found null"),
        ("[]".into(), "expected an object, found a list"),
        (r#"{"type": null}"#.into(), "expected a string, found null"),
        (r#"{"type": "accept"}"#.into(), "requirement type `accept` is unknown"),
        (r#"{"type": "reject", "type": "reject"}"#.into(), "`type` is given twice"),
        (r#"{"type": "reject", "Type": "reject"}"#.into(), "`Type` is unknown"),
        (r#"{"type": "reject", "keyPath": "key.asc"}"#.into(), "`keyPath` is unknown"),
        (r#"{"type": "insecureAcceptAnything", "x": 1}"#.into(), "`x` is unknown"),
        (r#"{"type": "signedBaseLayer"}"#.into(), "`baseLayerIdentity` is missing"),
        (r#"{"type": "signedBaseLayer", "baseLayerIdentity": {"type": "x"}}"#.into(), "identity type `x`"),
        (r#"{"type": "signedBy", "keyPath": "key.asc"}"#.into(), "`keyType` is missing"),
        (r#"{"type": "signedBy", "keyType": "PGP", "keyPath": "key.asc"}"#.into(), "keyType `PGP` is unknown"),
        (r#"{"type": "signedBy", "keyType": "X509Certificates"}"#.into(), "expected exactly one of keyPath"),
        (gpg(r#""x": 1, "keyPath": "key.asc""#), "`x` is unknown"),
        (gpg(r#""signedIdentity": {"type": "matchExact"}"#), "expected exactly one of keyPath"),
        (gpg(r#""keyPath": "key.asc", "keyPaths": ["key.asc"]"#), "found 2"),
        (gpg(r#""keyPath": "key.asc", "keyData": "eA==""#), "found 2"),
        (gpg(r#""keyPath": "key.asc", "keyDatas": ["eA=="]"#), "`keyDatas` is unknown"),
        (gpg(r#""keyPath": """#), "the path is empty"),
        (gpg(r#""keyPath": 1"#), "expected a string, found a number"),
        (gpg(r#""keyPath": null"#), "expected a string, found null"),
        (gpg(r#""keyPaths": []"#), "the list or a path in it is empty"),
        (gpg(r#""keyPaths": ["key.asc", ""]"#), "the list or a path in it is empty"),
        (gpg(r#""keyPaths": "key.asc""#), "expected a list of strings, found a string"),
        (gpg(r#""keyPaths": [true]"#), "expected a list of strings, found a boolean"),
        (gpg(r#""keyData": "!""#), "not base64"),
        (gpg(r#""keyData": "eA""#), "not base64"),
        (gpg(r#""keyData": "eA==""#), "keyData: holds no OpenPGP certificate"),
        (gpg(r#""keyData": """#), "the keys cannot be loaded"),
        (gpg(r#""keyPath": "gone.asc""#), "gone.asc: cannot be read"),
        (gpg(r#""keyPath": "text.asc""#), "text.asc: holds no OpenPGP certificate"),
        (gpg(r#""keyPath": "secret.asc""#), "secret.asc: holds the secret key"),
        (gpg(r#""keyPaths": ["key.asc", "gone.asc"]"#), "gone.asc: cannot be read"),
        (identity("null"), "expected an object, found null"),
        (identity("{}"), "`type` is missing"),
        (identity(r#"{"type": "matchAnything"}"#), "identity type `matchAnything` is unknown"),
        (identity(r#"{"type": "matchExact", "x": 1}"#), "`x` is unknown"),
        (identity(r#"{"type": "matchExact", "type": "matchExact"}"#), "`type` is given twice"),
        (identity(r#"{"type": "exactReference"}"#), "`dockerReference` is missing"),
        (identity(r#"{"type": "exactReference", "dockerReference": "r.example/a"}"#), "neither a tag nor a digest"),
        (identity(r#"{"type": "exactReference", "dockerReference": "r.example/A:1"}"#), "is no reference"),
        (identity(r#"{"type": "exactReference", "dockerRepository": "r.example/a"}"#), "`dockerReference` is missing"),
        (identity(r#"{"type": "exactRepository", "dockerRepository": "/a"}"#), "is no reference"),
        (identity(r#"{"type": "exactRepository"}"#), "`dockerRepository` is missing"),
        (identity(r#"{"type": "remapIdentity", "prefix": "a.example"}"#), "`signedPrefix` is missing"),
        (identity(r#"{"type": "remapIdentity", "prefix": "a/", "signedPrefix": "b"}"#), "`a/` is no host"),
        (identity(r#"{"type": "remapIdentity", "prefix": "a", "signedPrefix": "b:1/c:2"}"#), "`b:1/c:2` is no host"),
        (cosign(r#""signedIdentity": {"type": "matchExact"}"#), "found 0"),
        (with_key(r#""keyData": "eA==""#), "found 2"),
        (with_key(r#""keyType": "GPGKeys""#), "`keyType` is unknown"),
        (with_key(r#""fulcio": {"caPath": "ca", "oidcIssuer": "i", "subjectEmail": "e"}"#), "found 2"),
        (with_key(r#""rekorPublicKeyPath": "a", "rekorPublicKeyData": "eA==""#), "at most one of rekorPublicKeyPath"),
        (with_key(r#""rekorPublicKeyPaths": []"#), "is empty"),
        (with_key(r#""rekorPublicKeyDatas": ["!"]"#), "not base64"),
        (with_key(r#""signedIdentity": {"type": "x"}"#), "identity type `x` is unknown"),
        (cosign(r#""keyPath": "gone.pub""#), "gone.pub: cannot be read"),
        (cosign(r#""keyPath": "key.asc""#), "key.asc cannot be loaded"),
        (cosign(r#""keyDatas": []"#), "the list is empty"),
        (cosign(r#""keyDatas": ["eA=="]"#), "cannot be loaded"),
        (cosign(r#""fulcio": {"caPath": "ca", "oidcIssuer": "i", "subjectEmail": "e"}"#), "needs a rekorPublicKey"),
        (fulcio(r#"{"oidcIssuer": "i", "subjectEmail": "e"}"#), "exactly one of caPath and caData"),
        (fulcio(r#"{"caPath": "c", "caData": "eA==", "oidcIssuer": "i", "subjectEmail": "e"}"#), "found 2"),
        (fulcio(r#"{"caPath": "c", "subjectEmail": "e"}"#), "`oidcIssuer` is missing"),
        (fulcio(r#"{"caPath": "c", "oidcIssuer": "i", "subjectEmail": ""}"#), "`subjectEmail` is empty"),
        (fulcio(r#"{"caPath": "c", "oidcIssuer": "i", "subjectEmail": "e", "x": 1}"#), "`x` is unknown"),
        (pki("{}"), "exactly one of caRootsPath and caRootsData"),
        (pki(r#"{"caRootsPath": "c"}"#), "expected subjectEmail or subjectHostname"),
        (pki(r#"{"caRootsPath": "c", "subjectEmail": "e", "x": 1}"#), "`x` is unknown"),
        (
            pki(r#"{"caRootsPath": "c", "subjectEmail": "e", "caIntermediatesPath": "i", "caIntermediatesData": ""}"#),
            "both caIntermediatesPath",
        ),
    ] {
        let text = format!(r#"{{"default": [{{"type": "reject"}}, {requirement}]}}"#);
        let refused = parse(&text, folder.path()).expect_err(&requirement);
        assert!(refused.contains(reason), "{requirement}\n{refused}");
        assert!(refused.contains("default[1]") || refused.contains("given twice"), "{refused}");
    }
}

#[test]
fn files_that_are_refused() {
    let reject = r#"[{"type": "reject"}]"#;
    for (text, reason) in [
        (String::new(), "EOF"),
        ("null".into(), "the policy: expected an object, found null"),
        ("{}".into(), "the policy: `default` is missing"),
        (r#"{"default": null}"#.into(), "default: expected a list of requirements, found null"),
        (r#"{"default": []}"#.into(), "default: the list of requirements is empty"),
        (r#"{"default": {}}"#.into(), "default: expected a list"),
        (format!(r#"{{"default": {reject}}} x"#), "trailing characters"),
        (format!(r#"{{"default": {reject}}}{{}}"#), "trailing characters"),
        (format!(r#"{{"default": {reject}, "default": {reject}}}"#), "`default` is given twice"),
        (format!(r#"{{"default": {reject}, "Default": {reject}}}"#), "`Default` is unknown"),
        (format!(r#"{{"default": {reject}, "comment": ""}}"#), "`comment` is unknown"),
        (format!(r#"{{"default": {reject}, "transports": null}}"#), "transports: expected an object"),
        (format!(r#"{{"default": {reject}, "transports": {{"docker": []}}}}"#), "transports.docker: expected"),
        (
            format!(r#"{{"default": {reject}, "transports": {{"docker": {{"a.example": []}}}}}}"#),
            "transports.docker.\"a.example\": the list of requirements is empty",
        ),
        (
            format!(r#"{{"default": {reject}, "transports": {{"docker": {{"a": {reject}, "a": {reject}}}}}}}"#),
            "`a` is given twice",
        ),
        (
            format!(r#"{{"default": {reject}, "transports": {{"docker": {{}}, "docker": {{}}}}}}"#),
            "`docker` is given twice",
        ),
        (
            format!(r#"{{"default": {reject}, "transports": {{"dir": {{"srv": {reject}}}}}}}"#),
            "transports.dir.srv: expected an absolute path",
        ),
        (
            format!(r#"{{"default": {reject}, "transports": {{"oci": {{"/": {reject}}}}}}}"#),
            "transports.oci.\"/\": expected \"\"",
        ),
        (
            format!(r#"{{"default": {reject}, "transports": {{"x": {{"a\u001b[2J": [{{}}]}}}}}}"#),
            r#"transports.x."a\u{1b}[2J"[0]: `type` is missing"#,
        ),
        (format!("{}1{}", "[".repeat(200), "]".repeat(200)), "recursion limit"),
    ] {
        let refused = parse(&text, Path::new("")).expect_err(&text);
        assert!(refused.contains(reason), "{text}\n{refused}");
    }
    let mut large = format!(r#"{{"default": {reject}}}"#);
    large += &" ".repeat(usize::try_from(LIMITS.config).expect("small"));
    assert!(parse(&large, Path::new("")).expect_err("too large").contains("larger than"));
}

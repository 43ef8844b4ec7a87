//! Reading `containers-policy.json(5)`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use manifest_schema::text::escape;
use manifest_schema::{LIMITS, OutsideText};

use super::identity::{Named, SignedIdentity, is_prefix};
use super::json::{Members, Value, unexpected, within};
use super::moved::{KeyFile, KeySource, Unmovable};
use super::{PolicyError, scope};
use crate::certificates::read_key_file;
use crate::{Certificates, SigstoreKey};

/// What is demanded of an image in a scope; every one of them, at least one.
pub(super) type Requirements = Vec<Requirement>;

/// A policy as it stands in the file, with its keys.
#[derive(Debug)]
pub(super) struct Document {
    pub default: Requirements,
    pub transports: BTreeMap<String, BTreeMap<String, Requirements>>,
}

/// One requirement.
#[derive(Debug)]
pub(super) enum Requirement {
    InsecureAcceptAnything,
    Reject,
    SignedBy { keys: GpgKeys, identity: SignedIdentity },
    SignedBaseLayer,
    SigstoreSigned { keys: CosignKeys, identity: SignedIdentity },
}

#[derive(Debug)]
pub(super) enum GpgKeys {
    Certificates {
        certificates: Certificates,
        /// What they were read from, or why nobody else could read them.
        source: Result<KeySource, Unmovable>,
    },
    /// A `keyType` that containers/image knows and has never implemented.
    Unimplemented(String),
    /// They are elsewhere.
    Unread,
}

#[derive(Debug)]
pub(super) enum CosignKeys {
    Keys {
        keys: Vec<SigstoreKey>,
        /// What they were read from.
        source: KeySource,
    },
    /// Keys that are not all that the requirement needs: what else, which we cannot check.
    Unsupported { needs: &'static str, keys: Vec<SigstoreKey> },
    /// They are elsewhere.
    Unread,
}

/// Where keys come from.
enum Source {
    Path(String),
    Paths(Vec<String>),
    Data(Vec<u8>),
    Datas(Vec<Vec<u8>>),
}

/// Reads a policy; `base` is the folder that paths of keys begin in.
pub(super) fn read(bytes: &[u8], base: &Path) -> Result<Document, PolicyError> {
    Reading { base: Some(base) }.document(bytes)
}

/// Reads a policy whose key files are elsewhere: nothing can be judged by what this gives.
pub(super) fn read_without_keys(bytes: &[u8]) -> Result<Document, PolicyError> {
    Reading { base: None }.document(bytes)
}

struct Reading<'a> {
    /// Where paths of keys begin; if `None`, no key is read.
    base: Option<&'a Path>,
}

impl Reading<'_> {
    fn document(&self, bytes: &[u8]) -> Result<Document, PolicyError> {
        if bytes.len() as u64 > LIMITS.config {
            return Err(PolicyError::TooLarge { limit: LIMITS.config });
        }
        let value = serde_json::from_slice(bytes).map_err(|e| PolicyError::Json(OutsideText::new(e.to_string())))?;
        let mut members = Members::of(value, "")?;
        let default = members.take("default").ok_or_else(|| PolicyError::format("", "`default` is missing"))?;
        let default = self.requirements(default, "default")?;
        let mut transports = BTreeMap::new();
        if let Some(value) = members.take("transports") {
            for (transport, value) in Members::of(value, "transports")?.all() {
                let place = within("transports", &transport);
                let mut scopes = BTreeMap::new();
                for (name, value) in Members::of(value, &place)?.all() {
                    let place = within(&place, &name);
                    scope::check(&transport, &name).map_err(|reason| PolicyError::format(&place, reason))?;
                    scopes.insert(name, self.requirements(value, &place)?);
                }
                transports.insert(transport, scopes);
            }
        }
        members.end()?;
        Ok(Document { default, transports })
    }

    fn requirements(&self, value: Value, place: &str) -> Result<Requirements, PolicyError> {
        let list = match value {
            Value::List(list) => list,
            other => return Err(unexpected(place, "a list of requirements", &other)),
        };
        if list.is_empty() {
            return Err(PolicyError::format(place, "the list of requirements is empty"));
        }
        let one = |(i, value)| self.requirement(value, &format!("{place}[{i}]"));
        list.into_iter().enumerate().map(one).collect()
    }

    fn requirement(&self, value: Value, place: &str) -> Result<Requirement, PolicyError> {
        let mut members = Members::of(value, place)?;
        let kind = members.needed("type")?;
        let requirement = match kind.as_str() {
            "insecureAcceptAnything" => Requirement::InsecureAcceptAnything,
            "reject" => Requirement::Reject,
            "signedBy" => self.signed_by(&mut members, place)?,
            "signedBaseLayer" => {
                let layer = members.take("baseLayerIdentity");
                identity(
                    layer.ok_or_else(|| PolicyError::format(place, "`baseLayerIdentity` is missing"))?,
                    &members.place("baseLayerIdentity"),
                )?;
                Requirement::SignedBaseLayer
            }
            "sigstoreSigned" => self.sigstore_signed(&mut members, place)?,
            other => {
                let reason = format_args!("requirement type `{}` is unknown", escape(other));
                return Err(PolicyError::format(place, reason));
            }
        };
        members.end()?;
        Ok(requirement)
    }

    fn signed_by(&self, members: &mut Members, place: &str) -> Result<Requirement, PolicyError> {
        let kind = members.needed("keyType")?;
        let sources = sources(members, [Some("keyPath"), Some("keyPaths"), Some("keyData"), None])?;
        let identity = signed_identity(members)?;
        let [(name, source)] = exactly_one(place, sources, "keyPath, keyPaths and keyData")?;
        let keys = match kind.as_str() {
            "GPGKeys" => self.certificates(source, &within(place, name))?,
            "signedByGPGKeys" | "X509Certificates" | "signedByX509CAs" => GpgKeys::Unimplemented(kind),
            other => {
                let reason = format_args!("keyType `{}` is unknown", escape(other));
                return Err(PolicyError::format(place, reason));
            }
        };
        Ok(Requirement::SignedBy { keys, identity })
    }

    fn certificates(&self, source: Source, place: &str) -> Result<GpgKeys, PolicyError> {
        let failed = |source| PolicyError::Keys { place: place.into(), source };
        let Some(base) = self.base else { return Ok(GpgKeys::Unread) };
        let folder = |path: &String| Some(base.join(path)).filter(|path| path.is_dir());
        if let Some(folder) = source.paths().iter().find_map(folder) {
            let paths: Vec<PathBuf> = source.paths().iter().map(|path| base.join(path)).collect();
            let certificates = Certificates::load(&paths).map_err(failed)?;
            return Ok(GpgKeys::Certificates { certificates, source: Err(Unmovable::Folder { path: folder }) });
        }
        let source = read_keys(base, source, place)?;
        let certificates = Certificates::from_files(source.files()).map_err(failed)?;
        Ok(GpgKeys::Certificates { certificates, source: source.for_gpg() })
    }

    fn sigstore_signed(&self, members: &mut Members, place: &str) -> Result<Requirement, PolicyError> {
        let keys = sources(members, ["keyPath", "keyPaths", "keyData", "keyDatas"].map(Some))?;
        let mut authorities = 0;
        if let Some(value) = members.take("fulcio") {
            fulcio(value, &members.place("fulcio"))?;
            authorities += 1;
        }
        let by_fulcio = authorities == 1;
        if let Some(value) = members.take("pki") {
            pki(value, &members.place("pki"))?;
            authorities += 1;
        }
        let rekor = ["rekorPublicKeyPath", "rekorPublicKeyPaths", "rekorPublicKeyData", "rekorPublicKeyDatas"];
        let rekor = sources(members, rekor.map(Some))?;
        let identity = signed_identity(members)?;
        if keys.len() + authorities != 1 {
            let reason = format_args!(
                "expected exactly one of keyPath, keyPaths, keyData, keyDatas, fulcio and pki, found {}",
                keys.len() + authorities
            );
            return Err(PolicyError::format(place, reason));
        }
        if rekor.len() > 1 {
            let reason = "expected at most one of rekorPublicKeyPath, rekorPublicKeyPaths, rekorPublicKeyData and \
                          rekorPublicKeyDatas";
            return Err(PolicyError::format(place, reason));
        }
        if by_fulcio && rekor.is_empty() {
            return Err(PolicyError::format(place, "fulcio needs a rekorPublicKey"));
        }
        let unsupported = |needs, keys| CosignKeys::Unsupported { needs, keys };
        let keys = match keys.into_iter().next() {
            None if by_fulcio => unsupported("certificates by Fulcio (`fulcio`)", Vec::new()),
            None => unsupported("certificates of a PKI (`pki`)", Vec::new()),
            // The keys are read all the same, so that a missing file is noticed now.
            Some((name, source)) => {
                let place = within(place, name);
                let Some(base) = self.base else {
                    return Ok(Requirement::SigstoreSigned { keys: CosignKeys::Unread, identity });
                };
                let source = read_keys(base, source, &place)?;
                let keys = sigstore_keys(&source, &place)?;
                match rekor.is_empty() {
                    true => CosignKeys::Keys { keys, source },
                    false => unsupported("entries in a Rekor log (`rekorPublicKey...`)", keys),
                }
            }
        };
        Ok(Requirement::SigstoreSigned { keys, identity })
    }
}

/// Reads the files of keys.
fn read_keys(base: &Path, source: Source, place: &str) -> Result<KeySource, PolicyError> {
    let read = |path: String| {
        let path = base.join(path);
        let bytes = read_key_file(&path).map_err(|source| PolicyError::Keys { place: place.into(), source })?;
        Ok(KeyFile { path, bytes })
    };
    Ok(match source {
        Source::Path(path) => KeySource::Path(read(path)?),
        Source::Paths(paths) => KeySource::Paths(paths.into_iter().map(read).collect::<Result<_, _>>()?),
        Source::Data(data) => KeySource::Data(data),
        Source::Datas(datas) => KeySource::Datas(datas),
    })
}

impl Source {
    fn paths(&self) -> &[String] {
        match self {
            Source::Path(path) => std::slice::from_ref(path),
            Source::Paths(paths) => paths,
            Source::Data(_) | Source::Datas(_) => &[],
        }
    }
}

fn sigstore_keys(source: &KeySource, place: &str) -> Result<Vec<SigstoreKey>, PolicyError> {
    let key = |(path, bytes): (&Path, &[u8])| {
        let failed = |source| PolicyError::SigstoreKey { place: place.into(), path: path.into(), source };
        SigstoreKey::from_pem(bytes).map_err(failed)
    };
    source.files().into_iter().map(key).collect()
}

/// The members that name keys, by the four forms there are.
fn sources(
    members: &mut Members,
    [path, paths, data, datas]: [Option<&'static str>; 4],
) -> Result<Vec<(&'static str, Source)>, PolicyError> {
    let mut found = Vec::new();
    let decode = |place: &str, text: &str| {
        // Go's reader passes over line ends.
        let bare: Vec<u8> = text.bytes().filter(|b| !matches!(b, b'\r' | b'\n')).collect();
        STANDARD.decode(bare).map_err(|_| PolicyError::format(place, "not base64"))
    };
    if let Some(name) = path {
        let place = members.place(name);
        if let Some(path) = members.text(name)? {
            if path.is_empty() {
                return Err(PolicyError::format(&place, "the path is empty"));
            }
            found.push((name, Source::Path(path)));
        }
    }
    if let Some(name) = paths {
        let place = members.place(name);
        if let Some(paths) = members.texts(name)? {
            if paths.is_empty() || paths.iter().any(String::is_empty) {
                return Err(PolicyError::format(&place, "the list or a path in it is empty"));
            }
            found.push((name, Source::Paths(paths)));
        }
    }
    if let Some(name) = data {
        let place = members.place(name);
        if let Some(text) = members.text(name)? {
            found.push((name, Source::Data(decode(&place, &text)?)));
        }
    }
    if let Some(name) = datas {
        let place = members.place(name);
        if let Some(texts) = members.texts(name)? {
            if texts.is_empty() {
                return Err(PolicyError::format(&place, "the list is empty"));
            }
            let data = texts.iter().map(|text| decode(&place, text)).collect::<Result<_, _>>()?;
            found.push((name, Source::Datas(data)));
        }
    }
    Ok(found)
}

fn exactly_one<T>(place: &str, found: Vec<T>, names: &str) -> Result<[T; 1], PolicyError> {
    <[T; 1]>::try_from(found).map_err(|found| {
        PolicyError::format(place, format_args!("expected exactly one of {names}, found {}", found.len()))
    })
}

fn signed_identity(members: &mut Members) -> Result<SignedIdentity, PolicyError> {
    match members.take("signedIdentity") {
        None => Ok(SignedIdentity::MatchRepoDigestOrExact),
        Some(value) => identity(value, &members.place("signedIdentity")),
    }
}

fn identity(value: Value, place: &str) -> Result<SignedIdentity, PolicyError> {
    let mut members = Members::of(value, place)?;
    let kind = members.needed("type")?;
    let named = |name: &str, text: &str| {
        let reason = || PolicyError::format(&within(place, name), format_args!("`{}` is no reference", escape(text)));
        Named::parse_normalized(text).ok_or_else(reason)
    };
    let prefix = |name: &str, text: String| match is_prefix(&text) {
        true => Ok(text),
        false => {
            let reason = format_args!("`{}` is no host[:port][/path]", escape(&text));
            Err(PolicyError::format(&within(place, name), reason))
        }
    };
    let identity = match kind.as_str() {
        "matchExact" => SignedIdentity::MatchExact,
        "matchRepoDigestOrExact" => SignedIdentity::MatchRepoDigestOrExact,
        "matchRepository" => SignedIdentity::MatchRepository,
        "exactReference" => {
            let text = members.needed("dockerReference")?;
            let reference = named("dockerReference", &text)?;
            if reference.is_name_only() {
                let reason = format_args!("`{}` has neither a tag nor a digest", escape(&text));
                return Err(PolicyError::format(&within(place, "dockerReference"), reason));
            }
            SignedIdentity::ExactReference(reference)
        }
        "exactRepository" => {
            SignedIdentity::ExactRepository(named("dockerRepository", &members.needed("dockerRepository")?)?)
        }
        "remapIdentity" => SignedIdentity::RemapIdentity {
            prefix: prefix("prefix", members.needed("prefix")?)?,
            signed_prefix: prefix("signedPrefix", members.needed("signedPrefix")?)?,
        },
        other => {
            return Err(PolicyError::format(place, format_args!("identity type `{}` is unknown", escape(other))));
        }
    };
    members.end()?;
    Ok(identity)
}

/// `fulcio`: a certificate authority, and for whom its certificates must be.
fn fulcio(value: Value, place: &str) -> Result<(), PolicyError> {
    let mut members = Members::of(value, place)?;
    let ca = sources(&mut members, [Some("caPath"), None, Some("caData"), None])?;
    exactly_one(place, ca, "caPath and caData")?;
    for name in ["oidcIssuer", "subjectEmail"] {
        if members.needed(name)?.is_empty() {
            return Err(PolicyError::format(place, format_args!("`{name}` is empty")));
        }
    }
    members.end()
}

/// `pki`: certificate authorities of one's own, and for whom their certificates must be.
fn pki(value: Value, place: &str) -> Result<(), PolicyError> {
    let mut members = Members::of(value, place)?;
    let roots = sources(&mut members, [Some("caRootsPath"), None, Some("caRootsData"), None])?;
    exactly_one(place, roots, "caRootsPath and caRootsData")?;
    let between = [Some("caIntermediatesPath"), None, Some("caIntermediatesData"), None];
    if sources(&mut members, between)?.len() > 1 {
        return Err(PolicyError::format(place, "both caIntermediatesPath and caIntermediatesData"));
    }
    let subjects = [members.text("subjectEmail")?, members.text("subjectHostname")?];
    if subjects.iter().flatten().all(String::is_empty) {
        return Err(PolicyError::format(place, "expected subjectEmail or subjectHostname"));
    }
    members.end()
}

#[cfg(test)]
mod tests {
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
        for wrong in [
            r#""keyPath": """#,
            r#""keyData": "?""#,
            r#""keyPath": "a", "more": 1"#,
            r#""keyPath": "a", "keyPath": "a""#,
        ] {
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
            (
                identity(r#"{"type": "exactReference", "dockerRepository": "r.example/a"}"#),
                "`dockerReference` is missing",
            ),
            (identity(r#"{"type": "exactRepository", "dockerRepository": "/a"}"#), "is no reference"),
            (identity(r#"{"type": "exactRepository"}"#), "`dockerRepository` is missing"),
            (identity(r#"{"type": "remapIdentity", "prefix": "a.example"}"#), "`signedPrefix` is missing"),
            (identity(r#"{"type": "remapIdentity", "prefix": "a/", "signedPrefix": "b"}"#), "`a/` is no host"),
            (
                identity(r#"{"type": "remapIdentity", "prefix": "a", "signedPrefix": "b:1/c:2"}"#),
                "`b:1/c:2` is no host",
            ),
            (cosign(r#""signedIdentity": {"type": "matchExact"}"#), "found 0"),
            (with_key(r#""keyData": "eA==""#), "found 2"),
            (with_key(r#""keyType": "GPGKeys""#), "`keyType` is unknown"),
            (with_key(r#""fulcio": {"caPath": "ca", "oidcIssuer": "i", "subjectEmail": "e"}"#), "found 2"),
            (
                with_key(r#""rekorPublicKeyPath": "a", "rekorPublicKeyData": "eA==""#),
                "at most one of rekorPublicKeyPath",
            ),
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
                pki(
                    r#"{"caRootsPath": "c", "subjectEmail": "e", "caIntermediatesPath": "i", "caIntermediatesData": ""}"#,
                ),
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
}

//! Reading `containers-policy.json(5)`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use manifest_schema::text::escape;
use manifest_schema::{LIMITS, OutsideText};

use super::identity::{Named, SignedIdentity, is_prefix};
use super::json::{Members, Value, unexpected, within};
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
    Certificates(Certificates),
    /// A `keyType` that containers/image knows and has never implemented.
    Unimplemented(String),
}

#[derive(Debug)]
pub(super) enum CosignKeys {
    Keys(Vec<SigstoreKey>),
    /// What the requirement needs and we cannot check.
    Unsupported(&'static str),
}

/// Where keys come from.
enum Source {
    Files(Vec<String>),
    Data(Vec<Vec<u8>>),
}

/// Reads a policy; `base` is the folder that paths of keys begin in.
pub(super) fn read(bytes: &[u8], base: &Path) -> Result<Document, PolicyError> {
    if bytes.len() as u64 > LIMITS.config {
        return Err(PolicyError::TooLarge { limit: LIMITS.config });
    }
    let value = serde_json::from_slice(bytes).map_err(|e| PolicyError::Json(OutsideText::new(e.to_string())))?;
    let mut members = Members::of(value, "")?;
    let reading = Reading { base };
    let default = members.take("default").ok_or_else(|| PolicyError::format("", "`default` is missing"))?;
    let default = reading.requirements(default, "default")?;
    let mut transports = BTreeMap::new();
    if let Some(value) = members.take("transports") {
        for (transport, value) in Members::of(value, "transports")?.all() {
            let place = within("transports", &transport);
            let mut scopes = BTreeMap::new();
            for (name, value) in Members::of(value, &place)?.all() {
                let place = within(&place, &name);
                scope::check(&transport, &name).map_err(|reason| PolicyError::format(&place, reason))?;
                scopes.insert(name, reading.requirements(value, &place)?);
            }
            transports.insert(transport, scopes);
        }
    }
    members.end()?;
    Ok(Document { default, transports })
}

struct Reading<'a> {
    base: &'a Path,
}

impl Reading<'_> {
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
            "GPGKeys" => GpgKeys::Certificates(self.certificates(source, &within(place, name))?),
            "signedByGPGKeys" | "X509Certificates" | "signedByX509CAs" => GpgKeys::Unimplemented(kind),
            other => {
                let reason = format_args!("keyType `{}` is unknown", escape(other));
                return Err(PolicyError::format(place, reason));
            }
        };
        Ok(Requirement::SignedBy { keys, identity })
    }

    fn certificates(&self, source: Source, place: &str) -> Result<Certificates, PolicyError> {
        let failed = |source| PolicyError::Keys { place: place.into(), source };
        match source {
            Source::Files(paths) => {
                let paths: Vec<PathBuf> = paths.iter().map(|path| self.base.join(path)).collect();
                Certificates::load(&paths).map_err(failed)
            }
            Source::Data(data) => Certificates::from_bytes(&data.concat(), Path::new("keyData")).map_err(failed),
        }
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
        let keys = match keys.into_iter().next() {
            None if by_fulcio => CosignKeys::Unsupported("certificates by Fulcio (`fulcio`)"),
            None => CosignKeys::Unsupported("certificates of a PKI (`pki`)"),
            // The keys are read all the same, so that a missing file is noticed now.
            Some((name, source)) => {
                let keys = self.sigstore_keys(source, &within(place, name))?;
                match rekor.is_empty() {
                    true => CosignKeys::Keys(keys),
                    false => CosignKeys::Unsupported("entries in a Rekor log (`rekorPublicKey...`)"),
                }
            }
        };
        Ok(Requirement::SigstoreSigned { keys, identity })
    }

    fn sigstore_keys(&self, source: Source, place: &str) -> Result<Vec<SigstoreKey>, PolicyError> {
        let failed = |path: &Path, source| PolicyError::SigstoreKey { place: place.into(), path: path.into(), source };
        match source {
            Source::Files(paths) => paths
                .iter()
                .map(|path| {
                    let path = self.base.join(path);
                    let bytes = read_key_file(&path)
                        .map_err(|source| PolicyError::Keys { place: place.into(), source })?;
                    SigstoreKey::from_pem(&bytes).map_err(|e| failed(&path, e))
                })
                .collect(),
            Source::Data(data) => {
                data.iter().map(|d| SigstoreKey::from_pem(d).map_err(|e| failed(Path::new("keyData"), e))).collect()
            }
        }
    }
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
            found.push((name, Source::Files(vec![path])));
        }
    }
    if let Some(name) = paths {
        let place = members.place(name);
        if let Some(paths) = members.texts(name)? {
            if paths.is_empty() || paths.iter().any(String::is_empty) {
                return Err(PolicyError::format(&place, "the list or a path in it is empty"));
            }
            found.push((name, Source::Files(paths)));
        }
    }
    if let Some(name) = data {
        let place = members.place(name);
        if let Some(text) = members.text(name)? {
            found.push((name, Source::Data(vec![decode(&place, &text)?])));
        }
    }
    if let Some(name) = datas {
        let place = members.place(name);
        if let Some(texts) = members.texts(name)? {
            if texts.is_empty() {
                return Err(PolicyError::format(&place, "the list is empty"));
            }
            let data = texts.iter().map(|text| decode(&place, text)).collect::<Result<_, _>>()?;
            found.push((name, Source::Data(data)));
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

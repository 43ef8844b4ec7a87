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
mod tests;

//! What a policy demands of images, said of the names that the same images have elsewhere.
//!
//! For clusters that pull copies: signatures name an image as it was called where it was signed, so what is demanded there is
//! said here with `remapIdentity`, `exactReference` or `exactRepository`. Nothing is ever said more weakly than the policy has
//! it; what cannot be said as strictly is [`Unmovable`].

use std::path::{Path, PathBuf};

use manifest_schema::text::escape;
use manifest_schema::{Reference, Repository, Scope};
use sequoia_openpgp as openpgp;

use super::file::{CosignKeys, GpgKeys, Requirement};
use super::identity::{Named, SignedIdentity, is_prefix, rename, renamed};
use super::scope::{docker_scopes, name_scopes};
use super::{ImagePolicy, shown};
use crate::Certificates;
use crate::certificates::{Block, read_blocks, revokes};

/// What is demanded in one part of a policy, said for another name.
#[derive(Debug)]
pub struct Moved<'a> {
    /// The part of the policy that decides, as verdicts name it.
    pub scope: String,
    /// All of its demands, at least one; or why they cannot be said.
    pub demands: Result<Vec<Demand<'a>>, Unmovable>,
}

/// One requirement, said for another name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Demand<'a> {
    /// `insecureAcceptAnything`.
    Anything,
    /// `reject`.
    Reject,
    /// `signedBy`, with `GPGKeys`.
    SignedBy {
        /// The keys.
        keys: &'a KeySource,
        /// What a signature has to call the image.
        identity: MovedIdentity,
    },
    /// `sigstoreSigned`, with keys.
    SigstoreSigned {
        /// The keys.
        keys: &'a KeySource,
        /// What a signature has to call the image.
        identity: MovedIdentity,
    },
}

/// A `signedIdentity` as policies have it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(tag = "type", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum MovedIdentity {
    /// This reference.
    ExactReference {
        /// Which.
        docker_reference: String,
    },
    /// Any reference of this repository.
    ExactRepository {
        /// Which.
        docker_repository: String,
    },
    /// What the image is called once the prefix of its name is replaced; of an image by digest, any tag or digest there.
    RemapIdentity {
        /// The prefix of the image's own name.
        prefix: String,
        /// What signatures have instead.
        signed_prefix: String,
    },
}

/// Where a requirement has its keys from, in the form that the file has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeySource {
    /// `keyPath`.
    Path(KeyFile),
    /// `keyPaths`.
    Paths(Vec<KeyFile>),
    /// `keyData`.
    Data(Vec<u8>),
    /// `keyDatas`.
    Datas(Vec<Vec<u8>>),
}

/// A key file, as it was when the policy was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyFile {
    /// Where it is.
    pub path: PathBuf,
    /// What it holds.
    pub bytes: Vec<u8>,
}

/// Why demands cannot be said for another name as strictly.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unmovable {
    /// Only single references can be named in this way.
    #[error("policies have no signedIdentity {kind} for images under another name, but for single references")]
    Identity {
        /// The kind of `signedIdentity`.
        kind: &'static str,
    },
    /// No image meets the requirement here.
    #[error("it demands {what}, which no image meets here")]
    NeverMet {
        /// What is demanded.
        what: String,
    },
    /// A folder of keys.
    #[error("its keys are the folder {}; podman reads files only", shown(path))]
    Folder {
        /// The folder.
        path: PathBuf,
    },
    /// A revocation that is in vain for GnuPG.
    #[error("{}: a revocation stands in front of the certificate, where GnuPG passes over it", shown(path))]
    EarlyRevocation {
        /// The file.
        path: PathBuf,
    },
    /// A name that no image can have.
    #[error("the signed name `{}` is none that an image can have", escape(name))]
    Name {
        /// The name.
        name: String,
    },
}

impl ImagePolicy {
    /// The names at which the policy's demands on images of registries may change, in order: its scopes, and the prefixes that
    /// its requirements replace.
    pub fn docker_names(&self) -> Vec<&str> {
        let scopes = self.document.transports.get("docker");
        let requirements = scopes.into_iter().flat_map(|scopes| scopes.values()).flatten();
        let prefix = |requirement| match requirement {
            &Requirement::SignedBy { identity: SignedIdentity::RemapIdentity { ref prefix, .. }, .. }
            | &Requirement::SigstoreSigned { identity: SignedIdentity::RemapIdentity { ref prefix, .. }, .. } => {
                Some(prefix.as_str())
            }
            _ => None,
        };
        let mut names: Vec<&str> = requirements.chain(&self.document.default).filter_map(prefix).collect();
        names.extend(scopes.into_iter().flat_map(|scopes| scopes.keys()).map(String::as_str));
        names.sort_unstable();
        names.dedup();
        names
    }

    /// What is demanded of images below `from`, said for the same images below `to`.
    ///
    /// This holds for what lies below `from` and not below a longer one of the [`docker_names`](ImagePolicy::docker_names).
    pub fn moved(&self, from: &Scope, to: &Scope) -> Moved<'_> {
        let (from, to) = (from.to_string(), to.to_string());
        let (scope, requirements) = self.first("docker", name_scopes(&from));
        Moved { scope, demands: demands(requirements, |identity| in_scope(identity, &from, &to)) }
    }

    /// What is demanded of one image, said for the same tag or digest in the repository `to`.
    pub fn moved_image(&self, from: &Reference, to: &Repository) -> Moved<'_> {
        let (from, to) = (Named::of(from), to.to_string());
        let (scope, requirements) = self.first("docker", docker_scopes(&from));
        Moved { scope, demands: demands(requirements, |identity| of_image(identity, &from, &to)) }
    }
}

fn demands(
    requirements: &[Requirement],
    moved: impl Fn(&SignedIdentity) -> Result<MovedIdentity, Unmovable>,
) -> Result<Vec<Demand<'_>>, Unmovable> {
    if requirements.iter().any(|requirement| matches!(requirement, Requirement::Reject)) {
        return Ok(vec![Demand::Reject]);
    }
    requirements.iter().map(|requirement| demand(requirement, &moved)).collect()
}

fn demand<'a>(
    requirement: &'a Requirement,
    moved: &impl Fn(&SignedIdentity) -> Result<MovedIdentity, Unmovable>,
) -> Result<Demand<'a>, Unmovable> {
    let never = |what: String| Err(Unmovable::NeverMet { what });
    match requirement {
        Requirement::InsecureAcceptAnything => Ok(Demand::Anything),
        Requirement::Reject => Ok(Demand::Reject),
        Requirement::SignedBaseLayer => never("signedBaseLayer".into()),
        Requirement::SignedBy { keys: GpgKeys::Unimplemented(kind), .. } => never(format!("keyType {kind}")),
        Requirement::SigstoreSigned { keys: CosignKeys::Unsupported { needs, .. }, .. } => never((*needs).into()),
        Requirement::SignedBy { keys: GpgKeys::Unread, .. }
        | Requirement::SigstoreSigned { keys: CosignKeys::Unread, .. } => never("keys that were not read".into()),
        Requirement::SignedBy { keys: GpgKeys::Certificates { source, .. }, identity } => {
            Ok(Demand::SignedBy { keys: source.as_ref().map_err(Clone::clone)?, identity: moved(identity)? })
        }
        Requirement::SigstoreSigned { keys: CosignKeys::Keys { source, .. }, identity } => {
            Ok(Demand::SigstoreSigned { keys: source, identity: moved(identity)? })
        }
    }
}

/// For all images below a scope: whatever their tags and digests are.
fn in_scope(identity: &SignedIdentity, from: &str, to: &str) -> Result<MovedIdentity, Unmovable> {
    match identity {
        SignedIdentity::MatchRepoDigestOrExact => remap(to, from.into()),
        SignedIdentity::RemapIdentity { prefix, signed_prefix } => {
            remap(to, rename(from, prefix, signed_prefix).unwrap_or(from.into()))
        }
        // These do not ask what the image is called.
        SignedIdentity::ExactReference(named) => Ok(reference(named)),
        SignedIdentity::ExactRepository(named) => Ok(repository(named)),
        // By digest remapIdentity would take a signature for any tag; and it takes none without a tag.
        SignedIdentity::MatchExact | SignedIdentity::MatchRepository => {
            Err(Unmovable::Identity { kind: identity.kind() })
        }
    }
}

/// For one tag or digest.
fn of_image(identity: &SignedIdentity, from: &Named, to: &str) -> Result<MovedIdentity, Unmovable> {
    let like_exact = |from: &Named| match from.has_tag() {
        true => Ok(reference(from)),
        false => remap(to, from.name().into()),
    };
    match identity {
        SignedIdentity::MatchExact => Ok(reference(from)),
        SignedIdentity::MatchRepository => Ok(repository(from)),
        SignedIdentity::MatchRepoDigestOrExact => like_exact(from),
        SignedIdentity::RemapIdentity { prefix, signed_prefix } => match renamed(from, prefix, signed_prefix) {
            Some(from) => like_exact(&from),
            None => {
                let name = rename(from.name(), prefix, signed_prefix).unwrap_or(from.name().into());
                Err(Unmovable::Name { name })
            }
        },
        SignedIdentity::ExactReference(named) => Ok(reference(named)),
        SignedIdentity::ExactRepository(named) => Ok(repository(named)),
    }
}

fn reference(named: &Named) -> MovedIdentity {
    MovedIdentity::ExactReference { docker_reference: named.to_string() }
}

fn repository(named: &Named) -> MovedIdentity {
    MovedIdentity::ExactRepository { docker_repository: named.name().into() }
}

/// A prefix that readers do not take would cost the whole policy.
fn remap(prefix: &str, signed_prefix: String) -> Result<MovedIdentity, Unmovable> {
    for text in [prefix, &signed_prefix] {
        if !is_prefix(text) {
            return Err(Unmovable::Name { name: text.into() });
        }
    }
    Ok(MovedIdentity::RemapIdentity { prefix: prefix.into(), signed_prefix })
}

impl KeySource {
    /// The files, each with its name; for data the name of the member.
    pub(super) fn files(&self) -> Vec<(&Path, &[u8])> {
        match self {
            Self::Path(file) => vec![(&file.path, &file.bytes)],
            Self::Paths(files) => files.iter().map(|file| (file.path.as_path(), file.bytes.as_slice())).collect(),
            Self::Data(data) => vec![(Path::new("keyData"), data)],
            Self::Datas(datas) => datas.iter().map(|data| (Path::new("keyDatas"), data.as_slice())).collect(),
        }
    }

    /// The same keys for GnuPG, which imports one certificate or revocation after the other and passes over a revocation whose
    /// certificate it does not have yet.
    pub(super) fn for_gpg(mut self) -> Result<Self, Unmovable> {
        if let Self::Paths(files) = &mut self {
            // Such a file alone holds no certificate.
            files.sort_by_key(|file| Certificates::from_bytes(&file.bytes, &file.path).is_err());
        }
        let mut known: Vec<openpgp::Cert> = Vec::new();
        for (path, bytes) in self.files() {
            for block in read_blocks(path, bytes).unwrap_or_default() {
                let revocations = match block {
                    Block::Certificates(certs) => {
                        known.extend(certs);
                        continue;
                    }
                    Block::Revocations(revocations) => revocations,
                };
                if !revocations.iter().all(|revocation| known.iter().any(|cert| revokes(revocation, cert))) {
                    return Err(Unmovable::EarlyRevocation { path: path.into() });
                }
            }
        }
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Algorithm, KeyRequest, generate};

    const DIGEST: &str = "sha256:20bf21ed457b390829cdbeec8795a7bea1626991fda603e0d01b4e7f60427e55";
    const FROM: &str = "dev.example/team";
    const TO: &str = "qa.example:5000/in";

    fn named(text: &str) -> Named {
        Named::parse_full(text).expect(text)
    }

    /// As a policy that has it would be read.
    fn read(moved: &MovedIdentity) -> SignedIdentity {
        match moved {
            MovedIdentity::ExactReference { docker_reference } => {
                SignedIdentity::ExactReference(named(docker_reference))
            }
            MovedIdentity::ExactRepository { docker_repository } => {
                SignedIdentity::ExactRepository(named(docker_repository))
            }
            MovedIdentity::RemapIdentity { prefix, signed_prefix } => {
                assert!(is_prefix(prefix) && is_prefix(signed_prefix), "{prefix} {signed_prefix}");
                SignedIdentity::RemapIdentity { prefix: prefix.clone(), signed_prefix: signed_prefix.clone() }
            }
        }
    }

    fn identities() -> Vec<SignedIdentity> {
        let remap = |prefix: &str, signed: &str| SignedIdentity::RemapIdentity {
            prefix: prefix.into(),
            signed_prefix: signed.into(),
        };
        vec![
            SignedIdentity::MatchRepoDigestOrExact,
            SignedIdentity::MatchExact,
            SignedIdentity::MatchRepository,
            SignedIdentity::ExactReference(named("dev.example/team/app:1")),
            SignedIdentity::ExactReference(named(&format!("dev.example/team/app@{DIGEST}"))),
            SignedIdentity::ExactRepository(named("dev.example/team/app")),
            remap("dev.example", "ci.example"),
            remap("dev.example/team", "ci.example/out"),
            remap("dev.example/te", "ci.example"),
            remap("qa.example:5000", "ci.example"),
        ]
    }

    /// What signatures may call images.
    fn signed() -> Vec<String> {
        let hosts = [FROM, TO, "ci.example/team", "ci.example/out", "ci.example", "dev.example", "qa.example:5000"];
        let paths = ["", "/app", "/app/sub", "/other"];
        let name = |host: &str| paths.map(|path| format!("{host}{path}"));
        let ends = ["", ":1", ":2", &format!("@{DIGEST}"), &format!(":1@{DIGEST}")];
        hosts.iter().flat_map(|h| name(h)).flat_map(|name| ends.map(|end| format!("{name}{end}"))).collect()
    }

    #[test]
    fn the_same_signatures_count_under_the_other_name() {
        let mut moved = 0;
        for identity in identities() {
            let Ok(there) = in_scope(&identity, FROM, TO) else {
                assert!(matches!(identity, SignedIdentity::MatchExact | SignedIdentity::MatchRepository));
                continue;
            };
            moved += 1;
            for image in ["/app:1", "/app:2", "/app/sub:1", &format!("/app@{DIGEST}"), ":1"] {
                let (origin, copy) = (named(&format!("{FROM}{image}")), named(&format!("{TO}{image}")));
                for signed in signed() {
                    let expected = identity.accepts(Some(&origin), &signed);
                    assert_eq!(read(&there).accepts(Some(&copy), &signed), expected, "{identity:?} {image} {signed}");
                }
            }
        }
        assert_eq!(moved, 8);
    }

    #[test]
    fn of_one_image_every_identity_can_be_said() {
        for identity in identities() {
            for image in [":1", ":2", &format!("@{DIGEST}")] {
                let (origin, copy) = (named(&format!("{FROM}/app{image}")), named(&format!("{TO}/app{image}")));
                let there = of_image(&identity, &origin, &format!("{TO}/app")).expect("a moved identity");
                for signed in signed() {
                    let expected = identity.accepts(Some(&origin), &signed);
                    assert_eq!(read(&there).accepts(Some(&copy), &signed), expected, "{identity:?} {image} {signed}");
                }
            }
        }
        let nobody = SignedIdentity::RemapIdentity { prefix: FROM.into(), signed_prefix: "docker.io".into() };
        let refused = of_image(&nobody, &named("dev.example/team/app:1"), TO);
        assert_eq!(refused, Err(Unmovable::Name { name: "docker.io/app".into() }));
        assert!(matches!(in_scope(&SignedIdentity::MatchRepoDigestOrExact, "a_b", TO), Err(Unmovable::Name { .. })));
    }

    fn policy(docker: &str, base: &Path) -> ImagePolicy {
        let text = format!(r#"{{"default": [{{"type": "reject"}}], "transports": {{"docker": {docker}}}}}"#);
        ImagePolicy::parse(text.as_bytes(), base).expect("a policy")
    }

    fn scope(text: &str) -> Scope {
        text.parse().expect("a scope")
    }

    #[test]
    fn the_longest_scope_decides_and_names_that_change_anything_are_told() {
        let policy = policy(
            r#"{"": [{"type": "signedBaseLayer", "baseLayerIdentity": {"type": "matchExact"}}],
                "*.example": [{"type": "insecureAcceptAnything"}],
                "dev.example/team": [{"type": "insecureAcceptAnything"}, {"type": "reject"}],
                "dev.example/team/app:1": [{"type": "insecureAcceptAnything"}]}"#,
            Path::new(""),
        );
        assert_eq!(policy.docker_names(), ["", "*.example", "dev.example/team", "dev.example/team/app:1"]);
        let never = |what: &str| Err(Unmovable::NeverMet { what: what.into() });
        for (from, decides, demands) in [
            ("dev.example/team/app", "docker: dev.example/team", Ok(vec![Demand::Reject])),
            ("dev.example", "docker: *.example", Ok(vec![Demand::Anything])),
            ("dev.test", "docker: \"\"", never("signedBaseLayer")),
        ] {
            let moved = policy.moved(&scope(from), &scope(TO));
            assert_eq!((moved.scope.as_str(), moved.demands), (decides, demands), "{from}");
        }
        let to = format!("{TO}/app").parse().expect("a repository");
        let image = |text: &str| policy.moved_image(&text.parse().expect("a reference"), &to).scope;
        assert_eq!(image("dev.example/team/app:1"), "docker: dev.example/team/app:1");
        assert_eq!(image("dev.example/team/app:2"), "docker: dev.example/team");
    }

    #[test]
    fn prefixes_that_a_policy_replaces_are_among_its_names() {
        let data = r#""keyType": "X509Certificates", "keyPath": "none""#;
        let identity = r#"{"type": "remapIdentity", "prefix": "dev.example/old", "signedPrefix": "ci.example"}"#;
        let requirement = format!(r#"{{"type": "signedBy", {data}, "signedIdentity": {identity}}}"#);
        let policy = policy(&format!(r#"{{"dev.example": [{requirement}]}}"#), Path::new(""));
        assert_eq!(policy.docker_names(), ["dev.example", "dev.example/old"]);
        let what = "keyType X509Certificates".into();
        assert_eq!(policy.moved(&scope("dev.example"), &scope(TO)).demands, Err(Unmovable::NeverMet { what }));
    }

    #[test]
    fn revocations_come_behind_their_certificates_or_the_keys_are_not_given_away() {
        let key = |name: &str| {
            let (user_id, algorithm, created) = (name.into(), Algorithm::P256, manifest_schema::Timestamp::now());
            generate(&KeyRequest { user_id, algorithm, passphrase: None, expires: None, created }).expect("a key")
        };
        let (a, b) = (key("a"), key("b"));
        let folder = tempfile::tempdir().expect("a folder");
        let write = |name: &str, parts: &[&[u8]]| {
            std::fs::write(folder.path().join(name), parts.concat()).expect("a file");
        };
        write("a.asc", &[&a.certificate_armored]);
        write("b.asc", &[&b.certificate_armored]);
        write("a.rev", &[&a.revocation_armored]);
        write("revoked.asc", &[&a.certificate_armored, &a.revocation_armored]);
        write("early.asc", &[&a.revocation_armored, &a.certificate_armored]);
        let source = |member: &str| {
            let requirement = format!(r#"{{"type": "signedBy", "keyType": "GPGKeys", {member}}}"#);
            let policy = policy(&format!(r#"{{"dev.example": [{requirement}]}}"#), folder.path());
            match policy.moved(&scope("dev.example"), &scope(TO)).demands.as_deref() {
                Ok([Demand::SignedBy { keys, .. }]) => {
                    let name = |(path, _): (&Path, &[u8])| path.file_name().expect("a name").display().to_string();
                    Ok(keys.files().into_iter().map(name).collect::<Vec<_>>())
                }
                Err(e) => Err(e.to_string().replace(&folder.path().display().to_string(), "")),
                other => panic!("{other:?}"),
            }
        };
        let names = |names: &[&str]| Ok(names.iter().map(ToString::to_string).collect::<Vec<_>>());
        assert_eq!(source(r#""keyPath": "revoked.asc""#), names(&["revoked.asc"]));
        assert_eq!(source(r#""keyPaths": ["revoked.asc", "b.asc"]"#), names(&["revoked.asc", "b.asc"]));
        assert_eq!(source(r#""keyPaths": ["a.rev", "b.asc", "a.asc"]"#), names(&["b.asc", "a.asc", "a.rev"]));
        let early = "/early.asc: a revocation stands in front of the certificate, where GnuPG passes over it";
        assert_eq!(source(r#""keyPath": "early.asc""#), Err(early.into()));
        assert_eq!(source(r#""keyPaths": ["early.asc", "b.asc"]"#), Err(early.into()));
        std::fs::create_dir(folder.path().join("keys")).expect("a folder");
        std::fs::copy(folder.path().join("a.asc"), folder.path().join("keys/a.asc")).expect("a copy");
        assert_eq!(
            source(r#""keyPath": "keys""#),
            Err("its keys are the folder /keys; podman reads files only".into())
        );
    }

    #[test]
    fn identities_are_written_as_policies_have_them() {
        let json = |identity: MovedIdentity| serde_json::to_string(&identity).expect("JSON");
        assert_eq!(
            json(reference(&named("dev.example/a:1"))),
            r#"{"type":"exactReference","dockerReference":"dev.example/a:1"}"#
        );
        assert_eq!(
            json(repository(&named("dev.example/a:1"))),
            r#"{"type":"exactRepository","dockerRepository":"dev.example/a"}"#
        );
        assert_eq!(
            json(remap(TO, FROM.into()).expect("prefixes")),
            r#"{"type":"remapIdentity","prefix":"qa.example:5000/in","signedPrefix":"dev.example/team"}"#
        );
    }
}

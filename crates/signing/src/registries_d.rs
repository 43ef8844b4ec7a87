//! Where the signatures of a registry's images lie: `containers-registries.d(5)`.
//!
//! The rules are those of containers/image (`docker/registries_d.go`): only files called `*.yaml` are read; `default-docker`
//! or a scope in two files is an error; unknown members are passed over, and [`RegistriesD::ignored`] names them. The manual
//! says that only the most specific section counts; the code asks section after section for each member, and so does this.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use manifest_schema::{OutsideText, Reference, Repository, Tag};

use crate::certificates::read_key_file;
use crate::error::shown;
use crate::policy::{Named, docker_scopes};

/// The content of one or more folders in the form of `/etc/containers/registries.d`.
#[derive(Debug, Clone, Default)]
pub struct RegistriesD {
    default: Option<(PathBuf, Section)>,
    scopes: BTreeMap<String, (PathBuf, Section)>,
    ignored: Vec<IgnoredMember>,
}

/// A member of a file that means nothing, such as a misspelt one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IgnoredMember {
    /// The file.
    pub path: PathBuf,
    /// The member, with the members it is in: `docker.registry.example.lookasides`.
    pub member: OutsideText,
}

/// Why the folders cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RegistriesDError {
    /// A folder cannot be listed.
    #[error("{}: cannot be listed", shown(path))]
    Folder {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file cannot be read.
    #[error("a file of signature locations cannot be read")]
    Read(#[source] crate::Error),
    /// A file is not YAML, or a member has another type.
    #[error("{}: {}", shown(path), reason.escaped())]
    Format {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        reason: OutsideText,
    },
    /// A section in two files.
    #[error("{} is in both {} and {}; each section may be in one file only", section.escaped(), shown(first), shown(second))]
    Twice {
        /// `default-docker`, or the scope.
        section: OutsideText,
        /// One file.
        first: PathBuf,
        /// The other file.
        second: PathBuf,
    },
}

#[derive(Debug, Clone, Default, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Section {
    lookaside: Option<String>,
    /// What `lookaside` was called.
    sigstore: Option<String>,
    /// Where signatures are written, which is not done by these rules.
    #[serde(rename = "lookaside-staging")]
    _lookaside_staging: Option<String>,
    /// What `lookaside-staging` was called.
    #[serde(rename = "sigstore-staging")]
    _sigstore_staging: Option<String>,
    use_sigstore_attachments: Option<bool>,
    #[serde(flatten)]
    ignored: BTreeMap<String, serde::de::IgnoredAny>,
}

#[derive(Default, serde::Deserialize)]
struct Document {
    #[serde(rename = "default-docker")]
    default_docker: Option<Section>,
    docker: Option<BTreeMap<String, Option<Section>>>,
    #[serde(flatten)]
    ignored: BTreeMap<String, serde::de::IgnoredAny>,
}

impl RegistriesD {
    /// Reads the files of these folders, which must be there.
    ///
    /// # Errors
    /// [`RegistriesDError`]; [`RegistriesDError::Folder`] if a folder is missing.
    pub fn load(folders: &[PathBuf]) -> Result<Self, RegistriesDError> {
        Self::read(folders, false)
    }

    /// Reads the files of the [`standard`](RegistriesD::standard) folder; one that is not there has none.
    ///
    /// # Errors
    /// [`RegistriesDError`].
    pub fn load_standard() -> Result<Self, RegistriesDError> {
        Self::read(&Self::standard(), true)
    }

    fn read(folders: &[PathBuf], may_be_missing: bool) -> Result<Self, RegistriesDError> {
        let mut all = Self::default();
        for folder in folders {
            let files = match files(folder) {
                Err(RegistriesDError::Folder { source, .. })
                    if may_be_missing && source.kind() == io::ErrorKind::NotFound =>
                {
                    continue;
                }
                files => files?,
            };
            for path in files {
                let bytes = match read_key_file(&path) {
                    // It was there a moment ago.
                    Err(crate::Error::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => continue,
                    read => read.map_err(RegistriesDError::Read)?,
                };
                all.add(&path, &bytes)?;
            }
        }
        Ok(all)
    }

    /// The folder that containers/image would read: the user's if it is there, otherwise the machine's. Never both.
    pub fn standard() -> Vec<PathBuf> {
        let user = std::env::var_os("HOME").map(|home| Path::new(&home).join(".config/containers/registries.d"));
        vec![user.filter(|folder| folder.exists()).unwrap_or_else(|| "/etc/containers/registries.d".into())]
    }

    /// Where containers/image looks if nothing is configured for an image: a tree on this machine, as a URL.
    pub fn built_in() -> String {
        // Linux gives this folder the effective user of the process.
        let root = fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0);
        let home = std::env::var_os("HOME").filter(|_| !root);
        let tree = home.map_or_else(
            || PathBuf::from("/var/lib/containers/sigstore"),
            |home| Path::new(&home).join(".local/share/containers/sigstore"),
        );
        format!("file://{}", tree.display())
    }

    /// The base URL of the simple signatures of a repository's images, or of the image with that tag: for
    /// [`fetch_signatures`](crate::fetch_signatures). `None` if nothing is configured.
    pub fn lookaside(&self, repository: &Repository, tag: Option<&Tag>) -> Option<&str> {
        self.first(repository, tag, |section| non_empty(&section.lookaside).or_else(|| non_empty(&section.sigstore)))
    }

    /// Whether cosign signatures in the repository are looked for; they are not unless that is configured.
    pub fn sigstore_attachments(&self, repository: &Repository, tag: Option<&Tag>) -> bool {
        self.first(repository, tag, |section| section.use_sigstore_attachments).unwrap_or(false)
    }

    /// Members that mean nothing, for a warning.
    pub fn ignored(&self) -> &[IgnoredMember] {
        &self.ignored
    }

    /// The first section that has something to say, from the most specific one.
    fn first<'a, T>(
        &'a self,
        repository: &Repository,
        tag: Option<&Tag>,
        wanted: impl Fn(&'a Section) -> Option<T>,
    ) -> Option<T> {
        let scopes = match tag {
            Some(tag) => docker_scopes(&Named::of(&Reference::tagged(repository.clone(), tag.clone()))),
            None => docker_scopes(&Named::repository(repository)),
        };
        scopes
            .iter()
            .filter_map(|scope| self.scopes.get(scope))
            .chain(&self.default)
            .find_map(|(_, section)| wanted(section))
    }

    fn add(&mut self, path: &Path, bytes: &[u8]) -> Result<(), RegistriesDError> {
        let format = |reason: String| RegistriesDError::Format { path: path.into(), reason: OutsideText::new(reason) };
        let text = std::str::from_utf8(bytes).map_err(|_| format("not UTF-8".into()))?;
        // The first line says what is wrong; a piece of the file follows.
        let first_line = |e: serde_saphyr::Error| e.to_string().lines().next().unwrap_or_default().to_string();
        let document: Option<Document> = serde_saphyr::from_str(text).map_err(|e| format(first_line(e)))?;
        let document = document.unwrap_or_default();
        let twice = |section: &str, first: &Path| RegistriesDError::Twice {
            section: OutsideText::new(section),
            first: first.into(),
            second: path.into(),
        };
        let mut ignored: Vec<String> = document.ignored.into_keys().collect();
        if let Some(section) = document.default_docker {
            if let Some((first, _)) = &self.default {
                return Err(twice("default-docker", first));
            }
            ignored.extend(section.ignored.keys().map(|member| format!("default-docker.{member}")));
            self.default = Some((path.into(), section));
        }
        for (scope, section) in document.docker.into_iter().flatten() {
            if let Some((first, _)) = self.scopes.get(&scope) {
                return Err(twice(&scope, first));
            }
            let section = section.unwrap_or_default();
            ignored.extend(section.ignored.keys().map(|member| format!("docker.{scope}.{member}")));
            self.scopes.insert(scope, (path.into(), section));
        }
        let ignored = ignored.into_iter().map(OutsideText::new);
        self.ignored.extend(ignored.map(|member| IgnoredMember { path: path.into(), member }));
        Ok(())
    }
}

fn non_empty(text: &Option<String>) -> Option<&str> {
    text.as_deref().filter(|text| !text.is_empty())
}

/// The `*.yaml` files of a folder, in order.
fn files(folder: &Path) -> Result<Vec<PathBuf>, RegistriesDError> {
    let failed = |source| RegistriesDError::Folder { path: folder.into(), source };
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.file_name().is_some_and(|name| name.as_encoded_bytes().ends_with(b".yaml")) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a folder");
        for (name, text) in files {
            fs::write(folder.path().join(name), text).expect("a file");
        }
        folder
    }

    fn load(files: &[(&str, &str)]) -> Result<RegistriesD, RegistriesDError> {
        RegistriesD::load(&[folder(files).path().into()])
    }

    fn repository(text: &str) -> Repository {
        text.parse().expect("a repository")
    }

    #[test]
    fn each_member_falls_through_to_the_parents() {
        let registries = load(&[
            (
                "a.yaml",
                "default-docker:\n  lookaside: https://default.example\n  use-sigstore-attachments: true\n\
                 docker:\n  r.example:\n    lookaside: https://host.example\n    lookaside-staging: file:///staging\n",
            ),
            (
                "b.yaml",
                "docker:\n  r.example/team:\n    use-sigstore-attachments: false\n  r.example/team/old:\n    \
                 sigstore: https://old.example\n    lookaside: ''\n  r.example/team/app:1:\n    lookaside: https://tag.example\n  \
                 r.example:5000:\n  '*.wild.example':\n    lookaside: https://wild.example\n",
            ),
            ("c.yml", "docker: {r.example/none: {lookaside: https://not-read.example}}"),
            ("d.yaml", ""),
            ("e.yaml", "# nothing\n"),
        ])
        .expect("loads");
        let tag: Tag = "1".parse().expect("a tag");
        for (name, tag, lookaside, attachments) in [
            ("r.example/none", None, "https://host.example", true),
            ("r.example/team/app", None, "https://host.example", false),
            ("r.example/team/app", Some(&tag), "https://tag.example", false),
            ("r.example/team/old", Some(&tag), "https://old.example", false),
            ("r.example/teams/app", None, "https://host.example", true),
            ("r.example:5000/team/app", None, "https://default.example", true),
            ("a.wild.example/app", None, "https://wild.example", true),
            ("a.wild.example:443/app", None, "https://wild.example", true),
            ("wild.example/app", None, "https://default.example", true),
        ] {
            let repository = repository(name);
            assert_eq!(registries.lookaside(&repository, tag), Some(lookaside), "{name}");
            assert_eq!(registries.sigstore_attachments(&repository, tag), attachments, "{name}");
        }
    }

    #[test]
    fn nothing_configured() {
        let empty = load(&[]).expect("no files");
        assert_eq!(empty.lookaside(&repository("r.example/a"), None), None);
        assert!(!empty.sigstore_attachments(&repository("r.example/a"), None));
        let staging = load(&[("a.yaml", "default-docker: {lookaside-staging: 'file:///s'}")]).expect("loads");
        assert_eq!(staging.lookaside(&repository("r.example/a"), None), None);
        assert!(staging.ignored().is_empty(), "it is known, only not for reading");
    }

    #[test]
    fn only_the_standard_folder_may_be_missing() {
        let there = folder(&[("a.yaml", "default-docker: {lookaside: 'file:///a'}")]);
        let missing = there.path().join("registries.d");
        let folders = [there.path().into(), missing.clone()];
        let error = RegistriesD::load(&folders).expect_err("a folder that was named");
        assert!(matches!(&error, RegistriesDError::Folder { path, .. } if *path == missing), "{error}");
        assert!(error.to_string().contains(&missing.display().to_string()), "{error}");
        let registries = RegistriesD::read(&folders, true).expect("no folder, no files");
        assert_eq!(registries.lookaside(&repository("r.example/a"), None), Some("file:///a"));
        // Anything but a folder is an error there too.
        let file = there.path().join("a.yaml");
        assert!(matches!(RegistriesD::read(&[file], true), Err(RegistriesDError::Folder { .. })));
    }

    #[test]
    fn unknown_members_are_named() {
        let text =
            "future: 1\ndefault-docker: {lookasides: x}\ndocker: {r.example: {x: {y: [1]}, lookaside: 'file:///a'}}\n";
        let registries = load(&[("a.yaml", text)]).expect("loads");
        let ignored: Vec<_> = registries.ignored().iter().map(|i| i.member.raw()).collect();
        assert_eq!(ignored, ["future", "default-docker.lookasides", "docker.r.example.x"]);
        assert_eq!(registries.lookaside(&repository("r.example/a"), None), Some("file:///a"));
    }

    #[test]
    fn refusals() {
        let one = "docker: {r.example: {lookaside: 'file:///a'}}";
        assert!(matches!(load(&[("a.yaml", one), ("b.yaml", one)]), Err(RegistriesDError::Twice { .. })));
        let default = "default-docker: {lookaside: 'file:///a'}";
        let twice = load(&[("a.yaml", default), ("b.yaml", default)]);
        assert!(matches!(&twice, Err(RegistriesDError::Twice { section, .. }) if section.raw() == "default-docker"));
        let two = [folder(&[("a.yaml", default)]), folder(&[("a.yaml", default)])];
        let folders: Vec<PathBuf> = two.iter().map(|folder| folder.path().into()).collect();
        assert!(matches!(RegistriesD::load(&folders), Err(RegistriesDError::Twice { .. })));
        for bad in [
            "docker: [r.example]",
            "docker: {r.example: file}",
            "docker: {r.example: {lookaside: [x]}}",
            "docker: {r.example: {lookaside-staging: [x]}}",
            "docker: {r.example: {sigstore-staging: {}}}",
            "docker: {r.example: {use-sigstore-attachments: perhaps}}",
            "docker: {r.example: {lookaside: a, lookaside: b}}",
            "docker: {r.example: {}, r.example: {}}",
            "docker: {",
            "text",
        ] {
            assert!(matches!(load(&[("a.yaml", bad)]), Err(RegistriesDError::Format { .. })), "{bad}");
        }
        let folder = folder(&[]);
        fs::create_dir(folder.path().join("a.yaml")).expect("a folder");
        assert!(matches!(RegistriesD::load(&[folder.path().into()]), Err(RegistriesDError::Read(_))));
    }
}

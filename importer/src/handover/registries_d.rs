//! A file for registries.d: where nodes find signatures.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use manifest_schema::OutsideText;
use serde::Serialize;

use super::error::HandOverError;
use crate::config::LookasideUrlConfig;
use crate::error::Error;

/// What is said of one scope. Never a default: that would be for the registries of others too.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Section {
    /// The scope.
    pub scope: String,
    /// The URL of the signature tree.
    pub lookaside: String,
    /// Whether cosign signatures are looked for in the registry.
    pub use_sigstore_attachments: bool,
}

/// The file. Strings are written as JSON has them, which YAML takes.
pub fn text(sections: &[Section]) -> String {
    let quoted = |text: &str| serde_json::Value::from(text).to_string();
    let mut file = "docker:\n".to_string();
    for section in sections {
        file += &format!("  {}:\n    lookaside: {}\n", quoted(&section.scope), quoted(&section.lookaside));
        if section.use_sigstore_attachments {
            file += "    use-sigstore-attachments: true\n";
        }
    }
    file
}

/// Where nodes find the trees of several registries.
#[derive(Debug, Clone, Default)]
pub struct Urls(Option<LookasideUrlConfig>);

impl Urls {
    /// What flags say, or else the configuration.
    ///
    /// # Errors
    /// [`HandOverError::LookasideUrlFlag`].
    pub fn new(flags: &[String], configured: Option<&LookasideUrlConfig>) -> Result<Self, Error> {
        // A path may have a `=` too.
        let host = |flag: &str| flag.split_once('=').filter(|(host, _)| !host.contains('/')).is_some();
        match flags {
            [] => Ok(Self(configured.cloned())),
            [one] if !host(one) => Ok(Self(Some(LookasideUrlConfig::One(one.clone())))),
            many => {
                let pair = |flag: &String| match flag.split_once('=').filter(|_| host(flag)) {
                    Some((host, url)) => Ok((host.to_string(), url.to_string())),
                    None => Err(HandOverError::LookasideUrlFlag(OutsideText::new(flag))),
                };
                Ok(Self(Some(LookasideUrlConfig::PerHost(many.iter().map(pair).collect::<Result<_, _>>()?))))
            }
        }
    }

    /// Whether somebody named any.
    pub fn are_given(&self) -> bool {
        self.0.is_some()
    }

    /// The URL of each registry's tree; `root` says where it is on this machine.
    ///
    /// # Errors
    /// [`HandOverError::SharedLookasideUrl`], [`HandOverError::NoLookasideUrl`], [`HandOverError::LookasideUrl`]; those of `root`.
    pub fn of<'r>(
        &self,
        registries: &[&str],
        root: impl Fn(&str) -> Result<&'r Path, Error>,
    ) -> Result<Vec<String>, Error> {
        if let (Some(LookasideUrlConfig::One(_)), [_, _, ..]) = (&self.0, registries) {
            return Err(HandOverError::SharedLookasideUrl {
                hosts: registries.iter().map(ToString::to_string).collect(),
            }
            .into());
        }
        let url = |registry: &&str| match &self.0 {
            None => file_url(root(registry)?),
            Some(LookasideUrlConfig::One(url)) => Ok(checked(url)?),
            Some(LookasideUrlConfig::PerHost(urls)) => match urls.get(*registry) {
                Some(url) => Ok(checked(url)?),
                None => Err(HandOverError::NoLookasideUrl { host: (*registry).into() }.into()),
            },
        };
        registries.iter().map(url).collect()
    }
}

/// A URL to which readers can add a path.
fn checked(url: &str) -> Result<String, HandOverError> {
    let rest = match url.split_once("://") {
        Some(("http" | "https", rest)) => Some(rest).filter(|rest| !rest.starts_with('/')),
        Some(("file", rest)) => rest.strip_prefix('/'),
        _ => None,
    };
    let plain = |c: char| c.is_ascii_graphic() && !matches!(c, '?' | '#' | '"' | '\\');
    match rest {
        Some(rest) if !rest.trim_end_matches('/').is_empty() && rest.chars().all(plain) => {
            Ok(url.trim_end_matches('/').into())
        }
        _ => Err(HandOverError::LookasideUrl(OutsideText::new(url))),
    }
}

/// The URL of a folder on this machine.
fn file_url(folder: &Path) -> Result<String, Error> {
    let absolute = std::path::absolute(folder);
    let absolute = absolute.map_err(|source| Error::LookasideRoot { path: folder.into(), source })?;
    let mut url = "file://".to_string();
    for &byte in absolute.as_os_str().as_bytes() {
        match byte {
            b'/' | b'-' | b'.' | b'_' | b'~' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' => url.push(char::from(byte)),
            _ => url += &format!("%{byte:02X}"),
        }
    }
    Ok(url.trim_end_matches('/').into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_those_of_the_flags_the_configuration_or_the_folder() {
        let root = |_: &str| Ok(Path::new("/srv/qa sigstore/ä%/"));
        let of = |flags: &[&str], configured: Option<LookasideUrlConfig>, registries: &[&str]| {
            let flags: Vec<String> = flags.iter().map(ToString::to_string).collect();
            Urls::new(&flags, configured.as_ref()).and_then(|urls| urls.of(registries, root)).map_err(|e| e.to_string())
        };
        let ok = |urls: &[&str]| Ok(urls.iter().map(ToString::to_string).collect::<Vec<_>>());
        let one = |url: &str| Some(LookasideUrlConfig::One(url.into()));
        assert_eq!(of(&[], None, &["qa"]), ok(&["file:///srv/qa%20sigstore/%C3%A4%25"]));
        assert_eq!(of(&[], one("https://s.example/qa/"), &["qa"]), ok(&["https://s.example/qa"]));
        assert_eq!(of(&["http://s.example/a=b"], one("https://x"), &["qa"]), ok(&["http://s.example/a=b"]));
        let both = ["b:5000=file:///b", "a=https://s.example/a=1"];
        assert_eq!(of(&both, None, &["a", "b:5000"]), ok(&["https://s.example/a=1", "file:///b"]));
        for (flags, registries, expected) in [
            (&["https://s.example"][..], &["a", "b"][..], "one lookaside URL for several registries (a, b)"),
            (&["a=https://s.example"], &["a", "b"], "no lookaside URL is configured for registry b"),
            (&["a=https://s.example", "https://s.example"], &["a"], "of several, each must be HOST=URL"),
        ] {
            let refused = of(flags, None, registries).expect_err(expected);
            assert!(refused.contains(expected), "{refused}");
        }
        for bad in [
            "",
            "s.example",
            "ftp://s.example",
            "https://",
            "https:///a",
            "file://host/a",
            "https://s.example/?a",
            "https://s.example/#a",
            "https://s.example/a b",
            "https://s.example/\"",
            "file:///",
        ] {
            let refused = of(&[], one(bad), &["a"]).expect_err(bad);
            assert!(refused.contains("expected http://"), "{refused}");
        }
    }

    #[test]
    fn the_file_has_scopes_only() {
        let section = |scope: &str, use_sigstore_attachments| Section {
            scope: scope.into(),
            lookaside: "https://s.example".into(),
            use_sigstore_attachments,
        };
        let text = text(&[section("qa.example:5000/a", false), section("qa.example:5000/b", true)]);
        assert_eq!(
            text,
            "docker:\n  \"qa.example:5000/a\":\n    lookaside: \"https://s.example\"\n  \"qa.example:5000/b\":\n    \
             lookaside: \"https://s.example\"\n    use-sigstore-attachments: true\n"
        );
    }
}

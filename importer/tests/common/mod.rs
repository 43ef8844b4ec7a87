//! What the tests of the program share: tables of flaws, forged bundles, and what a refusal must leave behind.

#![allow(clippy::unwrap_used, dead_code)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use ledger::{EntryNumber, Ledger};
use manifest_schema::{Digest, Manifest};
use serde_json::{Value, json};
use testkit::hostile::{self, MANIFEST, Opened, TarEntry};
use testkit::{Key, Layout, Ran, Site, run};

/// What a refusal may leave behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leaves {
    /// Nothing at all.
    Nothing,
    /// One ledger entry: the refusal.
    Refusal,
    /// Sound blobs that came before the flaw, unreferenced; in the ledger the reservation, and the refusal if it is one.
    Blobs,
}

/// What a case does to a copy of an honest bundle, or to the configuration.
pub type Flaw = Box<dyn Fn(&mut Site, &Path)>;

/// One flaw and the refusal it must meet.
pub struct Case {
    pub name: &'static str,
    pub flaw: Flaw,
    pub code: i32,
    /// What standard error must say.
    pub says: Vec<String>,
    pub leaves: Leaves,
    /// The exit code of `verify`, which sees more; `None`: what is wrong is not in the bundle.
    pub verify: Option<i32>,
}

/// A flaw that `receive` and `verify` refuse with the same exit code.
pub fn case(
    name: &'static str,
    code: i32,
    says: &[&str],
    leaves: Leaves,
    flaw: impl Fn(&mut Site, &Path) + 'static,
) -> Case {
    let says = says.iter().map(ToString::to_string).collect();
    Case { name, flaw: Box::new(flaw), code, says, leaves, verify: Some(code) }
}

impl Case {
    /// `verify` ends with another exit code.
    pub fn verify(mut self, code: impl Into<Option<i32>>) -> Self {
        self.verify = code.into();
        self
    }
}

/// Runs each case on a copy of its own of an honest bundle; all that went wrong is reported together. Gives the blobs that
/// any of them left in the registry.
#[track_caller]
pub fn refused(site: &mut Site, bundle: &Path, cases: &[Case]) -> BTreeSet<Digest> {
    let ledger = SavedLedger::of(site);
    let import = site.import.clone();
    let before = site.production.uploaded_blobs();
    let (mut wrong, mut left) = (Vec::new(), BTreeSet::new());
    for case in cases {
        let folder = site.copy(bundle, "case");
        (case.flaw)(site, &folder);
        if let Err(problem) = one(site, &folder, case) {
            wrong.push(format!("=== {}: {problem}", case.name));
        }
        site.import = import.clone();
        ledger.put_back(site);
        fs::remove_dir_all(folder).unwrap();
        // The next case finds none of it: a volume of which the registry has everything is not read.
        let new: BTreeSet<_> = site.production.uploaded_blobs().difference(&before).copied().collect();
        new.iter().for_each(|blob| site.production.lose_blob(blob));
        left.extend(new);
    }
    assert!(wrong.is_empty(), "{} of {} cases\n{}", wrong.len(), cases.len(), wrong.join("\n"));
    left
}

fn one(site: &Site, folder: &Path, case: &Case) -> Result<(), String> {
    let before = World::of(site);
    if let Some(code) = case.verify {
        let ran = run(site.import(&["verify", "-q"]).arg(folder));
        shows_no_control_characters(&ran)?;
        if ran.code != Some(code) {
            return Err(format!("verify: expected exit code {code}\n{ran}"));
        }
        if World::of(site) != before {
            return Err(format!("verify wrote something\n{ran}"));
        }
    }
    let ran = site.receive(folder, &[]);
    shows_no_control_characters(&ran)?;
    if ran.code != Some(case.code) {
        return Err(format!("expected exit code {}\n{ran}", case.code));
    }
    for text in case.says.iter().map(String::as_str).chain(["state: nothing was published"]) {
        if !ran.stderr.contains(text) {
            return Err(format!("expected `{text}` in the standard error\n{ran}"));
        }
    }
    before.leaves_only(case.leaves, &World::of(site)).map_err(|e| format!("{e}\n{ran}"))
}

/// Everything on the importing side that a run may change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct World {
    registry: std::collections::BTreeMap<String, Digest>,
    manifests: BTreeSet<String>,
    tags: std::collections::BTreeMap<String, Digest>,
    signatures: std::collections::BTreeMap<String, Digest>,
    acts: Vec<&'static str>,
}

impl World {
    pub fn of(site: &Site) -> Self {
        // A ledger that a case has taken away has no entries.
        let acts = if site.import_dir().join("ledger.db").exists() { acts(site) } else { Vec::new() };
        Self {
            registry: site.production.snapshot(),
            manifests: site.production.manifests(),
            tags: site.production.tags(),
            signatures: signatures(site),
            acts,
        }
    }

    /// Checks that a refusal left no more than it may.
    pub fn leaves_only(&self, leaves: Leaves, after: &World) -> Result<(), String> {
        if (&self.manifests, &self.tags, &self.signatures) != (&after.manifests, &after.tags, &after.signatures) {
            return Err("manifests, tags or signatures have changed".into());
        }
        if leaves != Leaves::Blobs && self.registry != after.registry {
            let new: Vec<_> = after.registry.keys().filter(|k| !self.registry.contains_key(*k)).collect();
            return Err(format!("something was written to the registry: {new:?}"));
        }
        let new = after.acts.strip_prefix(self.acts.as_slice()).ok_or("the ledger has lost entries")?;
        let expected: &[&[&str]] = match leaves {
            Leaves::Nothing => &[&[]],
            Leaves::Refusal => &[&["refused"]],
            Leaves::Blobs => &[&["begun"], &["begun", "refused"]],
        };
        if expected.contains(&new) { Ok(()) } else { Err(format!("new ledger entries: {new:?}")) }
    }
}

/// The files of the lookaside tree.
pub fn signatures(site: &Site) -> std::collections::BTreeMap<String, Digest> {
    files(&site.lookaside()).into_iter().map(|(name, bytes)| (name, blobs::sha256(&bytes))).collect()
}

/// All files below a folder, with their content; a program may be writing there.
pub fn files(folder: &Path) -> std::collections::BTreeMap<String, Vec<u8>> {
    fn walk(at: &Path, base: &Path, found: &mut std::collections::BTreeMap<String, Vec<u8>>) {
        let Ok(entries) = fs::read_dir(at) else { return };
        for entry in entries {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, base, found);
            } else if let Ok(bytes) = fs::read(&path) {
                // A program that is running may have taken it away.
                found.insert(path.strip_prefix(base).unwrap().display().to_string(), bytes);
            }
        }
    }
    let mut found = std::collections::BTreeMap::new();
    walk(folder, folder, &mut found);
    found
}

/// The site's ledger, opened for reading.
pub fn ledger(site: &Site) -> Ledger {
    Ledger::open_read_only(&site.import_dir().join("ledger.db"), None).unwrap()
}

/// What the ledger's entries are about, in order.
pub fn acts(site: &Site) -> Vec<&'static str> {
    ledger(site).entries(EntryNumber::FIRST).map(|e| e.unwrap().entry.act.kind()).collect()
}

/// The ledger's files at a moment, to be put back.
pub struct SavedLedger(Vec<(PathBuf, Vec<u8>)>);

impl SavedLedger {
    pub fn of(site: &Site) -> Self {
        Self(Self::paths(site).into_iter().map(|path| (path.clone(), fs::read(path).unwrap())).collect())
    }

    fn paths(site: &Site) -> Vec<PathBuf> {
        let entries = fs::read_dir(site.import_dir()).unwrap().map(|e| e.unwrap());
        entries.filter(|e| e.file_name().to_string_lossy().starts_with("ledger.db")).map(|e| e.path()).collect()
    }

    pub fn put_back(&self, site: &Site) {
        for path in Self::paths(site) {
            fs::remove_file(path).unwrap();
        }
        for (path, bytes) in &self.0 {
            fs::write(path, bytes).unwrap();
        }
    }
}

/// Whether the output holds nothing that a terminal would act on.
pub fn shows_no_control_characters(ran: &Ran) -> Result<(), String> {
    for text in [&ran.stdout, &ran.stderr] {
        if let Some(c) = text.chars().find(|c| *c != '\n' && manifest_schema::text::is_unprintable(*c)) {
            return Err(format!("the output holds {}\n{}", c.escape_unicode(), text.escape_debug()));
        }
    }
    Ok(())
}

// Bundles that were changed by somebody who has the release key, or has not.

/// Volume 1, opened.
pub fn open(site: &Site, folder: &Path) -> Opened {
    Opened::open(folder, 1, &site.identity)
}

/// Writes the volume again and seals it with the release key; the manifest and its signature stay as they are.
pub fn seal(site: &Site, folder: &Path, opened: &Opened) {
    opened.encrypt(&site.identity);
    hostile::seal_names_manifest(folder, opened.content(MANIFEST));
    reseal(&site.release_key, folder);
}

/// Seals what lies there, with any key.
pub fn reseal(key: &Key, folder: &Path) {
    hostile::reseal(folder, &|bytes| key.sign(bytes));
}

/// Changes the manifest, signs it with the release key and seals again.
pub fn release_again(site: &Site, folder: &Path, edit: impl FnOnce(&mut Value)) {
    let mut opened = open(site, folder);
    opened.edit_manifest(edit);
    release(site, folder, opened);
}

/// Makes the layout's index follow from the manifest, signs the manifest with the release key and seals.
pub fn release(site: &Site, folder: &Path, mut opened: Opened) {
    if let Ok(manifest) = Manifest::parse(opened.content(MANIFEST)) {
        opened.replace("index.json", &manifest.layout_index());
    }
    opened.sign_manifest(&|bytes| site.release_key.sign(bytes));
    seal(site, folder, &opened);
}

/// A bundle made by hand, by somebody who has the release key: any images of any blobs, in any order.
pub struct Forged {
    pub layout: Layout,
    images: Vec<Value>,
    blobs: Vec<(Value, &'static str)>,
}

impl Forged {
    pub fn new() -> Self {
        Self { layout: Layout::new(), images: Vec::new(), blobs: Vec::new() }
    }

    /// Lists blobs in the admission section.
    pub fn admission(mut self, descriptors: &[&Value]) -> Self {
        self.blobs.extend(descriptors.iter().map(|d| ((*d).clone(), "admission")));
        self
    }

    /// Lists blobs among the layers.
    pub fn layers(mut self, descriptors: &[&Value]) -> Self {
        self.blobs.extend(descriptors.iter().map(|d| ((*d).clone(), "layers")));
        self
    }

    /// Lists an image with its platform manifests (each a descriptor, with a platform or without).
    pub fn image(mut self, site: &Site, top: &Value, platforms: &[&Value]) -> Self {
        let platforms: Vec<_> = platforms
            .iter()
            .map(|p| match p.get("platform") {
                Some(said) => {
                    let part = |name: &str| said[name].as_str().map(String::from);
                    let parts: Vec<_> = ["os", "architecture", "variant"].iter().filter_map(|n| part(n)).collect();
                    json!({ "platform": parts.join("/"), "digest": p["digest"] })
                }
                None => json!({ "digest": p["digest"] }),
            })
            .collect();
        let origin = format!("{}/payments/forged:{}", site.origin.host(), self.images.len() + 1);
        self.images.push(json!({
            "asked": format!("docker://{origin}"), "origin": origin, "platforms": platforms,
            "digest": top["digest"], "media_type": top["mediaType"], "size": top["size"],
        }));
        self
    }

    /// Puts all of it into a copy of an honest bundle in place of what was there.
    pub fn into(self, site: &Site, folder: &Path) {
        self.with(site, folder, |_| ());
    }

    /// The same, with a last change of the manifest.
    pub fn with(self, site: &Site, folder: &Path, edit: impl FnOnce(&mut Value)) {
        let mut opened = open(site, folder);
        let blob = |(d, section): &(Value, &str)| {
            json!({
                "digest": d["digest"], "size": d["size"], "media_type": d["mediaType"], "section": section,
                "stored": { "whole": { "volume": 1 } },
            })
        };
        let blobs: Vec<_> = self.blobs.iter().map(blob).collect();
        opened.edit_manifest(|m| {
            m["images"] = self.images.clone().into();
            m["blobs"] = blobs.into();
            edit(m);
        });
        opened.entries.retain(|e| !e.header_name().starts_with("blobs/") && e.kind() == b'0');
        for (descriptor, _) in &self.blobs {
            let digest: Digest = descriptor["digest"].as_str().unwrap().parse().unwrap();
            let bytes = testkit::layout::blob(self.layout.path(), &digest);
            opened.entries.push(TarEntry::file(&digest.layout_path(), &bytes));
        }
        release(site, folder, opened);
    }
}

/// The configuration and the layers of an image manifest in a layout.
pub fn parts(layout: &Layout, manifest: &Value) -> (Value, Vec<Value>) {
    let digest = manifest["digest"].as_str().unwrap().parse().unwrap();
    let document: Value = serde_json::from_slice(&testkit::layout::blob(layout.path(), &digest)).unwrap();
    (document["config"].clone(), document["layers"].as_array().unwrap().clone())
}

/// The digest of a bundle's last blob: a layer behind others.
pub fn last_blob(opened: &Opened) -> (Digest, String) {
    let digest: Digest =
        opened.manifest()["blobs"].as_array().unwrap().last().unwrap()["digest"].as_str().unwrap().parse().unwrap();
    (digest, digest.layout_path())
}

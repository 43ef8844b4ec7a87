//! `import.yaml`: what this site accepts, from whom, and where it goes.

mod handover;

pub use handover::{ClusterKind, HandoverConfig, Ignition, MergeDefault};

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use commands::settings::{self, SignConfig};
use manifest_schema::{Repository, Scope, Span, Stream};
use scan::Gate;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::Error;

/// The content of `import.yaml`. Paths are relative to the file's folder.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Import {
    /// The age identity that opens bundles: a file of age or of one of its plugins, or an SSH key (ssh-ed25519).
    pub identity: PathBuf,
    /// File whose first line is the identity's passphrase.
    #[serde(default)]
    pub identity_passphrase_file: Option<PathBuf>,
    /// The ledger.
    pub ledger: LedgerConfig,
    /// The release lines that are accepted. A bundle of any other is refused.
    #[serde(deserialize_with = "manifest_schema::json::unique_map")]
    pub streams: BTreeMap<Stream, StreamConfig>,
    /// How images are signed for production.
    pub production: ProductionConfig,
    /// A registry before production. With it, bundles are received there and wait for their promotion.
    #[serde(default)]
    pub staging: Option<StagingConfig>,
    /// What to do with a tag that exists and names another image.
    #[serde(default)]
    pub on_existing_tag: OnExistingTag,
    /// How far a signature may lie in the future, in seconds, for clocks that differ.
    #[serde(default = "default_tolerance")]
    pub clock_tolerance: u32,
    /// What `receive --watch` may do.
    #[serde(default)]
    pub watch: WatchConfig,
    /// Certificates of couriers, or folders of them: whose statements of custody are recorded as signed by someone known.
    #[serde(default)]
    pub couriers: Vec<PathBuf>,
    /// Who must approve a bundle before its images are signed for production. Without, nobody has to.
    #[serde(default)]
    pub approvers: Option<ApproversConfig>,
    /// What reports of scanners must say of images before they are let in.
    #[serde(default)]
    pub gate: Option<Gate>,
    /// A scanner of this site's own, which looks at each image before it is signed.
    #[serde(default)]
    pub scan: Option<ScannerConfig>,
    /// How an incremental bundle's base is proven to be in production.
    #[serde(default)]
    pub base_proof: BaseProof,
    /// Blobs that are transferred at once.
    #[serde(default)]
    pub jobs: Option<NonZeroUsize>,
}

/// How it is proven that production has what an incremental bundle leaves out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum BaseProof {
    /// The ledger has the base, and an image manifest that was published with it refers to the blob.
    #[default]
    Published,
    /// The blob is read, and its digest is right.
    Read,
}

/// A scanner of this site's own.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ScannerConfig {
    /// The program, by its name in PATH or its file, and its arguments. `{reference}` stands for the image manifest where it is (in the staging registry, if there
    /// is one), `{archive}` for an OCI archive of it, `{report}` for the file that its report is to be in (its standard output
    /// is taken without), `{digest}` and `{platform}` for what they say. Exit code 0 lets the image pass.
    pub command: Vec<String>,
    /// How long it may take for one image, in seconds.
    #[serde(default = "half_an_hour")]
    pub timeout: u32,
    /// The folder in which image data may lie in the clear for `{archive}`, open to nobody else; best in memory (tmpfs).
    #[serde(default)]
    pub plaintext_dir: Option<PathBuf>,
    /// Names of environment variables that it gets, beside PATH and the like.
    #[serde(default)]
    pub environment: Vec<String>,
}

impl Default for ScannerConfig {
    fn default() -> Self {
        Self { command: Vec::new(), timeout: half_an_hour(), plaintext_dir: None, environment: Vec::new() }
    }
}

fn half_an_hour() -> u32 {
    1800
}

/// What `receive --watch` may do without a person.
#[derive(Debug, Clone, Copy, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WatchConfig {
    /// Where it receives into.
    #[serde(default)]
    pub into: WatchInto,
}

/// Where `receive --watch` receives into.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum WatchInto {
    /// A registry before production.
    #[default]
    Staging,
    /// Production: a medium whose seal verifies is enough.
    Production,
}

/// How long an approval may count, if nothing is configured.
pub(crate) fn thirty_days() -> Span {
    Span::days(30)
}

fn default_tolerance() -> u32 {
    signing::DEFAULT_CLOCK_TOLERANCE
}

/// Who must approve a bundle before its images are signed for production.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ApproversConfig {
    /// OpenPGP certificate files of those who may approve, or folders of them.
    pub certificates: Vec<PathBuf>,
    /// How many of them must have approved.
    #[serde(default = "one")]
    pub threshold: usize,
    /// Who promotes has to say so with a key, and an approval by the same key does not count.
    #[serde(default)]
    pub exclude_promoter: bool,
    /// Certificates of those who may promote beside the approvers, or folders of them.
    #[serde(default)]
    pub promoters: Vec<PathBuf>,
    /// How long an approval may count.
    #[serde(default = "thirty_days")]
    pub greatest_validity: Span,
}

/// Where the ledger is, and which one it is.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LedgerConfig {
    /// The file, on a local disk.
    pub file: PathBuf,
    /// Its id, as `init` printed it.
    pub id: String,
    /// The ledger key, which signs its heads and receipts.
    #[serde(default)]
    pub sign: Option<SignConfig>,
    /// File with that key's certificate, which the production key has certified; without, for a key file that ends in
    /// `.secret.asc`, the one that ends in `.asc` beside it.
    #[serde(default)]
    pub certificate: Option<PathBuf>,
    /// The second file of its head, best on another disk; without, beside the ledger.
    #[serde(default)]
    pub head: Option<PathBuf>,
}

/// One release line.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StreamConfig {
    /// Who releases it.
    pub release: ReleaseConfig,
    /// The parts of the name space that its images may claim to come from.
    pub origins: Vec<Scope>,
    /// The image policy: a containers-policy.json(5) file, judged over the names that images had at their origin. Without
    /// one the signed manifest alone vouches for what it lists.
    #[serde(default)]
    pub images: Option<PathBuf>,
    /// Let images in whose index the policy refuses, if it accepts every image manifest below it.
    #[serde(default)]
    pub allow_unsigned_index: bool,
    /// The origins of OpenShift release images (host, or host and path): one of them that the image policy accepts because of
    /// a signature vouches for the images that it lists by digest.
    #[serde(default)]
    pub releases: Vec<Scope>,
    /// What sigstore bundles that refer to its images are verified with. The result is told and recorded; it does not
    /// decide.
    #[serde(default)]
    pub sigstore: SigstoreConfig,
    /// What reports of scanners must say of its images, in place of the site's own `gate`.
    #[serde(default)]
    pub gate: Option<Gate>,
    /// Where its images go; the longest matching `from` decides.
    pub to: Vec<Mapping>,
    /// Tags meant to move, with `*` for any characters: they are replaced whatever `on_existing_tag` says.
    #[serde(default)]
    pub replace_tags: Vec<String>,
}

/// What sigstore bundles are verified with.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SigstoreConfig {
    /// Public keys, in PEM.
    #[serde(default)]
    pub keys: Vec<PathBuf>,
    /// A sigstore trusted root (JSON), for bundles that were signed with a certificate.
    #[serde(default)]
    pub trusted_root: Option<PathBuf>,
    /// Whom such a certificate may name. Nobody else counts.
    #[serde(default)]
    pub identities: Vec<IdentityConfig>,
}

/// Whom a certificate names, and who says so.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct IdentityConfig {
    /// The OpenID Connect issuer.
    pub issuer: String,
    /// The subject alternative name: an email address, or the URI of a workflow.
    pub subject: String,
}

/// Release certificates.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReleaseConfig {
    /// OpenPGP certificate files, or folders of them.
    pub certificates: Vec<PathBuf>,
    /// How many distinct certificates must have signed.
    #[serde(default = "one")]
    pub threshold: usize,
}

fn one() -> usize {
    1
}

/// From a part of the origin's name space to a part of production's.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Mapping {
    /// Where from: host, or host and path.
    pub from: Scope,
    /// The destination.
    pub to: Scope,
}

/// How images are signed for production.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProductionConfig {
    /// The production key.
    pub sign: SignConfig,
    /// The folder for signatures; one for each registry host if there are several.
    pub lookaside: LookasideConfig,
    /// A folder for the signatures of OpenShift release images: as the cluster-version-operator reads them from a web
    /// server, and as ConfigMaps.
    #[serde(default)]
    pub release_signatures: Option<PathBuf>,
    /// The OpenPGP certificates that clusters are to accept: the production key's and, while it is being replaced, the other one's
    /// too; files, or folders of them. Without, for a key file ending in `.secret.asc`, the one ending in `.asc` beside it.
    #[serde(default)]
    pub certificates: Vec<PathBuf>,
    /// Where clusters find the folder for signatures, as `handover production` tells them; without, `file://` and the folder.
    #[serde(default)]
    pub lookaside_url: Option<LookasideUrlConfig>,
    /// Whether clusters ask for images by the names of their origin and get them from production, as `handover production` tells
    /// them.
    #[serde(default)]
    pub mirrors: Mirrors,
    /// Signs in the form of cosign too, which podman and CRI-O read with `use-sigstore-attachments`.
    #[serde(default)]
    pub cosign: Option<CosignConfig>,
    /// For which clusters `handover production` makes files, and what their nodes have already.
    #[serde(default)]
    pub handover: HandoverConfig,
    /// Gives signatures to the production registries too, which must have the signature extension: OpenShift's has it.
    #[serde(default)]
    pub registry_signatures: bool,
    /// The folder for signatures lies in a git working tree, in which every import becomes a commit; `{}` if nothing else is to be
    /// said.
    #[serde(default)]
    pub lookaside_git: Option<GitConfig>,
}

/// How signatures are committed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GitConfig {
    /// Whom commits are by, as `NAME <ADDRESS>`; without, as git is configured.
    #[serde(default)]
    pub author: Option<String>,
    /// The remote repository that commits are pushed to; without, they are not pushed.
    #[serde(default)]
    pub remote: Option<String>,
    /// The branch there, with `*` for the name of each import; without, the one that is checked out.
    #[serde(default)]
    pub branch: Option<String>,
}

/// For which pulls production stands in for the origins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Mirrors {
    /// For none: clusters ask production itself.
    #[default]
    None,
    /// For those by digest.
    Digest,
    /// For those by tag.
    Tag,
    /// For all.
    Both,
}

/// A registry before production, where what comes in is tried.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StagingConfig {
    /// From a part of production's name space to where its images wait; the longest matching `from` decides.
    pub to: Vec<Mapping>,
    /// The folder for the signatures that images had at their origin, for the clusters that pull from there.
    pub lookaside: LookasideConfig,
    /// Where those clusters find that folder, as `handover staging` tells them; without, `file://` and the folder.
    #[serde(default)]
    pub lookaside_url: Option<LookasideUrlConfig>,
}

/// Where clusters find signatures.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum LookasideUrlConfig {
    /// One URL: for a single registry.
    One(String),
    /// A URL for each registry (host[:port]).
    PerHost(BTreeMap<String, String>),
}

/// A secret key for cosign signatures.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CosignConfig {
    /// The secret key file: encrypted as cosign and skopeo write it, or PKCS #8 in PEM.
    pub key: PathBuf,
    /// File whose first line is the passphrase.
    #[serde(default)]
    pub passphrase_file: Option<PathBuf>,
}

/// Where signatures are written. A lookaside path has no registry host in it, so each host needs a tree of its own.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum LookasideConfig {
    /// One tree: for a single production registry.
    One(PathBuf),
    /// A tree for each registry (host[:port]).
    PerHost(BTreeMap<String, PathBuf>),
}

/// What to do with a tag that exists and names another image.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum OnExistingTag {
    /// Refuse the bundle.
    #[default]
    Fail,
    /// Leave the tag and its image out.
    Skip,
    /// Move the tag.
    Replace,
}

impl Import {
    /// Reads a file.
    ///
    /// # Errors
    /// The file's name and the line.
    pub fn load(path: &Path) -> Result<Self, Error> {
        let mut import: Import = settings::load(path)?;
        import.make_relative_to(path.parent().unwrap_or(Path::new("")));
        Ok(import)
    }

    fn make_relative_to(&mut self, base: &Path) {
        let relative = |p: &mut PathBuf| *p = base.join(&*p);
        relative(&mut self.identity);
        self.identity_passphrase_file.iter_mut().for_each(relative);
        relative(&mut self.ledger.file);
        self.ledger.certificate.iter_mut().chain(&mut self.ledger.head).for_each(relative);
        self.ledger.sign.iter_mut().for_each(|sign| sign.make_relative_to(base));
        self.production.sign.make_relative_to(base);
        for stream in self.streams.values_mut() {
            stream.release.certificates.iter_mut().for_each(relative);
            stream.images.iter_mut().for_each(relative);
            stream.gate.iter_mut().for_each(|gate| gate.make_relative_to(base));
            stream.sigstore.keys.iter_mut().chain(&mut stream.sigstore.trusted_root).for_each(relative);
        }
        self.gate.iter_mut().for_each(|gate| gate.make_relative_to(base));
        if let Some(scan) = &mut self.scan {
            scan.plaintext_dir.iter_mut().for_each(relative);
            // A name alone is looked for in PATH.
            if let Some(program) = scan.command.first_mut().filter(|program| program.contains('/')) {
                *program = base.join(&*program).display().to_string();
            }
        }
        self.couriers.iter_mut().for_each(relative);
        if let Some(approvers) = &mut self.approvers {
            approvers.certificates.iter_mut().chain(&mut approvers.promoters).for_each(relative);
        }
        self.production.release_signatures.iter_mut().for_each(relative);
        self.production.certificates.iter_mut().for_each(relative);
        if let Some(cosign) = &mut self.production.cosign {
            relative(&mut cosign.key);
            cosign.passphrase_file.iter_mut().for_each(relative);
        }
        self.production.handover.make_relative_to(base);
        self.production.lookaside.paths_mut().for_each(relative);
        self.staging.iter_mut().flat_map(|staging| staging.lookaside.paths_mut()).for_each(relative);
    }
}

impl LookasideConfig {
    fn paths_mut(&mut self) -> impl Iterator<Item = &mut PathBuf> {
        let (one, hosts) = match self {
            LookasideConfig::One(path) => (Some(path), None),
            LookasideConfig::PerHost(hosts) => (None, Some(hosts.values_mut())),
        };
        one.into_iter().chain(hosts.into_iter().flatten())
    }

    /// The trees.
    pub fn roots(&self) -> Vec<&PathBuf> {
        match self {
            LookasideConfig::One(root) => vec![root],
            LookasideConfig::PerHost(roots) => roots.values().collect(),
        }
    }

    /// The tree for a repository's registry.
    pub fn root_for(&self, repository: &Repository) -> Option<&Path> {
        self.root_of(repository.registry())
    }

    /// The tree for a registry.
    pub fn root_of(&self, registry: &str) -> Option<&Path> {
        match self {
            LookasideConfig::One(path) => Some(path),
            LookasideConfig::PerHost(hosts) => hosts.get(registry).map(PathBuf::as_path),
        }
    }
}

/// The JSON schema of `import.yaml` (`importer/import.schema.json`), as text.
pub fn json_schema() -> String {
    manifest_schema::json::schema_text(&schemars::schema_for!(Import))
}

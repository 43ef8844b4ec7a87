//! Arguments and configuration, resolved once. No stage sees either.

mod places;
mod production;
mod roles;

pub use places::{ProductionPlaces, Staging, make_root};
pub use production::Production;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bundle::Identities;
use clap::Args;
use commands::gate::ScanGate;
use commands::settings::{self, KeySource, SignArgs, Talk};
use console::PassphraseSource;
use console::args::{JobArgs, RegistryArgs};
use ledger::Ledger;
use manifest_schema::{LIMITS, OutsideText, Scope, Stream, Timestamp};
use registry::Registries;
use scan::{Dated, Gate};
use signing::sigstore::{Keyless, KeylessIdentity, SigstoreKey};
use signing::{Certificates, ImagePolicy, RoleConflict, Trust};

use crate::access::{LedgerAccess, LedgerArgs, to_ledger};
use crate::approvals::{ApproverArgs, Approvers};
use crate::config::{
    BaseProof, HandoverConfig, IdentityConfig, Import, LookasideConfig, LookasideUrlConfig, Mapping, Mirrors,
    OnExistingTag, ScannerConfig, SigstoreConfig, WatchInto,
};
use crate::destination::Rules;
use crate::error::Error;
use crate::git::{GitArgs, GitSettings};
use crate::scanner::Scanner;
use places::distinct_destinations;

/// What registries are told that this program is.
pub(crate) const USER_AGENT: &str = concat!("sealift-import/", env!("CARGO_PKG_VERSION"));

/// What this site accepts. Every flag is also a key of import.yaml; with --trust, no file is read.
#[derive(Debug, Clone, Default, Args)]
pub struct SiteArgs {
    /// The configuration [default: import.yaml, if it is there and --trust is not given]
    #[arg(short, long, value_name = "FILE", env = "SEALIFT_CONFIG")]
    pub config: Option<PathBuf>,
    /// The identity that opens the bundle: a file of age or of one of its plugins, or an SSH key (ssh-ed25519)
    #[arg(short, long, value_name = "FILE", env = "SEALIFT_IDENTITY")]
    pub identity: Option<PathBuf>,
    /// A file whose first line is the identity's passphrase [also: SEALIFT_IDENTITY_PASSPHRASE]
    #[arg(long, value_name = "FILE", env = "SEALIFT_IDENTITY_PASSPHRASE_FILE")]
    pub identity_passphrase_file: Option<PathBuf>,
    /// The sender's release certificate, or a folder of them, for a site without a configuration; several may be given
    #[arg(long, value_name = "FILE", env = "SEALIFT_TRUST", value_delimiter = ',')]
    pub trust: Vec<PathBuf>,
    /// With --trust: how many distinct certificates must have signed [default: 1]
    #[arg(long, value_name = "N", env = "SEALIFT_THRESHOLD")]
    pub threshold: Option<usize>,
    /// With --trust: the only release line to accept [default: the one the bundle names]
    #[arg(long, env = "SEALIFT_STREAM")]
    pub stream: Option<Stream>,
    /// With --trust: where images go, as PREFIX or FROM=TO; several may be given
    #[arg(long, value_name = "[FROM=]PREFIX", env = "SEALIFT_TO", value_delimiter = ',')]
    pub to: Vec<String>,
    /// With --trust: an origin that images may claim to come from [default: any]
    #[arg(long, value_name = "SCOPE", env = "SEALIFT_ORIGIN", value_delimiter = ',')]
    pub origin: Vec<Scope>,
    /// With --trust: the image policy, a containers-policy.json(5) file over the names at the origin [default: none]
    #[arg(long, value_name = "FILE", env = "SEALIFT_IMAGE_POLICY")]
    pub image_policy: Option<PathBuf>,
    /// With --trust: let images in whose index the policy refuses, if it accepts every image manifest below it
    #[arg(long, env = "SEALIFT_ALLOW_UNSIGNED_INDEX")]
    pub allow_unsigned_index: bool,
    /// With --trust: the origin of OpenShift release images, whose signatures vouch for the images that they list
    #[arg(long, value_name = "SCOPE", env = "SEALIFT_RELEASES", value_delimiter = ',')]
    pub releases: Vec<Scope>,
    /// With --trust: a file (YAML) with what reports of scanners must say, as `gate:` of a configuration [default: nothing]
    #[arg(long, value_name = "FILE", env = "SEALIFT_GATE")]
    pub gate: Option<PathBuf>,
    #[command(flatten)]
    /// The ledger.
    pub ledger: LedgerArgs,
    /// How far a signature may lie in the future, in seconds
    #[arg(long, value_name = "SECONDS", env = "SEALIFT_CLOCK_TOLERANCE")]
    pub clock_tolerance: Option<u32>,
    #[command(flatten)]
    /// How much is done at once.
    pub jobs: JobArgs,
    #[command(flatten)]
    /// Who must approve.
    pub approvers: ApproverArgs,
    #[command(flatten)]
    /// Registry access.
    pub registry: RegistryArgs,
}

/// How images are signed for production.
#[derive(Debug, Clone, Default, Args)]
pub struct ProductionArgs {
    #[command(flatten)]
    /// The production key.
    pub sign: SignArgs,
    /// The folder for signatures; HOST=DIR for each registry if there are several
    #[arg(long, value_name = "[HOST=]DIR", env = "SEALIFT_LOOKASIDE", value_delimiter = ',')]
    pub lookaside: Vec<String>,
    /// A folder for the signatures of OpenShift release images, as clusters take them
    #[arg(long, value_name = "DIR", env = "SEALIFT_RELEASE_SIGNATURES_DIR")]
    pub release_signatures: Option<PathBuf>,
    /// Secret key that signs in the form of cosign too
    #[arg(long, value_name = "FILE", env = "SEALIFT_COSIGN_KEY")]
    pub cosign_key: Option<PathBuf>,
    /// A file whose first line is that key's passphrase [also: SEALIFT_COSIGN_PASSPHRASE]
    #[arg(long, value_name = "FILE", env = "SEALIFT_COSIGN_PASSPHRASE_FILE")]
    pub cosign_passphrase_file: Option<PathBuf>,
    /// A scanner of this site's own, run on each image before it is signed: a program and arguments between spaces, with
    /// {reference} or {archive} for the image
    #[arg(long, value_name = "COMMAND", env = "SEALIFT_SCAN_COMMAND")]
    pub scan_command: Option<String>,
    /// Give signatures to the production registries too, which must have the signature extension, as OpenShift's has
    #[arg(long, env = "SEALIFT_REGISTRY_SIGNATURES")]
    pub registry_signatures: bool,
    #[command(flatten)]
    /// Whether signatures are committed.
    pub git: GitArgs,
    /// How production is proven to have what an incremental bundle leaves out [default: published]
    #[arg(long, value_enum, value_name = "PROOF", env = "SEALIFT_BASE_PROOF")]
    pub base_proof: Option<BaseProof>,
    /// What to do with a tag that exists and names another image [default: fail]
    #[arg(long, value_enum, env = "SEALIFT_ON_EXISTING_TAG")]
    pub on_existing_tag: Option<OnExistingTag>,
    /// A tag meant to move, with * for any characters; several may be given
    #[arg(long, value_name = "PATTERN", env = "SEALIFT_REPLACE_TAG", value_delimiter = ',')]
    pub replace_tag: Vec<String>,
}

/// One release line that is accepted.
#[derive(Debug)]
pub struct StreamRules {
    /// Whose signatures count, and how many of them.
    pub trust: Trust,
    /// Where its images may claim to come from; anywhere if `None`.
    pub origins: Option<Vec<Scope>>,
    /// What images are judged by; if `None`, the signed manifest alone vouches for them.
    pub images: Option<ImagePolicy>,
    /// Let an index in that the policy refuses, if it accepts every image manifest below.
    pub allow_unsigned_index: bool,
    /// The origins of OpenShift release images, which vouch for what they list.
    pub releases: Vec<Scope>,
    /// Keys that sigstore bundles are verified with.
    pub sigstore_keys: Vec<SigstoreKey>,
    /// Certificates that sigstore bundles are verified with, and whose they may be.
    pub keyless: Option<Keyless>,
    /// What reports of scanners must say of them.
    pub gate: Option<ScanGate>,
    /// Where they go.
    pub to: Rules,
    /// Tags meant to move.
    pub replace_tags: Vec<String>,
}

/// How far `receive` goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Into production, signed and published.
    Production,
    /// Into the staging registry, where the images wait for their promotion.
    Staging,
    /// Into production, where the images wait for their promotion without tags and signatures.
    Held,
}

enum Streams {
    Configured(BTreeMap<Stream, StreamRules>),
    /// From the command line: for the stream named, or whichever the bundle names.
    Given(Option<Stream>, Box<StreamRules>),
}

/// This site, complete and checked.
pub struct Site {
    streams: Streams,
    identity: Option<(PathBuf, PassphraseSource)>,
    ledger: Option<LedgerAccess>,
    sign: Option<KeySource>,
    lookaside: Option<LookasideConfig>,
    cosign: Option<(PathBuf, PassphraseSource)>,
    release_signatures: Option<PathBuf>,
    git: Option<GitSettings>,
    /// Whether production's registries are given signatures.
    pub registry_signatures: bool,
    certificates: Vec<PathBuf>,
    lookaside_url: Option<LookasideUrlConfig>,
    /// Whether production stands in for the origins.
    pub mirrors: Mirrors,
    /// For which clusters files are made, and what their nodes have already.
    pub handover: HandoverConfig,
    /// What to do with existing tags.
    pub on_existing_tag: OnExistingTag,
    /// Registries.
    pub registries: Registries,
    /// Now: one reference time for every judgement of a run.
    pub now: Timestamp,
    /// How far a time from outside may lie in the future, in seconds.
    pub clock_tolerance: u32,
    watch: WatchInto,
    couriers: Option<Certificates>,
    staging: Option<Staging>,
    approvers: Option<Approvers>,
    /// This site's own scanner.
    pub scanner: Option<Scanner>,
    /// How the base of an incremental bundle is proven.
    pub base_proof: BaseProof,
    /// Blobs that are transferred at once.
    pub jobs: usize,
}

impl Site {
    /// Joins flags, environment and configuration; flags win.
    ///
    /// # Errors
    /// [`Error`] names what is missing or wrong.
    pub fn resolve(args: SiteArgs, production: ProductionArgs) -> Result<Self, Error> {
        let default = PathBuf::from("import.yaml");
        let config = match (&args.config, args.trust.is_empty()) {
            (Some(_), false) => return Err(Error::BothTrustAndConfig),
            (Some(path), true) => Some(Import::load(path)?),
            (None, true) if default.exists() => Some(Import::load(&default)?),
            (None, _) => None,
        };
        if config.is_some() {
            let given = [
                ("--threshold", args.threshold.is_some()),
                ("--stream", args.stream.is_some()),
                ("--to", !args.to.is_empty()),
                ("--origin", !args.origin.is_empty()),
                ("--image-policy", args.image_policy.is_some()),
                ("--allow-unsigned-index", args.allow_unsigned_index),
                ("--releases", !args.releases.is_empty()),
                ("--gate", args.gate.is_some()),
                ("--approver", args.approvers.is_given()),
            ];
            if let Some((flag, _)) = given.into_iter().find(|(_, given)| *given) {
                return Err(Error::OnlyWithTrust { flag });
            }
        }
        let now = Timestamp::now();
        let tolerance = args
            .clock_tolerance
            .or(config.as_ref().map(|c| c.clock_tolerance))
            .unwrap_or(signing::DEFAULT_CLOCK_TOLERANCE);
        let policy = |path: &PathBuf| -> Result<ImagePolicy, Error> {
            Ok(ImagePolicy::load(path)?.with_clock_tolerance(tolerance))
        };
        let trust = |files: &[PathBuf], threshold| -> Result<Trust, Error> {
            Ok(Trust::new(Certificates::load(files)?, threshold, now)?.with_clock_tolerance(tolerance))
        };
        let streams = match &config {
            Some(config) => {
                let mut streams = BTreeMap::new();
                for (name, stream) in &config.streams {
                    let rules = StreamRules {
                        trust: trust(&stream.release.certificates, stream.release.threshold)?,
                        origins: Some(stream.origins.clone()),
                        images: stream.images.as_ref().map(policy).transpose()?,
                        allow_unsigned_index: stream.allow_unsigned_index,
                        releases: stream.releases.clone(),
                        sigstore_keys: sigstore_keys(&stream.sigstore)?,
                        keyless: keyless(&stream.sigstore)?,
                        gate: gate(stream.gate.as_ref().or(config.gate.as_ref()))?,
                        to: Rules { mappings: stream.to.clone(), prefix: None },
                        replace_tags: [stream.replace_tags.clone(), production.replace_tag.clone()].concat(),
                    };
                    streams.insert(name.clone(), rules);
                }
                distinct_destinations(&streams)?;
                Streams::Configured(streams)
            }
            None => {
                if args.trust.is_empty() {
                    return Err(Error::NoStreams);
                }
                let to = rules_from_flags(&args.to)?;
                let rules = StreamRules {
                    trust: trust(&args.trust, args.threshold.unwrap_or(1))?,
                    origins: (!args.origin.is_empty()).then_some(args.origin),
                    images: args.image_policy.as_ref().map(policy).transpose()?,
                    allow_unsigned_index: args.allow_unsigned_index,
                    releases: args.releases,
                    sigstore_keys: Vec::new(),
                    keyless: None,
                    gate: args.gate.as_deref().map(ScanGate::from_file).transpose()?,
                    to,
                    replace_tags: production.replace_tag,
                };
                Streams::Given(args.stream, Box::new(rules))
            }
        };
        let passphrase = |file: Option<PathBuf>, variable| PassphraseSource { file, variable };
        let identity = match (args.identity, &config) {
            (Some(path), _) => Some((path, args.identity_passphrase_file)),
            (None, Some(c)) => {
                let file = args.identity_passphrase_file.or(c.identity_passphrase_file.clone());
                Some((c.identity.clone(), file))
            }
            (None, None) => None,
        };
        let sign = KeySource::one(production.sign, config.as_ref().map(|c| c.production.sign.clone()))?;
        let lookaside = match lookaside_from_flags(&production.lookaside)? {
            Some(lookaside) => Some(lookaside),
            None => config.as_ref().map(|c| c.production.lookaside.clone()),
        };
        let ledger = LedgerAccess::resolve(args.ledger, config.as_ref().map(|c| &c.ledger))?;
        let cosign = match (production.cosign_key, config.as_ref().and_then(|c| c.production.cosign.clone())) {
            (Some(key), _) => Some((key, production.cosign_passphrase_file)),
            (None, Some(c)) => Some((c.key, production.cosign_passphrase_file.or(c.passphrase_file))),
            (None, None) => None,
        };
        let git =
            GitSettings::resolve(production.git, config.as_ref().and_then(|c| c.production.lookaside_git.clone()))?;
        let approvers = config.as_ref().and_then(|c| c.approvers.clone()).or(args.approvers.into_config());
        let approvers = approvers.map(|approvers| Approvers::new(&approvers, now, tolerance)).transpose()?;
        let couriers = config.as_ref().map_or(&[][..], |c| &c.couriers);
        let couriers = (!couriers.is_empty()).then(|| Certificates::load(couriers)).transpose()?;
        let site = Self {
            streams,
            identity: identity.map(|(p, f)| (p, passphrase(f, "SEALIFT_IDENTITY_PASSPHRASE"))),
            ledger,
            sign,
            lookaside,
            git,
            registry_signatures: production.registry_signatures
                || config.as_ref().is_some_and(|c| c.production.registry_signatures),
            release_signatures: production
                .release_signatures
                .or_else(|| config.as_ref().and_then(|c| c.production.release_signatures.clone())),
            certificates: config.as_ref().map(|c| c.production.certificates.clone()).unwrap_or_default(),
            lookaside_url: config.as_ref().and_then(|c| c.production.lookaside_url.clone()),
            mirrors: config.as_ref().map(|c| c.production.mirrors).unwrap_or_default(),
            handover: config.as_ref().map(|c| c.production.handover.clone()).unwrap_or_default(),
            cosign: cosign.map(|(p, f)| (p, passphrase(f, "SEALIFT_COSIGN_PASSPHRASE"))),
            on_existing_tag: production
                .on_existing_tag
                .or(config.as_ref().map(|c| c.on_existing_tag))
                .unwrap_or_default(),
            registries: settings::registries(args.registry, USER_AGENT)?,
            now,
            clock_tolerance: tolerance,
            watch: config.as_ref().map(|c| c.watch.into).unwrap_or_default(),
            couriers,
            staging: config.as_ref().and_then(|c| c.staging.clone()).map(|staging| Staging {
                to: Rules { mappings: staging.to, prefix: None },
                lookaside_url: staging.lookaside_url,
                lookaside: staging.lookaside,
            }),
            approvers,
            jobs: args.jobs.or(config.as_ref().and_then(|c| c.jobs)),
            scanner: scanner(production.scan_command, config.as_ref().and_then(|c| c.scan.clone()))?,
            base_proof: production.base_proof.or(config.as_ref().map(|c| c.base_proof)).unwrap_or_default(),
        };
        site.check_lookaside()?;
        site.check_staging()?;
        site.check_couriers()?;
        site.check_approvers()?;
        Ok(site)
    }

    /// When things are judged.
    pub fn dated(&self) -> Dated {
        Dated { now: self.now, tolerance: self.clock_tolerance }
    }

    /// Whether media may be received without a person.
    ///
    /// # Errors
    /// [`Error::WatchNeedsStaging`].
    pub fn may_watch(&self) -> Result<(), Error> {
        match (self.watch, self.stage()) {
            (WatchInto::Production, _) | (_, Stage::Staging | Stage::Held) => Ok(()),
            (WatchInto::Staging, Stage::Production) => Err(Error::WatchNeedsStaging),
        }
    }

    /// How far `receive` goes.
    pub fn stage(&self) -> Stage {
        match (&self.staging, &self.approvers) {
            (Some(_), _) => Stage::Staging,
            (None, Some(_)) => Stage::Held,
            (None, None) => Stage::Production,
        }
    }

    /// The registry before production, if there is one.
    pub fn staging(&self) -> Option<&Staging> {
        self.staging.as_ref()
    }

    /// The rules for a release line.
    ///
    /// # Errors
    /// [`Error::UnknownStream`]: streams exist only by configuration.
    pub fn stream(&self, name: &Stream) -> Result<&StreamRules, Error> {
        let rules = match &self.streams {
            Streams::Configured(streams) => streams.get(name),
            Streams::Given(None, rules) => Some(rules.as_ref()),
            Streams::Given(Some(only), rules) => (only == name).then_some(rules.as_ref()),
        };
        rules.ok_or_else(|| Error::UnknownStream { stream: name.clone() })
    }

    /// Unlocks the identity.
    ///
    /// # Errors
    /// [`Error`] says what is wrong with it.
    pub fn identities(&self) -> Result<Identities, Error> {
        let (path, passphrase) = self.identity.as_ref().ok_or(Error::Missing("an identity"))?;
        let mut failed = None;
        let what = path.display().to_string();
        let identities = Identities::load(path, || {
            passphrase.get(&what).map_err(|e| {
                let text = e.to_string();
                failed = Some(e);
                text
            })
        });
        match failed {
            Some(e) => Err(e.into()),
            None => {
                let talk = Talk { passphrase: passphrase.clone() };
                Ok(identities?.with_talk(std::sync::Arc::new(talk)))
            }
        }
    }

    /// Opens the ledger for writing.
    ///
    /// # Errors
    /// [`Error`] if it is missing, another one, or in use.
    pub fn open_ledger(&self) -> Result<Ledger, Error> {
        self.ledger()?.open_if(self.now, |key| self.suits("ledger", key))
    }

    /// Opens the ledger for reading, if one is named.
    ///
    /// # Errors
    /// As [`Site::open_ledger`].
    pub fn read_ledger(&self) -> Result<Option<Ledger>, Error> {
        let Some(ledger) = self.ledger.as_ref().map(LedgerAccess::read).transpose()? else { return Ok(None) };
        // Its key is not at hand, but what it is called.
        if let Some(key) = ledger.key()? {
            for (role, certificates) in self.approver_certificates() {
                if let Some(fingerprint) = certificates.fingerprints().into_iter().find(|f| to_ledger(f) == key) {
                    return Err(RoleConflict { first: "ledger".into(), second: role.into(), fingerprint }.into());
                }
            }
        }
        Ok(Some(ledger))
    }

    /// Where the ledger is, and its key.
    ///
    /// # Errors
    /// [`Error::Missing`].
    pub fn ledger(&self) -> Result<&LedgerAccess, Error> {
        self.ledger.as_ref().ok_or(Error::Missing("a ledger"))
    }

    /// Where clusters find production's signature trees, if that is said.
    pub fn lookaside_url(&self) -> Option<&LookasideUrlConfig> {
        self.lookaside_url.as_ref()
    }

    /// The certificates of couriers who are known here.
    pub fn couriers(&self) -> Option<&Certificates> {
        self.couriers.as_ref()
    }

    /// Who must approve a bundle before its images are signed; nobody if none are configured.
    pub fn approvers(&self) -> Option<&Approvers> {
        self.approvers.as_ref()
    }

    /// How signatures are committed; `None` if the folder for them lies in no git working tree.
    pub fn git(&self) -> Option<&GitSettings> {
        self.git.as_ref()
    }

    /// Whether production signs in the form of cosign too.
    pub fn signs_for_cosign(&self) -> bool {
        self.cosign.is_some()
    }

    /// The rules of every release line, each with its name.
    pub fn all_rules(&self) -> Vec<(&str, &StreamRules)> {
        match &self.streams {
            Streams::Configured(streams) => streams.iter().map(|(name, rules)| (name.as_str(), rules)).collect(),
            Streams::Given(_, rules) => vec![("--trust", rules)],
        }
    }
}

fn rules_from_flags(to: &[String]) -> Result<Rules, Error> {
    let mut rules = Rules::default();
    for text in to {
        match text.split_once('=') {
            Some((from, to)) => rules.mappings.push(Mapping {
                from: from.parse().map_err(Error::Reference)?,
                to: to.parse().map_err(Error::Reference)?,
            }),
            None if rules.prefix.is_none() => rules.prefix = Some(text.parse().map_err(Error::Reference)?),
            None => return Err(Error::TwoPrefixes),
        }
    }
    Ok(rules)
}

fn lookaside_from_flags(flags: &[String]) -> Result<Option<LookasideConfig>, Error> {
    match flags {
        [] => Ok(None),
        [one] if !one.contains('=') => Ok(Some(LookasideConfig::One(one.into()))),
        many => many
            .iter()
            .map(|text| match text.split_once('=') {
                Some((host, dir)) => Ok((host.to_string(), PathBuf::from(dir))),
                None => Err(Error::LookasideFlag(OutsideText::new(text))),
            })
            .collect::<Result<BTreeMap<_, _>, _>>()
            .map(|trees| Some(LookasideConfig::PerHost(trees))),
    }
}

fn sigstore_keys(config: &SigstoreConfig) -> Result<Vec<SigstoreKey>, Error> {
    let key = |path: &PathBuf| {
        let source = |source| Error::SigstoreKey { path: path.clone(), source };
        SigstoreKey::from_pem(&sigstore_file(path)?).map_err(source)
    };
    config.keys.iter().map(key).collect()
}

/// The scanner of a configuration, or of a flag where there is none.
fn scanner(command: Option<String>, configured: Option<ScannerConfig>) -> Result<Option<Scanner>, Error> {
    let words = |text: String| text.split_whitespace().map(String::from).collect::<Vec<_>>();
    let config = match (command.map(words), configured) {
        (Some(_), Some(_)) => {
            let why = "--scan-command is for sites without `scan:` in their configuration, and this one has it";
            return Err(Error::ScanCommand(why));
        }
        (Some(command), None) => Some(ScannerConfig { command, ..ScannerConfig::default() }),
        (None, configured) => configured,
    };
    config.as_ref().map(Scanner::new).transpose()
}

fn gate(configured: Option<&Gate>) -> Result<Option<ScanGate>, Error> {
    Ok(configured.map(|gate| ScanGate::load(gate.scan.clone())).transpose()?)
}

fn keyless(config: &SigstoreConfig) -> Result<Option<Keyless>, Error> {
    let Some(path) = &config.trusted_root else { return Ok(None) };
    let identity = |i: &IdentityConfig| KeylessIdentity { issuer: i.issuer.clone(), subject: i.subject.clone() };
    let identities = config.identities.iter().map(identity).collect();
    let keyless = Keyless::new(&sigstore_file(path)?, identities);
    keyless.map(Some).map_err(|source| Error::Keyless { path: path.clone(), source })
}

fn sigstore_file(path: &Path) -> Result<Vec<u8>, Error> {
    let read = |source| commands::Error::ReadConfig { path: path.into(), source };
    Ok(console::read_text(path, LIMITS.config).map_err(read)?.into_bytes())
}

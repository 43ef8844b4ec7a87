//! `trust`: what clusters accept.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use commands::settings;
use console::Failure;
use manifest_schema::document::Platform;
use manifest_schema::{Digest, Timestamp};
use registry::source::SourceRef;
use serde::Serialize;
use signing::{ImagePolicy, PolicyVerdict, RegistriesD};

use crate::error::Error;
use crate::site::{ProductionArgs, Site, SiteArgs, USER_AGENT};
use crate::trust::{As, Cluster, Counted, ImageVerdict, Kind, ManifestVerdict};

/// Explains what clusters accept
#[derive(Debug, Args)]
pub struct TrustCommand {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Check(Box<Check>),
}

/// Says whether a cluster would accept an image, and by which rule of its policy
///
/// Judges an image as podman and CRI-O would by a policy.json and a registries.d: the manifest of each platform, with the
/// signatures that they would find. A pull through a mirror (registries.conf) is not imitated: name the image where it is.
#[derive(Debug, Args)]
struct Check {
    /// HOST/PATH:TAG, docker://..., oci:DIR[:NAME], oci-archive:FILE, docker-archive:FILE or dir:DIR, these with =HOST/PATH:TAG
    /// to be judged under that name; or a bundle's folder
    #[arg(value_name = "IMAGE|BUNDLE")]
    image: String,
    /// The policy [default: ~/.config/containers/policy.json, or else /etc/containers/policy.json]
    #[arg(long, value_name = "FILE", env = "SEALIFT_POLICY")]
    policy: Option<PathBuf>,
    /// Folder that says where signatures are, as in containers-registries.d(5) [default: the usual folders]
    #[arg(long, value_name = "DIR", env = "SEALIFT_REGISTRIES_D")]
    registries_d: Vec<PathBuf>,
    /// Only this platform (os/arch[/variant]); several may be given
    #[arg(long, value_name = "PLATFORM", env = "SEALIFT_PLATFORM", value_delimiter = ',')]
    platform: Vec<Platform>,
    /// The index must be accepted too; podman and CRI-O do not ask
    #[arg(long)]
    index: bool,
    /// BuildKit's attestation manifests must be accepted too; podman and CRI-O do not ask
    #[arg(long)]
    attestations: bool,
    /// Of a bundle: judge its images as what they will be called in production, by the signatures made there, instead of as
    /// what the sender calls them
    #[arg(long)]
    production: bool,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    site: SiteArgs,
}

#[derive(Serialize)]
struct Report {
    /// The file that was used.
    policy: PathBuf,
    /// The folders that were used.
    registries_d: Vec<PathBuf>,
    /// The only platforms that were asked for, if not all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    platforms: Vec<Platform>,
    accepted: bool,
    images: Vec<ImageVerdict>,
}

impl TrustCommand {
    /// Runs the command.
    ///
    /// # Errors
    /// A failure with its exit code; refused if a manifest that counts is.
    pub fn run(self) -> Result<(), Failure> {
        let Command::Check(check) = self.command;
        check.check().map_err(|e| Failure::new(&e))
    }
}

impl Check {
    fn check(self) -> Result<(), Error> {
        let policy = self.policy.unwrap_or_else(ImagePolicy::standard);
        let registries_d = settings::registries_d(&self.registries_d)?;
        let folders = if self.registries_d.is_empty() { RegistriesD::standard() } else { self.registries_d };
        let counted = Counted { platforms: self.platform, index: self.index, attestations: self.attestations };
        let cluster = Cluster { policy: ImagePolicy::load(&policy)?, registries_d, counted, now: Timestamp::now() };
        let folder = PathBuf::from(&self.image);
        let images = match self.image.parse::<SourceRef>() {
            // A transport means an image; a name alone could be that of a folder.
            Ok(asked) if self.image.starts_with(asked.transport().prefix()) || !is_bundle(&folder) => {
                if self.production {
                    return Err(Error::OnlyForBundles { flag: "--production" });
                }
                vec![cluster.image(&asked, &settings::registries(self.site.registry, USER_AGENT)?)?]
            }
            Err(e) if !folder.is_dir() => return Err(e.into()),
            _ => {
                let site = Site::resolve(self.site, ProductionArgs::default())?;
                cluster.bundle(&site, &folder, if self.production { As::Production } else { As::Origin })?
            }
        };
        let accepted = images.iter().all(|image| image.accepted);
        let report = Report { policy, registries_d: folders, platforms: cluster.counted.platforms, accepted, images };
        if self.json { console::print_json(&report) } else { console::print(&text(&report)) }.map_err(Error::Stdout)?;
        let counted: Vec<&ManifestVerdict> = report.images.iter().flat_map(ImageVerdict::counted).collect();
        match counted.iter().filter(|m| !is_accepted(m)).count() {
            0 => Ok(()),
            refused => Err(Error::NotAccepted { refused, counted: counted.len() }),
        }
    }
}

fn is_bundle(folder: &std::path::Path) -> bool {
    folder.join(bundle::SEAL).is_file()
}

fn is_accepted(manifest: &ManifestVerdict) -> bool {
    manifest.verdict.as_ref().is_some_and(|v| v.accepted)
}

fn text(report: &Report) -> String {
    let folders: Vec<_> = report.registries_d.iter().map(|d| d.display().to_string()).collect();
    let mut text = format!("policy        {}\n", report.policy.display());
    text += &format!("registries.d  {}\n", folders.join(", "));
    if !report.platforms.is_empty() {
        let platforms: Vec<_> = report.platforms.iter().map(ToString::to_string).collect();
        text += &format!("platforms     only {}\n", platforms.join(", "));
    }
    for image in &report.images {
        text += &image_text(image);
    }
    text
}

fn image_text(image: &ImageVerdict) -> String {
    let mut text = format!("\nimage         {}\n", image.image);
    text += &format!("digest        {}\n", image.digest);
    text += &format!("judged as     {}\n", image.judged_as);
    text += &format!("signatures    {}\n", image.signatures);
    if image.use_sigstore_attachments {
        text += "              and those of cosign, as registries.d says\n";
    }
    let rows: Vec<_> = image.manifests.iter().map(row).collect();
    text.push('\n');
    text += &console::table(&["PLATFORM", "DIGEST", "ACCEPTED", "RULE", "WHY"], &rows);
    for manifest in image.manifests.iter().filter(|m| !is_accepted(m)) {
        text += &format!(
            "{} {} ({}): ",
            if manifest.counted { "REFUSED" } else { "not accepted" },
            manifest.digest,
            what(manifest)
        );
        let mut parts = Vec::new();
        if let Some(verdict) = &manifest.verdict {
            let refused = verdict.requirements.iter().filter(|r| !r.accepted);
            parts.extend(refused.map(|r| format!("{}: {}", r.requirement, r.reasons.join("; "))));
            text += &format!("{}: ", verdict.scope);
        }
        parts.extend(manifest.note.clone());
        text += &parts.join("; ");
        text.push('\n');
    }
    text
}

fn row(manifest: &ManifestVerdict) -> Vec<String> {
    let asked = if manifest.counted { "" } else { " (not asked for)" };
    let mut row = vec![format!("{}{asked}", what(manifest)), short(&manifest.digest)];
    match &manifest.verdict {
        Some(verdict) => {
            row.push(if verdict.accepted { "yes" } else { "NO" }.into());
            row.extend(rule(verdict));
        }
        None => row.extend(["-".into(), "-".into(), "it is not there".into()]),
    }
    row
}

fn what(manifest: &ManifestVerdict) -> String {
    match (manifest.kind, &manifest.platform) {
        (Kind::Index, _) => "index".into(),
        (Kind::Attestation, _) => "attestation".into(),
        (Kind::Manifest, Some(platform)) => platform.to_string(),
        (Kind::Manifest, None) => "-".into(),
    }
}

/// The rule that decides, and why.
fn rule(verdict: &PolicyVerdict) -> [String; 2] {
    let decides = verdict.requirements.iter().find(|r| !r.accepted).or(verdict.requirements.last());
    let Some(decides) = decides else { return [verdict.scope.clone(), "-".into()] };
    let why = match (&decides.signer, &decides.identity, decides.reasons.split_first()) {
        (Some(signer), Some(identity), _) => format!("signed by {signer} as {}", identity.escaped()),
        (_, _, Some((first, []))) => cut(first),
        (_, _, Some((first, more))) => format!("{} (and {} more)", cut(first), more.len()),
        (_, _, None) => "without a signature".into(),
    };
    [format!("{}: {}", verdict.scope, decides.requirement), why]
}

/// As much as a table has room for; the line below it says all.
fn cut(reason: &str) -> String {
    const ROOM: usize = 60;
    if reason.chars().count() <= ROOM {
        reason.into()
    } else {
        reason.chars().take(ROOM - 3).chain("...".chars()).collect()
    }
}

/// A digest as far as people compare it in a table that is about one image.
fn short(digest: &Digest) -> String {
    format!("{}:{}", digest.algorithm().name(), &digest.hex()[..12])
}

//! `plan`: what would be packed.

use std::path::{Path, PathBuf};

use clap::Args;
use commands::settings::{KeyHolder, KeySource};
use console::{Failure, Progress};
use manifest_schema::BundleId;
use scan::Gate;
use serde::Serialize;

use crate::base::file_named;
use crate::config::SequenceSpec;
use crate::error::Error;
use crate::media::VolumeSize;
use crate::plan::{Report, pinned};
use crate::planned::{Planned, Sources};
use crate::request::{Request, RequestArgs};

/// Shows what would be packed, and how large it is; writes nothing to the medium
#[derive(Debug, Args)]
pub struct Plan {
    /// Print the plan as JSON
    #[arg(long)]
    json: bool,
    /// Write a release file with every tag pinned to its digest, for `pack --file`
    #[arg(long, value_name = "FILE", env = "SEALIFT_LOCK")]
    lock: Option<PathBuf>,
    /// Write a folder with the plan, for `sign` by several people and then `pack`
    #[arg(long, value_name = "DIR", env = "SEALIFT_WRITE")]
    write: Option<PathBuf>,
    #[command(flatten)]
    request: RequestArgs,
}

impl Plan {
    /// Runs the command.
    ///
    /// # Errors
    /// A failure with its exit code.
    pub fn run(self, quiet: bool) -> Result<(), Failure> {
        self.plan(quiet).map_err(|e| Failure::new(&e).with_state("nothing was packed"))
    }

    fn plan(self, quiet: bool) -> Result<(), Error> {
        let request = Request::resolve(self.request)?;
        let progress = Progress::new(quiet);
        request.say_remarks(&progress);
        let plan = crate::make_plan(&request, &progress)?;
        if let Some(path) = &self.lock {
            let text = lock_file(&request, plan.report())?;
            console::write_new(path, text.as_bytes()).map_err(|source| Error::Output { path: path.clone(), source })?;
        }
        if let Some(folder) = &self.write {
            write_plan(folder, &request, &plan)?;
        }
        if self.json { console::print_json(plan.report()) } else { console::print(&text(plan.report())) }
            .map_err(Error::Stdout)
    }
}

fn text(report: &Report) -> String {
    let rows: Vec<_> = report
        .images
        .iter()
        .map(|image| {
            vec![
                image.origin.to_string(),
                image.digest.to_string(),
                if image.platforms.is_empty() { "-".into() } else { image.platforms.join(",") },
                image.blobs.to_string(),
                console::bytes(image.bytes),
                console::bytes(image.shared_bytes),
            ]
        })
        .collect();
    let mut text = console::table(&["IMAGE", "DIGEST", "PLATFORMS", ">BLOBS", ">BYTES", ">SHARED"], &rows);
    for image in &report.images {
        if let Some(index) = &image.index_digest {
            text += &format!("{}: one platform of the index {index}\n", image.origin);
        }
        if image.sparse {
            text += &format!("{}: some entries of the index are left out\n", image.origin);
        }
    }
    text += &evidence(report);
    text +=
        &commands::gate::table(report.images.iter().filter_map(|image| Some((&image.origin, image.scan.as_ref()?))));
    text += &format!(
        "\n{} images, {} blobs, {} (shared blobs counted once; {} saved)\n",
        report.images.len(),
        report.blobs,
        console::bytes(report.bytes),
        console::bytes(report.shared_bytes)
    );
    if let (Some(base), Some(left)) = (&report.base, report.base_bytes) {
        text += &format!("{} are left to the base {}-{}\n", console::bytes(left), base.stream, base.sequence);
    }
    for volume in &report.volumes {
        text += &format!("volume {}: at most {}", volume.number, console::bytes(volume.at_most_bytes));
        if volume.recovery_bytes > 0 {
            text += &format!(", recovery data at most {}", console::bytes(volume.recovery_bytes));
        }
        if !report.media.is_empty() {
            text += &format!(", on medium {}", volume.medium);
        }
        text.push('\n');
    }
    for medium in &report.media {
        let full = medium.at_most_bytes.saturating_mul(100) / medium.capacity.max(1);
        let (used, capacity) = (console::bytes(medium.at_most_bytes), console::bytes(medium.capacity));
        text +=
            &format!("medium {} of {}: at most {used} of {capacity} ({full} %)\n", medium.number, report.media.len());
    }
    text
}

/// What travels with the images to vouch for them.
fn evidence(report: &Report) -> String {
    let row = |image: &crate::plan::ImageReport, e: &crate::attached::Evidence| {
        let claims = e.claims.as_ref().map(|c| {
            let reference = c.reference.as_ref().map_or("?".into(), |r| r.escaped().to_string());
            format!("{reference} by {}", c.key.as_deref().unwrap_or("?"))
        });
        let claims = claims.unwrap_or_else(|| e.digest.to_string());
        vec![image.origin.to_string(), e.kind.escaped().to_string(), e.found.clone(), e.subject.to_string(), claims]
    };
    let rows: Vec<_> = report.images.iter().flat_map(|i| i.evidence.iter().map(move |e| row(i, e))).collect();
    if rows.is_empty() {
        return "\nno signatures or referrers were found\n".into();
    }
    format!("\n{}", console::table(&["IMAGE", "ATTACHED", "FOUND", "TO", "SAYS (NOT JUDGED HERE)"], &rows))
}

/// Writes a plan whose manifest is fixed: id, number and date too.
fn write_plan(folder: &Path, request: &Request, plan: &crate::Plan) -> Result<(), Error> {
    request.recipients()?;
    if request.sign_images {
        // They differ each time, so the manifest could not be fixed before they are made.
        return Err(Error::PlannedSignatures);
    }
    let sequence = match request.sequence {
        SequenceSpec::Number(number) => number,
        SequenceSpec::Time => crate::record::by_time(request.now)?,
    };
    let bundle = request.bundle_id.unwrap_or_else(BundleId::generate);
    let manifest = plan.manifest(request, bundle, sequence, request.now)?;
    let sources = Sources::new(request, pinned(request, plan.report()));
    let digest = Planned::write(folder, sources, &manifest, &request.reports)?;
    console::say(&format!("planned: {} in {} (manifest {digest})", manifest.name(), folder.display()));
    Ok(())
}

/// How the bundle is cut, if that was said.
fn volumes(request: &Request) -> Option<serde_json::Value> {
    let cut = &request.cut;
    let mut volumes = serde_json::Map::new();
    if cut.volume_size != VolumeSize::default() {
        volumes.insert("size".into(), cut.volume_size.to_string().into());
    }
    volumes.extend(cut.medium.map(|medium| ("media".to_string(), medium.to_string().into())));
    volumes.extend(cut.recovery.map(|share| ("recovery".to_string(), share.to_string().into())));
    (!volumes.is_empty()).then(|| volumes.into())
}

/// `FILE` or `FILE=IMAGE`
fn attach(file: &Path, image: Option<&str>) -> String {
    let file = file.display();
    image.map_or_else(|| file.to_string(), |image| format!("{file}={image}"))
}

/// A release file that pins every image. JSON strings are YAML strings, so values need no quoting rules of their own.
fn lock_file(request: &Request, report: &Report) -> Result<String, Error> {
    #[derive(Serialize)]
    struct Lock<'a> {
        stream: &'a manifest_schema::Stream,
        sequence: serde_json::Value,
        recipients: &'a [String],
        images: Vec<String>,
        #[serde(skip_serializing_if = "<[_]>::is_empty")]
        platforms: &'a [manifest_schema::document::Platform],
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        sparse_index: bool,
        #[serde(skip_serializing_if = "Option::is_none")]
        referrers: Option<String>,
        #[serde(skip_serializing_if = "<[_]>::is_empty")]
        registries_d: Vec<PathBuf>,
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        sign_images: bool,
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        release: bool,
        #[serde(skip_serializing_if = "<[_]>::is_empty")]
        release_signatures: &'a [String],
        #[serde(skip_serializing_if = "Vec::is_empty")]
        attach: Vec<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        gate: Option<Gate>,
        labels: &'a std::collections::BTreeMap<manifest_schema::LabelKey, manifest_schema::LabelValue>,
        #[serde(skip_serializing_if = "Option::is_none")]
        expires: Option<String>,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        sign: Vec<serde_json::Value>,
        #[serde(skip_serializing_if = "Option::is_none")]
        output: Option<PathBuf>,
        #[serde(skip_serializing_if = "Option::is_none")]
        volumes: Option<serde_json::Value>,
        #[serde(skip_serializing_if = "Option::is_none")]
        base: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        receipts: Option<serde_json::Value>,
        #[serde(skip_serializing_if = "Option::is_none")]
        with_importer: Option<PathBuf>,
    }
    let absolute = |p: &PathBuf| std::path::absolute(p).unwrap_or_else(|_| p.clone());
    let signer = |key: &KeySource| {
        let mut value = match &key.holder {
            KeyHolder::File(path) => serde_json::json!({ "key": absolute(path) }),
            KeyHolder::Agent { fingerprint, certificates } => match certificates.first() {
                Some(file) => serde_json::json!({ "by": fingerprint, "certificate": absolute(file) }),
                None => serde_json::json!({ "by": fingerprint }),
            },
        };
        if let Some(file) = &key.passphrase.file {
            value["passphrase_file"] = absolute(file).display().to_string().into();
        }
        value
    };
    let lock = Lock {
        stream: &request.stream,
        sequence: match request.sequence {
            SequenceSpec::Number(n) => n.get().into(),
            SequenceSpec::Time => "time".into(),
        },
        recipients: &request.recipients,
        images: pinned(request, report),
        platforms: &request.platforms,
        sparse_index: request.sparse_index,
        referrers: match &request.referrers {
            crate::attached::Referrers::All => None,
            other => Some(other.to_string()),
        },
        registries_d: request.registries_d_folders.iter().map(absolute).collect(),
        sign_images: request.sign_images,
        release: request.release,
        release_signatures: &request.release_signatures,
        attach: request.reports.named().map(|(file, image)| attach(&absolute(&file.into()), image)).collect(),
        gate: request.gate.as_ref().map(|gate| gate.rules().clone()).map(|mut scan| {
            scan.vex_files = scan.vex_files.iter().map(absolute).collect();
            Gate { scan }
        }),
        labels: &request.labels,
        expires: request.expires.map(|e| match e {
            crate::request::Expiry::At(time) => time.to_string(),
            crate::request::Expiry::After(seconds) => format!("{}h", seconds / 3600),
        }),
        sign: request.sign.iter().map(signer).collect(),
        output: None,
        volumes: volumes(request),
        // A name stands for itself, a file is found from anywhere.
        base: request.base_name.clone().map(|base| match file_named(&base, Path::new("")) {
            Some(file) => absolute(&file).display().to_string(),
            None => base,
        }),
        receipts: (!request.receipt_trust.is_empty()).then(|| {
            let certificates: Vec<PathBuf> = request.receipt_trust.iter().map(absolute).collect();
            serde_json::json!({ "certificates": certificates })
        }),
        with_importer: request.with_importer.as_ref().map(absolute),
    };
    let lock = Lock {
        output: (request.output.as_os_str() != ".").then(|| match request.is_stream() {
            true => request.output.clone(),
            false => absolute(&request.output),
        }),
        ..lock
    };
    let value = serde_json::to_value(&lock).map_err(|e| Error::Stdout(e.into()))?;
    let mut text = String::from(
        "# Every tag pinned by `sealift-export plan --lock` (but those of docker-archive:, which are read as they are).\n",
    );
    for (key, value) in value.as_object().into_iter().flatten() {
        match value.as_array() {
            Some(items) if !items.is_empty() => {
                text += &format!("{key}:\n");
                for item in items {
                    text += &format!("  - {item}\n");
                }
            }
            _ => text += &format!("{key}: {value}\n"),
        }
    }
    Ok(text)
}

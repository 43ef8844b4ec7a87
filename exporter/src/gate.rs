//! The gate of this side: whether an image's reports are enough, judged as production will, before anything is pulled.

use blobs::VerifiedBytes;
use commands::gate::ScanGate;
use manifest_schema::{Descriptor, Document, LIMITS, Timestamp};
use registry::source::Source;
use scan::{Carried, Dated, ImageFacts, PlatformFacts, Refusals, Rules, Verdict};

use crate::error::Error;
use crate::reports::Attached;
use crate::resolve::{ResolvedImage, parse};

/// Judges an image by what was attached to it, here and at its origin. `weight` grows by the memory that its reports take.
///
/// # Errors
/// If something that is attached to it at its origin cannot be read; [`Error::TooManyReports`].
pub(crate) fn judge(
    gate: &ScanGate,
    image: &ResolvedImage,
    attached: &[Attached<'_>],
    source: &dyn Source,
    now: Timestamp,
    weight: &mut usize,
) -> Result<Verdict, Error> {
    let rules = gate.rules();
    let mut carried = carried(rules, attached);
    // The other side holds those of all images together.
    *weight += carried.iter().map(Carried::weight).sum::<usize>();
    for referrer in image.referrers.iter().filter(|r| image.documents.contains(&r.subject)) {
        let Some(descriptor) = image.attached.get(&referrer.digest) else { continue };
        let bytes = source.document(&descriptor.digest, descriptor.size)?;
        let document = parse(&image.origin, &bytes, &descriptor.media_type)?;
        let Document::Manifest { layers, attached, .. } = document else { continue };
        for layer in layers.iter().filter(|layer| scan::may_be_report(layer.media_type.as_str(), layer.size)) {
            let bytes = fetch(source, layer)?;
            let name = attached.titles.get(&layer.digest).cloned();
            if let Some(report) =
                Carried::read(rules, referrer.subject, layer.digest, name, attached.created, bytes.bytes())
            {
                *weight += report.weight();
                carried.push(report);
            }
        }
    }
    if *weight > LIMITS.reports {
        return Err(Error::TooManyReports { origin: Box::new(image.origin.clone()) });
    }
    Ok(gate.judge(&facts(image), &carried, dated(now)))
}

/// What the attached reports say, where there is no gate.
pub(crate) fn show(image: &ResolvedImage, attached: &[Attached<'_>], now: Timestamp) -> Verdict {
    let nothing = Rules::nothing();
    nothing.judge(&facts(image), &carried(&nothing, attached), &Vec::new(), dated(now))
}

fn carried(rules: &Rules, attached: &[Attached<'_>]) -> Vec<Carried> {
    let of = |Attached { subject, file, .. }: &Attached<'_>| {
        let noted = file.noted();
        Carried::new(rules, *subject, noted.digest, Some(noted.name.clone()), noted.dated, file.report().clone())
    };
    attached.iter().map(of).collect()
}

fn dated(now: Timestamp) -> Dated {
    Dated { now, tolerance: signing::DEFAULT_CLOCK_TOLERANCE }
}

/// Demands that every image passes.
///
/// # Errors
/// [`Error::Gate`] has the reasons.
pub(crate) fn demand(images: &[ResolvedImage]) -> Result<(), Error> {
    let judged = images.iter().filter_map(|image| Some((&image.origin, image.verdict.as_ref()?)));
    Refusals::demand(judged).map_err(|refused| Error::Gate { refused, images: images.len() })
}

fn facts(image: &ResolvedImage) -> ImageFacts {
    let platform = |m: &crate::resolve::ResolvedManifest| PlatformFacts {
        digest: m.descriptor.digest,
        config: Some(m.config),
        platform: m.platform.clone(),
        may_run: m.may_run,
    };
    ImageFacts {
        names: vec![image.origin.repository().clone()],
        digest: image.top.digest,
        platforms: image.manifests.iter().map(platform).collect(),
    }
}

fn fetch(source: &dyn Source, layer: &Descriptor) -> Result<VerifiedBytes, Error> {
    VerifiedBytes::read(source.blob(layer)?, layer.digest, layer.size)
        .map_err(|source| Error::Pull { digest: layer.digest, source })
}

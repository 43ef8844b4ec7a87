//! `sealift-export`: packs a release of container images into an encrypted, signed, sealed bundle.
//!
//! The flow, numbered as in docs/format.md, section 6. Each stage is a value that the next one consumes:
//!
//! 1. [`Request`]: arguments and configuration, resolved once
//! 2. [`resolve`]: every reference resolved once, every image walked down to its blobs
//! 3. [`plan`]: what goes where, and how large it is; a dry run ends here
//! 4. [`pull`]: manifest signed, every blob streamed through its digest check into the volume
//! 5. [`seal`]: label, checksums, signature; the folder gets its final name
//!
//! Between 3 and 4 a plan may lie in a folder ([`planned`]), for several people to sign its manifest on machines of their own.

mod ahead;
pub mod attached;
pub mod base;
pub mod commands;
pub mod config;
pub mod error;
mod gate;
mod hints;
pub mod layout;
pub mod media;
pub mod plan;
pub mod planned;
pub mod pull;
pub mod receipts;
pub mod record;
mod recovery;
mod release;
pub mod reports;
pub mod request;
pub mod resolve;
pub mod seal;
mod volumes;

use console::Progress;
use signing::SecretKey;

use attached::{Carry, ImageSigner};
pub use error::Error;
pub use plan::Plan;
pub use planned::Planned;
use pull::{Signed, Which};
use record::Claim;
pub use request::Request;

/// What [`pack`] did.
#[derive(Debug)]
pub enum Packed {
    /// A new bundle.
    New(seal::Sealed),
    /// The same command has been run to its end before.
    Already(seal::Sealed),
}

/// Resolves and plans without writing anything.
///
/// # Errors
/// [`Error`].
pub fn make_plan(request: &Request, progress: &Progress) -> Result<Plan, Error> {
    let resolved = resolve::resolve(request, &Carry::Found, progress)?;
    plan::plan(request, resolved)
}

/// Packs a release. If it was planned before, `request` is that of the plan.
///
/// # Errors
/// [`Error`]; an unfinished bundle stays in `<name>.partial/`, without a seal, for the same command to take over.
pub fn pack(
    request: &Request,
    planned: Option<&Planned>,
    keys: &[SecretKey],
    progress: &Progress,
) -> Result<Packed, Error> {
    let mut claim = record::claim(request)?;
    if let Some(sealed) = claim.finished()? {
        return Ok(Packed::Already(sealed));
    }
    let signed = prepare(request, planned, keys, &mut claim, progress)?;
    let pulled = pull::pull(signed, request, &mut claim, Which::Missing, progress)?;
    Ok(Packed::New(seal::seal(pulled, request, &mut claim, keys, seal::Into::Bundle)?))
}

/// Makes volumes of a sealed bundle again, in a folder beside it: the same content, with new ciphertext and a new revision of the
/// seal. What is pulled is what was packed then, whatever tags name now.
///
/// # Errors
/// [`Error`]; also if this request was not packed with this state folder, or the sources no longer have what was packed.
pub fn pack_again(
    mut request: Request,
    volumes: &[u32],
    keys: &[SecretKey],
    progress: &Progress,
) -> Result<seal::Sealed, Error> {
    let mut claim = record::claim_sealed(&request)?;
    let planned = claim.plan()?;
    let last = planned.manifest().volumes.count;
    if let Some(number) = volumes.iter().find(|number| !(1..=last).contains(*number)) {
        return Err(Error::NoSuchVolume { number: *number, last });
    }
    request.repeat(&planned)?;
    let signed = prepare(&request, Some(&planned), keys, &mut claim, progress)?;
    let pulled = pull::pull(signed, &request, &mut claim, Which::Again(volumes), progress)?;
    seal::seal(pulled, &request, &mut claim, keys, seal::Into::Revision)
}

/// Sends a release through a pipe, as one volume that ends with its seal.
///
/// # Errors
/// [`Error`]; what was sent until then has no seal, and is not accepted.
pub fn send(
    request: &Request,
    planned: Option<&Planned>,
    keys: &[SecretKey],
    out: Box<dyn bundle::Output>,
    progress: &Progress,
) -> Result<seal::Sealed, Error> {
    let mut claim = record::claim(request)?;
    let signed = prepare(request, planned, keys, &mut claim, progress)?;
    pull::send(signed, request, &mut claim, keys, out, progress)
}

/// Stages 2 and 3, and the manifest signed.
fn prepare(
    request: &Request,
    planned: Option<&Planned>,
    keys: &[SecretKey],
    claim: &mut Claim,
    progress: &Progress,
) -> Result<Signed, Error> {
    let signer;
    let carry = match planned {
        Some(planned) => Carry::planned_in(planned.manifest()),
        None if request.sign_images => {
            signer = ImageSigner::new(keys, claim.signatures())?;
            Carry::Signed(&signer)
        }
        None => Carry::Found,
    };
    let mut resolved = resolve::resolve(request, &carry, progress)?;
    if let Some(planned) = planned {
        // What was asked for by tag is fetched by digest now, and is still called what it was called.
        for (image, said) in resolved.images.iter_mut().zip(&planned.manifest().images) {
            (image.asked, image.origin) = (said.asked.clone(), said.origin.clone());
        }
    }
    let plan = plan::plan(request, resolved)?;
    pull::sign(claim, plan, request, planned, keys, progress)
}

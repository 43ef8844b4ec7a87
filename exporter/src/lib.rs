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

pub mod attached;
pub mod commands;
pub mod config;
pub mod error;
mod hints;
pub mod plan;
pub mod planned;
pub mod pull;
pub mod record;
mod release;
pub mod request;
pub mod resolve;
pub mod seal;

use console::Progress;
use signing::SecretKey;

use attached::{Carry, ImageSigner};
pub use error::Error;
pub use plan::Plan;
pub use planned::Planned;
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
    let claim = record::claim(request)?;
    if let Some(sealed) = claim.finished()? {
        return Ok(Packed::Already(sealed));
    }
    let signer;
    let carry = match planned {
        Some(planned) => Carry::Planned(planned.manifest()),
        None if request.sign_images => {
            signer = ImageSigner::new(keys, claim.signatures())?;
            Carry::Signed(&signer)
        }
        None => Carry::Found,
    };
    let resolved = resolve::resolve(request, &carry, progress)?;
    let plan = plan::plan(request, resolved)?;
    let signed = pull::sign(&claim, plan, request, planned, keys)?;
    let pulled = pull::pull(signed, request, &claim, progress)?;
    Ok(Packed::New(seal::seal(pulled, &claim, keys)?))
}

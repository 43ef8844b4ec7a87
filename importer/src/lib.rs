//! `sealift-import`: verifies what `sealift-export` packed, pushes it into the production registry, signs it with the
//! production key and records it.
//!
//! The flow, numbered as in docs/format.md, section 7. Each stage is a value that owns what is known by then; the next one
//! consumes it. Nothing can be skipped, because no stage can be made without the one before.
//!
//! 0. [`open::seal`]: the seal is signed by the stream's release certificates
//! 1. [`open::Sealed::open`]: an identity opens volume 1; nothing in it is believed yet
//! 2. [`authenticate`]: the manifest, as received, is signed by them too, and is the one that was sealed
//! 3. [`admit`]: sequence, expiry, origins, destinations, documents, image policy, tags; the ledger reserves the number
//! 4. [`push`]: every blob streams through its digest check into the registry
//! 5. [`complete`]: every blob is asked for again; image manifests and indexes are pushed by digest
//! 6. [`sign`]: a ledger entry, then the production signatures
//! 7. [`publish`]: tags move, last
//! 8. [`record`]: one ledger transaction

pub mod access;
pub mod admit;
pub mod attach;
pub mod audit;
pub mod authenticate;
pub mod base;
pub mod commands;
pub mod complete;
pub mod config;
mod custody;
pub mod destination;
mod documents;
pub mod error;
pub mod evidence;
pub mod graph;
mod hints;
pub mod media;
pub mod open;
mod present;
pub mod provenance;
pub mod publish;
pub mod push;
mod reading;
pub mod record;
pub mod release_signatures;
pub mod sign;
pub mod site;
mod sparse;
pub mod trust;
pub mod verify;

use std::io::Read;
use std::path::PathBuf;

use console::Progress;
use ledger::Ledger;
use media::Wait;

pub use error::Error;
pub use site::Site;

/// Where a bundle comes from.
pub enum From {
    /// Folders, and who brings those that are missing.
    Folders(Vec<PathBuf>, Box<dyn Wait>),
    /// A stream, of which the seal is the last entry.
    Stream(Box<dyn Read + Send>),
}

impl From {
    /// Steps 0 and 1.
    ///
    /// # Errors
    /// As [`open::seal`] and [`open::Sealed::open`], or [`open::stream`].
    pub fn open(self, site: &Site) -> Result<open::Opened<'_>, Error> {
        match self {
            Self::Folders(paths, wait) => open::seal(site, &paths, wait)?.open(site, &site.identities()?),
            Self::Stream(input) => open::stream(site, input, &site.identities()?),
        }
    }
}

/// What [`receive`] did.
#[must_use]
pub enum Received {
    /// The bundle was received now.
    Now(Box<record::Recorded>),
    /// It was received before; nothing was done.
    Before(record::Before),
}

/// Receives a bundle. `state` always holds one line that says what state the world is in.
///
/// # Errors
/// [`Error`]. Running the same command again continues where this one stopped.
pub fn receive(site: &Site, from: From, progress: &Progress, state: &mut String) -> Result<Received, Error> {
    *state = "nothing was published".into();
    let mut ledger = site.open_ledger()?;
    let opened = from.open(site)?;
    let authenticated = authenticate::authenticate(opened)?;
    if let Some(before) = record::before(&ledger, &authenticated)? {
        return Ok(Received::Before(before));
    }
    let subject = admit::subject(&authenticated);
    let known = ledger.state_of(&subject.stream, subject.sequence)?;
    if known.is_some_and(|row| row.subject == subject && row.status == ledger::Status::Signing) {
        *state = "an earlier run may have published some of it; this run published nothing".into();
    }
    custody::warn(&authenticated.media.handover(), progress);
    // Not before: until the bundle is authenticated, the production key is not touched.
    let production = site.production()?;
    for warning in production.key.warnings(site.now) {
        progress.warn(format_args!("production key: {warning}"));
    }
    let result = receive_authenticated(site, &production, &mut ledger, authenticated, progress, state);
    if result.is_ok() {
        *state = "everything is published and recorded".into();
    }
    result.map(|recorded| Received::Now(Box::new(recorded)))
}

fn receive_authenticated(
    site: &Site,
    production: &site::Production,
    ledger: &mut Ledger,
    authenticated: authenticate::Authenticated<'_>,
    progress: &Progress,
    state: &mut String,
) -> Result<record::Recorded, Error> {
    let refusal = record::Refusal::of(&authenticated);
    let result = (|| {
        let admitted = admit::admit(site, ledger, authenticated, progress)?;
        let pushed = push::push(admitted, site.jobs, ledger, progress)?;
        if pushed.admitted.bundle.media.is_sealed_last() {
            pushed.admitted.reserve(ledger, progress)?;
        }
        let complete = complete::complete(pushed, site.jobs, progress)?;
        let signed = sign::sign(complete, production, ledger, progress)?;
        let published = publish::publish(signed, site.jobs, progress, state)?;
        record::record(published, ledger, progress)
    })();
    if let Err(error) = &result {
        refusal.note(ledger, error);
    }
    result
}

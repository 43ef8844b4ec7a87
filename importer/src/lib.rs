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
//!    Then, if there is one, this site's own scanner looks at every image ([`scanner`])
//! 6. [`sign`]: a ledger entry, then the production signatures
//! 7. [`publish`]: tags move, last
//! 8. [`record`]: one ledger transaction; where signatures are kept in git, their commit follows ([`git`])
//!
//! Where images wait for their promotion, [`receive`] ends with [`mod@wait`] behind step 5, and [`promote`] goes through steps 2 to
//! 8 with what was kept ([`staged`]) in place of the media.

pub mod access;
pub mod admit;
pub mod approvals;
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
pub mod gate;
pub mod git;
pub mod graph;
pub mod handover;
mod hints;
pub mod media;
pub mod open;
pub mod overrides;
mod present;
pub mod promotion;
pub mod provenance;
pub mod publish;
pub mod push;
mod reading;
pub mod receipt;
pub mod record;
pub mod registry_signatures;
pub mod release_signatures;
pub mod resign;
pub mod scanner;
pub mod serve;
pub mod sign;
pub mod site;
mod sparse;
pub mod staged;
pub mod trust;
pub mod verify;
pub mod wait;
pub mod withdraw;

use std::io::Read;
use std::path::PathBuf;

use approvals::{Promoter, PromoterArgs, PromoterKey};
use authenticate::Authenticated;
use console::Progress;
use git::When;
use ledger::{Ledger, Status, Subject};
use media::Wait;
use overrides::Overrides;
use record::Rest;
use scanner::Scanner;
use site::Stage;

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
    /// The bundle was received into production now.
    Now(Box<record::Recorded>),
    /// The bundle was received, and its images wait for their promotion.
    Waits(Box<wait::Waiting>),
    /// It was received before; nothing was done.
    Before(record::Before),
}

/// Receives a bundle. `state` always holds one line that says what state the world is in.
///
/// # Errors
/// [`Error`]. Running the same command again continues where this one stopped.
pub fn receive(
    site: &Site,
    from: From,
    overrides: &Overrides,
    progress: &Progress,
    state: &mut String,
) -> Result<Received, Error> {
    *state = NOTHING.into();
    site.scanner.as_ref().map_or(Ok(()), Scanner::is_ready)?;
    let mut ledger = site.open_ledger()?;
    let opened = from.open(site)?;
    let authenticated = authenticate::authenticate(opened)?;
    let subject = admit::subject(&authenticated);
    if let Some(before) = record::before(&ledger, &authenticated)? {
        if site.stage() == Stage::Production {
            commit(site, &ledger, progress, state)?;
        }
        return Ok(Received::Before(before));
    }
    *state = earlier(&ledger, &subject)?.into();
    // Not before: until the bundle is authenticated, the production key is not touched. And nobody lets anything pass in a run
    // that cannot start.
    let production = match site.stage() {
        Stage::Production => {
            let production = production(site, &ledger, progress)?;
            git::settle(site, &ledger, When::Before, progress)?;
            admit::registries_keep_signatures(site, &authenticated, progress)?;
            Some(production)
        }
        Stage::Staging | Stage::Held => None,
    };
    overrides.record(&mut ledger, &subject, progress)?;
    custody::warn(&authenticated.media.handover(), progress);
    let refusal = record::Refusal::of(&authenticated);
    let result = match production {
        Some(production) => straight(site, &production, &mut ledger, authenticated, progress, state)
            .map(|recorded| Received::Now(Box::new(recorded))),
        None => until_promotion(site, &mut ledger, authenticated, progress, state)
            .map(|waiting| Received::Waits(Box::new(waiting))),
    };
    match &result {
        Ok(Received::Waits(_)) => *state = "nothing was published; the bundle waits for its promotion".into(),
        Ok(_) => commit(site, &ledger, progress, state)?,
        Err(error) => refusal.note(&mut ledger, error),
    }
    result
}

/// Steps 3 to 8.
fn straight(
    site: &Site,
    production: &site::Production,
    ledger: &mut Ledger,
    authenticated: Authenticated<'_>,
    progress: &Progress,
    state: &mut String,
) -> Result<record::Recorded, Error> {
    let admitted = admit::admit(site, ledger, authenticated, progress)?;
    // None are required here; where some are, images wait.
    let approvals = approvals::counted(site, ledger, &admitted.subject, &admitted.placement.wanted(), None)?;
    let complete = into_registry(site, admitted, ledger, progress)?;
    let vetted = scanner::vet(site, complete, ledger, progress)?;
    let signed = sign::sign(vetted, approvals, production, ledger, progress)?;
    let published = publish::publish(signed, site.jobs, progress, state)?;
    record::record(published, Rest::Nothing, None, ledger, progress)
}

/// Steps 3 to 5; the images wait then. The production key is not touched.
fn until_promotion(
    site: &Site,
    ledger: &mut Ledger,
    authenticated: Authenticated<'_>,
    progress: &Progress,
    state: &mut String,
) -> Result<wait::Waiting, Error> {
    site.staging().map_or(Ok(()), site::Staging::make_roots)?;
    let admitted = admit::admit(site, ledger, authenticated, progress)?;
    wait::keep(&admitted, ledger)?;
    let complete = into_registry(site, admitted, ledger, progress)?;
    wait::wait(site, complete, ledger, progress, state)
}

/// Steps 4 and 5.
fn into_registry<'s>(
    site: &Site,
    admitted: admit::Admitted<'s>,
    ledger: &mut Ledger,
    progress: &Progress,
) -> Result<complete::Complete<'s>, Error> {
    let pushed = push::push(admitted, site.jobs, ledger, progress)?;
    if pushed.admitted.bundle.media.is_sealed_last() {
        pushed.admitted.reserve(ledger, progress)?;
    }
    complete::complete(pushed, site.jobs, progress)
}

/// Promotes a bundle that waits, or the images of it that are named by their production references: all of steps 2 to 8 from what
/// was kept when it was received. `state` always holds one line that says what state the world is in.
///
/// # Errors
/// [`Error`]. Running the same command again continues where this one stopped.
pub fn promote(
    site: &Site,
    ledger: &mut Ledger,
    asked: &promotion::Asked,
    promoter: &PromoterArgs,
    overrides: &Overrides,
    progress: &Progress,
    state: &mut String,
) -> Result<Received, Error> {
    *state = earlier(ledger, &asked.subject)?.into();
    if let Some(before) = promotion::before(ledger, asked)? {
        commit(site, ledger, progress, state)?;
        return Ok(Received::Before(before));
    }
    git::settle(site, ledger, When::Before, progress)?;
    let result = (|| {
        // Before it is looked for: a bundle that may not be promoted has nothing kept any more.
        overrides.preview(ledger, &asked.subject)?;
        let (authenticated, received) = staged::authenticate(site, &asked.subject)?;
        let promotion = promotion::Promotion::of(ledger, &received, asked)?;
        let wanted = promotion.wanted(&received);
        site.scanner.as_ref().map_or(Ok(()), Scanner::is_ready)?;
        let promoter = PromoterKey::unlock(site, promoter)?;
        // Nobody lets anything pass in a run that cannot start: the bundle is authentic, and the keys are good.
        let mut unlocked = None;
        if !overrides.is_empty() {
            unlocked = Some(production(site, ledger, progress)?);
            registry_signatures::are_kept(site, wanted.iter().map(|(image, _)| &image.repository), progress)?;
            overrides.record(ledger, &asked.subject, progress)?;
        }
        let promoter = promoter.map(|key| key.states(ledger, &asked.subject, &wanted)).transpose()?;
        let by = promoter.as_ref().map(Promoter::fingerprint);
        let counted = |ledger: &Ledger| approvals::counted(site, ledger, &asked.subject, &wanted, by);
        // Before anything is copied, and once more before anything is signed: copying takes its time.
        let _so_far = counted(ledger)?;
        let production = unlocked.map_or_else(|| production(site, ledger, progress), Ok)?;
        let admitted = admit::admit_again(site, ledger, authenticated, &promotion.images, progress)?;
        let complete = into_registry(site, admitted, ledger, progress)?;
        let vetted = scanner::vet(site, complete, ledger, progress)?;
        let signed = sign::sign(vetted, counted(ledger)?, &production, ledger, progress)?;
        let published = publish::publish(signed, site.jobs, progress, state)?;
        record::record(published, promotion.rest, promoter, ledger, progress)
    })();
    match &result {
        Ok(_) => commit(site, ledger, progress, state)?,
        Err(error) => record::Refusal::of_subject(&asked.subject).note(ledger, error),
    }
    result.map(|recorded| Received::Now(Box::new(recorded)))
}

/// Commits the signatures of what is published and recorded, where the site keeps them in git.
fn commit(site: &Site, ledger: &Ledger, progress: &Progress, state: &mut String) -> Result<(), Error> {
    *state =
        "everything that was asked for is published and recorded; its signatures are not committed and pushed yet: \
              run the same command again"
            .into();
    git::settle(site, ledger, When::After, progress)?;
    *state = "everything that was asked for is published and recorded".into();
    Ok(())
}

const NOTHING: &str = "nothing was published";

/// What an earlier run may have published of a bundle.
fn earlier(ledger: &Ledger, subject: &Subject) -> Result<&'static str, Error> {
    let row = ledger.state_of(&subject.stream, subject.sequence)?;
    Ok(match row.filter(|row| row.subject == *subject).map(|row| (row.status, row.images)) {
        Some((Status::Signing, _)) => "an earlier run may have published some of it; this run published nothing",
        Some((Status::Promoted | Status::Rejected, Some(_))) => {
            "images that were promoted before are published; this run published nothing"
        }
        _ => NOTHING,
    })
}

fn production(site: &Site, ledger: &Ledger, progress: &Progress) -> Result<site::Production, Error> {
    let production = site.production(ledger)?;
    for warning in production.key.warnings(site.now) {
        progress.warn(format_args!("production key: {warning}"));
    }
    Ok(production)
}

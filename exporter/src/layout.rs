//! Which volume holds which blob, and which medium holds which volume: in the order of the plan, by upper bounds.
//!
//! A blob in parts has its volumes for itself, so that no other has to be read again because of it.

use bundle::VolumeBound;
use manifest_schema::{LIMITS, Stored};
use serde::Serialize;

use crate::error::Error;
use crate::media::{Medium, Share, VolumeSize, on_medium};

/// A volume is begun on a medium that has others already only if it gets at least this share of a whole one.
const WORTH_A_PART: u64 = 16;

/// How a bundle is to be cut.
#[derive(Debug, Clone, Copy, Default)]
pub struct Cut {
    /// The largest file.
    pub volume_size: VolumeSize,
    /// The media, if there are to be several.
    pub medium: Option<Medium>,
    /// Recovery data.
    pub recovery: Option<Share>,
    /// Bytes that the importing program takes on the first medium.
    pub tool: u64,
}

impl Cut {
    /// The bound of what a volume of so many bytes takes on its medium, with its recovery data.
    fn on_medium(&self, volume: u64) -> u64 {
        let (bytes, files) = self.recovery_of(volume);
        // Each file takes up to one cluster more.
        on_medium(volume).saturating_add(bytes).saturating_add(files.saturating_mul(on_medium(1)))
    }

    /// The bound of a volume's recovery data: bytes, and number of files.
    fn recovery_of(&self, volume: u64) -> (u64, u64) {
        self.recovery.map_or((0, 0), |share| crate::recovery::bound(volume, share, self.volume_size))
    }

    /// The largest volume that leaves room for its recovery data in so many bytes.
    fn largest_volume(&self, left: u64) -> u64 {
        let limit = self.volume_size.bytes();
        if self.medium.is_none() || self.on_medium(limit) <= left {
            return limit;
        }
        let (mut fits, mut too_large) = (0, limit.min(left) + 1);
        while fits + 1 < too_large {
            let middle = fits + (too_large - fits) / 2;
            if self.on_medium(middle) <= left { fits = middle } else { too_large = middle }
        }
        fits
    }

    fn capacity(&self, medium: u32) -> u64 {
        let tool = if medium == 1 { on_medium(self.tool) } else { 0 };
        self.medium.map_or(u64::MAX, |m| m.for_volumes()).saturating_sub(tool)
    }
}

/// A volume as planned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PlannedVolume {
    /// From 1.
    pub number: u32,
    /// The medium that it is on, from 1.
    pub medium: u32,
    /// It will not be larger than this, in bytes.
    pub at_most_bytes: u64,
    /// Nor will its recovery data be.
    #[serde(skip_serializing_if = "is_zero")]
    pub recovery_bytes: u64,
}

fn is_zero(n: &u64) -> bool {
    *n == 0
}

/// A medium as planned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PlannedMedium {
    /// From 1.
    pub number: u32,
    /// Its capacity in bytes.
    pub capacity: u64,
    /// It will not be fuller than this, in bytes.
    pub at_most_bytes: u64,
}

/// Every blob in its volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// How each blob is stored, in the order of the blobs.
    pub stored: Vec<Stored>,
    /// The volumes.
    pub volumes: Vec<PlannedVolume>,
    /// The media; none if nothing was said of media.
    pub media: Vec<PlannedMedium>,
}

/// A blob to be placed.
#[derive(Debug, Clone, Copy)]
pub enum ToPlace {
    /// Of this size in bytes.
    Carried(u64),
    /// Left to the base.
    Left,
}

/// Lays blobs out, in their order. `first` is volume 1 with its head.
///
/// # Errors
/// [`Error::VolumeTooSmall`] if the head fits no volume, [`Error::TooManyVolumes`].
pub fn lay_out(cut: &Cut, first: VolumeBound, later: VolumeBound, blobs: &[ToPlace]) -> Result<Layout, Error> {
    let mut filling = Filling {
        cut,
        later,
        layout: Layout { stored: Vec::with_capacity(blobs.len()), volumes: Vec::new(), media: Vec::new() },
        medium: 1,
        left: cut.capacity(1),
        number: 1,
        bound: first,
        limit: cut.largest_volume(cut.capacity(1)),
        ends_in_parts: false,
    };
    if filling.bound.bytes() > filling.limit {
        return Err(Error::VolumeTooSmall { needed: filling.bound.bytes(), limit: filling.limit });
    }
    for blob in blobs {
        let stored = match blob {
            ToPlace::Left => Stored::Base,
            ToPlace::Carried(size) => filling.place(*size)?,
        };
        filling.layout.stored.push(stored);
    }
    filling.close_volume();
    filling.close_medium();
    Ok(filling.layout)
}

struct Filling<'c> {
    cut: &'c Cut,
    /// A volume other than the first, before its first blob.
    later: VolumeBound,
    layout: Layout,
    medium: u32,
    /// Bytes left on the medium for the volume that is being filled, and for those behind it.
    left: u64,
    number: u32,
    bound: VolumeBound,
    /// What this volume may become.
    limit: u64,
    /// This volume holds the last part of a blob, and nothing else may follow.
    ends_in_parts: bool,
}

impl Filling<'_> {
    fn place(&mut self, size: u64) -> Result<Stored, Error> {
        let whole = self.cut.largest_volume(self.cut.capacity(2));
        if self.ends_in_parts || self.bound.blob(size).bytes() > self.limit {
            let beside = self.cut.largest_volume(self.left_behind());
            if self.later.blob(size).bytes() <= beside {
                self.next_volume(false)?;
            } else if self.later.blob(size).bytes() <= whole {
                self.next_volume(true)?;
            } else {
                return self.place_parts(size, whole);
            }
        }
        self.bound = self.bound.blob(size);
        Ok(Stored::Whole { volume: self.number })
    }

    fn place_parts(&mut self, size: u64, whole: u64) -> Result<Stored, Error> {
        let (mut sizes, mut rest) = (Vec::new(), size);
        self.next_volume_for_part(whole)?;
        let volume = self.number;
        loop {
            let part = rest.min(self.bound.room_for_part(self.limit));
            if part == 0 {
                return Err(Error::VolumeTooSmall { needed: self.bound.part(1).bytes(), limit: self.limit });
            }
            self.bound = self.bound.part(part);
            sizes.push(part);
            rest -= part;
            if rest == 0 {
                self.ends_in_parts = true;
                return Ok(Stored::Parts { volume, sizes });
            }
            self.next_volume_for_part(whole)?;
        }
    }

    fn next_volume_for_part(&mut self, whole: u64) -> Result<(), Error> {
        let beside = self.cut.largest_volume(self.left_behind());
        let is_worth_it = self.later.room_for_part(beside) >= whole / WORTH_A_PART;
        self.next_volume(!is_worth_it)
    }

    /// Bytes left on the medium behind this volume.
    fn left_behind(&self) -> u64 {
        match self.cut.medium {
            Some(_) => self.left.saturating_sub(self.cut.on_medium(self.bound.bytes())),
            None => u64::MAX,
        }
    }

    fn close_volume(&mut self) {
        let at_most_bytes = self.bound.bytes();
        self.layout.volumes.push(PlannedVolume {
            number: self.number,
            medium: self.medium,
            at_most_bytes,
            recovery_bytes: self.cut.recovery_of(at_most_bytes).0,
        });
        self.left = self.left_behind();
    }

    fn close_medium(&mut self) {
        if let Some(medium) = self.cut.medium {
            let at_most_bytes = medium.capacity.saturating_sub(self.left);
            let capacity = medium.capacity;
            self.layout.media.push(PlannedMedium { number: self.medium, capacity, at_most_bytes });
        }
    }

    fn next_volume(&mut self, on_next_medium: bool) -> Result<(), Error> {
        if self.number >= LIMITS.volumes {
            return Err(Error::TooManyVolumes { limit: LIMITS.volumes });
        }
        self.close_volume();
        self.number += 1;
        self.bound = self.later;
        self.ends_in_parts = false;
        if on_next_medium {
            self.close_medium();
            self.medium += 1;
            self.left = self.cut.capacity(self.medium);
        }
        self.limit = self.cut.largest_volume(self.left);
        Ok(())
    }
}

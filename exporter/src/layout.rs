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

/// Into so many volumes, about, a bundle is cut even if fewer would do, unless they would become smaller than this in bytes:
/// volumes are made, checked, read and replaced for themselves, and several side by side.
const VOLUMES: u64 = 8;
const SMALLEST: u64 = 256 << 20;

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
    /// Bytes that label and seal take on each medium.
    pub sealing: u64,
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
        self.medium.map_or(u64::MAX, |m| m.for_files().saturating_sub(on_medium(self.sealing))).saturating_sub(tool)
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

impl ToPlace {
    fn size(&self) -> u64 {
        match self {
            Self::Carried(size) => *size,
            Self::Left => 0,
        }
    }
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
        whole: cut.largest_volume(cut.capacity(2)),
        suits: match cut.volume_size {
            VolumeSize::Unlimited => u64::MAX,
            VolumeSize::AtMost(_) => (blobs.iter().map(ToPlace::size).sum::<u64>() / VOLUMES).max(SMALLEST),
        },
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
    /// What a volume may become that has a medium to itself.
    whole: u64,
    /// What a volume should not become if it holds half of that already.
    suits: u64,
}

impl Filling<'_> {
    fn place(&mut self, size: u64) -> Result<Stored, Error> {
        let with = self.bound.blob(size).bytes();
        let is_large = with > self.suits && self.bound.bytes() >= self.suits / 2;
        if self.ends_in_parts || with > self.limit || is_large {
            let beside = self.cut.largest_volume(self.left_behind());
            if self.later.blob(size).bytes() <= beside {
                self.next_volume(false)?;
            } else if is_large && with <= self.limit && !self.ends_in_parts {
                // It would have to be another medium.
            } else if self.later.blob(size).bytes() <= self.whole {
                self.next_volume(true)?;
            } else {
                return self.place_parts(size);
            }
        }
        self.bound = self.bound.blob(size);
        Ok(Stored::Whole { volume: self.number })
    }

    fn place_parts(&mut self, size: u64) -> Result<Stored, Error> {
        let (mut sizes, mut rest) = (Vec::new(), size);
        self.next_volume_for_part()?;
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
            self.next_volume_for_part()?;
        }
    }

    fn next_volume_for_part(&mut self) -> Result<(), Error> {
        let beside = self.cut.largest_volume(self.left_behind());
        let is_worth_it = self.later.room_for_part(beside) >= self.whole / WORTH_A_PART;
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    const MIB: u64 = 1 << 20;

    fn lay(cut: &Cut, sizes: &[u64]) -> Result<Layout, Error> {
        let blobs: Vec<_> = sizes.iter().map(|size| ToPlace::Carried(*size)).collect();
        lay_out(cut, VolumeBound::first(10_000, 500, 1), VolumeBound::later(1), &blobs)
    }

    /// What must hold of any layout.
    #[track_caller]
    fn is_sound(cut: &Cut, sizes: &[u64], layout: &Layout) {
        let mut volumes = BTreeMap::from([(1, VolumeBound::first(10_000, 500, 1))]);
        let (mut at, mut in_parts) = (1, 0);
        for (size, stored) in sizes.iter().zip(&layout.stored) {
            for piece in stored.pieces() {
                assert!(piece.volume == at || piece.volume == at + 1, "{stored:?} behind volume {at}");
                assert_ne!(piece.volume, in_parts, "a blob in parts has its volumes for itself");
                at = piece.volume;
                let bound = volumes.entry(at).or_insert(VolumeBound::later(1));
                *bound = piece.part.map_or(bound.blob(*size), |part| bound.part(part.size));
                in_parts = if piece.part.is_some() { at } else { in_parts };
            }
            if let Stored::Parts { sizes, .. } = stored {
                assert_eq!(sizes.iter().sum::<u64>(), *size);
                assert!(sizes.len() > 1 && !sizes.contains(&0), "{sizes:?}");
            }
        }
        assert_eq!(layout.volumes.len(), volumes.len(), "no volume is empty");
        let mut used: BTreeMap<u32, u64> = BTreeMap::new();
        for (planned, (number, bound)) in layout.volumes.iter().zip(&volumes) {
            assert_eq!((planned.number, planned.at_most_bytes), (*number, bound.bytes()));
            assert!(planned.at_most_bytes <= cut.volume_size.bytes(), "{planned:?}");
            *used.entry(planned.medium).or_default() += cut.on_medium(planned.at_most_bytes);
        }
        let numbers: Vec<_> = layout.media.iter().map(|m| m.number).collect();
        match cut.medium {
            None => assert!(numbers.is_empty()),
            Some(medium) => {
                assert_eq!(numbers, used.keys().copied().collect::<Vec<_>>());
                for (number, bytes) in used {
                    assert!(bytes <= cut.capacity(number), "medium {number}: {bytes} of {medium:?}");
                }
            }
        }
    }

    #[test]
    fn every_layout_is_sound() {
        let mut state = 42_u64;
        let mut random = move |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % below
        };
        for round in 0..400 {
            let medium = (random(2) == 0).then(|| Medium { capacity: (4 + random(40)) * MIB });
            let cut = Cut {
                volume_size: match random(4) {
                    0 if medium.is_some() => VolumeSize::Unlimited,
                    1 => VolumeSize::default(),
                    _ => VolumeSize::AtMost((1 + random(8)) * MIB),
                },
                medium,
                recovery: (random(2) == 0).then(|| Share(1 + random(30) as u8)),
                tool: medium.map_or(0, |_| random(MIB)),
                sealing: 256 << 10,
            };
            let sizes: Vec<u64> =
                (0..random(30)).map(|_| [0, random(1000), random(MIB), random(20 * MIB)][random(4) as usize]).collect();
            let layout = lay(&cut, &sizes).unwrap_or_else(|e| panic!("round {round}: {cut:?} {sizes:?}: {e}"));
            is_sound(&cut, &sizes, &layout);
        }
    }

    #[test]
    fn what_just_fits_is_not_cut() {
        let limit = VolumeSize::AtMost(4 * MIB);
        let cut = Cut { volume_size: limit, ..Cut::default() };
        let fits = (0..4 * MIB).rev().step_by(512).find(|size| VolumeBound::later(1).blob(*size).bytes() <= 4 * MIB);
        let fits = fits.expect("something fits");
        let layout = lay(&cut, &[3 * MIB, fits, 10]).expect("laid out");
        let whole = |volume| Stored::Whole { volume };
        assert_eq!(layout.stored, [whole(1), whole(2), whole(3)]);
        let layout = lay(&cut, &[3 * MIB, fits + 1024, 10]).expect("laid out");
        assert!(matches!(&layout.stored[1], Stored::Parts { volume: 2, sizes } if sizes.len() == 2), "{layout:?}");
        assert_eq!(layout.stored[2], whole(4));
    }

    #[test]
    fn a_large_bundle_is_cut_so_that_volumes_can_be_read_side_by_side() {
        let volumes = |cut: &Cut, sizes: &[u64]| {
            let layout = lay(cut, sizes).expect("laid out");
            is_sound(cut, sizes, &layout);
            layout.stored.iter().filter_map(|s| Some(s.volumes()?.0)).collect::<Vec<_>>()
        };
        let cut = Cut::default();
        assert_eq!(volumes(&cut, &[100 * MIB; 2]), [1, 1], "small bundles stay whole");
        assert_eq!(volumes(&cut, &[290 * MIB, 245 * MIB, 172 * MIB, 171 * MIB, 86 * MIB]), [1, 2, 3, 4, 5]);
        assert_eq!(volumes(&cut, &[100 * MIB; 5]), [1, 1, 2, 2, 3]);
        assert_eq!(volumes(&cut, &[1024 * MIB; 32]).last(), Some(&11), "not more than are needed for that");
        let none = Cut { volume_size: VolumeSize::Unlimited, ..cut };
        assert_eq!(volumes(&none, &[1024 * MIB; 32]), [1; 32], "one file was asked for");
        // No medium is left for that.
        let medium = Some(Medium { capacity: 600 * MIB });
        let media = |cut: Cut, kib: u64| {
            let sizes = [200 * MIB, kib << 10];
            lay(&Cut { medium, ..cut }, &sizes).expect("laid out").media.len()
        };
        let fits = (330 << 10..400 << 10).rev().find(|kib| media(none, *kib) == 1).expect("something fits");
        for kib in fits - 300..fits + 300 {
            assert_eq!(media(cut, kib), media(none, kib), "{kib} KiB");
        }
    }

    #[test]
    fn what_fits_nowhere_is_refused() {
        let cut = Cut { volume_size: VolumeSize::AtMost(MIB), ..Cut::default() };
        let head = VolumeBound::first(2 * MIB, 500, 1);
        let refused = lay_out(&cut, head, VolumeBound::later(1), &[]);
        assert!(matches!(refused, Err(Error::VolumeTooSmall { limit: MIB, .. })));
        let many = lay(&cut, &[u64::from(LIMITS.volumes) * MIB]);
        assert!(matches!(many, Err(Error::TooManyVolumes { .. })));
        // Recovery data of all of it, on a medium that has hardly more room than that takes.
        let cut = Cut { medium: Some(Medium { capacity: 4 * MIB }), recovery: Some(Share(100)), ..Cut::default() };
        match lay(&cut, &[10 * MIB]) {
            Ok(layout) => is_sound(&cut, &[10 * MIB], &layout),
            Err(e) => assert!(matches!(e, Error::VolumeTooSmall { .. }), "{e}"),
        }
    }

    #[test]
    fn the_importing_program_takes_its_place_on_the_first_medium() {
        let medium = Some(Medium { capacity: 16 * MIB });
        let sizes = [6 * MIB, 6 * MIB];
        let without = lay(&Cut { medium, ..Cut::default() }, &sizes).expect("laid out");
        let with = lay(&Cut { medium, tool: 5 * MIB, ..Cut::default() }, &sizes).expect("laid out");
        assert_eq!((without.media.len(), with.media.len()), (1, 2));
    }
}

//! How a blob is stored in a bundle (docs/format.md, section 4).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How a blob is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Stored {
    /// In one piece.
    Whole {
        /// The volume, from 1.
        volume: u32,
    },
    /// In parts, because it is larger than a volume: each but the last ends its volume. A writer gives such a blob volumes of
    /// its own; a reader also takes what follows the last part in the same volume.
    Parts {
        /// The volume of the first part; the others are in the volumes behind it.
        volume: u32,
        /// The sizes of the parts in bytes.
        sizes: Vec<u64>,
    },
    /// Not at all: it came with the base.
    Base,
}

impl Stored {
    /// The pieces in the bundle, in order: the volume of each, and its number from 1 with its size if it is a part.
    pub fn pieces(&self) -> impl Iterator<Item = Piece> + '_ {
        let (whole, first, sizes): (_, _, &[u64]) = match self {
            Self::Whole { volume } => (Some(Piece { volume: *volume, part: None }), 0, &[]),
            Self::Parts { volume, sizes } => (None, *volume, sizes),
            Self::Base => (None, 0, &[]),
        };
        let parts = (0_u32..).zip(sizes).map(move |(n, size)| {
            let part = Some(Part { number: n.saturating_add(1), size: *size });
            Piece { volume: first.saturating_add(n), part }
        });
        whole.into_iter().chain(parts)
    }

    /// The volumes of its first and last piece; `None` if it is not carried.
    pub fn volumes(&self) -> Option<(u32, u32)> {
        let first = self.pieces().next()?.volume;
        self.pieces().last().map(|last| (first, last.volume))
    }
}

/// A blob, or a part of one, in a volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    /// The volume, from 1.
    pub volume: u32,
    /// Which part it is; `None` for the whole blob.
    pub part: Option<Part>,
}

/// A part of a blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// From 1.
    pub number: u32,
    /// In bytes.
    pub size: u64,
}

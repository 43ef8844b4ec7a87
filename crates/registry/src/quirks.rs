//! What has been learned of how a registry takes blobs.

/// Bytes of one chunk, which is held in memory.
const CHUNK: u64 = 8 << 20;
/// GitHub's registry fails at larger ones.
const SMALL_CHUNK: u64 = 4 << 20;
/// Below this no server asks for smaller chunks in earnest.
pub(crate) const SMALLEST_CHUNK: u64 = 1 << 20;

/// How one registry takes blobs.
pub(crate) struct Quirks {
    /// The size of a chunk in bytes, unless the registry asks for larger ones.
    pub(crate) chunk: u64,
    /// Whether blobs go up in chunks.
    pub(crate) chunked: bool,
    chunks_refused: bool,
    /// Whether a blob has become complete that went up in chunks.
    pub(crate) chunks_worked: bool,
    /// The size of the largest blob it took in one request, in bytes.
    pub(crate) largest_whole: u64,
}

impl Quirks {
    pub(crate) fn new(registry: &str) -> Self {
        let chunk = if registry.eq_ignore_ascii_case("ghcr.io") { SMALL_CHUNK } else { CHUNK };
        Self { chunk, chunked: false, chunks_refused: false, chunks_worked: false, largest_whole: 0 }
    }

    /// Chunks from now on, unless those were refused before.
    pub(crate) fn refused_whole(&mut self) {
        self.chunked = !self.chunks_refused;
    }

    /// Halves the chunks. `false` if they are as small as they get.
    pub(crate) fn refused_length(&mut self) -> bool {
        let smaller = (self.chunk / 2).max(SMALLEST_CHUNK);
        std::mem::replace(&mut self.chunk, smaller) > smaller
    }

    /// Whole blobs from now on.
    pub(crate) fn refused_chunks(&mut self) {
        (self.chunked, self.chunks_refused) = (false, true);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_as_large_as_the_registry_takes_them() {
        for (registry, chunk) in
            [("ghcr.io", 4 << 20), ("GHCR.io", 4 << 20), ("ghcr.io.example", 8 << 20), ("r.example:5000", 8 << 20)]
        {
            assert_eq!(Quirks::new(registry).chunk, chunk, "{registry}");
        }
        let mut quirks = Quirks::new("ghcr.io");
        assert_eq!([quirks.refused_length(), quirks.refused_length(), quirks.refused_length()], [true, true, false]);
        assert_eq!(quirks.chunk, 1 << 20);
    }

    #[test]
    fn a_way_that_was_refused_is_not_gone_back_to() {
        let mut quirks = Quirks::new("r.example");
        quirks.refused_whole();
        assert!(quirks.chunked);
        quirks.refused_chunks();
        assert!(!quirks.chunked);
        quirks.refused_whole();
        assert!(!quirks.chunked, "chunks were refused before");
    }
}

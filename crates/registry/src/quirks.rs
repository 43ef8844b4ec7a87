//! What has been learned of how a registry takes blobs.

/// Bytes of one chunk, which is held in memory.
pub(crate) const CHUNK: u64 = 8 << 20;
/// Bytes of one chunk of an upload that can be continued between chunks.
pub(crate) const LARGE_CHUNK: u64 = 16 << 20;
/// GitHub's registry fails at larger ones.
const SMALL_CHUNK: u64 = 4 << 20;
/// Below this no server asks for smaller chunks in earnest.
pub(crate) const SMALLEST_CHUNK: u64 = 1 << 20;

/// How one registry takes blobs.
pub(crate) struct Quirks {
    /// The largest chunk to send, in bytes, unless the registry asks for larger ones.
    largest_chunk: u64,
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
        let largest_chunk = if registry.eq_ignore_ascii_case("ghcr.io") { SMALL_CHUNK } else { LARGE_CHUNK };
        Self { largest_chunk, chunked: false, chunks_refused: false, chunks_worked: false, largest_whole: 0 }
    }

    /// The size of a chunk in bytes, where one of this size is wanted.
    pub(crate) fn chunk(&self, wanted: u64) -> u64 {
        wanted.min(self.largest_chunk)
    }

    /// Whether the registry has shown that it takes no chunks.
    pub(crate) fn refuses_chunks(&self) -> bool {
        self.chunks_refused
    }

    /// Chunks from now on, unless those were refused before.
    pub(crate) fn refused_whole(&mut self) {
        self.chunked = !self.chunks_refused;
    }

    /// Halves the chunks, where those of this size were wanted. `false` if they are as small as they get.
    pub(crate) fn refused_length(&mut self, wanted: u64) -> bool {
        let refused = self.chunk(wanted);
        self.largest_chunk = (refused / 2).max(SMALLEST_CHUNK);
        refused > self.largest_chunk
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
        for (registry, chunks) in [
            ("ghcr.io", [4 << 20, 4 << 20]),
            ("GHCR.io", [4 << 20, 4 << 20]),
            ("ghcr.io.example", [8 << 20, 16 << 20]),
            ("r.example:5000", [8 << 20, 16 << 20]),
        ] {
            let quirks = Quirks::new(registry);
            assert_eq!([quirks.chunk(CHUNK), quirks.chunk(LARGE_CHUNK)], chunks, "{registry}");
        }
        let mut quirks = Quirks::new("ghcr.io");
        assert_eq!([(); 3].map(|()| quirks.refused_length(CHUNK)), [true, true, false]);
        assert_eq!(quirks.chunk(LARGE_CHUNK), 1 << 20);
        let mut quirks = Quirks::new("r.example");
        assert!(quirks.refused_length(LARGE_CHUNK));
        assert_eq!([quirks.chunk(CHUNK), quirks.chunk(LARGE_CHUNK)], [8 << 20, 8 << 20]);
        assert!(quirks.refused_length(CHUNK));
        assert_eq!([quirks.chunk(CHUNK), quirks.chunk(LARGE_CHUNK)], [4 << 20, 4 << 20]);
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

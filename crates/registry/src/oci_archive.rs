//! OCI image layouts in a tar archive, as `skopeo copy … oci-archive:` and `podman save --format oci-archive` write.
//!
//! Blobs are read in any order, so the archive must not be compressed.

use std::path::Path;

use manifest_schema::OutsideText;

use crate::layout::{Files, Layout};
use crate::source::error::SourceError;
use crate::source::tar_index::{Section, TarIndex};

impl Files for TarIndex {
    fn file(&self, name: &str) -> Result<Option<Section>, SourceError> {
        TarIndex::file(self, name)
    }

    fn at(&self, name: &str) -> OutsideText {
        TarIndex::at(self, name)
    }

    fn place(&self) -> OutsideText {
        TarIndex::place(self)
    }
}

/// Opens an archive.
pub(crate) fn open(path: &Path) -> Result<Layout, SourceError> {
    Layout::read(Box::new(TarIndex::open(path)?))
}

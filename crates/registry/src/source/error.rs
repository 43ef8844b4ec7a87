//! Why an image cannot be read from where it should be.

use std::io;

use manifest_schema::document::DocumentError;
use manifest_schema::{Digest, LIMITS, OutsideText};

use blobs::BlobError;

/// Why an image cannot be read from where it should be.
///
/// `file` names a file of a folder (`folder/blobs/…`) or an entry of an archive (`archive.tar: blobs/…`).
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The registry could not be asked, or its answer is refused.
    #[error(transparent)]
    Registry(#[from] crate::Error),
    /// A file could not be read.
    #[error("cannot read {}", .file.escaped())]
    Io {
        /// The file.
        file: OutsideText,
        /// What the system said.
        source: io::Error,
    },
    /// A file that must be there is not.
    #[error("{} is missing", .file.escaped())]
    Missing {
        /// The file.
        file: OutsideText,
    },
    /// A link, a folder, a pipe or a device where a regular file must be.
    #[error("{} is {found}; only a regular file is read", .file.escaped())]
    NotRegular {
        /// The file.
        file: OutsideText,
        /// What it is.
        found: &'static str,
    },
    /// More than is read of a file of this kind.
    #[error("{} has {size} bytes; at most {limit} are accepted", .file.escaped())]
    TooLarge {
        /// The file.
        file: OutsideText,
        /// Its size in bytes.
        size: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// More signatures, or more documents that refer to one, than are read.
    #[error("{} has more than {limit} {what}", .place.escaped())]
    TooMany {
        /// The folder, archive or file.
        place: OutsideText,
        /// Of what.
        what: &'static str,
        /// The limit.
        limit: usize,
    },
    /// A descriptor says one size and the content has another.
    #[error("{}: expected {expected} bytes, found {found}", .file.escaped())]
    Size {
        /// The file, or the digest that a registry was asked for.
        file: OutsideText,
        /// The size in the descriptor, in bytes.
        expected: u64,
        /// The size found, in bytes.
        found: u64,
    },
    /// The content is not what its digest promises.
    #[error("{}: wrong content", .file.escaped())]
    Content {
        /// The file.
        file: OutsideText,
        /// The difference.
        source: Box<BlobError>,
    },
    /// An index or image manifest is refused.
    #[error("{} is refused", .file.escaped())]
    Document {
        /// The file, or the reference that a registry was asked for.
        file: OutsideText,
        /// The rule it breaks.
        source: DocumentError,
    },
    /// A JSON file that is neither an index nor an image manifest is not as it should be.
    #[error("{} cannot be used: {}", .file.escaped(), .reason.escaped())]
    Json {
        /// The file.
        file: OutsideText,
        /// What is wrong.
        reason: OutsideText,
    },
    /// `oci-layout` names another version of the format.
    #[error("{}: image layout version `{}`, expected `1.0.0`", .file.escaped(), .found.escaped())]
    LayoutVersion {
        /// The file.
        file: OutsideText,
        /// The version found.
        found: OutsideText,
    },
    /// The file `version` of a `dir:` folder names another version of the format.
    #[error("{}: `{}`, expected `Directory Transport Version: 1.x`", .file.escaped(), .found.escaped())]
    DirVersion {
        /// The file.
        file: OutsideText,
        /// What it says.
        found: OutsideText,
    },
    /// The archive cannot be read safely.
    #[error("{}: {fault}", .file.escaped())]
    Archive {
        /// The archive.
        file: OutsideText,
        /// What is wrong.
        fault: ArchiveFault,
    },
    /// The place holds no image.
    #[error("{} holds no image", .place.escaped())]
    Empty {
        /// The folder or archive.
        place: OutsideText,
    },
    /// The place holds several images, or one under several names, and none was chosen.
    #[error("{} holds several images: {}", .place.escaped(), list(.names))]
    Several {
        /// The folder or archive.
        place: OutsideText,
        /// Their names; a digest for each that has no name.
        names: Vec<OutsideText>,
    },
    /// No image has the name asked for.
    #[error("{} holds no image `{}`; it holds {}", .place.escaped(), .asked.escaped(), list(.names))]
    NoSuchImage {
        /// The folder or archive.
        place: OutsideText,
        /// What was asked for.
        asked: OutsideText,
        /// The names that are there; a digest for each image that has no name.
        names: Vec<OutsideText>,
    },
    /// Several entries have the name asked for.
    #[error("{} holds `{}` more than once: {}", .place.escaped(), .asked.escaped(), digest_list(.digests))]
    Twice {
        /// The folder or archive.
        place: OutsideText,
        /// What was asked for.
        asked: OutsideText,
        /// The digests of the entries with that name.
        digests: Vec<Digest>,
    },
    /// The image's name cannot be made into a reference.
    #[error("{}: the name `{}` is neither a full reference nor a tag", .place.escaped(), .name.escaped())]
    Unnamed {
        /// The folder or archive.
        place: OutsideText,
        /// The name found.
        name: OutsideText,
    },
    /// The image's name has a digest, and it is not the image's digest.
    #[error("{}: the image named `{}` has the digest {found}", .place.escaped(), .name.escaped())]
    NameDigest {
        /// The folder or archive.
        place: OutsideText,
        /// The name found.
        name: OutsideText,
        /// The image's digest.
        found: Box<Digest>,
    },
    /// An archive of `docker save` has more or fewer layers than the image's configuration.
    #[error("{}: the configuration has {expected} layers, the archive's list has {found}", .file.escaped())]
    LayerCount {
        /// The configuration.
        file: OutsideText,
        /// The number of `diff_ids` in the configuration.
        expected: usize,
        /// The number of layers that `manifest.json` lists.
        found: usize,
    },
    /// A layer, uncompressed, is not what the image's configuration says.
    #[error("{}: the configuration says {expected}, the uncompressed layer is {found}", .file.escaped())]
    DiffId {
        /// The layer.
        file: OutsideText,
        /// The `diff_id` in the configuration.
        expected: Box<Digest>,
        /// The digest of the uncompressed layer.
        found: Box<Digest>,
    },
    /// A configuration named by its digest is another.
    #[error("{}: the name promises {expected}, the content is {found}", .file.escaped())]
    ConfigName {
        /// The configuration.
        file: OutsideText,
        /// The digest in its name.
        expected: Box<Digest>,
        /// The digest of its content.
        found: Box<Digest>,
    },
    /// A foreign layer can be fetched neither from where the image is nor from its `urls`.
    #[error("the foreign layer {digest} cannot be fetched (urls: {})", list(.urls))]
    Foreign {
        /// The layer.
        digest: Box<Digest>,
        /// Where it should be.
        urls: Vec<OutsideText>,
        /// What went wrong last.
        source: Box<SourceError>,
    },
}

/// Why a tar archive cannot be read safely. Offsets are in bytes from its start.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ArchiveFault {
    /// Compressed: its blobs could not be read in any order.
    #[error("compressed with {0}; an image is read from an uncompressed archive only")]
    Compressed(&'static str),
    /// Not a tar archive.
    #[error("not a tar archive")]
    NotTar,
    /// It ends before its end marker.
    #[error("cut off after {length} bytes")]
    Cut {
        /// Its length in bytes.
        length: u64,
    },
    /// A header is damaged.
    #[error("damaged header at offset {offset}")]
    Header {
        /// Where.
        offset: u64,
    },
    /// Something follows the end marker.
    #[error("data after the end marker at offset {offset}")]
    Trailing {
        /// Where the end marker is.
        offset: u64,
    },
    /// An extended header or a long name is over the limit.
    #[error("extended header of {size} bytes at offset {offset}; at most {} are accepted", LIMITS.pax)]
    Extended {
        /// Where.
        offset: u64,
        /// Its size in bytes.
        size: u64,
    },
    /// A device, a pipe, a sparse file, or a kind nobody knows.
    #[error("entry `{}` is of kind `{}`, which is not read", .name.escaped(), kind.escape_ascii())]
    Kind {
        /// The entry.
        name: OutsideText,
        /// The type flag of its header.
        kind: u8,
    },
    /// The name is absolute, leads out of the archive, or is not UTF-8.
    #[error("entry name `{}` is not a plain relative path", .0.escaped())]
    Name(OutsideText),
    /// Two entries have one name.
    #[error("two entries are named `{}`", .0.escaped())]
    Duplicate(OutsideText),
    /// Too many entries, or too long names.
    #[error(
        "more than {} entries, or more than {} bytes of names",
        LIMITS.folder_entries,
        LIMITS.archive_names
    )]
    TooMany,
    /// A link that leads out of the archive, in a circle, or to nothing.
    #[error("entry `{}` is a link that leads to no file of the archive", .0.escaped())]
    Link(OutsideText),
}

/// Texts from outside in a list for a message; the first twenty.
fn list(names: &[OutsideText]) -> String {
    shown(names, |name| format!("`{}`", name.escaped()))
}

fn digest_list(digests: &[Digest]) -> String {
    shown(digests, Digest::to_string)
}

fn shown<T>(items: &[T], show: impl Fn(&T) -> String) -> String {
    const MOST: usize = 20;
    let mut text: Vec<_> = items.iter().take(MOST).map(show).collect();
    match items.len() {
        0 => return "none".into(),
        count if count > MOST => text.push(format!("and {} more", count - MOST)),
        _ => {}
    }
    text.join(", ")
}

//! The bundle on the medium, format 1 (docs/format.md): a folder with a label, volumes and a seal.
//!
//! A volume is `age(zstd(tar))`. What comes from a medium is hostile until a signature says otherwise; this crate answers:
//!
//! | attack | answer |
//! |---|---|
//! | links, devices, FIFOs on the medium | [`Folder`] opens names relative to the folder, follows nothing, takes regular files only |
//! | paths, links, devices, sparse files in the archive | `tarball`: plain files only; names are compared with what is expected, never used as paths |
//! | entries added, left out, doubled, reordered, longer or shorter than said | [`Contents`] walks the signed manifest, not the archive |
//! | zstd bombs | sizes come from the signed manifest; before it, [`manifest_schema::LIMITS`]; the window is bounded |
//! | bytes hidden behind the last entry | the end of tar, zstd and age is read, and must be empty |
//! | recovery files made to mislead | [`recovery`]: their numbers are bounded, and only a volume with the sealed digest is put in place |
//! | a changed or cut volume | [`VolumeReader::finish`] gives the ciphertext's digest, for the caller to hold against the seal |
//!
//! Signatures are made and judged elsewhere: this crate gives and takes bytes.

mod ahead;
mod bound;
mod check;
mod contents;
mod device;
mod direct;
mod entries;
mod folder;
mod frames;
mod handover;
mod keys;
mod label;
mod names;
mod packer;
mod payload;
pub mod recovery;
mod seal;
mod tarball;
mod volume;
mod write;

pub use bound::VolumeBound;
pub use check::{CheckedFile, FileKind, Medium, Repairable, Verdict, check_again, check_media, newest};
pub use contents::{BlobContent, Contents, ContentsError, Head, Range, Volumes};
pub use direct::DirectFile;
pub use entries::stream_seal;
pub use folder::{Folder, FolderError, digest_of, free_space, media_folders, rename_new};
pub use handover::{
    ChainProblem, FoundStatement, StatementSignature, last_statement, read_statements, statement_certificate_name,
    statement_name, statement_signature_name, write_statement,
};
pub use keys::{AgeError, GeneratedIdentity, Identities, PluginTalk, Recipients, generate_identity, parse_recipient};
pub use label::{Label, LabelVolume, render};
pub use names::{HANDOVER, LABEL, SEAL, SEAL_SIGNATURE, TOOL, medium_name, volume_name};
pub use packer::{Outputs, Packer, Packing, SourceBlob, WrittenPart, WrittenVolume, runs};
pub use seal::{Seal, SealError, SealedFile, SealedVolume};
pub use tarball::TarError;
pub use volume::{Content, Output, Pipe, VolumeError, VolumeReader, VolumeWriter};

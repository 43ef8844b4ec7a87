//! Where each file lies in an uncompressed tar archive.
//!
//! One scan over the headers finds every entry; after it, files are read by offset. The archive may be hostile, so
//! nothing is ever unpacked, names are only compared, and what a reader could understand in two ways is refused: two
//! entries of one name, sizes on entries that have none, names that are not plain relative paths.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use manifest_schema::{LIMITS, OutsideText};
use rustix::fs::{Mode, OFlags};
use tar::{EntryType, Header};

use super::error::{ArchiveFault, SourceError};

const BLOCK: u64 = 512;

/// A part of a file, read independently of every other part.
#[derive(Clone)]
pub(crate) struct Section {
    file: Arc<File>,
    at: u64,
    left: u64,
}

impl Section {
    /// The whole of a regular file.
    pub(crate) fn whole(file: File, size: u64) -> Self {
        Self { file: Arc::new(file), at: 0, left: size }
    }

    /// How many bytes are left.
    pub(crate) fn size(&self) -> u64 {
        self.left
    }

    /// Where in its file the section begins.
    pub(crate) fn offset(&self) -> u64 {
        self.at
    }
}

impl Read for Section {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let want = usize::try_from(self.left).map_or(buf.len(), |left| left.min(buf.len()));
        let (buf, _) = buf.split_at_mut(want);
        let n = self.file.read_at(buf, self.at)?;
        if n == 0 && want > 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file became shorter while it was read"));
        }
        self.at += n as u64;
        self.left -= n as u64;
        Ok(n)
    }
}

/// Opens what must be a regular file. A pipe or a device is refused, not waited for.
pub(crate) fn open_regular(path: &Path) -> Result<(File, u64), SourceError> {
    let at = || OutsideText::new(path.to_string_lossy());
    let failed = |source| SourceError::Io { file: at(), source };
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file: File = match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(fd) => fd.into(),
        Err(rustix::io::Errno::NOENT) => return Err(SourceError::Missing { file: at() }),
        Err(errno) => return Err(failed(errno.into())),
    };
    let metadata = file.metadata().map_err(failed)?;
    if !metadata.is_file() {
        return Err(SourceError::NotRegular { file: at(), found: kind_of(&metadata) });
    }
    Ok((file, metadata.len()))
}

/// What something that is not a regular file is.
pub(crate) fn kind_of(metadata: &std::fs::Metadata) -> &'static str {
    match metadata.file_type() {
        t if t.is_dir() => "a folder",
        t if t.is_symlink() => "a link",
        _ => "a pipe or a device",
    }
}

#[derive(Debug, Clone)]
enum Entry {
    File {
        offset: u64,
        size: u64,
    },
    /// The target as it is written, from the folder of the link.
    Symlink(String),
    /// The target as it is written, from the root of the archive.
    HardLink(String),
}

/// The files of a tar archive, by name.
pub(crate) struct TarIndex {
    file: Arc<File>,
    path: String,
    entries: BTreeMap<String, Entry>,
}

impl TarIndex {
    /// Scans an archive.
    pub(crate) fn open(path: &Path) -> Result<Self, SourceError> {
        let (file, length) = open_regular(path)?;
        let shown = path.to_string_lossy().into_owned();
        let entries = Scan { file: &file, length }.run().map_err(|stop| {
            let file = OutsideText::new(&shown);
            match stop {
                Stop::Io(source) => SourceError::Io { file, source },
                Stop::Fault(fault) => SourceError::Archive { file, fault },
            }
        })?;
        Ok(Self { file: Arc::new(file), path: shown, entries })
    }

    /// The archive, for a message.
    pub(crate) fn place(&self) -> OutsideText {
        OutsideText::new(&self.path)
    }

    /// An entry, for a message.
    pub(crate) fn at(&self, name: &str) -> OutsideText {
        OutsideText::new(format!("{}: {name}", self.path))
    }

    /// The file of this name; a link is refused.
    pub(crate) fn file(&self, name: &str) -> Result<Option<Section>, SourceError> {
        match self.entries.get(name) {
            None => Ok(None),
            Some(Entry::File { offset, size }) => Ok(Some(self.section(*offset, *size))),
            Some(_) => Err(SourceError::NotRegular { file: self.at(name), found: "a link" }),
        }
    }

    /// The file of this name, or the one that a link of this name leads to inside the archive.
    pub(crate) fn file_through_links(&self, name: &str) -> Result<Option<Section>, SourceError> {
        let lost = || SourceError::Archive {
            file: OutsideText::new(&self.path),
            fault: ArchiveFault::Link(OutsideText::new(name)),
        };
        let mut current = name.to_string();
        for hop in 0..=LIMITS.archive_links {
            current = match self.entries.get(&current) {
                None if hop == 0 => return Ok(None),
                None => return Err(lost()),
                Some(Entry::File { offset, size }) => return Ok(Some(self.section(*offset, *size))),
                Some(Entry::HardLink(target)) => plain_name(target).ok_or_else(lost)?,
                Some(Entry::Symlink(target)) => relative(&current, target).ok_or_else(lost)?,
            };
        }
        Err(lost())
    }

    fn section(&self, offset: u64, size: u64) -> Section {
        Section { file: self.file.clone(), at: offset, left: size }
    }
}

/// A relative path without `.` or `..` in it; a leading `./` is dropped. `None` for every other path.
pub(crate) fn plain_name(text: &str) -> Option<String> {
    let mut text = text;
    while let Some(rest) = text.strip_prefix("./") {
        text = rest;
    }
    let plain = !text.contains('\0') && text.split('/').all(|part| !matches!(part, "" | "." | ".."));
    plain.then(|| text.to_string())
}

/// Where a symbolic link leads, if that is inside the archive.
fn relative(link: &str, target: &str) -> Option<String> {
    let mut parts: Vec<&str> = link.split('/').collect();
    parts.pop();
    for part in target.split('/') {
        match part {
            // An absolute target begins with an empty part.
            "" => return None,
            "." => {}
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    (!parts.is_empty()).then(|| parts.join("/"))
}

enum Stop {
    Io(io::Error),
    Fault(ArchiveFault),
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Stop::Io(error)
    }
}

impl From<ArchiveFault> for Stop {
    fn from(fault: ArchiveFault) -> Self {
        Stop::Fault(fault)
    }
}

/// What extended headers say of the entry that follows them.
#[derive(Default)]
struct Extended {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    any: bool,
}

struct Scan<'a> {
    file: &'a File,
    length: u64,
}

impl Scan<'_> {
    fn run(&self) -> Result<BTreeMap<String, Entry>, Stop> {
        self.check_kind()?;
        let mut entries = BTreeMap::new();
        let mut names = 0;
        let mut extended = Extended::default();
        let mut at = 0;
        loop {
            let mut block = [0; BLOCK as usize];
            self.read_at(&mut block, at)?;
            if block == [0; BLOCK as usize] {
                if extended.any {
                    return Err(ArchiveFault::Header { offset: at }.into());
                }
                self.check_end(at)?;
                return Ok(entries);
            }
            let damaged = ArchiveFault::Header { offset: at };
            let header = Header::from_byte_slice(&block);
            if header.cksum().ok() != Some(checksum(&block)) {
                return Err(if at == 0 { ArchiveFault::NotTar } else { damaged }.into());
            }
            let own_size = header.entry_size().map_err(|_| damaged.clone())?;
            let kind = header.entry_type();
            let describes_next = kind.is_pax_local_extensions()
                || kind.is_pax_global_extensions()
                || kind.is_gnu_longname()
                || kind.is_gnu_longlink();
            let size = if describes_next { own_size } else { extended.size.unwrap_or(own_size) };
            let data = at + BLOCK;
            let next = size.checked_next_multiple_of(BLOCK).and_then(|padded| data.checked_add(padded));
            let next = next.filter(|next| *next <= self.length).ok_or(ArchiveFault::Cut { length: self.length })?;
            if describes_next {
                self.extend(&mut extended, kind, at, size)?;
            } else if let Some((name, entry)) = entry(header, std::mem::take(&mut extended), data, size, &damaged)? {
                names += name.len();
                if entries.len() >= LIMITS.folder_entries || names > LIMITS.archive_names {
                    return Err(ArchiveFault::TooMany.into());
                }
                if entries.contains_key(&name) {
                    return Err(ArchiveFault::Duplicate(OutsideText::new(name)).into());
                }
                entries.insert(name, entry);
            }
            at = next;
        }
    }

    fn read_at(&self, buf: &mut [u8], at: u64) -> Result<(), Stop> {
        if at.checked_add(buf.len() as u64).is_none_or(|end| end > self.length) {
            return Err(ArchiveFault::Cut { length: self.length }.into());
        }
        Ok(self.file.read_exact_at(buf, at)?)
    }

    /// Says what a file is that is compressed, instead of only that it is no tar archive.
    fn check_kind(&self) -> Result<(), Stop> {
        let mut magic = [0; 6];
        self.read_at(&mut magic, 0)?;
        for (start, name) in
            [(b"\x1f\x8b".as_slice(), "gzip"), (b"\x28\xb5\x2f\xfd", "zstd"), (b"\xfd7zXZ\0", "xz"), (b"BZh", "bzip2")]
        {
            if magic.starts_with(start) {
                return Err(ArchiveFault::Compressed(name).into());
            }
        }
        Ok(())
    }

    /// After the first zero block, a bounded number of zero bytes may follow and nothing else.
    fn check_end(&self, at: u64) -> Result<(), Stop> {
        let trailing = || ArchiveFault::Trailing { offset: at };
        let left = self.length - at;
        if left > LIMITS.tar_padding {
            return Err(trailing().into());
        }
        let mut padding = vec![0; usize::try_from(left).map_err(|_| trailing())?];
        self.read_at(&mut padding, at)?;
        if padding.iter().any(|b| *b != 0) {
            return Err(trailing().into());
        }
        Ok(())
    }

    /// Reads a PAX header, or GNU's long name or link.
    fn extend(&self, extended: &mut Extended, kind: EntryType, at: u64, size: u64) -> Result<(), Stop> {
        if size > LIMITS.pax {
            return Err(ArchiveFault::Extended { offset: at, size }.into());
        }
        let damaged = ArchiveFault::Header { offset: at };
        let mut content = vec![0; usize::try_from(size).map_err(|_| damaged.clone())?];
        self.read_at(&mut content, at + BLOCK)?;
        let set = |place: &mut Option<Vec<u8>>, value: Vec<u8>| match place.replace(value) {
            None => Ok(()),
            Some(_) => Err(damaged.clone()),
        };
        if kind.is_gnu_longname() || kind.is_gnu_longlink() {
            while content.last() == Some(&0) {
                content.pop();
            }
            set(if kind.is_gnu_longname() { &mut extended.path } else { &mut extended.link }, content)?;
            extended.any = true;
            return Ok(());
        }
        let global = kind.is_pax_global_extensions();
        for (key, value) in pax_records(&content).ok_or_else(|| damaged.clone())? {
            match key {
                // A global path, size or link would change what every later header says.
                b"path" | b"size" | b"linkpath" if global => return Err(damaged.into()),
                b"path" => set(&mut extended.path, value.into())?,
                b"linkpath" => set(&mut extended.link, value.into())?,
                b"size" => {
                    let size = std::str::from_utf8(value).ok().and_then(|v| v.parse().ok()).ok_or(damaged.clone())?;
                    if extended.size.replace(size).is_some() {
                        return Err(damaged.into());
                    }
                }
                key if key.starts_with(b"GNU.sparse.") => return Err(damaged.into()),
                _ => {}
            }
        }
        extended.any |= !global;
        Ok(())
    }
}

/// What an entry's header and the extended headers before it say; `None` for a folder.
fn entry(
    header: &Header,
    extended: Extended,
    offset: u64,
    size: u64,
    damaged: &ArchiveFault,
) -> Result<Option<(String, Entry)>, ArchiveFault> {
    let raw = extended.path.unwrap_or_else(|| header.path_bytes().into_owned());
    let shown = || OutsideText::new(String::from_utf8_lossy(&raw));
    let text = std::str::from_utf8(&raw).map_err(|_| ArchiveFault::Name(shown()))?;
    let kind = header.entry_type();
    if kind == EntryType::Directory {
        if size != 0 {
            return Err(damaged.clone());
        }
        let text = text.trim_end_matches('/');
        return if text == "." || plain_name(text).is_some() { Ok(None) } else { Err(ArchiveFault::Name(shown())) };
    }
    let name = plain_name(text).ok_or_else(|| ArchiveFault::Name(shown()))?;
    let entry = match kind {
        EntryType::Regular => Entry::File { offset, size },
        EntryType::Symlink | EntryType::Link => {
            // The size of a link is zero to some readers whatever the header says, and data to others.
            if size != 0 {
                return Err(damaged.clone());
            }
            let target = extended.link.or_else(|| header.link_name_bytes().map(|name| name.into_owned()));
            let target = target.and_then(|t| String::from_utf8(t).ok()).ok_or_else(|| ArchiveFault::Link(shown()))?;
            if kind == EntryType::Symlink { Entry::Symlink(target) } else { Entry::HardLink(target) }
        }
        other => return Err(ArchiveFault::Kind { name: shown(), kind: other.as_byte() }),
    };
    Ok(Some((name, entry)))
}

/// The sum of a header's bytes, its own checksum field counted as spaces.
fn checksum(block: &[u8; BLOCK as usize]) -> u32 {
    block.iter().enumerate().map(|(i, b)| if (148..156).contains(&i) { 32 } else { u32::from(*b) }).sum()
}

/// The records `<length> <key>=<value>\n` of a PAX header (POSIX.1-2017, pax). `None` if one is malformed.
fn pax_records(content: &[u8]) -> Option<Vec<(&[u8], &[u8])>> {
    let mut records = Vec::new();
    let mut rest = content;
    while !rest.is_empty() {
        let space = rest.iter().position(|b| *b == b' ')?;
        let length: usize = std::str::from_utf8(rest.get(..space)?).ok()?.parse().ok()?;
        let record = rest.get(space + 1..length)?.strip_suffix(b"\n")?;
        let equals = record.iter().position(|b| *b == b'=')?;
        records.push((record.get(..equals)?, record.get(equals + 1..)?));
        rest = rest.get(length..)?;
    }
    Some(records)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_stay_inside() {
        assert_eq!(relative("a/layer.tar", "../b.tar").as_deref(), Some("b.tar"));
        assert_eq!(relative("a/b/l", "./c").as_deref(), Some("a/b/c"));
        for (link, target) in [("a", "../b"), ("a/l", "../../etc/passwd"), ("a/l", "/etc/passwd"), ("a/l", "..")] {
            assert_eq!(relative(link, target), None, "{link} -> {target}");
        }
        assert_eq!(plain_name("./a/b").as_deref(), Some("a/b"));
        for bad in ["", "/a", "a//b", "../a", "a/../b", "a/.", "a/"] {
            assert_eq!(plain_name(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn pax_records_are_read_by_their_length() {
        let records = pax_records(b"12 path=a\nb\n9 size=7\n").expect("well-formed");
        assert_eq!(records, vec![(b"path".as_slice(), b"a\nb".as_slice()), (b"size", b"7")]);
        for bad in ["x path=a\n", "99 path=a\n", "3 path=a\n", "9 path:a\n", "0 a=b\n", "11 path=a\nxx"] {
            assert!(pax_records(bad.as_bytes()).is_none(), "{bad:?}");
        }
    }
}

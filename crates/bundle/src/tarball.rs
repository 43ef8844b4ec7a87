//! The tar inside a volume: plain files with ustar headers, a PAX header where a name or a size does not fit.
//!
//! The reader takes just that. `tar::Archive` is kind to archives (it re-roots paths, follows GNU extensions of any length,
//! stops silently at a cut); here everything unexpected is an error, and names stay byte strings to be compared.

use std::io::{self, BufRead, Read, Write};

use manifest_schema::{LIMITS, OutsideText};
use tar::{EntryType, Header};

const BLOCK: usize = 512;
/// The largest size that a ustar header's eleven octal digits hold.
const USTAR_SIZE: u64 = (1 << 33) - 1;
/// The longest name that a ustar header holds without splitting it.
const USTAR_NAME: usize = 100;

/// Why an archive is refused.
#[derive(Debug, thiserror::Error)]
pub enum TarError {
    /// The stream below failed.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The archive stops in the middle.
    #[error("the archive is cut off in {0}")]
    Cut(&'static str),
    /// A header's checksum or magic is wrong.
    #[error("a tar header is damaged or not ustar")]
    Header,
    /// Something other than a plain file.
    #[error("`{}` is {kind}; a volume has plain files only", .name.escaped())]
    Kind {
        /// The entry's name.
        name: OutsideText,
        /// What it is.
        kind: String,
    },
    /// A PAX record other than path and size, or one that is malformed.
    #[error("a PAX header holds `{}`; only path and size are accepted", .0.escaped())]
    Pax(OutsideText),
    /// Something stands behind the last entry, or in an entry's padding.
    #[error("there are bytes {0}")]
    Trailing(&'static str),
}

/// One entry's header; the content and [`padding`] must follow.
pub fn header(name: &str, size: u64, mtime: u64) -> io::Result<Vec<u8>> {
    let mut records = Vec::new();
    if name.len() > USTAR_NAME {
        records.extend(pax_record("path", name));
    }
    if size > USTAR_SIZE {
        records.extend(pax_record("size", &size.to_string()));
    }
    let mut out = Vec::new();
    if !records.is_empty() {
        out.extend_from_slice(block("pax", records.len() as u64, mtime, EntryType::XHeader)?.as_bytes());
        out.extend_from_slice(&records);
        out.extend_from_slice(padding(records.len() as u64));
    }
    let short = name.get(name.len().saturating_sub(USTAR_NAME)..).unwrap_or("long");
    let in_block = if size > USTAR_SIZE { 0 } else { size };
    out.extend_from_slice(block(short, in_block, mtime, EntryType::Regular)?.as_bytes());
    Ok(out)
}

fn block(name: &str, size: u64, mtime: u64, kind: EntryType) -> io::Result<Header> {
    let mut header = Header::new_ustar();
    header.set_path(name)?;
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_size(size);
    header.set_mtime(mtime);
    header.set_entry_type(kind);
    header.set_cksum();
    Ok(header)
}

/// `<length> <key>=<value>\n`, where the length counts itself (POSIX.1-2001, pax).
fn pax_record(key: &str, value: &str) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + rest.to_string().len();
    if rest + length.to_string().len() != length {
        length = rest + length.to_string().len();
    }
    format!("{length} {key}={value}\n").into_bytes()
}

/// The zeros that fill an entry's last block.
pub fn padding(size: u64) -> &'static [u8] {
    const ZEROS: [u8; BLOCK] = [0; BLOCK];
    let over = (size % BLOCK as u64) as usize;
    if over == 0 { &[] } else { &ZEROS[over..] }
}

/// The end of an archive: two blocks of zeros.
pub fn write_end(out: &mut impl Write) -> io::Result<()> {
    out.write_all(&[0; 2 * BLOCK])
}

/// How much an entry takes in the archive at most, in bytes.
pub fn entry_bound(size: u64) -> u64 {
    size + 5 * BLOCK as u64
}

/// An entry's name and size.
#[derive(Debug, PartialEq, Eq)]
pub struct EntryHeader {
    /// The name, as bytes. Only for comparing.
    pub name: Vec<u8>,
    /// Bytes of content.
    pub size: u64,
}

/// Reads an archive entry by entry.
pub struct TarReader<R> {
    inner: R,
    left: u64,
    pad: usize,
    /// An error has been returned; what follows in the stream means nothing.
    ended: bool,
}

impl<R: Read> TarReader<R> {
    pub fn new(inner: R) -> Self {
        Self { inner, left: 0, pad: 0, ended: false }
    }

    /// The stream below.
    pub fn into_inner(self) -> R {
        self.inner
    }

    /// The next entry; `None` at the end marker, after which only zeros may follow to the stream's end.
    ///
    /// The content of the entry before must have been read to its end.
    pub fn next_entry(&mut self) -> Result<Option<EntryHeader>, TarError> {
        if self.ended {
            return Ok(None);
        }
        if self.left > 0 {
            return Err(TarError::Cut("an entry that was not read"));
        }
        let mut padding = [0; BLOCK];
        let padding = &mut padding[..std::mem::take(&mut self.pad)];
        self.fill(padding, "an entry's padding")?;
        if padding.iter().any(|b| *b != 0) {
            return Err(TarError::Trailing("in an entry's padding"));
        }
        let mut pax = Pax::default();
        let mut seen_pax = false;
        loop {
            let mut block = [0; BLOCK];
            self.fill(&mut block, "a header")?;
            if block.iter().all(|b| *b == 0) {
                if seen_pax {
                    return Err(TarError::Header);
                }
                self.end()?;
                return Ok(None);
            }
            let header = Header::from_byte_slice(&block);
            let (size, kind) = check(header)?;
            match kind {
                EntryType::XHeader if !seen_pax => {
                    if size > LIMITS.pax {
                        return Err(TarError::Pax(OutsideText::new(format!("{size} bytes"))));
                    }
                    let mut records = vec![0; size as usize];
                    self.fill(&mut records, "a PAX header")?;
                    let mut rest = vec![0; padding_len(size)];
                    self.fill(&mut rest, "a PAX header")?;
                    pax = Pax::parse(&records)?;
                    seen_pax = true;
                }
                EntryType::Regular => {
                    let name = pax.path.unwrap_or_else(|| header.path_bytes().into_owned());
                    let size = pax.size.unwrap_or(size);
                    if block[157..257].iter().any(|b| *b != 0) {
                        return Err(TarError::Kind { name: shown(&name), kind: "a link".into() });
                    }
                    self.left = size;
                    self.pad = padding_len(size);
                    return Ok(Some(EntryHeader { name, size }));
                }
                kind => {
                    return Err(TarError::Kind { name: shown(&header.path_bytes()), kind: describe(kind) });
                }
            }
        }
    }

    fn end(&mut self) -> Result<(), TarError> {
        self.ended = true;
        let mut second = [0; BLOCK];
        self.fill(&mut second, "the end marker")?;
        let mut zeros = 0;
        let mut buffer = second;
        loop {
            if buffer.iter().any(|b| *b != 0) || zeros > LIMITS.tar_padding {
                return Err(TarError::Trailing("behind the end of the archive"));
            }
            match self.inner.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(n) => {
                    zeros += n as u64;
                    buffer[n..].fill(0);
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e.into()),
            }
        }
    }

    fn fill(&mut self, buffer: &mut [u8], what: &'static str) -> Result<(), TarError> {
        self.inner.read_exact(buffer).map_err(|e| match e.kind() {
            io::ErrorKind::UnexpectedEof => TarError::Cut(what),
            _ => TarError::Io(e),
        })
    }
}

impl<R: BufRead> BufRead for TarReader<R> {
    /// The content of the current entry.
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.left == 0 {
            return Ok(&[]);
        }
        let bytes = self.inner.fill_buf()?;
        if bytes.is_empty() {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, TarError::Cut("an entry's content")));
        }
        Ok(&bytes[..usize::try_from(self.left).map_or(bytes.len(), |left| left.min(bytes.len()))])
    }

    fn consume(&mut self, n: usize) {
        self.left -= n as u64;
        self.inner.consume(n);
    }
}

impl<R: BufRead> Read for TarReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let bytes = self.fill_buf()?;
        let n = buffer.len().min(bytes.len());
        buffer[..n].copy_from_slice(&bytes[..n]);
        self.consume(n);
        Ok(n)
    }
}

fn padding_len(size: u64) -> usize {
    padding(size).len()
}

fn shown(name: &[u8]) -> OutsideText {
    OutsideText::new(String::from_utf8_lossy(name))
}

/// The header's size and kind, if it is a sound ustar header.
fn check(header: &Header) -> Result<(u64, EntryType), TarError> {
    let bytes = header.as_bytes();
    let sum: u32 = bytes[..148].iter().chain(&bytes[156..]).map(|b| u32::from(*b)).sum::<u32>() + 8 * 32;
    if header.as_ustar().is_none() || header.cksum().ok() != Some(sum) {
        return Err(TarError::Header);
    }
    let size = header.entry_size().map_err(|_| TarError::Header)?;
    // `Regular` has two codes; only '0' is written.
    if bytes[156] == 0 {
        return Err(TarError::Header);
    }
    Ok((size, header.entry_type()))
}

fn describe(kind: EntryType) -> String {
    match kind {
        EntryType::Link => "a hard link".into(),
        EntryType::Symlink => "a symbolic link".into(),
        EntryType::Char | EntryType::Block => "a device".into(),
        EntryType::Directory => "a folder".into(),
        EntryType::Fifo => "a FIFO".into(),
        EntryType::GNUSparse => "a sparse file".into(),
        EntryType::GNULongName | EntryType::GNULongLink => "a GNU long name".into(),
        EntryType::XHeader | EntryType::XGlobalHeader => "a PAX header out of place".into(),
        other => format!("of type {:#04x}", other.as_byte()),
    }
}

#[derive(Default)]
struct Pax {
    path: Option<Vec<u8>>,
    size: Option<u64>,
}

impl Pax {
    fn parse(mut records: &[u8]) -> Result<Self, TarError> {
        let mut pax = Self::default();
        while !records.is_empty() {
            let bad = || TarError::Pax(shown(&records[..records.len().min(80)]));
            let space = records.iter().position(|b| *b == b' ').ok_or_else(bad)?;
            let digits = std::str::from_utf8(&records[..space]).map_err(|_| bad())?;
            let length: usize = digits.parse().map_err(|_| bad())?;
            let record = records.get(space + 1..length).ok_or_else(bad)?;
            let record = record.strip_suffix(b"\n").ok_or_else(bad)?;
            let equals = record.iter().position(|b| *b == b'=').ok_or_else(bad)?;
            let (key, value) = (&record[..equals], &record[equals + 1..]);
            match key {
                b"path" if pax.path.is_none() => pax.path = Some(value.to_vec()),
                b"size" if pax.size.is_none() => {
                    let text = std::str::from_utf8(value).map_err(|_| bad())?;
                    let size: u64 = text.parse().map_err(|_| bad())?;
                    if size.to_string() != text {
                        return Err(bad());
                    }
                    pax.size = Some(size);
                }
                _ => return Err(bad()),
            }
            records = &records[length..];
        }
        Ok(pax)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(entries: &[(&str, &[u8])]) -> Vec<u8> {
        let mut out = Vec::new();
        for (name, content) in entries {
            out.extend(header(name, content.len() as u64, 0).expect("a header"));
            out.extend_from_slice(content);
            out.extend_from_slice(padding(content.len() as u64));
        }
        write_end(&mut out).expect("written");
        out
    }

    fn read_all(bytes: &[u8]) -> Result<Vec<(String, Vec<u8>)>, TarError> {
        let mut reader = TarReader::new(bytes);
        let mut out = Vec::new();
        while let Some(entry) = reader.next_entry()? {
            let mut content = Vec::new();
            reader.read_to_end(&mut content)?;
            assert_eq!(content.len() as u64, entry.size);
            out.push((String::from_utf8(entry.name).expect("text"), content));
        }
        Ok(out)
    }

    #[test]
    fn entries_read_back_as_written_long_names_too() {
        let long = format!("blobs/sha512/{}", "ab".repeat(64));
        let entries: [(&str, &[u8]); 4] = [("a", b"x"), (&long, b"long"), ("empty", b""), ("block", &[7; 512])];
        let read = read_all(&archive(&entries)).expect("read");
        assert_eq!(read.len(), 4);
        for ((name, content), (n, c)) in entries.iter().zip(&read) {
            assert_eq!((n.as_str(), c.as_slice()), (*name, *content));
        }
    }

    #[test]
    fn a_size_beyond_ustar_is_in_a_pax_header() {
        let out = header("big", USTAR_SIZE + 1, 0).expect("a header");
        let entry = TarReader::new(out.as_slice()).next_entry().expect("read").expect("an entry");
        assert_eq!(entry.size, USTAR_SIZE + 1);
    }

    fn with_header(change: impl FnOnce(&mut Header)) -> Vec<u8> {
        let mut header = block("x", 0, 0, EntryType::Regular).expect("a header");
        change(&mut header);
        header.set_cksum();
        [header.as_bytes().as_slice(), &[0; 1024]].concat()
    }

    #[test]
    fn everything_but_plain_files_is_refused() {
        for kind in [
            EntryType::Link,
            EntryType::Symlink,
            EntryType::Char,
            EntryType::Block,
            EntryType::Directory,
            EntryType::Fifo,
            EntryType::Continuous,
            EntryType::GNULongName,
            EntryType::GNULongLink,
            EntryType::GNUSparse,
            EntryType::XGlobalHeader,
            EntryType::new(b'Z'),
        ] {
            let result = read_all(&with_header(|h| h.set_entry_type(kind)));
            assert!(matches!(result, Err(TarError::Kind { .. })), "{kind:?}: {result:?}");
        }
        assert!(matches!(read_all(&with_header(|h| h.as_mut_bytes()[156] = 0)), Err(TarError::Header)));
        let linked = with_header(|h| h.set_link_name("target").expect("a link"));
        assert!(matches!(read_all(&linked), Err(TarError::Kind { .. })));
        let mut gnu = with_header(|_| ());
        gnu[257..265].copy_from_slice(b"ustar  \0");
        assert!(matches!(read_all(&gnu), Err(TarError::Header)));
        let mut flipped = archive(&[("a", b"x")]);
        flipped[0] ^= 1;
        assert!(matches!(read_all(&flipped), Err(TarError::Header)));
    }

    #[test]
    fn a_cut_or_extended_archive_is_refused() {
        let good = archive(&[("a", b"hello")]);
        for cut in [10, 512, 515, 600, 1024, 1400, 1536] {
            assert!(read_all(&good[..cut]).is_err(), "cut at {cut}");
        }
        for extra in [&b"x"[..], &good, &[0, 0, 1]] {
            let long = [good.as_slice(), extra].concat();
            assert!(matches!(read_all(&long), Err(TarError::Trailing(_))));
        }
        assert!(read_all(&[good.as_slice(), &[0; 9 * 1024]].concat()).is_ok(), "zeros up to a full record");
        assert!(read_all(&[good.as_slice(), &vec![0; 1 << 20]].concat()).is_err(), "zeros without end");
        let mut padded = good.clone();
        padded[512 + 300] = 1;
        assert!(matches!(read_all(&padded), Err(TarError::Trailing(_))));
    }

    fn with_pax(records: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        out.extend_from_slice(block("pax", records.len() as u64, 0, EntryType::XHeader).expect("a header").as_bytes());
        out.extend_from_slice(records);
        out.extend_from_slice(padding(records.len() as u64));
        out.extend(archive(&[("a", b"")]));
        out
    }

    #[test]
    fn pax_headers_hold_path_and_size_only() {
        assert!(read_all(&with_pax(&pax_record("path", "b"))).is_ok());
        for records in [
            pax_record("linkpath", "/etc/passwd"),
            pax_record("GNU.sparse.major", "1"),
            pax_record("mtime", "1"),
            [pax_record("path", "a"), pax_record("path", "b")].concat(),
            pax_record("size", "+5"),
            pax_record("size", "05"),
            b"99999999999999999999 path=x\n".to_vec(),
            b"5 path=x\n".to_vec(),
            b"x path=x\n".to_vec(),
            b"3 p\n".to_vec(),
            b"0 ".to_vec(),
        ] {
            let result = read_all(&with_pax(&records));
            assert!(matches!(result, Err(TarError::Pax(_))), "{:?}: {result:?}", String::from_utf8_lossy(&records));
        }
        let huge = vec![b' '; LIMITS.pax as usize + 1];
        assert!(matches!(read_all(&with_pax(&huge)), Err(TarError::Pax(_))));
        let twice = [&with_pax(&pax_record("path", "b"))[..1024], &with_pax(&pax_record("path", "b"))].concat();
        assert!(matches!(read_all(&twice), Err(TarError::Kind { .. })));
    }
}

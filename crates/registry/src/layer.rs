//! Looks for one file in a layer, as it streams by (OCI image specification 1.1, `layer.md`).
//!
//! Only what decides about that file is kept: its content if it is a regular file, or that the layer takes it away.
//! Names, extension headers and the content are bounded; the rest is read past, at most 16 GiB of unpacked bytes and
//! 4 million entries in all: gzip can pack a thousand bytes into one.

use std::io::{self, BufReader, Read};

use flate2::bufread::MultiGzDecoder;
use manifest_schema::LIMITS;

const BLOCK: usize = 512;
/// Bytes of a layer that are looked at, unpacked.
const UNPACKED: u64 = 16 << 30;
/// Entries of a layer that are looked at, extension headers among them.
const ENTRIES: u64 = 4_000_000;

/// What a layer says about a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LayerSays {
    /// Nothing: what the layers below say counts.
    Nothing,
    /// It is not there, whatever the layers below say.
    Removed,
    /// This is its content.
    Content(Vec<u8>),
}

/// Reads a layer from end to end, gzip or uncompressed, and says what it has to say about the file of this path (without
/// a leading `/`).
///
/// # Errors
/// An I/O error of the reader; of kind `InvalidData`, if the layer is no tar archive or is compressed in another way, if
/// the file is no regular file or lies behind a link, or if something is larger than is accepted: 16 GiB of unpacked bytes
/// and 4 million entries, and less of what is kept.
pub fn find_in_layer(layer: impl Read, path: &str) -> io::Result<LayerSays> {
    find_within(layer, path, UNPACKED, ENTRIES)
}

fn find_within(layer: impl Read, path: &str, unpacked: u64, entries: u64) -> io::Result<LayerSays> {
    let mut layer = BufReader::with_capacity(128 << 10, layer);
    let mut says = LayerSays::Nothing;
    match io::BufRead::fill_buf(&mut layer)? {
        [0x1f, 0x8b, ..] => {
            let mut tar = MultiGzDecoder::new(layer);
            walk(&mut Bounded::new(&mut tar, unpacked), path, entries, &mut says)?;
            layer = tar.into_inner();
        }
        [0x28, 0xb5, 0x2f, 0xfd, ..] => {
            return Err(invalid("the layer is compressed with zstd, which is not looked into"));
        }
        _ => walk(&mut Bounded::new(&mut layer, unpacked), path, entries, &mut says)?,
    }
    // To the end, so that the reader below can check the digest of all of it.
    io::copy(&mut layer, &mut io::sink())?;
    Ok(says)
}

fn invalid(reason: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason.into())
}

/// Fails once more bytes were read than are accepted.
struct Bounded<R> {
    inner: R,
    limit: u64,
    left: u64,
}

impl<R: Read> Bounded<R> {
    fn new(inner: R, limit: u64) -> Self {
        Self { inner, limit, left: limit }
    }
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        let left = self.left.checked_sub(read as u64);
        let limit = self.limit;
        let over =
            || invalid(format!("the layer has more than {limit} bytes unpacked, which is as much as is accepted"));
        self.left = left.ok_or_else(over)?;
        Ok(read)
    }
}

fn walk(tar: &mut impl Read, path: &str, entries: u64, says: &mut LayerSays) -> io::Result<()> {
    let wanted = Wanted::new(path);
    let (mut long_name, mut long_size) = (None::<Vec<u8>>, None::<u64>);
    let mut seen = 0;
    loop {
        let mut block = [0; BLOCK];
        tar.read_exact(&mut block)?;
        if block == [0; BLOCK] {
            io::copy(tar, &mut io::sink())?;
            return Ok(());
        }
        seen += 1;
        if seen > entries {
            return Err(invalid(format!(
                "the layer has more than {entries} entries, which is as many as are accepted"
            )));
        }
        let mut header = tar::Header::new_old();
        header.as_mut_bytes().copy_from_slice(&block);
        let sum: u32 =
            block.iter().enumerate().map(|(i, b)| if (148..156).contains(&i) { 32 } else { u32::from(*b) }).sum();
        if header.cksum()? != sum {
            return Err(invalid("the layer is not a tar archive"));
        }
        let kind = header.entry_type();
        let size = header.entry_size()?;
        if kind.is_pax_local_extensions() {
            let records = bounded(tar, size)?;
            for record in tar::PaxExtensions::new(&records) {
                let record = record?;
                match record.key_bytes() {
                    b"path" => long_name = Some(record.value_bytes().to_vec()),
                    b"size" => {
                        let size = record.value().ok().and_then(|v| v.parse().ok());
                        long_size = Some(size.ok_or_else(|| invalid("a size in the layer is no number"))?);
                    }
                    _ => {}
                }
            }
            continue;
        }
        if kind.is_gnu_longname() {
            let mut name = bounded(tar, size)?;
            name.truncate(name.iter().position(|b| *b == 0).unwrap_or(name.len()));
            long_name = Some(name);
            continue;
        }
        if kind.is_gnu_longlink() || kind.is_pax_global_extensions() {
            skip(tar, size)?;
            continue;
        }
        let name = long_name.take().unwrap_or_else(|| header.path_bytes().into_owned());
        let size = long_size.take().unwrap_or(size);
        match wanted.is(&name) {
            Entry::Other => skip(tar, size)?,
            Entry::Whiteout => {
                *says = LayerSays::Removed;
                skip(tar, size)?;
            }
            Entry::Folder if kind.is_dir() => skip(tar, size)?,
            Entry::Folder => return Err(invalid(format!("`{path}` lies behind something that is no folder"))),
            Entry::File if kind.is_file() || kind.is_contiguous() => {
                if size > LIMITS.document {
                    return Err(invalid(format!(
                        "`{path}` has {size} bytes; at most {} are accepted",
                        LIMITS.document
                    )));
                }
                *says = LayerSays::Content(content(tar, size)?);
            }
            Entry::File => return Err(invalid(format!("`{path}` is not a regular file"))),
        }
    }
}

/// What an entry's name means for the wanted file.
enum Entry {
    Other,
    File,
    /// A folder that it lies in.
    Folder,
    /// A whiteout of it or of a folder that it lies in.
    Whiteout,
}

struct Wanted<'a> {
    parts: Vec<&'a str>,
}

impl<'a> Wanted<'a> {
    fn new(path: &'a str) -> Self {
        Self { parts: path.split('/').collect() }
    }

    fn is(&self, name: &[u8]) -> Entry {
        let Ok(name) = std::str::from_utf8(name) else { return Entry::Other };
        let parts: Vec<&str> = name.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
        let Some((last, folders)) = parts.split_last() else { return Entry::Other };
        if !self.parts.starts_with(folders) {
            return Entry::Other;
        }
        let here = self.parts.get(folders.len());
        if *last == ".wh..wh..opq" && here.is_some() {
            return Entry::Whiteout;
        }
        match (here, last.strip_prefix(".wh.")) {
            (Some(here), Some(gone)) if *here == gone => Entry::Whiteout,
            (Some(here), None) if here == last && parts.len() == self.parts.len() => Entry::File,
            (Some(here), None) if here == last => Entry::Folder,
            _ => Entry::Other,
        }
    }
}

/// An extension header's content.
fn bounded(tar: &mut impl Read, size: u64) -> io::Result<Vec<u8>> {
    if size > LIMITS.pax {
        let limit = LIMITS.pax;
        return Err(invalid(format!(
            "an extension header of the layer has {size} bytes; at most {limit} are accepted"
        )));
    }
    content(tar, size)
}

/// An entry's content; its padding is read past.
fn content(tar: &mut impl Read, size: u64) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    tar.take(size).read_to_end(&mut content)?;
    if content.len() as u64 != size {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    past(tar, size.next_multiple_of(BLOCK as u64) - size)?;
    Ok(content)
}

/// Reads past an entry's content and padding.
fn skip(tar: &mut impl Read, size: u64) -> io::Result<()> {
    past(tar, size.checked_next_multiple_of(BLOCK as u64).ok_or_else(|| invalid("an entry of the layer has no end"))?)
}

fn past(tar: &mut impl Read, bytes: u64) -> io::Result<()> {
    let read = io::copy(&mut tar.take(bytes), &mut io::sink())?;
    if read == bytes { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    const PATH: &str = "release-manifests/image-references";

    fn entry(kind: tar::EntryType, name: &str, content: &[u8]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, name, content).expect("an entry");
        let mut bytes = builder.into_inner().expect("an archive");
        bytes.truncate(bytes.len() - 2 * BLOCK);
        bytes
    }

    fn layer(entries: &[Vec<u8>]) -> Vec<u8> {
        [entries.concat(), vec![0; 2 * BLOCK]].concat()
    }

    fn file(name: &str, content: &str) -> Vec<u8> {
        entry(tar::EntryType::Regular, name, content.as_bytes())
    }

    fn says(bytes: &[u8]) -> io::Result<LayerSays> {
        let plain = find_in_layer(bytes, PATH);
        let packed = find_in_layer(gzip(bytes).as_slice(), PATH);
        match (&plain, &packed) {
            (Ok(a), Ok(b)) => assert_eq!(a, b),
            (Err(_), Err(_)) => {}
            other => panic!("{other:?}"),
        }
        plain
    }

    #[test]
    fn the_last_word_of_a_layer_counts() {
        let content = |text: &str| LayerSays::Content(text.into());
        let long = "x/".repeat(100) + "y";
        for (entries, expected) in [
            (vec![], LayerSays::Nothing),
            (vec![file("etc/release-manifests/image-references", "no")], LayerSays::Nothing),
            (vec![file(PATH, "a"), file("other", "b")], content("a")),
            (vec![file(&format!("./{PATH}"), "a")], content("a")),
            (vec![file(&long, "b"), file(PATH, "a")], content("a")),
            (vec![file(PATH, "a"), file(PATH, "b")], content("b")),
            (vec![entry(tar::EntryType::Directory, "release-manifests/", b""), file(PATH, "a")], content("a")),
            (vec![file("release-manifests/.wh.image-references", "")], LayerSays::Removed),
            (vec![file(".wh.release-manifests", "")], LayerSays::Removed),
            (vec![file("release-manifests/.wh..wh..opq", "")], LayerSays::Removed),
            (vec![file(".wh..wh..opq", "")], LayerSays::Removed),
            (vec![file("release-manifests/.wh.other", "")], LayerSays::Nothing),
        ] {
            assert_eq!(says(&layer(&entries)).expect("a layer"), expected);
        }
    }

    #[test]
    fn what_cannot_be_trusted_is_refused() {
        let link = |name: &str| {
            let mut bytes = entry(tar::EntryType::Symlink, name, b"");
            let mut header = tar::Header::new_gnu();
            header.as_mut_bytes().copy_from_slice(&bytes[..BLOCK]);
            header.set_link_name("/etc/passwd").expect("a target");
            header.set_cksum();
            bytes[..BLOCK].copy_from_slice(header.as_bytes());
            bytes
        };
        let whole = layer(&[file(PATH, "a")]);
        let mut broken = whole.clone();
        broken[0] ^= 1;
        let huge = entry(tar::EntryType::Regular, PATH, &vec![0; LIMITS.document as usize + 1]);
        let long_name = entry(tar::EntryType::GNULongName, "x", &vec![b'a'; LIMITS.pax as usize + 1]);
        let pax = entry(tar::EntryType::XHeader, "x", &vec![b'a'; LIMITS.pax as usize + 1]);
        for (what, bytes, reason) in [
            ("a link", layer(&[link(PATH)]), "not a regular file"),
            ("a folder that is a link", layer(&[link("release-manifests")]), "no folder"),
            ("not an archive", broken, "not a tar archive"),
            ("a large file", layer(&[huge]), "at most"),
            ("a long name", layer(&[long_name]), "extension header"),
            ("a large header", layer(&[pax]), "extension header"),
            ("cut in a file", whole[..BLOCK + 1].to_vec(), ""),
            ("cut before the end", whole[..2 * BLOCK].to_vec(), ""),
        ] {
            let error = says(&bytes).expect_err(what).to_string();
            assert!(error.contains(reason), "{what}: {error}");
        }
        assert!(find_in_layer(&b"\x28\xb5\x2f\xfd...."[..], PATH).is_err(), "zstd");
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(bytes).expect("compressed");
        gzip.finish().expect("compressed")
    }

    #[test]
    fn a_layer_is_not_read_forever() {
        let long = entry(tar::EntryType::GNULongName, "x", b"a/b");
        let entries = [file(PATH, "a"), long, file("other", &"b".repeat(3 * BLOCK))];
        let whole = layer(&entries);
        let size = whole.len() as u64;
        for bytes in [whole.clone(), gzip(&whole)] {
            let within = |unpacked, entries| find_within(bytes.as_slice(), PATH, unpacked, entries);
            assert_eq!(within(size, 3).expect("just fits"), LayerSays::Content(b"a".into()));
            let error = within(size, 2).expect_err("entries");
            assert!(error.kind() == io::ErrorKind::InvalidData && error.to_string().contains("more than 2 entries"));
            // In a header, in an entry that is read past, in the end.
            for unpacked in [0, 10, 4 * BLOCK as u64, size - 2 * BLOCK as u64, size - 1] {
                let error = within(unpacked, 3).expect_err("bytes");
                let expected = format!("more than {unpacked} bytes unpacked");
                assert!(error.kind() == io::ErrorKind::InvalidData && error.to_string().contains(&expected), "{error}");
            }
        }
    }

    /// Zero bytes without end, which the reader's buffer holds already.
    struct Zeros;

    impl Read for Zeros {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            Ok(buffer.len())
        }
    }

    #[test]
    fn padding_without_end_is_refused() {
        let error = find_in_layer(Zeros, PATH).expect_err("endless").to_string();
        assert!(error.contains(&format!("more than {} bytes", 16_u64 << 30)), "{error}");
    }
}

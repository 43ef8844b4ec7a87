//! Packets of PAR2 2.0 ("Parity Volume Set Specification 2.0"): their form, and how they are written.

use md5::{Digest as _, Md5};

/// An MD5 hash; also the id of a set and of a file.
pub(super) type Hash = [u8; 16];

/// Bytes of a packet's header: magic, length of the packet, hash of all that follows the hash, set, kind.
pub(super) const HEADER: usize = 64;
/// Where in a packet the bytes begin that its hash covers.
pub(super) const HASHED: usize = 32;
/// Bytes of a recovery block's packet before its data: the header and the exponent.
pub(super) const BLOCK_HEADER: u64 = HEADER as u64 + 4;
/// Bytes of a file's beginning that have a hash of their own.
pub(super) const BEGINNING: u64 = 16 << 10;

pub(super) const MAGIC: &[u8; 8] = b"PAR2\0PKT";
pub(super) const MAIN: &Hash = b"PAR 2.0\0Main\0\0\0\0";
pub(super) const FILE: &Hash = b"PAR 2.0\0FileDesc";
pub(super) const CHECKS: &Hash = b"PAR 2.0\0IFSC\0\0\0\0";
pub(super) const BLOCK: &Hash = b"PAR 2.0\0RecvSlic";
const CREATOR: &Hash = b"PAR 2.0\0Creator\0";
/// What the Creator packet says; its length is a multiple of 4.
const SEALIFT: &[u8; 8] = b"Sealift\0";

/// The hash of some bytes.
pub(super) fn md5(bytes: &[u8]) -> Hash {
    Md5::digest(bytes).into()
}

/// The checksums of one slice; zeros fill up the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Check {
    pub(super) md5: Hash,
    pub(super) crc: u32,
}

/// Takes the checksums of a slice as its bytes come.
#[derive(Default)]
pub(super) struct Checker {
    md5: Md5,
    crc: crc32fast::Hasher,
}

impl Checker {
    pub(super) fn update(&mut self, bytes: &[u8]) {
        self.md5.update(bytes);
        self.crc.update(bytes);
    }

    /// The checksums, after so many zeros more.
    pub(super) fn finish(mut self, mut zeros: u64) -> Check {
        const ZEROS: [u8; 4096] = [0; 4096];
        while zeros > 0 {
            let n = zeros.min(ZEROS.len() as u64);
            self.update(&ZEROS[..n as usize]);
            zeros -= n;
        }
        Check { md5: self.md5.finalize().into(), crc: self.crc.finalize() }
    }
}

/// The id of a file, by the hash of its beginning, its size and its name.
pub(super) fn file_id(beginning: &Hash, size: u64, name: &[u8]) -> Hash {
    md5(&[&beginning[..], &size.to_le_bytes(), name].concat())
}

/// The set of one file, before its slices are known.
pub(super) struct NewSet {
    /// Its id.
    pub(super) id: Hash,
    file: Hash,
    main: Vec<u8>,
    described: Vec<u8>,
}

impl NewSet {
    /// By the hash of the file's beginning, its size and name, and the size of its slices.
    pub(super) fn new(beginning: &Hash, size: u64, name: &str, slice: u64) -> Self {
        let file = file_id(beginning, size, name.as_bytes());
        let main = [&slice.to_le_bytes()[..], &1u32.to_le_bytes(), &file].concat();
        let mut described = [&beginning[..], &size.to_le_bytes(), name.as_bytes()].concat();
        described.resize(described.len().next_multiple_of(4), 0);
        Self { id: md5(&main), file, main, described }
    }

    /// The packets without which no recovery block is of use, with the hash of the whole file.
    pub(super) fn description(&self, whole: &Hash, checks: &[Check]) -> Vec<u8> {
        let file = [&self.file[..], whole, &self.described].concat();
        let mut sums = self.file.to_vec();
        for check in checks {
            sums.extend_from_slice(&check.md5);
            sums.extend_from_slice(&check.crc.to_le_bytes());
        }
        [(MAIN, &self.main[..]), (FILE, &file), (CHECKS, &sums), (CREATOR, SEALIFT)]
            .map(|(kind, body)| {
                let hash = md5(&[&self.id[..], kind, body].concat());
                [&header((HEADER + body.len()) as u64, &hash, &self.id, kind)[..], body].concat()
            })
            .concat()
    }
}

/// Bytes of [`NewSet::description`] for a name of so many bytes.
pub(super) fn description_size(name: usize, slices: u64) -> u64 {
    let bodies = 28 + (56 + name.next_multiple_of(4)) + 16 + SEALIFT.len();
    (4 * HEADER + bodies) as u64 + 20 * slices
}

fn header(length: u64, hash: &Hash, set: &Hash, kind: &Hash) -> Vec<u8> {
    [&MAGIC[..], &length.to_le_bytes(), hash, set, kind].concat()
}

/// The packet of a recovery block, as its data comes.
pub(super) struct NewBlock {
    set: Hash,
    exponent: u32,
    hash: Md5,
    length: u64,
}

impl NewBlock {
    pub(super) fn new(set: Hash, exponent: u32) -> Self {
        let hash = Md5::new().chain_update(set).chain_update(BLOCK).chain_update(exponent.to_le_bytes());
        Self { set, exponent, hash, length: BLOCK_HEADER }
    }

    /// Takes in more data.
    pub(super) fn update(&mut self, data: &[u8]) {
        self.hash.update(data);
        self.length += data.len() as u64;
    }

    /// What stands before the data.
    pub(super) fn finish(self) -> Vec<u8> {
        let mut head = header(self.length, &self.hash.finalize().into(), &self.set, BLOCK);
        head.extend_from_slice(&self.exponent.to_le_bytes());
        head
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptions_are_of_the_size_that_was_planned() {
        for (name, slices) in [("a", 1), ("abcd", 2), ("payments-42.0001.tar.zst.age", 2000)] {
            let check = Check { md5: [0; 16], crc: 0 };
            let made = NewSet::new(&[1; 16], 5, name, 4).description(&[2; 16], &vec![check; slices]);
            assert_eq!(made.len() as u64, description_size(name.len(), slices as u64));
        }
    }

    #[test]
    fn zeros_fill_up_the_last_slice() {
        let mut short = Checker::default();
        short.update(b"abc");
        let mut whole = Checker::default();
        whole.update(&[&b"abc"[..], &[0; 5000]].concat());
        assert_eq!(short.finish(5000), whole.finish(0));
    }
}

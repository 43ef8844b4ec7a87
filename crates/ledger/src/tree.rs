//! The Merkle tree over the entries' bytes (RFC 9162, section 2.1, with SHA-256; leaves and proofs as in C2SP tlog).
//!
//! A node that is complete never changes, and is kept with the entry that completed it: so an entry brings about one node,
//! a root or a proof needs about twice the tree's depth of them, and none is ever written again.

use rusqlite::{Connection, OptionalExtension};

use crate::names::{EntryNumber, TreeHash, tree_hash};

/// The hash of a leaf: an entry's bytes.
pub fn leaf(bytes: &[u8]) -> TreeHash {
    tree_hash(&[&[0], bytes])
}

fn join(left: &TreeHash, right: &TreeHash) -> TreeHash {
    tree_hash(&[&[1], left.as_bytes(), right.as_bytes()])
}

/// The complete nodes at a tree's right edge, from the largest to the smallest: all that is needed to go on.
#[derive(Debug, Clone, Default)]
pub(crate) struct Edge {
    size: u64,
    nodes: Vec<TreeHash>,
}

impl Edge {
    /// The edge of the tree over the first `size` entries, as it is kept; `None` if a node is missing.
    pub fn load(connection: &Connection, size: u64) -> rusqlite::Result<Option<Self>> {
        let mut edge = Self { size, nodes: Vec::new() };
        let mut end = 0;
        for level in (0..u64::BITS).rev().filter(|level| size & (1 << level) != 0) {
            end += 1 << level;
            let Some(node) = kept(connection, level, end)? else { return Ok(None) };
            edge.nodes.push(node);
        }
        Ok(Some(edge))
    }

    /// Takes in the next entry's leaf, and gives the nodes that it completes, by their level: the leaf itself first.
    pub fn push(&mut self, leaf: TreeHash) -> Vec<TreeHash> {
        self.size += 1;
        let mut completed = vec![leaf];
        let mut node = leaf;
        for _ in 0..self.size.trailing_zeros() {
            let Some(left) = self.nodes.pop() else { break };
            node = join(&left, &node);
            completed.push(node);
        }
        self.nodes.push(node);
        completed
    }

    /// The root; `None` of no entries.
    pub fn root(&self) -> Option<TreeHash> {
        let mut nodes = self.nodes.iter().rev();
        let last = *nodes.next()?;
        Some(nodes.fold(last, |right, left| join(left, &right)))
    }
}

pub(crate) const NODE: &str = "SELECT hash FROM node WHERE entry = ?1 AND n = ?2";

/// The complete node of a level whose last leaf is entry `end`.
fn kept(connection: &Connection, level: u32, end: u64) -> rusqlite::Result<Option<TreeHash>> {
    let found = connection
        .prepare_cached(NODE)?
        .query_row((end.cast_signed(), level), |row| row.get::<_, Vec<u8>>(0))
        .optional()?;
    Ok(found.and_then(|hash| TreeHash::try_from(hash.as_slice()).ok()))
}

/// The root of the tree over the first `size` entries.
pub(crate) fn root(connection: &Connection, size: u64) -> rusqlite::Result<Option<TreeHash>> {
    Ok(Edge::load(connection, size)?.and_then(|edge| edge.root()))
}

/// The inclusion proof of an entry in the tree over the first `size` entries (RFC 9162, section 2.1.3.1), from the leaf up;
/// `None` if the entry is not among them or a node is missing.
pub(crate) fn path(connection: &Connection, number: EntryNumber, size: u64) -> rusqlite::Result<Option<Vec<TreeHash>>> {
    if number.get() > size {
        return Ok(None);
    }
    let (mut start, mut end, leaf) = (0, size, number.get() - 1);
    let mut path = Vec::new();
    while end - start > 1 {
        let middle = start + split(end - start);
        let sibling = if leaf < middle { (middle, end) } else { (start, middle) };
        let Some(node) = subtree(connection, sibling.0, sibling.1)? else { return Ok(None) };
        path.push(node);
        (start, end) = if leaf < middle { (start, middle) } else { (middle, end) };
    }
    path.reverse();
    Ok(Some(path))
}

/// The largest power of two below `size`, which is at least two.
fn split(size: u64) -> u64 {
    1 << (size - 1).ilog2()
}

/// The node over the leaves from `start` up to `end`; `start` is a multiple of the node's width.
fn subtree(connection: &Connection, start: u64, end: u64) -> rusqlite::Result<Option<TreeHash>> {
    let size = end - start;
    if size.is_power_of_two() {
        return kept(connection, size.ilog2(), end);
    }
    let middle = start + split(size);
    let (left, right) = (subtree(connection, start, middle)?, subtree(connection, middle, end)?);
    Ok(left.zip(right).map(|(left, right)| join(&left, &right)))
}

/// Whether a proof leads from a leaf to a root (RFC 9162, section 2.1.3.2).
pub fn proves(leaf: TreeHash, number: EntryNumber, size: u64, path: &[TreeHash], root: &TreeHash) -> bool {
    if number.get() > size {
        return false;
    }
    let (mut place, mut last) = (number.get() - 1, size - 1);
    let mut node = leaf;
    for sibling in path {
        if last == 0 {
            return false;
        }
        if place & 1 == 1 || place == last {
            node = join(sibling, &node);
            while place & 1 == 0 && place != 0 {
                (place, last) = (place >> 1, last >> 1);
            }
        } else {
            node = join(&node, sibling);
        }
        (place, last) = (place >> 1, last >> 1);
    }
    last == 0 && node == *root
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The root by the recursive definition of RFC 9162, section 2.1.1.
    fn defined(leaves: &[TreeHash]) -> TreeHash {
        match leaves {
            [one] => *one,
            many => {
                let (left, right) = many.split_at(split(many.len() as u64) as usize);
                join(&defined(left), &defined(right))
            }
        }
    }

    fn tree(size: u64) -> (Connection, Vec<TreeHash>, Vec<TreeHash>) {
        let connection = Connection::open_in_memory().expect("a database");
        let table = "CREATE TABLE node (entry INTEGER, n INTEGER, hash BLOB, PRIMARY KEY (entry, n))";
        connection.execute_batch(table).expect("a table");
        let (mut edge, mut leaves, mut roots) = (Edge::default(), Vec::new(), Vec::new());
        for entry in 1..=size {
            let leaf = leaf(format!("entry {entry}").as_bytes());
            leaves.push(leaf);
            for (level, node) in edge.push(leaf).iter().enumerate() {
                let row = (entry.cast_signed(), level as i64, node.as_bytes());
                connection.execute("INSERT INTO node VALUES (?1, ?2, ?3)", row).expect("a row");
            }
            roots.push(edge.root().expect("a root"));
        }
        (connection, leaves, roots)
    }

    #[test]
    fn roots_are_those_of_the_standard() {
        // A tree of one leaf of no bytes: the test vector of certificate transparency's reference implementations.
        let empty = "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d";
        assert_eq!(leaf(b"").to_string(), empty);
        // Their tree of seven leaves.
        let mut edge = Edge::default();
        let leaves: [&[u8]; 7] = [b"", b"\x00", b"\x10", b" !", b"01", b"@ABC", b"PQRSTUVW"];
        leaves.into_iter().for_each(|bytes| drop(edge.push(leaf(bytes))));
        let seven = "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c";
        assert_eq!(edge.root().expect("a root").to_string(), seven);
        let (connection, leaves, roots) = tree(70);
        for size in 1..=70 {
            let expected = defined(&leaves[..size as usize]);
            assert_eq!(roots[size as usize - 1], expected, "{size}");
            assert_eq!(root(&connection, size).expect("read"), Some(expected), "{size}");
        }
    }

    #[test]
    fn every_entry_is_proven_in_every_tree_and_no_other() {
        let (connection, leaves, roots) = tree(40);
        for size in 1..=40_u64 {
            let root = &roots[size as usize - 1];
            for number in 1..=size {
                let number = EntryNumber::try_from(number).expect("a number");
                let proof = path(&connection, number, size).expect("read").expect("a proof");
                assert!(proof.len() <= 6);
                let leaf = leaves[number.get() as usize - 1];
                assert!(proves(leaf, number, size, &proof, root), "{number} of {size}");
                for other in (1..=size).filter(|n| *n != number.get()) {
                    let other = EntryNumber::try_from(other).expect("a number");
                    assert!(!proves(leaf, other, size, &proof, root), "{number} as {other} of {size}");
                }
                let wrong = leaves[(number.get() as usize) % leaves.len()];
                assert!(size == 1 && wrong == leaf || !proves(wrong, number, size, &proof, root));
                if let Some((_, shorter)) = proof.split_last() {
                    assert!(!proves(leaf, number, size, shorter, root));
                }
                assert!(!proves(leaf, number, size, &[proof.as_slice(), &[leaf]].concat(), root));
            }
            assert_eq!(
                path(&connection, EntryNumber::try_from(size + 1).expect("a number"), size).expect("read"),
                None
            );
        }
    }

    #[test]
    fn a_proof_is_as_long_as_the_tree_is_deep_and_of_one_of_its_leaves() {
        let (one, two) = (leaf(b"one"), leaf(b"two"));
        let number = |n: u64| EntryNumber::try_from(n).expect("a number");
        assert!(proves(one, number(1), 1, &[], &one));
        assert!(!proves(one, number(2), 1, &[], &one), "there is no second leaf");
        let (left, right) = (join(&one, &two), join(&two, &one));
        assert!(proves(one, number(1), 2, &[two], &left));
        assert!(!proves(one, number(1), 1, &[two], &right), "a tree of one leaf has no depth");
        assert!(!proves(one, number(1), 4, &[two], &left), "a tree of four leaves has more");
    }

    #[test]
    fn a_missing_node_is_no_proof() {
        let (connection, ..) = tree(9);
        connection.execute("DELETE FROM node WHERE entry = 8 AND n = 3", []).expect("deleted");
        assert_eq!(root(&connection, 9).expect("read"), None);
        assert_eq!(path(&connection, EntryNumber::try_from(9).expect("a number"), 9).expect("read"), None);
    }
}

//! Blobs that are fetched ahead of the volume they go into: several at once, handed on in their order.

use std::collections::VecDeque;
use std::io;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::Scope;

use blobs::pipe::{PipeReader, PipeWriter, Pool, pipe};
use manifest_schema::Blob;

use crate::packer::SourceBlob;
use crate::volume::VolumeError;

/// Bytes in a buffer, and buffers for each blob: how far it may be ahead.
const BUFFER: usize = 256 << 10;
const BUFFERS: usize = 8;

/// A blob that somebody is to fetch.
struct Order<'p, E> {
    blob: &'p Blob,
    /// Whether it can be had; its bytes follow in the pipe.
    opened: Sender<Result<(), E>>,
    bytes: PipeWriter,
}

/// Fetches blobs. An error of one surfaces when its turn has come.
pub(crate) struct Ahead<'p, E, B> {
    blobs: B,
    orders: Sender<Order<'p, E>>,
    coming: VecDeque<(Receiver<Result<(), E>>, PipeReader)>,
    /// One for each blob in flight: what has to wait for its turn must not take the buffers of what is before it.
    pools: VecDeque<Arc<Pool>>,
}

impl<'p, E: From<VolumeError> + Send + 'p, B: Iterator<Item = &'p Blob>> Ahead<'p, E, B> {
    /// Starts so many fetchers (at least one), and gives them the first blobs.
    ///
    /// # Errors
    /// If no thread can be started.
    pub(crate) fn new<'scope, 'env, S>(
        scope: &'scope Scope<'scope, 'env>,
        source: &'p S,
        fetchers: usize,
        blobs: B,
    ) -> Result<Self, E>
    where
        S: SourceBlob<Error = E>,
        'p: 'scope,
    {
        let (orders, to_do) = channel::<Order<'p, E>>();
        let to_do = Arc::new(Mutex::new(to_do));
        let fetchers = fetchers.max(1);
        for _ in 0..fetchers {
            let to_do = to_do.clone();
            let next = move || to_do.lock().unwrap_or_else(PoisonError::into_inner).recv().ok();
            let work = move || {
                while let Some(order) = next() {
                    fetch(source, order);
                }
            };
            std::thread::Builder::new().name("fetch".into()).spawn_scoped(scope, work).map_err(VolumeError::Io)?;
        }
        let pools = (0..=fetchers).map(|_| Pool::new(BUFFER, BUFFERS)).collect();
        let mut ahead = Self { blobs, orders, coming: VecDeque::new(), pools };
        (0..fetchers).for_each(|_| ahead.order());
        Ok(ahead)
    }

    fn order(&mut self) {
        let (Some(blob), Some(pool)) = (self.blobs.next(), self.pools.pop_front()) else { return };
        let (writer, reader) = pipe(&pool);
        self.pools.push_back(pool);
        let (opened, is_open) = channel();
        // Nobody takes it only if every fetcher has panicked; the receiver says so then.
        let _ = self.orders.send(Order { blob, opened, bytes: writer });
        self.coming.push_back((is_open, reader));
    }

    /// The next blob. The one before must have been read to its end.
    ///
    /// # Errors
    /// The source's.
    pub(crate) fn next(&mut self) -> Result<PipeReader, E> {
        let gone = || VolumeError::Io(io::Error::other("a thread that fetches went away"));
        let (is_open, reader) = self.coming.pop_front().ok_or_else(gone)?;
        self.order();
        is_open.recv().map_err(|_| gone())??;
        Ok(reader)
    }
}

fn fetch<S: SourceBlob>(source: &S, order: Order<'_, S::Error>) {
    let Order { blob, opened, bytes } = order;
    match source.open(blob) {
        Ok(mut reader) => {
            if opened.send(Ok(())).is_ok() {
                bytes.pump(&mut reader);
            }
        }
        Err(e) => {
            let _ = opened.send(Err(e));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Cursor, Read};
    use std::sync::mpsc;
    use std::time::Duration;

    use blobs::{VerifyingReader, sha256};
    use manifest_schema::{MediaType, Section, Stored};

    /// Gives bytes of the value that a blob's volume is.
    struct Source;

    #[derive(Debug)]
    struct Failed(String);

    impl From<VolumeError> for Failed {
        fn from(error: VolumeError) -> Self {
            Self(error.to_string())
        }
    }

    fn content(number: u32, size: usize) -> Vec<u8> {
        vec![number as u8; size]
    }

    fn blob(number: u32, size: usize) -> Blob {
        Blob {
            digest: sha256(&content(number, size)),
            size: size as u64,
            media_type: MediaType::OCI_LAYER_TAR.parse().expect("a media type"),
            section: Section::Layers,
            stored: Stored::Whole { volume: number },
        }
    }

    impl SourceBlob for Source {
        type Error = Failed;
        fn open<'s>(&'s self, blob: &Blob) -> Result<VerifyingReader<Box<dyn Read + Send + 's>>, Failed> {
            match blob.stored.volumes() {
                Some((number, _)) if number != 99 => {
                    let content = content(number, blob.size as usize);
                    Ok(VerifyingReader::new(Box::new(Cursor::new(content)), blob.digest, blob.size))
                }
                _ => Err(Failed(format!("{} is not there", blob.digest))),
            }
        }
        fn failed(&self, blob: &Blob, error: io::Error) -> Failed {
            Failed(format!("{}: {error}", blob.digest))
        }
    }

    /// Reads all of them in order; gives the sizes. It must not hang.
    fn read_all(blobs: Vec<Blob>, fetchers: usize) -> Result<Vec<usize>, Failed> {
        let (done, result) = mpsc::channel();
        std::thread::spawn(move || {
            let read = std::thread::scope(|scope| {
                let mut ahead = Ahead::new(scope, &Source, fetchers, blobs.iter())?;
                let mut sizes = Vec::new();
                for blob in &blobs {
                    let mut found = Vec::new();
                    ahead.next()?.read_to_end(&mut found).map_err(|e| Source.failed(blob, e))?;
                    assert_eq!(sha256(&found), blob.digest);
                    sizes.push(found.len());
                }
                Ok(sizes)
            });
            let _ = done.send(read);
        });
        result.recv_timeout(Duration::from_secs(60)).expect("nobody waits for ever")
    }

    #[test]
    fn blobs_come_in_their_order_whatever_their_sizes() {
        const FULL: usize = BUFFER * BUFFERS;
        let sizes = [3 * FULL, 10, 2 * FULL + 1, 0, 5, FULL, 1, 4 * FULL, BUFFER, 3 * FULL, 7];
        for fetchers in [0, 1, 2, 3, 20] {
            let blobs = sizes.iter().enumerate().map(|(n, size)| blob(n as u32, *size)).collect();
            assert_eq!(read_all(blobs, fetchers).expect("read"), sizes, "{fetchers}");
        }
    }

    #[test]
    fn an_error_comes_when_its_turn_has_come_and_ends_everything() {
        for fetchers in [1, 3] {
            let failed = read_all(vec![blob(1, 10), blob(2, 20), blob(99, 30), blob(4, 40)], fetchers);
            assert!(failed.expect_err("one is not there").0.contains("is not there"));
        }
        let mut wrong = blob(2, 5 * BUFFER);
        wrong.digest = sha256(b"else");
        let failed = read_all(vec![blob(1, 10), wrong, blob(3, 9 * BUFFER * BUFFERS)], 2);
        assert!(failed.expect_err("one is wrong").0.contains("found sha256:"));
    }
}

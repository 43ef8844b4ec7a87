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

//! Overlap: a writer or a reader that does its work on a thread of its own, a few buffers ahead.
//!
//! Memory is bounded by the number of buffers in flight; spent buffers are handed back and used again.

use std::io::{self, Read, Write};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

/// Bytes in one buffer.
const BUFFER: usize = 256 << 10;
/// Buffers in flight.
const DEPTH: usize = 4;

fn joined<T>(thread: JoinHandle<io::Result<T>>) -> io::Result<T> {
    thread.join().unwrap_or_else(|_| Err(io::Error::other("a worker thread panicked")))
}

/// Writes on another thread. An error of the inner writer surfaces at a later write or at [`BackgroundWriter::finish`].
///
/// Dropped without [`BackgroundWriter::finish`], what was buffered is lost: the output must not be taken as complete.
pub struct BackgroundWriter<W> {
    full: Option<SyncSender<Vec<u8>>>,
    spent: Receiver<Vec<u8>>,
    buffer: Vec<u8>,
    thread: Option<JoinHandle<io::Result<W>>>,
}

impl<W: Write + Send + 'static> BackgroundWriter<W> {
    /// Starts the thread.
    ///
    /// # Errors
    /// If no thread can be started.
    pub fn new(name: &str, mut inner: W) -> io::Result<Self> {
        let (full, to_write) = sync_channel::<Vec<u8>>(DEPTH);
        let (give_back, spent) = sync_channel::<Vec<u8>>(DEPTH + 2);
        let thread = std::thread::Builder::new().name(name.into()).spawn(move || {
            for mut buffer in to_write {
                inner.write_all(&buffer)?;
                buffer.clear();
                let _ = give_back.try_send(buffer);
            }
            Ok(inner)
        })?;
        Ok(Self { full: Some(full), spent, buffer: Vec::with_capacity(BUFFER), thread: Some(thread) })
    }

    /// Waits until everything is written, and gives the inner writer back.
    ///
    /// # Errors
    /// The first error of the inner writer.
    pub fn finish(mut self) -> io::Result<W> {
        // If the thread has ended already, this is its error.
        self.hand_over()?;
        self.full = None;
        self.thread.take().map(joined).unwrap_or_else(|| Err(broken()))
    }

    fn hand_over(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let empty = self.spent.try_recv().unwrap_or_else(|_| Vec::with_capacity(BUFFER));
        let buffer = std::mem::replace(&mut self.buffer, empty);
        match self.full.as_ref().map(|full| full.send(buffer)) {
            Some(Ok(())) => Ok(()),
            _ => {
                self.full = None;
                match self.thread.take().map(joined) {
                    Some(Err(e)) => Err(e),
                    _ => Err(broken()),
                }
            }
        }
    }
}

fn broken() -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, "the writing thread has ended")
}

impl<W: Write + Send + 'static> Write for BackgroundWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.buffer.len() == BUFFER {
            self.hand_over()?;
        }
        let n = bytes.len().min(BUFFER - self.buffer.len());
        self.buffer.extend_from_slice(&bytes[..n]);
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.hand_over()
    }
}

/// Reads ahead on another thread. Dropping it stops the thread at its next buffer.
pub struct BackgroundReader {
    full: Option<Receiver<io::Result<Vec<u8>>>>,
    give_back: SyncSender<Vec<u8>>,
    buffer: Vec<u8>,
    at: usize,
    /// What the inner reader failed with; every read after that fails the same way.
    failed: Option<(io::ErrorKind, String)>,
}

impl BackgroundReader {
    /// Starts the thread. An error of the inner reader surfaces in order, after the bytes before it.
    ///
    /// # Errors
    /// If no thread can be started.
    pub fn new(name: &str, mut inner: impl Read + Send + 'static) -> io::Result<Self> {
        let (send, full) = sync_channel::<io::Result<Vec<u8>>>(DEPTH);
        let (give_back, spent) = sync_channel::<Vec<u8>>(DEPTH + 2);
        std::thread::Builder::new().name(name.into()).spawn(move || {
            loop {
                let mut buffer: Vec<u8> = spent.try_recv().unwrap_or_default();
                buffer.resize(BUFFER, 0);
                let (filled, error) = fill(&mut inner, &mut buffer);
                buffer.truncate(filled);
                let end = filled == 0;
                if !end && send.send(Ok(buffer)).is_err() {
                    return;
                }
                if let Some(error) = error {
                    let _ = send.send(Err(error));
                    return;
                }
                if end {
                    return;
                }
            }
        })?;
        Ok(Self { full: Some(full), give_back, buffer: Vec::new(), at: 0, failed: None })
    }
}

/// Fills the buffer as far as the reader gives; short at the end or before an error.
fn fill(reader: &mut impl Read, buffer: &mut [u8]) -> (usize, Option<io::Error>) {
    let mut filled = 0;
    while filled < buffer.len() {
        match reader.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return (filled, Some(e)),
        }
    }
    (filled, None)
}

impl Read for BackgroundReader {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while self.at == self.buffer.len() {
            if let Some((kind, text)) = &self.failed {
                return Err(io::Error::new(*kind, text.clone()));
            }
            let Some(full) = &self.full else { return Ok(0) };
            match full.recv() {
                Ok(Ok(buffer)) => {
                    let _ = self.give_back.try_send(std::mem::replace(&mut self.buffer, buffer));
                    self.at = 0;
                }
                Ok(Err(error)) => {
                    self.failed = Some((error.kind(), error.to_string()));
                    return Err(error);
                }
                Err(_) => self.full = None,
            }
        }
        let n = out.len().min(self.buffer.len() - self.at);
        out[..n].copy_from_slice(&self.buffer[self.at..self.at + n]);
        self.at += n;
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Limited(Vec<u8>, usize);
    impl Write for Limited {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if self.0.len() + bytes.len() > self.1 {
                return Err(io::Error::new(io::ErrorKind::StorageFull, "full"));
            }
            self.0.extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn content() -> Vec<u8> {
        (0..5_000_003_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
    }

    #[test]
    fn every_byte_is_written_once_and_in_order() {
        let content = content();
        let mut writer = BackgroundWriter::new("w", Limited(Vec::new(), usize::MAX)).expect("a thread");
        for chunk in content.chunks(70_001) {
            writer.write_all(chunk).expect("written");
        }
        assert!(writer.finish().expect("finished").0 == content);
    }

    #[test]
    fn an_error_of_the_inner_writer_is_not_lost() {
        let mut writer = BackgroundWriter::new("w", Limited(Vec::new(), 100)).expect("a thread");
        let result = writer.write_all(&[0; 200]).and_then(|()| writer.finish().map(|_| ()));
        assert_eq!(result.expect_err("full").kind(), io::ErrorKind::StorageFull);
        // Also if the thread has ended before the last bytes are handed over.
        let mut writer = BackgroundWriter::new("w", Limited(Vec::new(), 100)).expect("a thread");
        writer.write_all(&[0; 200]).and_then(|()| writer.flush()).expect("taken");
        std::thread::sleep(std::time::Duration::from_millis(200));
        writer.buffer.extend_from_slice(&[0; 10]);
        assert_eq!(writer.finish().map(|_| ()).expect_err("full").kind(), io::ErrorKind::StorageFull);
        let mut writer = BackgroundWriter::new("w", Limited(Vec::new(), 100)).expect("a thread");
        let error = (0..100).find_map(|_| writer.write_all(&[0; BUFFER]).err()).expect("full");
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    }

    #[test]
    fn reading_ahead_gives_the_same_bytes_and_the_error_in_its_place() {
        let content = content();
        let mut out = Vec::new();
        let reader = io::Cursor::new(content.clone());
        BackgroundReader::new("r", reader).expect("a thread").read_to_end(&mut out).expect("read");
        assert!(out == content);

        struct Breaks;
        impl Read for Breaks {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::Error::new(io::ErrorKind::InvalidData, "torn"))
            }
        }
        let mut out = Vec::new();
        let reader = io::Cursor::new(content.clone()).chain(Breaks);
        let error = BackgroundReader::new("r", reader).expect("a thread").read_to_end(&mut out).expect_err("torn");
        assert_eq!(error.to_string(), "torn");
        assert!(out == content);

        let mut reader = BackgroundReader::new("r", Breaks).expect("a thread");
        for _ in 0..3 {
            assert_eq!(reader.read(&mut [0; 8]).expect_err("torn").kind(), io::ErrorKind::InvalidData);
        }
    }
}

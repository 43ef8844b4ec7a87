//! Overlap: bytes on their way from one thread to another.
//!
//! A [`Pool`] bounds the memory: whoever fills a pipe waits until a buffer is free, and a buffer is free again when it has
//! been read. Buffers are used again, because touching fresh memory costs more than everything else that is done with it.

use std::io::{self, BufRead, Read, Write};
use std::ops::{Deref, DerefMut};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;

/// Buffers for one or more pipes.
pub struct Pool {
    state: Mutex<State>,
    freed: Condvar,
    size: usize,
}

struct State {
    spare: Vec<Memory>,
    /// Buffers that may still be made.
    left: usize,
}

impl Pool {
    /// At most so many buffers (one at least), of so many bytes each.
    pub fn new(size: usize, buffers: usize) -> Arc<Self> {
        let state = State { spare: Vec::new(), left: buffers.max(1) };
        Arc::new(Self { state: Mutex::new(state), freed: Condvar::new(), size })
    }

    /// An empty buffer. Waits until there is one.
    pub fn take(self: &Arc<Self>) -> Buffer {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let none = |state: &mut State| state.spare.is_empty() && state.left == 0;
        let mut state = self.freed.wait_while(state, none).unwrap_or_else(PoisonError::into_inner);
        let memory = state.spare.pop().unwrap_or_else(|| {
            state.left -= 1;
            Memory::new(self.size)
        });
        Buffer { memory, length: 0, pool: self.clone() }
    }
}

/// What the memory of a buffer begins at a multiple of, in bytes: the largest sector there is, for files that are written past
/// the page cache.
pub const ALIGNMENT: usize = 4096;

/// Aligned memory.
#[derive(Default)]
struct Memory {
    bytes: Vec<u8>,
    begin: usize,
}

impl Memory {
    fn new(size: usize) -> Self {
        let bytes = vec![0; size + ALIGNMENT];
        let begin = bytes.as_ptr().align_offset(ALIGNMENT).min(ALIGNMENT);
        Self { bytes, begin }
    }
}

/// A buffer of a [`Pool`], to which it goes back when dropped.
pub struct Buffer {
    memory: Memory,
    length: usize,
    pool: Arc<Pool>,
}

impl Buffer {
    /// Reads until the buffer is full, the reader ends or fails. What was read before an error stays.
    ///
    /// # Errors
    /// Of the reader.
    pub fn fill(&mut self, reader: &mut impl Read) -> io::Result<()> {
        while self.room() > 0 {
            match reader.read(self.free()) {
                Ok(0) => break,
                Ok(n) => self.length += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// Takes in bytes as far as they fit. Gives how many.
    pub fn put(&mut self, bytes: &[u8]) -> usize {
        let n = bytes.len().min(self.room());
        self.free()[..n].copy_from_slice(&bytes[..n]);
        self.length += n;
        n
    }

    /// Forgets what is behind the first so many bytes.
    pub fn truncate(&mut self, length: usize) {
        self.length = self.length.min(length);
    }

    fn free(&mut self) -> &mut [u8] {
        let begin = self.memory.begin;
        &mut self.memory.bytes[begin + self.length..begin + self.pool.size]
    }

    /// Bytes that still fit.
    pub fn room(&self) -> usize {
        self.pool.size - self.length
    }
}

impl Deref for Buffer {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.memory.bytes[self.memory.begin..][..self.length]
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.memory.bytes[self.memory.begin..][..self.length]
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let mut state = self.pool.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.spare.push(std::mem::take(&mut self.memory));
        drop(state);
        self.pool.freed.notify_one();
    }
}

enum Message {
    Bytes(Buffer),
    Failed(io::Error),
    End,
}

/// A pipe whose buffers come from this pool.
pub fn pipe(pool: &Arc<Pool>) -> (PipeWriter, PipeReader) {
    let (to, from) = mpsc::channel();
    let reader = PipeReader { from, buffer: None, at: 0, state: Reading::Open };
    (PipeWriter { to, pool: pool.clone(), buffer: None }, reader)
}

/// The end into which bytes go. Dropped before [`PipeWriter::end`], it is an error at the other end.
pub struct PipeWriter {
    to: Sender<Message>,
    pool: Arc<Pool>,
    buffer: Option<Buffer>,
}

impl PipeWriter {
    /// A buffer to be filled and [sent](PipeWriter::send). Waits until one is free.
    pub fn buffer(&self) -> Buffer {
        self.pool.take()
    }

    /// Sends what is in a buffer, behind what was written before.
    ///
    /// # Errors
    /// [`io::ErrorKind::BrokenPipe`] if nobody reads any more.
    pub fn send(&mut self, buffer: Buffer) -> io::Result<()> {
        self.flush()?;
        self.message(Message::Bytes(buffer))
    }

    /// Sends everything that a reader gives; how it ends, too. Whether the other end still reads.
    pub fn pump(mut self, reader: &mut impl Read) -> bool {
        if self.flush().is_err() {
            return false;
        }
        loop {
            let mut buffer = self.buffer();
            let result = buffer.fill(reader);
            let ended = buffer.is_empty();
            if !ended && self.message(Message::Bytes(buffer)).is_err() {
                return false;
            }
            match result {
                Ok(()) if !ended => {}
                Ok(()) => return self.end().is_ok(),
                Err(e) => return self.fail(e),
            }
        }
    }

    /// Says that this was all.
    ///
    /// # Errors
    /// [`io::ErrorKind::BrokenPipe`] if nobody reads any more.
    pub fn end(mut self) -> io::Result<()> {
        self.flush()?;
        self.message(Message::End)
    }

    /// Says that nothing more comes, and why. Whether the other end still reads.
    pub fn fail(mut self, error: io::Error) -> bool {
        self.flush().is_ok() && self.message(Message::Failed(error)).is_ok()
    }

    fn message(&self, message: Message) -> io::Result<()> {
        self.to.send(message).map_err(|_| io::Error::new(io::ErrorKind::BrokenPipe, "nobody reads any more"))
    }
}

impl Write for PipeWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut buffer = self.buffer.take().unwrap_or_else(|| self.pool.take());
        let n = buffer.put(bytes);
        match buffer.room() {
            0 => self.message(Message::Bytes(buffer))?,
            _ => self.buffer = Some(buffer),
        }
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        match self.buffer.take() {
            Some(buffer) if !buffer.is_empty() => self.message(Message::Bytes(buffer)),
            _ => Ok(()),
        }
    }
}

/// The end out of which bytes come.
pub struct PipeReader {
    from: Receiver<Message>,
    buffer: Option<Buffer>,
    at: usize,
    state: Reading,
}

enum Reading {
    Open,
    Ended,
    /// What the other side failed with; every read after that fails the same way.
    Failed(io::ErrorKind, String),
}

impl PipeReader {
    /// The next buffer, whole; of one that was begun, nothing is given again.
    ///
    /// # Errors
    /// Of the other side, in its place behind the bytes before it; [`io::ErrorKind::BrokenPipe`] if the other side went away
    /// before the end.
    pub fn next_buffer(&mut self) -> io::Result<Option<Buffer>> {
        (self.buffer, self.at) = (None, 0);
        match &self.state {
            Reading::Open => {}
            Reading::Ended => return Ok(None),
            Reading::Failed(kind, text) => return Err(io::Error::new(*kind, text.clone())),
        }
        match self.from.recv() {
            Ok(Message::Bytes(buffer)) => Ok(Some(buffer)),
            Ok(Message::End) => {
                self.state = Reading::Ended;
                Ok(None)
            }
            Ok(Message::Failed(error)) => {
                self.state = Reading::Failed(error.kind(), error.to_string());
                Err(error)
            }
            Err(_) => {
                let gone = "the other side of a pipe went away";
                self.state = Reading::Failed(io::ErrorKind::BrokenPipe, gone.into());
                Err(io::Error::new(io::ErrorKind::BrokenPipe, gone))
            }
        }
    }
}

impl BufRead for PipeReader {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.buffer.as_ref().is_none_or(|buffer| self.at == buffer.len()) {
            match self.next_buffer()? {
                Some(buffer) => self.buffer = Some(buffer),
                None => return Ok(&[]),
            }
        }
        Ok(self.buffer.as_ref().map_or(&[], |buffer| &buffer[self.at..]))
    }

    fn consume(&mut self, n: usize) {
        self.at += n;
        if self.buffer.as_ref().is_some_and(|buffer| self.at == buffer.len()) {
            // Free for the other side, before this one comes back for more.
            self.buffer = None;
        }
    }
}

impl Read for PipeReader {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let bytes = self.fill_buf()?;
        let n = out.len().min(bytes.len());
        out[..n].copy_from_slice(&bytes[..n]);
        self.consume(n);
        Ok(n)
    }
}

fn joined<T>(thread: JoinHandle<T>) -> io::Result<T> {
    thread.join().map_err(|_| io::Error::other("a worker thread panicked"))
}

/// Reads ahead on another thread. Dropping it stops the thread at its next buffer.
pub struct BackgroundReader<R> {
    pipe: PipeReader,
    thread: JoinHandle<R>,
}

impl<R: Read + Send + 'static> BackgroundReader<R> {
    /// Starts the thread. An error of the inner reader surfaces in order, behind the bytes before it.
    ///
    /// # Errors
    /// If no thread can be started.
    pub fn new(name: &str, pool: &Arc<Pool>, mut inner: R) -> io::Result<Self> {
        let (writer, pipe) = pipe(pool);
        let thread = std::thread::Builder::new().name(name.into()).spawn(move || {
            writer.pump(&mut inner);
            inner
        })?;
        Ok(Self { pipe, thread })
    }

    /// The pipe.
    pub fn pipe(&mut self) -> &mut PipeReader {
        &mut self.pipe
    }

    /// The inner reader, which must have been read to its end.
    ///
    /// # Errors
    /// If bytes are left; of the inner reader.
    pub fn finish(mut self) -> io::Result<R> {
        match self.pipe.fill_buf()? {
            [] => joined(self.thread),
            _ => Err(io::Error::other("not read to its end")),
        }
    }
}

/// Writes on another thread.
///
/// Dropped without [`BackgroundWriter::finish`], what was not written yet is lost: the output must not be taken as complete.
pub struct BackgroundWriter<W> {
    pipe: PipeWriter,
    thread: Option<JoinHandle<io::Result<W>>>,
}

impl<W: Write + Send + 'static> BackgroundWriter<W> {
    /// Starts the thread.
    ///
    /// # Errors
    /// If no thread can be started.
    pub fn new(name: &str, pool: &Arc<Pool>, mut inner: W) -> io::Result<Self> {
        let (pipe, mut reader) = pipe(pool);
        let thread = std::thread::Builder::new().name(name.into()).spawn(move || {
            while let Some(buffer) = reader.next_buffer()? {
                inner.write_all(&buffer)?;
            }
            Ok(inner)
        })?;
        Ok(Self { pipe, thread: Some(thread) })
    }

    /// A buffer to be filled and [written](BackgroundWriter::write). Waits until one is free.
    pub fn buffer(&self) -> Buffer {
        self.pipe.buffer()
    }

    /// Has a buffer written. An error of the inner writer surfaces here or at a later call.
    ///
    /// # Errors
    /// Of the inner writer.
    pub fn write(&mut self, buffer: Buffer) -> io::Result<()> {
        let sent = self.pipe.send(buffer);
        sent.map_err(|gone| match self.thread.take().map(joined) {
            Some(Ok(Err(e)) | Err(e)) => e,
            _ => gone,
        })
    }

    /// Waits until everything is written, and gives the inner writer back.
    ///
    /// # Errors
    /// The first error of the inner writer.
    pub fn finish(self) -> io::Result<W> {
        // If the thread has ended already, joining it says why.
        let ended = self.pipe.end();
        match (self.thread.map(joined), ended) {
            (Some(result), _) => result?,
            (None, Err(gone)) => Err(gone),
            (None, Ok(())) => Err(io::Error::new(io::ErrorKind::BrokenPipe, "the writing thread has ended")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: usize = 64 << 10;

    fn pool() -> Arc<Pool> {
        Pool::new(SIZE, 3)
    }

    #[derive(Debug)]
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

    struct Breaks;
    impl Read for Breaks {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::new(io::ErrorKind::InvalidData, "torn"))
        }
    }

    fn content() -> Vec<u8> {
        (0..5_000_003_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
    }

    fn write(writer: &mut BackgroundWriter<Limited>, bytes: &[u8]) -> io::Result<()> {
        let mut buffer = writer.buffer();
        assert_eq!(buffer.put(bytes), bytes.len());
        writer.write(buffer)
    }

    #[test]
    fn every_byte_is_written_once_and_in_order() {
        let content = content();
        let mut writer = BackgroundWriter::new("w", &pool(), Limited(Vec::new(), usize::MAX)).expect("a thread");
        for chunk in content.chunks(50_001) {
            write(&mut writer, chunk).expect("written");
        }
        assert!(writer.finish().expect("finished").0 == content);
    }

    #[test]
    fn an_error_of_the_inner_writer_is_not_lost() {
        let full = || BackgroundWriter::new("w", &pool(), Limited(Vec::new(), 100)).expect("a thread");
        let mut writer = full();
        let result = write(&mut writer, &[0; 200]).and_then(|()| writer.finish().map(|_| ()));
        assert_eq!(result.expect_err("full").kind(), io::ErrorKind::StorageFull);
        let mut writer = full();
        let error = (0..100).find_map(|_| write(&mut writer, &[0; SIZE]).err()).expect("full");
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        assert!(writer.finish().is_err(), "and it stays an error");
    }

    #[test]
    fn reading_ahead_gives_the_same_bytes_and_the_error_in_its_place() {
        let content = content();
        let mut out = Vec::new();
        let mut reader = BackgroundReader::new("r", &pool(), io::Cursor::new(content.clone())).expect("a thread");
        reader.pipe().read_to_end(&mut out).expect("read");
        assert!(out == content);
        assert_eq!(reader.finish().expect("ended").position(), content.len() as u64);

        let mut reader = BackgroundReader::new("r", &pool(), io::Cursor::new(content.clone())).expect("a thread");
        assert!(reader.pipe().next_buffer().expect("read").is_some());
        assert!(reader.finish().is_err(), "bytes are left");

        let mut out = Vec::new();
        let torn = io::Cursor::new(content.clone()).chain(Breaks);
        let mut reader = BackgroundReader::new("r", &pool(), torn).expect("a thread");
        assert_eq!(reader.pipe().read_to_end(&mut out).expect_err("torn").to_string(), "torn");
        assert!(out == content);
        for _ in 0..3 {
            let error = reader.pipe().read(&mut [0; 8]).expect_err("torn");
            assert_eq!((error.kind(), error.to_string()), (io::ErrorKind::InvalidData, "torn".into()));
        }
        assert!(reader.finish().is_err());
    }

    #[test]
    fn a_pipe_that_was_not_ended_is_cut() {
        let (mut writer, mut reader) = pipe(&pool());
        writer.write_all(b"half").and_then(|()| writer.flush()).expect("written");
        drop(writer);
        let mut out = Vec::new();
        let error = reader.read_to_end(&mut out).expect_err("cut");
        assert_eq!((error.kind(), out.as_slice()), (io::ErrorKind::BrokenPipe, b"half".as_slice()));
        assert_eq!(reader.read(&mut [0]).expect_err("still").kind(), io::ErrorKind::BrokenPipe);

        let (mut writer, reader) = pipe(&pool());
        drop(reader);
        assert!(writer.write_all(&[0; 2 * SIZE]).is_err(), "nobody reads");

        let (mut writer, mut reader) = pipe(&pool());
        writer.write_all(b"whole").expect("written");
        writer.end().expect("ended");
        let mut out = Vec::new();
        assert_eq!((reader.read_to_end(&mut out).expect("read"), out.as_slice()), (5, b"whole".as_slice()));
    }

    #[test]
    fn no_more_buffers_than_the_pool_has_are_in_flight() {
        let pool = pool();
        let (mut writer, mut reader) = pipe(&pool);
        std::thread::scope(|scope| {
            let filling = scope.spawn(move || {
                for _ in 0..50 {
                    writer.write_all(&[1; SIZE]).expect("written");
                }
                writer.end().expect("ended");
            });
            while reader.next_buffer().expect("read").is_some() {}
            filling.join().expect("filled");
        });
        let state = pool.state.lock().expect("a lock");
        assert_eq!(state.spare.len() + state.left, 3);
        assert!(state.spare.iter().all(|memory| memory.bytes.len() == SIZE + ALIGNMENT));
    }
}

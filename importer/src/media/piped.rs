//! A bundle that comes through a pipe.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, PoisonError};

use crate::error::Error;

/// A bundle that comes through a pipe. What is needed more than once, the admission section, is kept as ciphertext in a file
/// without a name.
pub struct Piped {
    shared: Arc<Mutex<Spool>>,
}

struct Spool {
    file: File,
    length: u64,
    input: Box<dyn Read + Send>,
    /// What went wrong on this side, and is not the stream's fault.
    failed: Option<Error>,
}

impl Piped {
    /// Begins to read a stream. The file for the admission section is made in the folder for temporary files (`TMPDIR`).
    ///
    /// # Errors
    /// If that file cannot be made.
    pub fn new(input: Box<dyn Read + Send>) -> Result<Self, Error> {
        let file = tempfile::tempfile().map_err(Error::Spool)?;
        Ok(Self { shared: Arc::new(Mutex::new(Spool { file, length: 0, input, failed: None })) })
    }

    /// What went wrong on this side.
    pub(crate) fn failure(&self) -> Option<Error> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner).failed.take()
    }

    /// The stream from its beginning: to be read again later, or for the last time.
    pub fn open(&self, last: bool) -> Box<dyn Read + Send> {
        Box::new(SpoolReader { shared: self.shared.clone(), position: 0, last })
    }
}

struct SpoolReader {
    shared: Arc<Mutex<Spool>>,
    position: u64,
    last: bool,
}

impl Read for SpoolReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut spool = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        if self.position < spool.length {
            let want =
                usize::try_from(spool.length - self.position).map_or(buffer.len(), |left| left.min(buffer.len()));
            let n = spool.file.read_at(&mut buffer[..want], self.position)?;
            self.position += n as u64;
            return Ok(n);
        }
        let n = spool.input.read(buffer)?;
        if !self.last {
            let at = spool.length;
            if let Err(e) = spool.file.write_all_at(&buffer[..n], at) {
                spool.failed = Some(Error::Spool(e));
                return Err(io::Error::other("the stream cannot be kept"));
            }
            spool.length += n as u64;
            self.position += n as u64;
        }
        Ok(n)
    }
}

//! A download that goes on where it broke.

use std::io::{self, Read};

use manifest_schema::OutsideText;

use crate::error::Error;
use crate::retry::Backoff;

/// After so many bytes without a break, breaks are counted anew. A blob that is read slowly, by someone who has to change
/// a medium now and then, breaks at each of these pauses.
const PROGRESS: u64 = 16 << 20;

/// Something that can be read from any byte on.
pub(crate) trait BlobSource: Send {
    /// Opens it at a byte.
    fn open(&self, at: u64) -> Result<Box<dyn Read + Send>, Error>;
    /// Its name in errors.
    fn what(&self) -> String;
    /// Its server in errors.
    fn server(&self) -> String;
}

/// Reads a blob of a known size; after a break, from where it broke.
pub(crate) struct BlobStream<S> {
    source: S,
    body: Box<dyn Read + Send>,
    at: u64,
    size: u64,
    attempts: u32,
    /// For all breaks without progress between them, so that a server can't go on for ever.
    breaks: Backoff,
    /// Where it broke last.
    broke: u64,
}

impl<S: BlobSource> BlobStream<S> {
    pub(crate) fn new(source: S, body: Box<dyn Read + Send>, size: u64, attempts: u32) -> Self {
        Self { source, body, at: 0, size, attempts, breaks: Backoff::new(attempts), broke: 0 }
    }
}

impl<S: BlobSource> Read for BlobStream<S> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        loop {
            let reason = match self.body.read(buf) {
                Ok(0) if self.at < self.size => "the connection ended".to_string(),
                Ok(n) => {
                    self.at = self.at.saturating_add(n as u64);
                    return Ok(n);
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                // All is there: how the connection ends does not matter.
                Err(_) if self.at == self.size => return Ok(0),
                Err(e) => e.to_string(),
            };
            if self.at.saturating_sub(self.broke) >= PROGRESS {
                self.breaks = Backoff::new(self.attempts);
            }
            self.broke = self.at;
            if !self.breaks.wait(None) {
                return Err(io::Error::other(Error::Network {
                    what: self.source.what(),
                    server: self.source.server(),
                    reason: OutsideText::new(format!("after {} of {} bytes: {reason}", self.at, self.size)),
                    lasting: false,
                }));
            }
            self.body = self.source.open(self.at).map_err(io::Error::other)?;
        }
    }
}

//! Statements: a document of one line and the signature over that line, in one file.

use manifest_schema::OutsideText;

use crate::{Authentic, Error, Rejected, SecretKey, Trust};

impl SecretKey {
    /// Makes the file of a document that has no line end: the document, a line end, and an armored signature over both.
    ///
    /// # Errors
    /// [`Error::Sign`].
    pub fn sign_statement(&self, document: &[u8]) -> Result<Vec<u8>, Error> {
        let line = [document, b"\n"].concat();
        let signature = self.sign_detached_armored(&line)?;
        Ok([line, signature].concat())
    }
}

impl Trust {
    /// Verifies such a file; the document, with its line end, has at most `limit` bytes.
    ///
    /// # Errors
    /// [`Rejected`].
    pub fn verify_statement(&self, bytes: &[u8], limit: u64) -> Result<Authentic<Vec<u8>>, Rejected> {
        let end = bytes.iter().position(|b| *b == b'\n').map_or(bytes.len(), |end| end + 1);
        let (line, signature) = bytes.split_at(end);
        if line.len() as u64 > limit {
            return Err(Rejected::TooLarge { found: line.len() as u64, limit });
        }
        if !signature.starts_with(b"-----BEGIN PGP SIGNATURE-----") {
            let reason = "no armored signature behind the first line";
            return Err(Rejected::Unreadable(OutsideText::new(reason)));
        }
        self.verify_detached(line.to_vec(), signature)
    }
}

//! Files that are made once and never overwritten.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use secrecy::{ExposeSecret, SecretString};

/// Writes a secret into a new file that only its owner can read (mode 0600), and waits until it is on the disk.
///
/// # Errors
/// `AlreadyExists` if there is something of that name; any other I/O error.
pub fn write_secret(path: &Path, secret: &SecretString) -> io::Result<()> {
    write(path, secret.expose_secret().as_bytes(), 0o600)
}

/// Writes a new file (mode 0644), and waits until it is on the disk.
///
/// # Errors
/// As [`write_secret`].
pub fn write_new(path: &Path, content: &[u8]) -> io::Result<()> {
    write(path, content, 0o644)
}

fn write(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    file.write_all(content)?;
    file.sync_all()?;
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => File::open(parent)?.sync_all(),
        _ => File::open(".")?.sync_all(),
    }
}

/// Reads a text file of a bounded size.
///
/// # Errors
/// `FileTooLarge` if it has more than `limit` bytes; any other I/O error.
pub fn read_text(path: &Path, limit: u64) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(limit + 1).read_to_string(&mut text)?;
    if text.len() as u64 > limit { Err(io::ErrorKind::FileTooLarge.into()) } else { Ok(text) }
}

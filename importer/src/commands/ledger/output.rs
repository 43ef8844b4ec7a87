//! Where a command's data goes: stdout, or a new file that appears complete or not at all.

use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use crate::error::Error;

/// An open output.
pub(super) enum Output {
    Stdout(io::BufWriter<io::Stdout>),
    File(io::BufWriter<NamedTempFile>, PathBuf),
}

impl Output {
    /// Stdout for `-` or nothing; otherwise a file that must not be there yet, readable for all that `mode` says.
    pub(super) fn open(path: Option<&Path>, mode: u32) -> Result<Self, Error> {
        let Some(path) = path.filter(|path| *path != Path::new("-")) else {
            return Ok(Self::Stdout(io::BufWriter::new(io::stdout())));
        };
        if path.symlink_metadata().is_ok() {
            return Err(Error::OutputExists(path.into()));
        }
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let permissions = std::fs::Permissions::from_mode(mode);
        let file = tempfile::Builder::new().prefix(".sealift-").permissions(permissions).tempfile_in(folder);
        Ok(Self::File(io::BufWriter::new(file.map_err(failed(path))?), path.into()))
    }

    /// Whether a person reads it as it is written.
    pub(super) fn is_terminal(&self) -> bool {
        match self {
            Self::Stdout(_) => io::IsTerminal::is_terminal(&io::stdout()),
            Self::File(..) => false,
        }
    }

    /// Ends the output; a file gets its name.
    pub(super) fn finish(self) -> Result<(), Error> {
        match self {
            Self::Stdout(mut out) => match out.flush() {
                Err(e) if e.kind() != io::ErrorKind::BrokenPipe => Err(Error::Stdout(e)),
                _ => Ok(()),
            },
            Self::File(out, path) => {
                let file = out.into_inner().map_err(|e| failed(&path)(e.into_error()))?;
                file.as_file().sync_all().map_err(failed(&path))?;
                match file.persist_noclobber(&path) {
                    Ok(_) => Ok(()),
                    Err(e) if e.error.kind() == io::ErrorKind::AlreadyExists => Err(Error::OutputExists(path)),
                    Err(e) => Err(failed(&path)(e.error)),
                }
            }
        }
    }

    /// The error of a failed write; `None` if the reader of stdout went away, which is no error.
    pub(super) fn error(&self, error: io::Error) -> Option<Error> {
        match self {
            Self::Stdout(_) if error.kind() == io::ErrorKind::BrokenPipe => None,
            Self::Stdout(_) => Some(Error::Stdout(error)),
            Self::File(_, path) => Some(failed(path)(error)),
        }
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Stdout(out) => out.write(bytes),
            Self::File(out, _) => out.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Stdout(out) => out.flush(),
            Self::File(out, _) => out.flush(),
        }
    }
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_path_buf();
    move |source| commands::Error::Write { path, source }.into()
}

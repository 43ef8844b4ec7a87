//! Where a ledger lies: which file systems will do, and who may write.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::error::Error;

/// Beside the ledger: `<file><suffix>`.
pub(crate) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

pub(crate) fn io(path: &Path, action: &'static str) -> impl FnOnce(std::io::Error) -> Error {
    let path = path.to_path_buf();
    move |source| match source.kind() {
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => Error::Full(path),
        _ => Error::Io { path, action, source },
    }
}

/// Refuses network file systems: SQLite's locks and its shared memory do not work reliably there.
pub(crate) fn must_be_local(path: &Path) -> Result<(), Error> {
    let refuse = |kind| Err(Error::NetworkFileSystem { path: path.to_path_buf(), kind });
    let statfs =
        rustix::fs::statfs(path).map_err(|e| io(path, "the file system cannot be asked for its kind")(e.into()))?;
    // The kernel's numbers are 32 bits wide; the field's width and sign depend on the architecture.
    let magic = (statfs.f_type as i64 & 0xffff_ffff) as u32;
    if let Some(kind) = network_by_magic(magic) {
        return refuse(kind);
    }
    if magic == FUSE {
        let device = fs::metadata(path).map_err(io(path, "cannot be examined"))?.dev();
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        if let Some(kind) = network_by_mount(&mounts, rustix::fs::major(device), rustix::fs::minor(device)) {
            return refuse(kind);
        }
    }
    Ok(())
}

const FUSE: u32 = 0x6573_5546;

/// The network file systems of `linux/magic.h`, and of file systems kept outside the kernel.
fn network_by_magic(magic: u32) -> Option<&'static str> {
    Some(match magic {
        0x6969 => "NFS",
        0x517b => "SMB",
        0xff53_4d42 => "CIFS",
        0xfe53_4d42 => "SMB 2",
        0x5346_414f | 0x6b41_4653 => "AFS",
        0x7375_7245 => "Coda",
        0x564c => "NCP",
        0x00c3_6400 => "Ceph",
        0x0102_1997 => "9P",
        0x0bd0_0bd0 => "Lustre",
        0x4750_4653 => "GPFS",
        0x1983_0326 => "BeeGFS",
        0x2bad_1dea => "VxFS cluster",
        _ => return None,
    })
}

/// FUSE file systems say what they are in the mount table only (proc_pid_mountinfo(5)).
fn network_by_mount(mountinfo: &str, major: u32, minor: u32) -> Option<&'static str> {
    const REMOTE: [&str; 10] =
        ["sshfs", "rclone", "s3fs", "glusterfs", "ceph-fuse", "gcsfuse", "davfs", "goofys", "curlftpfs", "smbnetfs"];
    let device = format!("{major}:{minor}");
    mountinfo
        .lines()
        .filter(|line| line.split(' ').nth(2) == Some(&device))
        .filter_map(|line| line.split_once(" - ")?.1.split(' ').next()?.strip_prefix("fuse."))
        .find_map(|kind| REMOTE.into_iter().find(|remote| *remote == kind))
}

/// The right to write to a ledger, held by an advisory lock on `<file>.lock`.
#[derive(Debug)]
pub(crate) struct WriteLock {
    _file: File,
}

impl WriteLock {
    /// Takes the lock, or says who has it.
    pub(crate) fn take(ledger: &Path) -> Result<Self, Error> {
        let path = beside(ledger, ".lock");
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed())
            .open(&path)
            .map_err(io(&path, "the lock file cannot be opened"))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut text = String::new();
                let read = file.take(16).read_to_string(&mut text);
                let process = read.ok().and_then(|_| text.trim_end().parse().ok());
                return Err(Error::Busy { path: ledger.to_path_buf(), process });
            }
            Err(TryLockError::Error(e)) => return Err(io(&path, "the lock cannot be taken")(e)),
        }
        // Only for the other program's message, so a failure does not matter.
        let _ = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
        Ok(Self { _file: file })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn network_file_systems_are_known() {
        assert_eq!(network_by_magic(0x6969), Some("NFS"));
        assert_eq!(network_by_magic(0xff53_4d42), Some("CIFS"));
        for local in [0xef53, 0x5846_5342, 0x9123_683e, 0x0102_1994, 0x794c_7630, FUSE] {
            assert_eq!(network_by_magic(local), None, "{local:x}");
        }
        let mounts = "36 35 0:52 / /mnt/a rw,noatime shared:1 - fuse.sshfs user@host:/ rw\n\
                      37 35 0:53 / /mnt/b rw - fuse.ntfs-3g /dev/sdb1 rw\n\
                      38 35 0:54 / /mnt/fuse.sshfs rw - ext4 /dev/sdc rw\n";
        assert_eq!(network_by_mount(mounts, 0, 52), Some("sshfs"));
        for local in [53, 54, 55] {
            assert_eq!(network_by_mount(mounts, 0, local), None);
        }
        must_be_local(Path::new("/")).expect("the tests run on a local file system");
    }
}

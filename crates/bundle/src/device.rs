//! Whether files of a medium may be read side by side.

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// A medium on which files should be read one after the other: a disc or disk that turns, a stick. Two at once would have it
/// go back and forth. Gives the device's number; `None` if files there can be read side by side.
pub(crate) fn one_at_a_time(file: &File) -> Option<u64> {
    let device = file.metadata().ok()?.dev();
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    is_slow_to_seek(Path::new("/sys/dev/block"), major, minor).then_some(device)
}

/// What the kernel says of a block device (Documentation/ABI/stable/sysfs-block). A partition's folder lies in the disk's. File
/// systems without a device (over a network, in memory) are not there.
fn is_slow_to_seek(devices: &Path, major: u32, minor: u32) -> bool {
    let Ok(device) = devices.join(format!("{major}:{minor}")).canonicalize() else { return false };
    // A virtual disk says that it turns unless it is told otherwise.
    let is_virtual = device.iter().any(|part| {
        let part = part.to_string_lossy();
        part == "virtual" || part.starts_with("virtio")
    });
    let says = |attribute: &str| {
        let at = |folder: &Path| std::fs::read_to_string(folder.join(attribute)).ok();
        at(&device).or_else(|| at(device.parent()?)).is_some_and(|text| text.trim() == "1")
    };
    !is_virtual && (says("queue/rotational") || says("removable"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn discs_disks_and_sticks_are_read_one_file_at_a_time() {
        let sys = tempfile::tempdir().expect("a folder");
        let devices = sys.path().join("dev/block");
        fs::create_dir_all(&devices).expect("made");
        let mut number = 0;
        let mut disk = |path: &str, rotational: &str, removable: &str, partition: bool| {
            let folder = sys.path().join("devices").join(path);
            fs::create_dir_all(folder.join("queue")).expect("made");
            fs::create_dir_all(folder.join("p1")).expect("made");
            fs::write(folder.join("queue/rotational"), rotational).expect("written");
            fs::write(folder.join("removable"), removable).expect("written");
            number += 1;
            let target = if partition { folder.join("p1") } else { folder };
            std::os::unix::fs::symlink(target, devices.join(format!("8:{number}"))).expect("linked");
            is_slow_to_seek(&devices, 8, number)
        };
        assert!(disk("pci/ata1/block/sda", "1\n", "0\n", false), "a hard disk");
        assert!(disk("pci/ata1/block/sdb", "1\n", "0\n", true), "its partition");
        assert!(disk("pci/usb1/block/sdc", "0\n", "1\n", true), "a stick");
        assert!(disk("pci/ata2/block/sr0", "1\n", "1\n", false), "a disc");
        assert!(!disk("pci/nvme/block/nvme0n1", "0\n", "0\n", true), "a solid-state disk");
        assert!(!disk("pci/virtio1/block/vda", "1\n", "0\n", true), "a virtual disk");
        assert!(!disk("virtual/block/loop0", "1\n", "0\n", false), "a loop device");
        assert!(!is_slow_to_seek(&devices, 0, 41), "no device");
    }
}

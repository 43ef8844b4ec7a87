"""pack to a slow medium: a disk that is throttled, and a pipe that is read slowly."""

import contextlib
import dataclasses
import os
import pathlib
import subprocess

from .measure import output, say, size
from .report import median, spread, table, target

RATE = 30e6
SHARE_TARGET = 0.95
THROTTLE = pathlib.Path("/sys/fs/cgroup/blkio/blkio.throttle.write_bps_device")


# --- Measuring.


def measure(bench, args):
    images = [f"{bench.origin.host}/bench/{name}:1" for name in bench.corpus.images]
    missing = why_not()
    if missing:
        say(f"no slow disk: {missing}")
    runs = []
    for number in range(1, args.runs + 1):
        say(f"pack to a slow medium: run {number} of {args.runs}")
        run = {}
        if not missing:
            with bench.folder("medium") as folder, slow_disk(folder, bench.corpus.bytes) as disk:
                probe = ["dd", "if=/dev/urandom", f"of={disk}/probe", "bs=1M", "count=100", "oflag=direct"]
                run["dd"] = measured(bench.meter.step([[probe]]), size(disk / "probe"))
                (disk / "probe").unlink()
                (disk / "medium").mkdir()
                cost = bench.meter.step([[bench.sealift.pack(disk / "medium", *images)]])
                run["disk"] = measured(cost, size(disk / "medium"))
        with bench.folder("medium") as folder:
            kept = folder / "stream"
            reader = ["pv", "--quiet", "--rate-limit", str(int(RATE))]
            cost = bench.meter.step([[bench.sealift.pack("-", *images), reader, (">", kept)]])
            run["pipe"] = measured(cost, size(kept))
        runs.append(run)
    return {"runs": runs, "missing": missing}


def measured(cost, written):
    return {"cost": dataclasses.asdict(cost), "bytes": written}


def why_not():
    """What a slow disk lacks here."""
    if os.geteuid() != 0:
        return "that needs root"
    if not THROTTLE.exists():
        return f"the kernel has no {THROTTLE} (blkio of cgroup v1)"
    return None


@contextlib.contextmanager
def slow_disk(folder, room):
    """A file system on a loop device that takes only so many bytes a second, with place for `room` bytes.

    What goes through the page cache is written by the kernel, which cgroup v1 counts to the root group: the throttle is
    there."""
    image, disk = folder / "image", folder / "disk"
    disk.mkdir()
    with image.open("wb") as file:
        file.truncate((int(room * 1.1) >> 20) + 256 << 20)
    with contextlib.ExitStack() as stack:
        device = output("losetup", "--find", "--show", image)
        stack.callback(subprocess.run, ["losetup", "--detach", device], check=True)
        subprocess.run(["mkfs.ext4", "-q", "-E", "lazy_itable_init=0,lazy_journal_init=0", device], check=True)
        subprocess.run(["mount", device, disk], check=True)
        stack.callback(subprocess.run, ["umount", disk], check=True)
        number = pathlib.Path(f"/sys/block/{pathlib.Path(device).name}/dev").read_text().strip()
        THROTTLE.write_text(f"{number} {int(RATE)}")
        stack.callback(THROTTLE.write_text, f"{number} 0")
        yield disk


# --- The report.


def share(run):
    return run["bytes"] / RATE / run["cost"]["wall"]


def targets(figures):
    names = {"disk": "to a slow disk", "pipe": "into a slow pipe"}
    return [target(f"`pack` {names[name]}: share of its rate, of the whole command",
                   median(share(run[name]) for run in figures["runs"]), least=SHARE_TARGET)
            for name in names if name in figures["runs"][0]]


def section(figures):
    rows = [["to the medium", "written, MB", "wall, s", "share of the rate", "sync afterwards, s"]]
    for name, what in [("dd", "`dd oflag=direct`, to the disk"), ("disk", "`pack`, to the disk"),
                       ("pipe", "`pack --output -`, into the pipe")]:
        if name in figures["runs"][0]:
            each = [run[name] for run in figures["runs"]]
            rows.append([what, spread([run["bytes"] / 1e6 for run in each], 1),
                         spread([run["cost"]["wall"] for run in each]), spread([share(run) for run in each], 2),
                         spread([run["cost"]["flush"] for run in each])])
    skipped = f"\n\nThe disk was left out: {figures['missing']}." if figures["missing"] else ""
    return f"""\
## A slow medium

`pack` of the images above, from a registry on loopback, to a medium of {RATE / 1e6:.0f} MB/s: a file system on a loop
device, whose writes the kernel throttles, and a pipe that `pv` reads. Runs: {len(figures["runs"])}.

{table(rows)}{skipped}

The share of the rate is of the whole command, from its start until the bundle is on the disk."""

"""Runs programs and accounts for them."""

import contextlib
import dataclasses
import json
import os
import pathlib
import re
import shutil
import socket
import subprocess
import sys
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CORES = os.cpu_count()


def say(text):
    print(f"bench: {text}", file=sys.stderr, flush=True)


def output(*command):
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


def size(path):
    """Bytes in a file, or in all files below a folder."""
    return sum(f.stat().st_size for f in [path, *path.rglob("*")] if f.is_file())


@dataclasses.dataclass
class Cost:
    """What a step took. Times in seconds, sizes in bytes."""

    wall: float = 0.0
    cpu: float = 0.0
    """User and system time of our own processes."""
    registry_cpu: float = 0.0
    rss: int = 0
    """Peak memory of the largest process."""
    written: int = 0
    """What our own processes wrote to disk."""
    read: int = 0
    """What they read from disk, and not from the page cache."""
    flush: float = 0.0
    """How long the disk was still busy with it afterwards (sync); not part of `wall`."""

    def __add__(self, other):
        return Cost(self.wall + other.wall, self.cpu + other.cpu, self.registry_cpu + other.registry_cpu,
                    max(self.rss, other.rss), self.written + other.written, self.read + other.read,
                    self.flush + other.flush)


class Registry:
    """A registry on a free loopback port, with its storage in a folder."""

    def __init__(self, folder):
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.host = "127.0.0.1:%d" % probe.getsockname()[1]
        self.folder = folder
        folder.mkdir()
        config = {"version": 0.1, "log": {"level": "error", "accesslog": {"disabled": True}},
                  "storage": {"filesystem": {"rootdirectory": str(folder / "storage")}}, "http": {"addr": self.host}}
        (folder / "config.yml").write_text(json.dumps(config))
        with (folder / "log").open("wb") as log:
            self.process = subprocess.Popen(["docker-registry", "serve", folder / "config.yml"], stdout=log, stderr=log)

    def __enter__(self):
        for _ in range(100):
            if subprocess.run(["curl", "-fs", f"http://{self.host}/v2/"], stdout=subprocess.DEVNULL).returncode == 0:
                return self
            time.sleep(0.1)
        self.__exit__()
        sys.exit(f"docker-registry did not start: {(self.folder / 'log').read_text()}")

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()
        shutil.rmtree(self.folder)

    def cpu(self):
        # The fields behind the program's name, which may hold spaces: user time is field 14 of proc(5), system time 15.
        fields = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def check(self, images):
        """Are images here? `images`: their digests, by the path of the repository."""
        for path, digest in images.items():
            headers = output("curl", "-fsIH", f"Accept: {MANIFEST}", f"http://{self.host}/v2/{path}/manifests/1")
            found = re.search(r"^docker-content-digest: (\S+)", headers, re.IGNORECASE | re.MULTILINE)[1]
            if found != digest:
                sys.exit(f"{self.host}/{path}:1: expected {digest}, found {found}")


class Failed(Exception):
    """A program failed."""


class Meter:
    """Runs programs and accounts for them."""

    def __init__(self, work):
        self.log = work / "log"
        theirs = ("SEALIFT_", "XDG_", "REGISTRY_AUTH")
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith(theirs)}
        self.environment |= {"HOME": str(work / "home"), "XDG_RUNTIME_DIR": str(work / "runtime"), "LC_ALL": "C"}
        for name in ["home", "runtime"]:
            (work / name).mkdir(mode=0o700)
        probe = self.pipeline(["dd", "if=/dev/zero", f"of={work}/probe", "bs=1M", "count=1"])
        self.counted = probe.written >= 1 << 20

    def step(self, pipelines, registry=None, made=()):
        """Runs pipelines one after the other. `made`: what they write, for when the kernel does not count it."""
        os.sync()
        before = registry.cpu() if registry else 0
        cost = sum((self.pipeline(*pipeline) for pipeline in pipelines), Cost())
        cost.registry_cpu = registry.cpu() - before if registry else 0.0
        if not self.counted:
            cost.written = sum(map(size, made))
        start = time.monotonic()
        os.sync()
        cost.flush = time.monotonic() - start
        return cost

    def pipeline(self, *commands):
        """Runs `a | b | c`; the last one's output may go to a file named as `(">", file)`."""
        target = self.log
        if commands[-1][0] == ">":
            *commands, (_, target) = commands
        cost, processes, stdin = Cost(), [], subprocess.DEVNULL
        before, start = written_so_far(), time.monotonic()
        with target.open("ab") as last, self.log.open("ab") as log:
            try:
                for command in commands:
                    stdout = last if command is commands[-1] else subprocess.PIPE
                    process = subprocess.Popen(command, stdin=stdin, stdout=stdout, stderr=log, env=self.environment)
                    if stdin is not subprocess.DEVNULL:
                        stdin.close()
                    stdin = process.stdout
                    processes.append(process)
                for process in processes:
                    cost += self.reap(process)
            finally:
                for process in processes:
                    if process.returncode is None:
                        process.kill()
                        process.wait()
        cost.wall = time.monotonic() - start
        cost.written = max(written_so_far() - before, 0)
        return cost

    def reap(self, process):
        """Waits for a process; its CPU and memory, with those of the children that it waited for.

        The kernel reports no process as smaller than this script, because it began as a copy of it."""
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            tail = self.log.read_text(errors="backslashreplace")[-2000:]
            raise Failed(f"{' '.join(map(str, process.args))[:1000]}: exit code {process.returncode}\n{tail}")
        return Cost(cpu=usage.ru_utime + usage.ru_stime, rss=usage.ru_maxrss * 1024, read=usage.ru_inblock * 512)


def written_so_far():
    """Bytes that this process, which writes next to nothing, and the children it waited for have sent to disk."""
    io = dict(line.split(": ") for line in pathlib.Path("/proc/self/io").read_text().splitlines())
    return int(io["write_bytes"]) - int(io["cancelled_write_bytes"])


def read(files, cold):
    """Seconds to read files, as many at once as there are cores; `cold`: from the disk."""
    for file in files if cold else ():
        with file.open("rb") as opened:
            os.fsync(opened.fileno())
            os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    left = sorted(files, key=lambda file: file.stat().st_size)

    def reader():
        buffer = bytearray(1 << 20)
        with contextlib.suppress(IndexError):
            while True:
                with left.pop().open("rb", buffering=0) as opened:
                    while opened.readinto(buffer):
                        pass

    start = time.monotonic()
    readers = [threading.Thread(target=reader) for _ in range(CORES)]
    for thread in readers:
        thread.start()
    for thread in readers:
        thread.join()
    return time.monotonic() - start


def openssl_rate(algorithm, processes):
    """Bytes a second that OpenSSL hashes or encrypts, in blocks of 64 KiB, with so many processes."""
    command = ["openssl", "speed", "-mr", "-seconds", "1", "-bytes", "65536", "-multi", str(processes)]
    found = subprocess.run([*command, "-evp", algorithm], check=True, capture_output=True, text=True)
    return float(found.stdout.splitlines()[-1].rpartition(":")[2])

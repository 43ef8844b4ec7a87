"""pack, check, verify and receive: against the pipeline by hand, and against what the machine allows."""

import dataclasses
import shutil

from .measure import CORES, Cost, Registry, openssl_rate, read, say, size
from .report import FIGURES, bullets, median, ratios, spread, table, target
from .sealift import bundle_in

# (task, by hand, with Sealift)
TASKS = [
    ("pack", ["skopeo copy from the registry", "tar, zstd, age"], "sealift-export pack"),
    ("receive", ["age, zstd, tar", "skopeo copy into the registry"], "sealift-import receive"),
    ("verify", ["age, zstd, tar", "sha256sum of the blobs"], "sealift-import verify"),
    ("check", ["sha256sum of the archive"], "sealift-import check"),
]
# (task, figure, the highest ratio wanted, the one hoped for)
TARGETS = [("pack", "wall", 0.3, 0.25), ("pack", "cpu", 0.3, None), ("pack", "written", 0.5, None),
           ("receive", "wall", 0.6, 0.5), ("receive", "cpu", 0.35, None)]
WRITTEN_TARGET = 1e6
MEMORY_TARGET = 150
SHARE_TARGET = 0.8
VOLUMES = 8


# --- Measuring.


def measure(bench, args):
    runs = []
    for number in range(1, args.runs + 1):
        say(f"pack, check, verify, receive: run {number} of {args.runs}")
        with bench.folder("tasks") as folder:
            runs.append(Run(bench, folder).all())
    corpus = bench.corpus
    return {"runs": runs, "counted": bench.meter.counted, "images": len(corpus.images), "layers": corpus.layers,
            "bytes": corpus.bytes}


class Run:
    def __init__(self, bench, folder):
        self.bench, self.folder = bench, folder
        self.meter, self.sealift, self.corpus = bench.meter, bench.sealift, bench.corpus
        self.shared, self.archive, self.unpacked = folder / "shared", folder / "archive", folder / "unpacked"
        self.decrypt = ["age", "-d", "-i", self.sealift.enclave / "enclave.key", self.archive]
        self.encrypt = ["age", "-r", self.sealift.recipient]
        self.steps, self.facts = {}, {}

    def all(self):
        self.pack()
        self.limits()
        self.sample()
        self.check()
        self.sample()
        self.verify()
        self.sample()
        shutil.rmtree(self.several)
        self.receive()
        return {"steps": {name: dataclasses.asdict(cost) for name, cost in self.steps.items()}, **self.facts}

    def pack(self):
        """From the origin registry to one encrypted thing on a medium."""
        origin = self.bench.origin
        images = [f"{origin.host}/bench/{name}:1" for name in self.corpus.images]
        self.steps["skopeo copy from the registry"] = self.meter.step(
            self.bench.copies(f"docker://{origin.host}/bench/{{}}:1", f"oci:{self.shared}:{{}}"), origin, [self.shared])
        self.steps["tar, zstd, age"] = self.meter.step(
            [[["tar", "-C", self.shared, "-c", "."], ["zstd", "-T0", "-3"], self.encrypt, (">", self.archive)]],
            made=[self.archive])
        shutil.rmtree(self.shared)
        several = ["--volume-size", str(self.corpus.bytes // VOLUMES)]
        for name, options in [("sealift-export pack", []), ("sealift-export pack, several volumes", several)]:
            medium = self.folder / name
            medium.mkdir()
            self.steps[name] = self.meter.step([[self.sealift.pack(medium, *options, *images)]], origin, [medium])
        # The ledger takes bundles by their numbers: the one that is received is the higher.
        self.one, self.one_volumes = bundle_in(self.folder / "sealift-export pack")
        self.several, self.several_volumes = bundle_in(self.folder / "sealift-export pack, several volumes")
        self.facts["archive"] = size(self.archive)
        self.facts["bundle"], self.facts["volumes"] = size(self.several), len(self.several_volumes)

    def limits(self):
        """What this machine can do with as many bytes."""
        copy, trash = self.folder / "copy", self.folder / "trash"
        cp = self.meter.step([[["cp", self.archive, copy]]], made=[copy])
        self.steps["cp"] = cp
        self.steps["cp and sync"] = dataclasses.replace(cp, wall=cp.wall + cp.flush, flush=0.0)
        copy.unlink()
        trash.symlink_to("/dev/null")
        self.steps["openssl dgst -sha256"] = self.meter.step([[["openssl", "dgst", "-sha256", self.archive]]])
        self.steps["age"] = self.meter.step([[[*self.encrypt, self.archive], (">", trash)]])
        self.steps["age -d"] = self.meter.step([[self.decrypt, (">", trash)]])

    def sample(self):
        """The limits that `check` and `verify` are compared with: the best of what is found several times in a run. One
        that was found while the machine was busy would be no limit."""
        def keep(better, fact, value):
            self.facts[fact] = better(self.facts.get(fact, value), value)

        for _ in range(2):
            keep(min, "cold_one", read(self.one_volumes, cold=True))
            keep(min, "cold_several", read(self.several_volumes, cold=True))
            for algorithm in ["sha256", "chacha20-poly1305"]:
                keep(max, f"{algorithm} on one core", openssl_rate(algorithm, 1))
                keep(max, f"{algorithm} on all cores", openssl_rate(algorithm, CORES))
        keep(min, "warm", read(self.one_volumes, cold=False))

    def check(self):
        """Is the medium whole?"""
        self.steps["sha256sum of the archive"] = self.meter.step([[["sha256sum", self.archive]]])
        self.steps["sealift-import check"] = self.meter.step([[self.sealift.check(self.one)]])
        self.steps["sealift-import check, several volumes"] = self.meter.step([[self.sealift.check(self.several)]])

    def verify(self):
        """Is every blob in it what its digest says?"""
        self.unpacked.mkdir()
        self.steps["age, zstd, tar"] = self.meter.step(
            [[self.decrypt, ["zstd", "-d"], ["tar", "-C", self.unpacked, "-x"]]], made=[self.unpacked])
        self.archive.unlink()
        blobs = list((self.unpacked / "blobs/sha256").iterdir())
        self.steps["sha256sum of the blobs"] = self.meter.step([[["sha256sum", *blobs]]])
        read(self.one_volumes + self.several_volumes, cold=False)
        self.steps["sealift-import verify"] = self.meter.step([[self.sealift.verify(self.one)]])
        self.steps["sealift-import verify, several volumes"] = self.meter.step([[self.sealift.verify(self.several)]])

    def receive(self):
        """From the medium into an empty registry."""
        images = {f"bench/{name}": digest for name, digest in self.corpus.images.items()}
        with Registry(self.folder / "by-hand") as registry:
            self.steps["skopeo copy into the registry"] = self.meter.step(
                self.bench.copies(f"oci:{self.unpacked}:{{}}", f"docker://{registry.host}/bench/{{}}:1"), registry)
            registry.check(images)
        shutil.rmtree(self.unpacked)
        lookaside = self.folder / "sigstore"
        with Registry(self.folder / "production") as registry:
            self.steps["sealift-import receive"] = self.meter.step(
                [[self.sealift.receive(self.one, registry.host, lookaside)]], registry, [lookaside])
            registry.check(images)


# --- The report.


def costs(run):
    return {name: Cost(**cost) for name, cost in run["steps"].items()}


def pairs(figures):
    """By task, for each run: the cost by hand and Sealift's."""
    runs = [costs(run) for run in figures["runs"]]
    return {name: [(sum((run[step] for step in by_hand), Cost()), run[ours]) for run in runs]
            for name, by_hand, ours in TASKS}


def allowed(run):
    """By step, the seconds that it would take if nothing but the limit counted, and what the limit is."""
    def rate(algorithm, cores):
        return run[f"{algorithm} on {cores}"]

    size, every = run["bundle"], "all cores"
    opening = size * (2 / rate("sha256", every) + 1 / rate("chacha20-poly1305", every))
    found = {"sealift-import verify": (opening, "SHA-256 twice and ChaCha20-Poly1305 once, on all cores")}
    found["sealift-import verify, several volumes"] = found["sealift-import verify"]
    for name, volumes, cores in [("", "one", "one core"), (", several volumes", "several", every)]:
        hashing = (size / rate("sha256", cores), f"SHA-256 once, on {cores}")
        reading = (run[f"cold_{volumes}"], "reading the medium")
        found[f"sealift-import check{name}"] = max(hashing, reading)
    return found


def shares(figures, step):
    return [allowed(run)[step][0] / run["steps"][step]["wall"] for run in figures["runs"]]


def targets(figures):
    rows = []
    for task, figure, most, stretch in TARGETS:
        found = median(ratios(pairs(figures)[task], figure))
        title = FIGURES[figure][0].split(",")[0]
        rows.append(target(f"`{task}`: {title}, of that by hand", found, most=most, stretch=stretch))
    runs = [costs(run) for run in figures["runs"]]
    written = median(run["sealift-import receive"].written for run in runs)
    rows.append(target("`receive`: written, MB", written / 1e6, most=WRITTEN_TARGET / 1e6))
    for name, step in [("`verify`", "verify"), ("`verify`, several volumes", "verify, several volumes"),
                       ("`check`", "check"), ("`check`, several volumes", "check, several volumes")]:
        found = median(shares(figures, f"sealift-import {step}"))
        what = f"{name}: share of what the machine allows"
        rows.append(target(what, found, least=SHARE_TARGET, ceiling=1.05))
    peak = max(cost.rss for run in runs for step, cost in run.items() if step.startswith("sealift"))
    size = figures["bytes"] / 1e9
    rows.append(target(f"peak memory of either program at {size:.1f} GB, MB", peak / 1e6, most=MEMORY_TARGET, digits=0))
    return rows


def section(figures):
    runs = figures["runs"]
    rows = [["task", "figure", "by hand", "Sealift", "ratio"]]
    for name, both in pairs(figures).items():
        for figure, (title, unit) in FIGURES.items():
            by_hand, ours = ([getattr(cost, figure) / unit for cost in side] for side in zip(*both))
            if max(by_hand + ours) >= 0.1:
                rows.append([name, title, spread(by_hand), spread(ours), spread(ratios(both, figure), 2)])
    steps = [["step", *(title for title, _ in FIGURES.values())]]
    for step in runs[0]["steps"]:
        each = [costs(run)[step] for run in runs]
        cells = [spread(getattr(cost, figure) / unit for cost in each) for figure, (_, unit) in FIGURES.items()]
        steps.append([step, *cells])
    described = [f"{name}: `{'`, then `'.join(by_hand)}`; against `{ours}`" for name, by_hand, ours in TASKS]
    counted_by = "what the kernel counted for the programs" if figures["counted"] else "the size of the files made"
    return f"""\
## Sealift and the pipeline by hand

{figures["images"]} images that share layers, {figures["layers"]} layers, {figures["bytes"] / 1e6:.0f} MB: Debian \
packages, in layers packed with gzip. Runs: {len(runs)}.
A ratio is Sealift's figure divided by that of the pipeline by hand in the same run: below 1 is better.

{table(rows)}

{bullets(described)}

By hand, `skopeo copy` runs once for each image, into one OCI layout and from it, and `zstd` with `-T0 -3`. Every import
goes into an empty registry. All of it, registries included, runs on one machine; what is read is in the page cache, but
for `check`, which is about the medium and drops the cache first. `pack` runs with `--no-check`, since by hand nothing
is read back either.

- CPU: of the programs, without the registry's, which has a row of its own.
- Peak memory: of the largest process. Less than {figures["least_memory"] / 1e6:.0f} MB is not told apart.
- Written: {counted_by}, without the registry's storage. `receive` writes the ledger
  and signatures.
- Read from disk: what did not come from the page cache. For `check` this must be the whole bundle.
- Sync afterwards: Sealift's bundle is on the disk when `pack` ends; by hand nothing waits for the disk, so this is what
  `sync` still takes then. It is not part of wall.

Sealift also signs and keeps a ledger, which the pipeline by hand does not.

{table(steps)}

## What the machine allows

{limits(figures)}"""


def limits(figures):
    runs = figures["runs"]
    raw = [["with the same bytes", "wall, s", "MB/s"]]
    for step in ["cp", "cp and sync", "sha256sum of the archive", "openssl dgst -sha256", "age", "age -d"]:
        seconds = [run["steps"][step]["wall"] for run in runs]
        raw.append([step, spread(seconds), spread([run["archive"] / s / 1e6 for run, s in zip(runs, seconds)], 0)])
    for name, fact in [("reading one volume, page cache dropped", "cold_one"),
                       ("reading several volumes, page cache dropped", "cold_several"),
                       ("reading one volume from the page cache", "warm")]:
        rates = [run["bundle"] / run[fact] / 1e6 for run in runs]
        raw.append([name, spread([run[fact] for run in runs]), spread(rates, 0)])
    for algorithm in ["sha256", "chacha20-poly1305"]:
        for cores in ["one core", "all cores"]:
            rates = [run[f"{algorithm} on {cores}"] for run in runs]
            seconds = [run["bundle"] / rate for run, rate in zip(runs, rates)]
            name = f"openssl speed {algorithm}, {cores}"
            raw.append([name, spread(seconds), spread([rate / 1e6 for rate in rates], 0)])
    rows = [["step", "limit", "allowed, s", "wall, s", "share"]]
    for step in allowed(runs[0]):
        reasons = sorted({allowed(run)[step][1] for run in runs})
        rows.append([step, " or ".join(reasons), spread([allowed(run)[step][0] for run in runs]),
                     spread([run["steps"][step]["wall"] for run in runs]), spread(shares(figures, step), 2)])
    return f"""\
{table(raw)}

`sha256sum` of Debian 12 does not use the processor's instructions for SHA-256; OpenSSL does. "All cores": as many
processes as there are cores.

{table(rows)}

The share is the allowed time divided by the wall time of the whole command. `verify` has to hash every byte twice, as
it lies on the medium and in its blob, and to decrypt it once. `check` hashes it once, after dropping the page cache:
the slower of hashing and of reading the medium counts. One file can be hashed by one core only, so a bundle of one
volume is compared with one core, and one of {runs[0]["volumes"]} volumes with all. A limit is the best of six samples in the run,
taken before, between and after these steps: one that was found while the machine was busy is too low, and the share
too high. A share above 1 says nothing."""

"""pack over a slow link: scripts/bench-link between it and the registry."""

import contextlib
import dataclasses
import json
import signal
import subprocess

from .corpora import push, tiny
from .measure import ROOT, Registry, say
from .report import median, spread, table, target

LATENCY, RATE = 0.05, 50e6
SHARE_TARGET = 0.95


# --- Measuring.


def measure(bench, args):
    count = 40 if args.small else 300
    runs = []
    with bench.folder("link") as folder, Registry(folder / "registry") as registry:
        say(f"loading {count} tiny images into a registry")
        tiny(folder / "tiny", count)
        push(folder / "tiny", registry)
        for number in range(1, args.runs + 1):
            say(f"pack over a slow link: run {number} of {args.runs}")
            run = {}
            with slow(bench.origin) as link:
                blob = f"http://{link.host}/v2/bench/{bench.corpus.home}/blobs/sha256:{bench.corpus.largest}"
                cost = bench.meter.step([[["curl", "-fsS", "-o", "/dev/null", blob]]])
            run["curl"] = {"cost": dataclasses.asdict(cost)} | link.statistics
            run["real"] = pack(bench, bench.origin, [f"bench/{name}:1" for name in bench.corpus.images])
            run["tiny"] = pack(bench, registry, [f"made/tiny-{number}:1" for number in range(count)])
            runs.append(run)
    return {"runs": runs, "tiny": count, "bytes": bench.corpus.bytes}


def pack(bench, origin, paths):
    with bench.folder("pack") as folder, slow(origin) as link:
        (folder / "images").write_text("".join(f"{link.host}/{path}\n" for path in paths))
        (folder / "medium").mkdir()
        command = bench.sealift.pack(folder / "medium", "--images-file", folder / "images")
        cost = bench.meter.step([[command]], made=[folder / "medium"])
    return {"cost": dataclasses.asdict(cost)} | link.statistics


class Link:
    host, statistics = "", {}


@contextlib.contextmanager
def slow(registry):
    """A link to a registry; its statistics are there when it has ended."""
    link = Link()
    options = ["--latency", str(LATENCY * 1e3), "--rate", str(RATE / 1e6), registry.host]
    process = subprocess.Popen([ROOT / "scripts/bench-link", *options], stdout=subprocess.PIPE, text=True)
    try:
        link.host = process.stdout.readline().strip()
        yield link
    finally:
        process.send_signal(signal.SIGTERM)
        rest, _ = process.communicate()
    link.statistics = json.loads(rest)


# --- The report.


def of_rate(run, seconds):
    return run["down"] / RATE / seconds


def targets(figures):
    found = median(of_rate(run["real"], run["real"]["cost"]["wall"]) for run in figures["runs"])
    return [target("`pack` over a slow link: share of its rate, of the whole command", found, least=SHARE_TARGET)]


def section(figures):
    rows = [["over the link", "fetched, MB", "wall, s", "share of the rate", "without start and end", "connections",
             "requests", "wall / (requests * latency)"]]
    for name, what in [("curl", "`curl`, the largest layer"), ("real", "`pack`, the images above"),
                       ("tiny", f"`pack`, {figures['tiny']} images of 3 small blobs")]:
        each = [run[name] for run in figures["runs"]]
        walls = [run["cost"]["wall"] for run in each]
        rows.append([what, spread([run["down"] / 1e6 for run in each], 1), spread(walls),
                     spread([of_rate(run, wall) for run, wall in zip(each, walls)], 2),
                     spread([of_rate(run, run["seconds"]) for run in each], 2),
                     spread([run["connections"] for run in each], 0), spread([run["turns"] for run in each], 0),
                     spread([wall / (run["turns"] * LATENCY) for run, wall in zip(each, walls)], 2)])
    return f"""\
## A slow link

`scripts/bench-link`, on loopback, between `pack` and the registry: {RATE / 1e6:.0f} MB/s shared by all connections, \
{LATENCY * 1e3:.0f} ms
there and back, and as much for every new connection. Runs: {len(figures["runs"])}.

{table(rows)}

The share of the rate is of the whole command, from its start until the bundle is on the disk; "without start and end"
is from its first connection to the last byte that came. With small blobs it is the latency that counts: the last column
would be 1 if every request waited for the one before."""

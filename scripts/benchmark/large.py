"""Peak memory with bundles that are much larger than the memory."""

import dataclasses
import shutil

from .measure import Registry, say, size
from .report import FIGURES, bullets, table, target
from .sealift import bundle_in
from .synthetic import registry as synthetic

MEMORY_TARGET = 150
SPARE = 15e9
"""Bytes that are left free on the disk."""


# --- Measuring.


def measure(bench, args):
    total = args.large * 10**9
    steps, skipped = {}, []
    with bench.folder("large") as folder:
        def room_for(step):
            free = shutil.disk_usage(folder).free
            if free >= total + SPARE:
                return True
            skipped.append(f"{step}: it would leave {(free - total) / 1e9:.0f} GB on the disk, "
                           f"{SPARE / 1e9:.0f} GB must stay free")
            say(f"skipped: {skipped[-1]}")
            return False

        def keep(step, cost):
            steps[step] = dataclasses.asdict(cost)

        if room_for("pack, verify, check and receive"):
            say(f"{args.large} GB: pack, verify, check")
            medium = folder / "medium"
            medium.mkdir()
            with synthetic(layers(total)) as images:
                command = bench.sealift.pack(medium, "--volume-size", str(total // 4), *images)
                keep("pack", bench.meter.step([[command]], made=[medium]))
            bundle, volumes = bundle_in(medium)
            keep("verify", bench.meter.step([[bench.sealift.verify(bundle)]]))
            keep("check", bench.meter.step([[bench.sealift.check(bundle)]]))
            if room_for("receive"):
                say(f"{args.large} GB: receive")
                with Registry(folder / "registry") as registry:
                    command = bench.sealift.receive(bundle, registry.host, folder / "sigstore")
                    keep("receive", bench.meter.step([[command]], registry, [folder / "sigstore"]))
        found = {"bytes": total, "steps": steps, "skipped": skipped}
        return found | ({"bundle": size(bundle), "volumes": len(volumes)} if steps else {})


def layers(total):
    """The sizes of the layers of four images of four. The first has three tenths of all bytes."""
    share = total * 7 // 150
    return [[total * 3 // 10 if image == number == 0 else share for number in range(4)] for image in range(4)]


# --- The report.


def targets(figures):
    if not figures["steps"]:
        return []
    peak = max(cost["rss"] for cost in figures["steps"].values())
    what = f"peak memory of either program at {figures['bytes'] / 1e9:.0f} GB, MB"
    return [target(what, peak / 1e6, most=MEMORY_TARGET, digits=0)]


def section(figures):
    rows = [["step", "wall, s", "MB/s", *(FIGURES[figure][0] for figure in ["cpu", "registry_cpu", "rss", "written"])]]
    for step, cost in figures["steps"].items():
        figure = [f"{cost[name] / FIGURES[name][1]:.1f}" for name in ["cpu", "registry_cpu", "rss", "written"]]
        rows.append([f"`{step}`", f"{cost['wall']:.1f}", f"{figures['bundle'] / 1e6 / cost['wall']:.0f}", *figure])
    volumes = f" The bundle had {figures['volumes']} volumes." if figures["steps"] else ""
    skipped = "\n\nSkipped:\n\n" + bullets(figures["skipped"]) if figures["skipped"] else ""
    return f"""\
## {figures["bytes"] / 1e9:.0f} GB

Four images of four layers, from a registry that makes them up while it sends them: random bytes that look like gzip's
output. One layer is larger than a volume.{volumes} Runs: 1. Wall is that of a machine which also makes
the layers, and holds the registry into which `receive` pushes; what this is about is the memory.

{table(rows)}{skipped}"""

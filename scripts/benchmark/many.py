"""Many small images: time and memory as their number grows."""

import dataclasses
import json

from .corpora import SCOPE, tiny
from .measure import Registry, say
from .report import table, target
from .sealift import Sealift, bundle_in

GROWTH_TARGET = 1.25
MEMORY_TARGET = 300
STEPS = ["pack", "verify", "receive"]


# --- Measuring.


def measure(bench, args):
    found = []
    for count in [args.many // 4, args.many // 2, args.many]:
        with bench.folder("many") as folder:
            say(f"{count} small images: pack, verify, receive")
            layout, medium = folder / "layout", folder / "medium"
            tiny(layout, count)
            medium.mkdir()
            site, steps = Sealift(bench.meter, folder / "sealift"), {}
            command = site.pack(medium, "--images-file", layout / "images")
            steps["pack"] = bench.meter.step([[command]], made=[medium])
            bundle, _ = bundle_in(medium)
            steps["verify"] = bench.meter.step([[site.verify(bundle)]])
            with Registry(folder / "registry") as registry:
                command = site.receive(bundle, registry.host, folder / "sigstore")
                steps["receive"] = bench.meter.step([[command]], registry, [folder / "sigstore"])
                registry.check({f"{SCOPE.partition('/')[2]}/tiny-{count - 1}": last_digest(layout)})
            found.append({"images": count, "steps": {name: dataclasses.asdict(cost) for name, cost in steps.items()}})
    return {"sizes": found}


def last_digest(layout):
    return json.loads((layout / "index.json").read_text())["manifests"][-1]["digest"]


# --- The report.


def growth(figures, step, figure):
    """How much more an image costs among all than among a quarter of them."""
    few, _, all_of_them = figures["sizes"]
    each = [size["steps"][step][figure] / size["images"] for size in (few, all_of_them)]
    return each[1] / each[0]


def targets(figures):
    count = figures["sizes"][-1]["images"]
    rows = [target(f"`{step}` of {count} images: time for each, of that with a quarter of them",
                   growth(figures, step, "wall"), most=GROWTH_TARGET) for step in STEPS]
    peak = max(cost["rss"] for size in figures["sizes"] for cost in size["steps"].values())
    return [*rows, target(f"peak memory of either program with {count} images, MB", peak / 1e6, most=MEMORY_TARGET, digits=0)]


def section(figures):
    rows = [["step", "images", "wall, s", "images a second", "CPU, s", "registry's CPU, s", "peak memory, MB", "written, MB"]]
    for step in STEPS:
        for size in figures["sizes"]:
            cost = size["steps"][step]
            rows.append([f"`{step}`", str(size["images"]), f"{cost['wall']:.2f}", f"{size['images'] / cost['wall']:.0f}",
                         f"{cost['cpu']:.2f}", f"{cost['registry_cpu']:.2f}", f"{cost['rss'] / 1e6:.0f}",
                         f"{cost['written'] / 1e6:.1f}"])
    grown = [["step", "wall", "CPU"]]
    for step in STEPS:
        grown.append([f"`{step}`", *(f"{growth(figures, step, figure):.2f}" for figure in ["wall", "cpu"])])
    return f"""\
## Many images

Images of three small blobs (a configuration and two layers of 1 to 5 kB, all different), from one OCI layout, into a new
ledger and an empty registry. Runs: 1.

{table(rows)}

What an image takes among all of them, divided by what it takes among a quarter of them; 1 is linear, 4 quadratic:

{table(grown)}"""

"""Many small images: time and memory as their number grows."""

import dataclasses

from .corpora import last_image, push, tiny
from .measure import Failed, Registry, say
from .report import table, target
from .sealift import Sealift, bundle_in

GROWTH_TARGET = 1.25
MEMORY_TARGET = 300
LAYOUT, REGISTRY = "pack from a layout", "pack from a registry"
STEPS = [LAYOUT, REGISTRY, "verify", "receive"]
MOST_MEMORY, MOST_SECONDS = 4 * 10**9, 1500
"""What a step may take, so that one that grows too fast ends."""


# --- Measuring.


def measure(bench, args):
    counts = [args.many // 4, args.many // 2, args.many]
    found, failed = {step: [] for step in STEPS}, {}
    with bench.folder("many") as folder, Registry(folder / "origin") as origin:
        say(f"loading {args.many} small images into a registry")
        tiny(folder / "pushed", args.many)
        push(folder / "pushed", origin)
        for count in counts:
            with bench.folder("of-many") as part:
                Part(bench, part, origin, count, found, failed).all()
    return {"counts": counts, "steps": found, "failed": failed}


class Part:
    """So many of them."""

    def __init__(self, bench, folder, origin, count, found, failed):
        self.meter, self.folder, self.origin, self.count = bench.meter, folder, origin, count
        self.found, self.failed = found, failed
        self.site, self.medium = Sealift(bench.meter, folder / "sealift"), folder / "medium"
        self.medium.mkdir()

    def all(self):
        tiny(self.folder / "layout", self.count)
        self.step(LAYOUT, self.pack("layout", self.folder / "layout/images"), made=self.medium)
        images = self.folder / "images"
        images.write_text("".join(f"{self.origin.host}/made/tiny-{number}:1\n" for number in range(self.count)))
        self.step(REGISTRY, self.pack("registry", images), self.origin, self.medium)
        bundles = [bundle_in(medium)[0] for medium in self.medium.iterdir() if list(medium.glob("*/SHA256SUMS.asc"))]
        if not bundles:
            return
        bundle = max(bundles, key=lambda bundle: int(bundle.name.rpartition("-")[2]))
        self.step("verify", self.site.verify(bundle))
        with Registry(self.folder / "registry") as registry:
            lookaside = self.folder / "sigstore"
            if self.step("receive", self.site.receive(bundle, registry.host, lookaside), registry, lookaside):
                registry.check(dict([last_image(self.folder / "layout")]) if bundle.parent.name == "layout" else {})

    def pack(self, name, images):
        (self.medium / name).mkdir()
        return self.site.pack(self.medium / name, "--images-file", images)

    def step(self, name, command, registry=None, made=None):
        """Does a step, unless it failed with fewer images."""
        if name in self.failed:
            return False
        say(f"{self.count} small images: {name}")
        within = ["prlimit", f"--as={MOST_MEMORY}", "timeout", str(MOST_SECONDS)]
        try:
            cost = self.meter.step([[[*within, *command]]], registry, [made] if made else [])
        except Failed as failure:
            say(f"{name}: {failure}")
            self.failed[name] = self.count
            return False
        self.found[name].append({"images": self.count} | dataclasses.asdict(cost))
        return True


# --- The report.


def growth(costs, figure):
    """How much more an image costs among the most than among a quarter of them."""
    each = [cost[figure] / cost["images"] for cost in costs]
    return each[-1] / each[0]


def targets(figures):
    most, rows = figures["counts"][-1], []
    for step, costs in figures["steps"].items():
        what = f"{step}, {most} images: time for each, of that with a quarter"
        if len(costs) == len(figures["counts"]):
            rows.append(target(what, growth(costs, "wall"), most=GROWTH_TARGET))
        else:
            rows.append([what, "failed", f"at most {GROWTH_TARGET:.2f}", "", "missed"])
    for step, costs in figures["steps"].items():
        if costs:
            peak = max(cost["rss"] for cost in costs) / 1e6
            what = f"{step}, {costs[-1]['images']} images: peak memory, MB"
            rows.append(target(what, peak, most=MEMORY_TARGET, digits=0))
    return rows


def section(figures):
    rows = [["step", "images", "wall, s", "images a second", "CPU, s", "registry's CPU, s", "peak memory, MB",
             "written, MB"]]
    grown = [["step", "images", "wall", "CPU"]]
    for step, costs in figures["steps"].items():
        for cost in costs:
            rows.append([step, str(cost["images"]), f"{cost['wall']:.2f}", f"{cost['images'] / cost['wall']:.0f}",
                         f"{cost['cpu']:.2f}", f"{cost['registry_cpu']:.2f}", f"{cost['rss'] / 1e6:.0f}",
                         f"{cost['written'] / 1e6:.1f}"])
        if step in figures["failed"]:
            rows.append([step, str(figures["failed"][step]), "failed", *[""] * 5])
        if len(costs) > 1:
            grown.append([step, f"{costs[0]['images']} to {costs[-1]['images']}",
                          *(f"{growth(costs, figure):.2f}" for figure in ["wall", "cpu"])])
    failed = ""
    if figures["failed"]:
        most = f"{MOST_MEMORY / 1e9:.0f} GB of memory or {MOST_SECONDS} s"
        failed = f"\n\nFailed: it took more than {most}, or ended with an error."
    return f"""\
## Many images

Images of three small blobs (a configuration and two layers of 1 to 5 kB, all different), from one OCI layout and from a
registry, each in a repository of its own; into a new ledger and an empty registry. Runs: 1.

{table(rows)}{failed}

What an image takes among the most of them, divided by what it takes among the fewest:

{table(grown)}"""

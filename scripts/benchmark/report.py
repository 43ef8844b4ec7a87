"""Figures as text."""

import contextlib
import os
import pathlib
import re
import shutil
import statistics

from .measure import ROOT, output

FIGURES = {"wall": ("wall, s", 1), "cpu": ("CPU, s", 1), "registry_cpu": ("registry's CPU, s", 1),
           "rss": ("peak memory, MB", 1e6), "written": ("written, MB", 1e6),
           "read": ("read from disk, MB", 1e6), "flush": ("sync afterwards, s", 1)}


def report(figures, parts):
    """`figures`: by part, what its `measure` gave, and when and on what."""
    rows = [["target", "found", "wanted", "stretch", ""]]
    sections, measured = [], []
    for name, part in parts.items():
        if name in figures:
            sections.append(part.section(figures[name]))
            rows += part.targets(figures[name])
            about = figures[name]
            measured.append(f"`{name}`: {about['date']}, at {about['revision']}, in {about['minutes']:.0f} minutes")
    machine = max(figures.values(), key=lambda part: part["date"])["machine"]
    text = "\n\n".join(sections)
    return f"""\
# Performance

Written by `scripts/bench --output docs/performance.md`. Figures are medians, with the lowest and the highest in
brackets where there were several runs. Times differ from machine to machine and from day to day; ratios, which are
taken within a run, differ less.

## Targets

{table(rows)}

{text}

## The machine

{bullets(f"{key}: {value}" for key, value in machine.items())}

Measured:

{bullets(measured)}
"""


def bullets(lines):
    return "\n".join(f"- {line}" for line in lines)


def median(values):
    return statistics.median(values)


def ratios(costs, figure):
    pairs = [(getattr(a, figure), getattr(b, figure)) for a, b in costs]
    return [b / a for a, b in pairs if a]


def spread(values, digits=None):
    """Median, lowest and highest."""
    values = list(values)
    if not values:
        return "-"
    middle = median(values)
    if digits is None:
        digits = 2 if middle < 10 else 1 if middle < 100 else 0
    if len(values) == 1 or max(values) == 0:
        return f"{middle:.{digits}f}"
    return f"{middle:.{digits}f} [{min(values):.{digits}f}-{max(values):.{digits}f}]"


def table(rows):
    widths = [max(map(len, column)) for column in zip(*rows)]
    lines = ["| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths)) + " |" for row in rows]
    return "\n".join([lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]])


def target(what, found, most=None, least=None, stretch=None, digits=2, ceiling=None):
    """A row of the targets. Judged as it is shown: rounded. Above the ceiling, what it is compared with is wrong."""
    shown = round(found, digits)

    def met(wanted):
        return shown <= wanted if least is None else shown >= wanted

    wanted = most if least is None else least
    if ceiling is not None and shown > ceiling:
        return [what, f"{shown:.{digits}f}", f"at least {least:.{digits}f}", "", "not valid: the limit was beaten"]
    verdict = "missed" if not met(wanted) else "met" if stretch is None or not met(stretch) else "met, and the stretch"
    word = "at most" if least is None else "at least"
    hoped = "" if stretch is None else f"{stretch:.{digits}f}"
    return [what, f"{shown:.{digits}f}", f"{word} {wanted:.{digits}f}", hoped, verdict]


def describe_machine(work):
    facts = {}
    with contextlib.suppress(StopIteration):
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
        facts["processor"] = next(l for l in lines if l.startswith("model name")).partition(": ")[2]
    facts["cores"] = str(os.cpu_count())
    facts["memory"] = f"{os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / 1e9:.0f} GB"
    facts["file system"] = output("df", "--output=fstype", work).splitlines()[1]
    release = dict(l.split("=", 1) for l in pathlib.Path("/etc/os-release").read_text().splitlines() if "=" in l)
    facts["system"] = f"{release.get('PRETTY_NAME', 'unknown').strip(chr(34))}, Linux {os.uname().release}"
    programs = [(ROOT / "target/release/sealift-export", "--version"), ("rustc", "--version"), ("skopeo", "--version"),
                ("age", "--version"), ("zstd", "--version"), ("tar", "--version"), ("sha256sum", "--version"),
                ("openssl", "version"), ("docker-registry", "--version")]
    versions = [(pathlib.Path(p).name, re.search(r"\d+\.\d[\w.+~-]*", output(p, flag)))
                for p, flag in programs if shutil.which(p)]
    facts["programs"] = ", ".join(f"{name} {found[0] if found else '?'}" for name, found in versions)
    return facts

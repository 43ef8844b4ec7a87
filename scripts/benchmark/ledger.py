"""A large ledger: how long it takes to ask, to write one more act, and to verify everything."""

import json
import os
import shutil
import subprocess

from .measure import ROOT, Failed, say
from .report import table, target

QUESTION_TARGET = 100
APPEND_TARGET = 2
MEMORY_TARGET = 150
SMALL, MANY_STREAMS = 100, 1000
ENTRY, SPARE = 7000, 15e9
"""About the bytes that an entry takes in the file, and what is left free on the disk."""


# --- Measuring.


def measure(bench, args):
    program = build()
    with bench.folder("ledger") as folder:
        if shutil.disk_usage(folder).free < args.ledger * ENTRY + SPARE:
            raise Failed(f"a ledger of {args.ledger} entries would leave less than {SPARE / 1e9:.0f} GB on the disk")
        ledgers = [Ledger(program, folder, *shape) for shape in
                   [(SMALL, 50), (args.ledger, 50), (max(args.ledger // 10, MANY_STREAMS * 10), MANY_STREAMS)]]
        small, large, streams = ledgers
        for ledger in ledgers:
            ledger.run("filled")
        for ledger in [small, large, streams]:
            ledger.run("verified")
        # The small one before and after, because the speed of a disk changes.
        for ledger in [small, large, streams, small]:
            ledger.run("questions_asked")
        return {"ledgers": [{"entries": l.entries, "streams": l.streams} | l.found for l in ledgers]}


def build():
    """The program of the ledger's unit tests, which holds the figures as tests that are ignored."""
    command = ["cargo", "test", "--release", "--locked", "--quiet", "-p", "ledger", "--lib", "--no-run",
               "--message-format=json"]
    lines = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()
    return next(found for found in (json.loads(line).get("executable") for line in reversed(lines)) if found)


class Ledger:
    def __init__(self, program, folder, entries, streams):
        self.program, self.entries, self.streams, self.found = program, entries, streams, {}
        self.path = folder / f"{entries}-{streams}.db"

    def run(self, what):
        """Runs a figure, and keeps it: of several the one with the quicker acts."""
        say(f"a ledger of {self.entries} entries in {self.streams} streams: {what.replace('_', ' ')}")
        command = [self.program, "--ignored", "--exact", f"scale_tests::{what}", "--nocapture", "--test-threads=1"]
        variables = {"LEDGER": str(self.path), "ENTRIES": str(self.entries), "STREAMS": str(self.streams)}
        ran = subprocess.run(command, env=os.environ | variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                             text=True)
        lines = [line for line in ran.stdout.splitlines() if line.startswith("figures ")]
        if ran.returncode or not lines:
            raise Failed(f"{what}: {ran.stdout[-2000:]}")
        found = json.loads(lines[0].removeprefix("figures "))
        if what not in self.found or append(found) < append(self.found[what]):
            self.found[what] = found


def append(asked):
    """Milliseconds that the acts of a release take, in the middle."""
    return sum(middle for middle, _ in asked["appended"].values())


# --- The report.


def targets(figures):
    small, large, streams = figures["ledgers"]
    entries = f"{large['entries']:,} entries"
    rows = []
    for name in ["list", "show", "prove"]:
        slowest = max(middle for question, (middle, _) in large["questions_asked"]["questions"].items()
                      if question.startswith(f"{name}:"))
        rows.append(target(f"ledger of {entries}: {name}, ms", slowest, most=QUESTION_TARGET, digits=1))
    ratio = append(large["questions_asked"]) / append(small["questions_asked"])
    rows.append(target(f"ledger of {entries}: an act, of that with {SMALL}", ratio, most=APPEND_TARGET))
    peak = max(ledger["verified"]["peak"] for ledger in figures["ledgers"]) / 1e6
    rows.append(target(f"ledger of {entries}: peak memory of verify, MB", peak, most=MEMORY_TARGET, digits=0))
    return rows


def section(figures):
    ledgers = figures["ledgers"]
    small, large, streams = ledgers

    def title(ledger):
        return f"{ledger['entries']:,} entries, {ledger['streams']} streams"

    def shown(figure):
        middle, most = figure
        return f"{middle:.2f} [-{most:.1f}]"

    questions = [["question, ms", *map(title, ledgers)]]
    for question in large["questions_asked"]["questions"]:
        questions.append([question, *(shown(l["questions_asked"]["questions"][question]) for l in ledgers)])
    acts = [["act, ms", *map(title, ledgers)],
            ["opening it to write", *(shown(l["questions_asked"]["open"]) for l in ledgers)]]
    for act in large["questions_asked"]["appended"]:
        acts.append([f"`{act}`", *(shown(l["questions_asked"]["appended"][act]) for l in ledgers)])
    verify = [["ledger", "file, MB", "filling it, s", "verify, s", "entries a second", "MB/s", "memory before, MB",
               "peak memory, MB"]]
    for ledger in ledgers:
        found, size = ledger["verified"], ledger["filled"]["bytes"] / 1e6
        verify.append([title(ledger), f"{size:.1f}", f"{ledger['filled']['seconds']:.1f}", f"{found['seconds']:.2f}",
                       f"{found['entries'] / found['seconds']:.0f}", f"{size / found['seconds']:.0f}",
                       f"{found['before'] / 1e6:.0f}", f"{found['peak'] / 1e6:.0f}"])
    return f"""\
## A large ledger

{large['filled']['releases']:,} releases of five images, from {large['streams']} streams in turn; every entry is written
by the code that always writes entries, but many in a transaction. Half of the releases pass a staging registry and two approvers. Two images in
five releases are new; one image is in every release.

{table(questions)}

A question is asked 200 times, each time of another release or entry. In brackets: what took longest.

{table(acts)}

An act ends when it is on the disk, in the ledger and in the second file of its head, which lies beside it. The key that
signs is a hash; a real one adds what its signature takes.

{table(verify)}

`verify` reads every row of every table, hashes and parses every entry, and has SQLite check its file; the file was
written just before. Peak memory is the library's own, without OpenPGP."""

"""The two programs, with keys and a ledger of their own."""

import subprocess

from .measure import ROOT

PROGRAMS = ROOT / "target/release"


def build():
    command = ["cargo", "build", "--release", "--locked", "--quiet", "-p", "exporter", "-p", "importer"]
    subprocess.run(command, cwd=ROOT, check=True)


class Sealift:
    def __init__(self, meter, folder):
        folder.mkdir()
        self.team, self.enclave = folder / "team", folder / "enclave"
        init = ["init", "--no-passphrase", "--algorithm", "p256"]
        meter.pipeline([PROGRAMS / "sealift-import", *init, self.enclave])
        meter.pipeline([PROGRAMS / "sealift-export", *init, self.team])
        self.recipient = (self.enclave / "enclave.recipient").read_text().strip()
        self.sequence = 0

    def pack(self, output, *images):
        """The command that packs images into an empty folder, or `-`. Nothing is read back."""
        self.sequence += 1
        return [PROGRAMS / "sealift-export", "pack", "--stream", "bench", "--sequence", str(self.sequence),
                "--recipient", self.recipient, "--sign-key", self.team / "release.secret.asc", "--output", output,
                "--state", self.team / f"state-{self.sequence}", "--no-check", *images]

    def check(self, bundle):
        return [PROGRAMS / "sealift-import", "check", "--trust", self.team / "release.asc", bundle]

    def verify(self, bundle):
        return [PROGRAMS / "sealift-import", "verify", bundle, *self.site("127.0.0.1:1")]

    def receive(self, bundle, destination, lookaside):
        return [PROGRAMS / "sealift-import", "receive", bundle, *self.site(destination),
                "--sign-key", self.enclave / "production.secret.asc", "--lookaside", lookaside,
                "--ledger-key", self.enclave / "ledger.secret.asc"]

    def site(self, destination):
        return ["--trust", self.team / "release.asc", "--identity", self.enclave / "enclave.key",
                "--ledger", self.enclave / "ledger.db", "--to", destination]


def bundle_in(medium):
    """The bundle's folder in the folder it was packed into, and its volumes."""
    bundle = next(medium.iterdir())
    return bundle, sorted(bundle.glob("*.age"))

"""The images that are carried: real ones, and ones that are made of nothing."""

import gzip
import hashlib
import http.client
import json
import multiprocessing
import random

from .measure import MANIFEST, ROOT, output

OCI = "application/vnd.oci.image"
SCOPE = "registry.bench.example/made"


class Corpus:
    """The OCI layout that scripts/bench-corpus made."""

    def __init__(self, small, cache):
        self.layout = type(cache)(output(ROOT / "scripts/bench-corpus", *(["--small"] if small else []), cache))
        index = json.loads((self.layout / "index.json").read_text())
        self.images = {m["annotations"]["org.opencontainers.image.ref.name"]: m["digest"] for m in index["manifests"]}
        blobs = {f.name: f.stat().st_size for f in (self.layout / "blobs/sha256").iterdir()}
        self.bytes, self.largest = sum(blobs.values()), max(blobs, key=blobs.get)
        manifests = [self.layout / "blobs" / digest.replace(":", "/") for digest in self.images.values()]
        layers = {name: [layer["digest"][7:] for layer in json.loads(manifest.read_text())["layers"]]
                  for name, manifest in zip(self.images, manifests)}
        self.layers = len(set().union(*layers.values()))
        self.home = next(name for name in layers if self.largest in layers[name])
        """An image that has the largest blob."""


def tiny(layout, count):
    """A layout of so many images of three blobs of 1 to 5 kB, all different, and `images`, a file that names them.

    Made by a process of its own, because this one's memory is the least that can be measured of others."""
    apart(make_tiny, layout, count)


def make_tiny(layout, count):
    source = random.Random(count)
    layout = Layout(layout)
    for number in range(count):
        contents = [source.randbytes(source.randrange(1000, 5000)) for _ in range(2)]
        layers = [layout.blob(gzip.compress(content, mtime=0), f"{OCI}.layer.v1.tar+gzip") for content in contents]
        history = [{"created_by": source.randbytes(500).hex()}]
        layout.image(f"{SCOPE}/tiny-{number}:1", layers, contents, history)
    layout.close()


def push(layout, registry):
    """Pushes every image of a layout of ours, faster than skopeo, which begins anew for each."""
    apart(push_all, layout, registry)


def push_all(layout, registry):
    connection = http.client.HTTPConnection(registry.host)

    def request(method, path, body=None, kind="application/octet-stream"):
        connection.request(method, path, body, {"Content-Type": kind})
        answer = connection.getresponse()
        answer.read()
        if answer.status >= 300:
            raise SystemExit(f"{method} {path}: {answer.status}")
        return answer

    for entry in json.loads((layout / "index.json").read_text())["manifests"]:
        name = entry["annotations"]["org.opencontainers.image.ref.name"].partition("/")[2]
        repository = f"/v2/{name.removesuffix(':1')}"
        manifest = (layout / "blobs" / entry["digest"].replace(":", "/")).read_bytes()
        for blob in [json.loads(manifest)["config"], *json.loads(manifest)["layers"]]:
            place = request("POST", f"{repository}/blobs/uploads/").getheader("Location").partition(registry.host)[2]
            content = (layout / "blobs" / blob["digest"].replace(":", "/")).read_bytes()
            request("PUT", f"{place}&digest={blob['digest']}", content)
        request("PUT", f"{repository}/manifests/1", manifest, MANIFEST)


def apart(function, *values):
    process = multiprocessing.get_context("fork").Process(target=function, args=values)
    process.start()
    process.join()
    if process.exitcode:
        raise SystemExit(f"{function.__name__} failed")


class Layout:
    """An OCI image layout in the making."""

    def __init__(self, folder):
        self.folder, self.blobs, self.entries = folder, folder / "blobs/sha256", []
        self.blobs.mkdir(parents=True)
        (folder / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')

    def blob(self, content, media_type):
        digest = hashlib.sha256(content).hexdigest()
        (self.blobs / digest).write_bytes(content)
        return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(content)}

    def image(self, name, layers, contents, history):
        diffs = [f"sha256:{hashlib.sha256(content).hexdigest()}" for content in contents]
        config = {"architecture": "amd64", "os": "linux", "config": {}, "rootfs": {"type": "layers", "diff_ids": diffs},
                  "history": history}
        config = self.blob(json.dumps(config).encode(), f"{OCI}.config.v1+json")
        manifest = {"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers}
        entry = self.blob(json.dumps(manifest).encode(), MANIFEST)
        self.entries.append(entry | {"annotations": {"org.opencontainers.image.ref.name": name}})

    def close(self):
        index = {"schemaVersion": 2, "mediaType": f"{OCI}.index.v1+json", "manifests": self.entries}
        (self.folder / "index.json").write_text(json.dumps(index))
        names = [entry["annotations"]["org.opencontainers.image.ref.name"] for entry in self.entries]
        (self.folder / "images").write_text("".join(f"oci:{self.folder}:{name}\n" for name in names))


def last_image(layout):
    """The path of its repository and the digest."""
    entry = json.loads((layout / "index.json").read_text())["manifests"][-1]
    name = entry["annotations"]["org.opencontainers.image.ref.name"]
    return name.partition("/")[2].removesuffix(":1"), entry["digest"]

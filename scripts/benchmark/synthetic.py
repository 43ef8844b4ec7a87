"""A registry whose blobs are made while they are sent, so that they may be larger than the disk: reading only."""

import contextlib
import hashlib
import http.server
import json
import multiprocessing
import random
import signal

from .measure import MANIFEST

OCI = "application/vnd.oci.image"
POOL = 32 << 20
"""What a blob repeats: random, and more than zstd looks back."""
PIECE = 1 << 20


@contextlib.contextmanager
def registry(sizes):
    """A registry with an image for each list of sizes, its layers as if gzip had made them. Gives the images' names."""
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    # A process of its own: its memory and time are no part of this one's.
    process = context.Process(target=serve, args=(theirs, sizes), daemon=True)
    process.start()
    theirs.close()
    try:
        host = ours.recv()
        yield [f"{host}/made/synthetic-{number}:1" for number in range(len(sizes))]
    finally:
        process.kill()
        process.join()


def serve(pipe, sizes):
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    pool = memoryview(random.Random(0).randbytes(POOL))
    documents, layers = {}, {}
    for image, parts in enumerate(sizes):
        described = []
        for number, size in enumerate(parts):
            layer = Layer(pool, image * 1000 + number, size)
            layers[layer.digest] = layer
            described.append({"mediaType": f"{OCI}.layer.v1.tar+gzip", "digest": layer.digest, "size": size})
        diffs = [hashlib.sha256(part["digest"].encode()).hexdigest() for part in described]
        config = {"architecture": "amd64", "os": "linux", "config": {},
                  "rootfs": {"type": "layers", "diff_ids": [f"sha256:{diff}" for diff in diffs]}}
        config = keep(documents, f"{OCI}.config.v1+json", config)
        manifest = {"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": described}
        entry = keep(documents, MANIFEST, manifest)
        documents[f"synthetic-{image}:1"] = documents[entry["digest"]]
    Handler.documents, Handler.layers = documents, layers
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    pipe.send("127.0.0.1:%d" % server.server_port)
    server.serve_forever()


def keep(documents, media_type, value):
    content = json.dumps(value).encode()
    digest = "sha256:" + hashlib.sha256(content).hexdigest()
    documents[digest] = (media_type, digest, content)
    return {"mediaType": media_type, "digest": digest, "size": len(content)}


class Layer:
    def __init__(self, pool, number, size):
        self.pool, self.size = pool, size
        self.head = b"\x1f\x8b\x08\0\0\0\0\0\0\xff" + number.to_bytes(8, "big")
        digest = hashlib.sha256()
        for piece in self.pieces():
            digest.update(piece)
        self.digest = "sha256:" + digest.hexdigest()

    def pieces(self):
        yield self.head
        left, at = self.size - len(self.head), 0
        while left:
            piece = self.pool[at:at + min(PIECE, left)]
            yield piece
            left -= len(piece)
            at = (at + PIECE) % POOL


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    documents, layers = {}, {}

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        path = self.path.partition("?")[0].removeprefix("/v2/")
        name, _, last = path.rpartition("/")
        image = name.split("/")[-2] if "/" in name else ""
        document = self.documents.get(last) or self.documents.get(f"{image}:{last}")
        if not path:
            self.answer(200, "application/json", 2, [b"{}"])
        elif last in self.layers and name.endswith("/blobs"):
            layer = self.layers[last]
            self.answer(200, "application/octet-stream", layer.size, layer.pieces())
        elif document and name.endswith(("/manifests", "/blobs")):
            media_type, digest, content = document
            self.answer(200, media_type, len(content), [content], digest)
        else:
            self.answer(404, "application/json", 2, [b"{}"])

    def answer(self, status, media_type, size, pieces, digest=None):
        self.send_response(status)
        self.send_header("Content-Type", media_type)
        self.send_header("Content-Length", str(size))
        if digest:
            self.send_header("Docker-Content-Digest", digest)
        self.end_headers()
        if self.command == "GET":
            for piece in pieces:
                self.wfile.write(piece)

    def log_message(self, *_):
        pass

# SPDX-License-Identifier: GPL-3.0-or-later
"""Fetching from a real HTTP server that answers as the hub does: pinned, verified, resumed, cancelled."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

import pytest

from tests.helpers.tiny_checkpoint import write_checkpoint
from tests.helpers.tiny_image_models import write_image_model
from trackshade.config.image_models import image_model, is_image_model_present
from trackshade.config.model_spec import ModelSpec
from trackshade.config.registry import model_folder, spec
from trackshade.core.errors import CancelledError, ModelError
from trackshade.models import download as fetching
from trackshade.models.download import Listing, downloads_of, fetch, license_text, list_files, verify
from trackshade.pipelines.loading import load_pipeline
from trackshade.pipelines.look_stills import LookPipeline

COMMIT = "0123456789abcdef0123456789abcdef01234567"
SPEC = dataclasses.replace(spec("das-cogvideox-5b"), repo="maker/model", revision=COMMIT)


class Hub(ThreadingHTTPServer):
    """Serves `files` as maker/model, and `others`, from memory.

    `cut` breaks the connection after that many bytes of a file, once.
    """

    daemon_threads = True

    def __init__(self, files: dict[str, bytes]):
        super().__init__(("127.0.0.1", 0), Answer)
        self.files = files
        self.others: dict[str, dict[str, bytes]] = {}
        self.cut: dict[str, int] = {}
        self.damaged: set[str] = set()
        self.ranges: list[tuple[str, str | None]] = []
        self.asked: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Answer(BaseHTTPRequestHandler):
    server: Hub  # pyright: ignore[reportIncompatibleVariableOverride]
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def answer(self, body: bool) -> None:
        path = unquote(self.path.split("?")[0])
        self.server.asked.append(path)
        if path.startswith("/api/models/maker/model/commits/"):
            commits = [
                {"id": commit, "title": "t", "message": "", "date": "2025-01-01T00:00:00.000Z", "authors": []}
                for commit in ("f" * 40, COMMIT)
            ]
            return self.send(200, json.dumps(commits).encode(), body, {"Content-Type": "application/json"})
        words = path.removeprefix("/api/models").split("/")
        repo = "/".join(words[1:3])
        files = self.server.files if repo == "maker/model" else self.server.others.get(repo, {})
        if path.startswith("/api/models/"):
            return self.send(200, json.dumps(self.listing(files)).encode(), body, {"Content-Type": "application/json"})
        prefix = f"/{repo}/resolve/{COMMIT}/"
        name = path.removeprefix(prefix)
        if not path.startswith(prefix) or name not in files:
            return self.send(404, b"", body, {"X-Error-Code": "EntryNotFound"})
        data = files[name]
        if name in self.server.damaged:
            data = data[:-1] + bytes([data[-1] ^ 1])
        head = {
            "ETag": f'"{hashlib.sha256(files[name]).hexdigest()}"',
            "X-Repo-Commit": COMMIT,
            "Accept-Ranges": "bytes",
        }
        asked = self.headers.get("Range")
        if body:
            self.server.ranges.append((name, asked))
        if body and asked:
            first = int(asked.removeprefix("bytes=").split("-")[0])
            head["Content-Range"] = f"bytes {first}-{len(data) - 1}/{len(data)}"
            return self.send(206, data[first:], body, head, name)
        self.send(200, data, body, head, name)

    def send(self, status: int, data: bytes, body: bool, head: dict[str, str], name: str = "") -> None:
        self.send_response(status)
        for key, value in head.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if not body:
            return
        if cut := self.server.cut.pop(name, 0):
            self.wfile.write(data[:cut])
            self.wfile.flush()
            self.close_connection = True
            self.connection.close()
            return
        self.wfile.write(data)

    def listing(self, files: dict[str, bytes]) -> dict:
        siblings = []
        for name, data in files.items():
            entry: dict = {"rfilename": name, "size": len(data)}
            if name.endswith(".safetensors"):
                entry["lfs"] = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 130}
                entry["blobId"] = "0" * 40
            else:
                entry["blobId"] = hashlib.sha1(f"blob {len(data)}\0".encode() + data).hexdigest()
            siblings.append(entry)
        return {
            "id": "maker/model",
            "_id": "1",
            "modelId": "maker/model",
            "sha": COMMIT,
            "siblings": siblings,
            "tags": [],
            "downloads": 0,
        }


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = write_checkpoint(tmp_path_factory.mktemp("repository"))
    files = {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
    }
    return files | {
        "LICENSE": b"terms",
        "transformer/model.py": b"import os",
        "vae/weights.bin": b"pickle",
        "video.mp4": b"0",
    }


@pytest.fixture
def hub(repository: dict[str, bytes], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    monkeypatch.setenv("TRACKSHADE_MODELS", str(tmp_path / "models"))
    server = Hub(dict(repository))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def list_of(model: ModelSpec, hub: Hub) -> Listing:
    (download,) = downloads_of(model)
    return list_files(download, hub.url)


def test_fetched_verified_and_loaded(hub: Hub):
    seen: list[tuple[int, int]] = []
    folder = fetch(SPEC, lambda done, total: seen.append((done, total)), endpoint=hub.url)
    assert folder == model_folder(SPEC)
    assert not folder.with_name(folder.name + ".part").exists()
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert seen[-1][0] == seen[-1][1]
    verify(folder)
    assert load_pipeline(SPEC, "cpu").transformer.config.num_tracking_blocks == 2
    assert json.loads((folder / "manifest.json").read_text())["commit"] == COMMIT


def test_a_shortened_hash_is_looked_up(hub: Hub):
    listing = list_of(dataclasses.replace(SPEC, revision=COMMIT[:7]), hub)
    assert listing.commit == COMMIT
    assert f"/api/models/maker/model/revision/{COMMIT}" in hub.asked
    with pytest.raises(ModelError, match="0 commits"):
        list_of(dataclasses.replace(SPEC, revision="abcdefa"), hub)


def test_neither_code_nor_pickles_come(hub: Hub):
    folder = fetch(SPEC, endpoint=hub.url)
    assert {path.suffix for path in folder.rglob("*") if path.is_file()} <= {
        ".json",
        ".safetensors",
        "",
        ".txt",
        ".md",
        ".model",
    }
    assert not any(name.endswith((".py", ".bin", ".mp4")) for name in hub.asked)
    assert (folder / "LICENSE").read_bytes() == b"terms"


def test_a_second_fetch_asks_nothing(hub: Hub):
    fetch(SPEC, endpoint=hub.url)
    hub.asked.clear()
    fetch(SPEC, endpoint=hub.url)
    assert hub.asked == []


def test_a_broken_connection_is_resumed_in_the_middle_of_a_file(hub: Hub):
    name = "transformer/diffusion_pytorch_model.safetensors"
    hub.cut[name] = fetching.CHUNK_SIZE + 1000
    folder = fetch(SPEC, endpoint=hub.url)
    verify(folder)
    assert [asked for n, asked in hub.ranges if n == name] == [None, f"bytes={fetching.CHUNK_SIZE}-"]


def test_a_cancelled_fetch_keeps_what_it_has(hub: Hub):
    name = "transformer/diffusion_pytorch_model.safetensors"
    progress: list[int] = []
    total = list_of(SPEC, hub).size
    before = sum(len(data) for n, data in hub.files.items() if n < name and fetching.is_allowed(n))
    with pytest.raises(CancelledError):
        fetch(
            SPEC,
            lambda done, _: progress.append(done),
            lambda: progress[-1] > before + fetching.CHUNK_SIZE,
            endpoint=hub.url,
        )
    assert before < progress[-1] < total
    assert not model_folder(SPEC).exists()
    hub.ranges.clear()
    verify(fetch(SPEC, endpoint=hub.url))
    again = dict(hub.ranges)
    assert "model_index.json" not in again  # what was whole is kept,
    assert again[name] == f"bytes={fetching.CHUNK_SIZE}-"  # and what was begun goes on


def test_a_damaged_file_is_found_and_fetched_anew(hub: Hub):
    name = "vae/diffusion_pytorch_model.safetensors"
    hub.damaged.add(name)
    with pytest.raises(ModelError, match="arrived damaged") as caught:
        fetch(SPEC, endpoint=hub.url)
    assert name in str(caught.value)
    assert not model_folder(SPEC).exists()
    hub.damaged.clear()
    verify(fetch(SPEC, endpoint=hub.url))


def test_verify_names_a_file_changed_later(hub: Hub):
    folder = fetch(SPEC, endpoint=hub.url)
    path = folder / "transformer" / "config.json"
    path.write_bytes(path.read_bytes().replace(b"1", b"2", 1))
    with pytest.raises(ModelError, match=r"config\.json"):
        verify(folder)


def test_paths_that_leave_the_folder_are_not_listed(hub: Hub):
    hub.files["../evil.json"] = b"{}"
    hub.files["/tmp/evil.json"] = b"{}"
    listed = {file.path for file in list_of(SPEC, hub).files}
    assert not any("evil" in path for path in listed)
    assert "model_index.json" in listed


def test_a_full_disk_is_said_before_anything_is_fetched(hub: Hub, monkeypatch: pytest.MonkeyPatch):
    listing = list_of(SPEC, hub)
    huge = dataclasses.replace(
        listing, files=(*listing.files, fetching.RemoteFile("x/y.safetensors", 1 << 60, None, None))
    )
    with pytest.raises(ModelError, match="GB free"):
        fetching._check_disk_space(model_folder(SPEC), huge)


def test_no_hub_is_explained(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("TRACKSHADE_MODELS", str(tmp_path))
    with pytest.raises(ModelError, match="fetch again") as caught:
        fetch(SPEC, endpoint="http://127.0.0.1:9")
    assert caught.value.code == "hub-unreachable"


def test_the_embedded_model_needs_no_fetch():
    with pytest.raises(ModelError, match="part of Trackshade"):
        fetch(spec("mini"))


def test_an_image_model_comes_from_two_repositories(hub: Hub, tmp_path: Path):
    folder = write_image_model(tmp_path / "image", "sdxl", variant="fp16")
    files = {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
    }
    control = {name.removeprefix("controlnet/"): data for name, data in files.items() if name.startswith("controlnet/")}
    full = {"unet/diffusion_pytorch_model.safetensors": b"twice the size", "vae_1_0/config.json": b"{}"}
    hub.others = {"maker/base": files | full, "maker/control": control}
    model = dataclasses.replace(
        image_model("sdxl-depth"), repo="maker/base", revision=COMMIT, controlnet=("maker/control", COMMIT)
    )
    assert not is_image_model_present(model)
    seen: list[tuple[int, int]] = []
    fetch(model, lambda done, total: seen.append((done, total)), endpoint=hub.url)
    assert is_image_model_present(model)
    assert seen[-1][0] == seen[-1][1]
    assert not {"unet/diffusion_pytorch_model.safetensors", "vae_1_0/config.json"} & {name for name, _ in hub.ranges}
    assert "maker/base and maker/control" in license_text(model)
    assert LookPipeline.load(model, device="cpu").pipe.controlnet.config["cross_attention_dim"] == 64
    with pytest.raises(ModelError, match="you download it yourself"):
        fetch(image_model("flux-depth"))


def test_the_license_is_named():
    assert SPEC.license in license_text(SPEC)
    assert SPEC.license_url in license_text(SPEC)

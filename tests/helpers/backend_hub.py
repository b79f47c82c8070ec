# SPDX-License-Identifier: GPL-3.0-or-later
"""A hub on this computer: a real HTTP server with one repository, which sends large files slowly."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from urllib.parse import unquote

COMMIT_TAIL = "0" * 33
BLOCK = 1 << 16


class Hub(ThreadingHTTPServer):
    """Serves `files` as the repository `repo` at the commit that begins with `revision`.

    `gate` holds large files back after their first half until it is set.
    """

    daemon_threads = True

    def __init__(self, repo: str, revision: str, files: dict[str, bytes]) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.repo, self.commit, self.files = repo, revision + COMMIT_TAIL, files
        self.gate = threading.Event()
        self.ranges: list[tuple[str, str | None]] = []
        self._thread = threading.Thread(target=self.serve_forever, daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def __enter__(self) -> Hub:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.gate.set()
        self.shutdown()
        self.server_close()
        self._thread.join()

    def listing(self) -> dict[str, object]:
        siblings = []
        for name, data in self.files.items():
            entry: dict[str, object] = {"rfilename": name, "size": len(data)}
            if name.endswith(".safetensors"):
                entry |= {"lfs": {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 130},
                          "blobId": "0" * 40}  # fmt: skip
            else:
                entry["blobId"] = hashlib.sha1(f"blob {len(data)}\0".encode() + data).hexdigest()
            siblings.append(entry)
        return {"id": self.repo, "_id": "1", "modelId": self.repo, "sha": self.commit, "siblings": siblings,
                "tags": [], "downloads": 0}  # fmt: skip


class _Answer(BaseHTTPRequestHandler):
    server: Hub  # pyright: ignore[reportIncompatibleVariableOverride]
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:
        """Silent."""

    def do_HEAD(self) -> None:
        self._answer(False)

    def do_GET(self) -> None:
        self._answer(True)

    def _answer(self, body: bool) -> None:
        hub, path = self.server, unquote(self.path.split("?")[0])
        if path.startswith(f"/api/models/{hub.repo}/commits/"):
            commit = {"id": hub.commit, "title": "t", "message": "", "date": "2025-01-01T00:00:00.000Z", "authors": []}
            return self._send(200, json.dumps([commit]).encode(), body, {"Content-Type": "application/json"})
        if path.startswith(f"/api/models/{hub.repo}"):
            return self._send(200, json.dumps(hub.listing()).encode(), body, {"Content-Type": "application/json"})
        name = path.removeprefix(f"/{hub.repo}/resolve/{hub.commit}/")
        if name not in hub.files:
            return self._send(404, b"", body, {"X-Error-Code": "EntryNotFound"})
        data, asked = hub.files[name], self.headers.get("Range")
        head = {"ETag": f'"{hashlib.sha256(data).hexdigest()}"', "X-Repo-Commit": hub.commit, "Accept-Ranges": "bytes"}
        if body:
            hub.ranges.append((name, asked))
        if body and asked:
            first = int(asked.removeprefix("bytes=").split("-")[0])
            head["Content-Range"] = f"bytes {first}-{len(data) - 1}/{len(data)}"
            return self._send(206, data[first:], body, head)
        return self._send(200, data, body, head)

    def _send(self, status: int, data: bytes, body: bool, head: dict[str, str]) -> None:
        self.send_response(status)
        for key, value in head.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        for start in range(0, len(data) if body else 0, BLOCK):
            if start > len(data) // 2:
                self.server.gate.wait(60)
            try:
                self.wfile.write(data[start : start + BLOCK])
            except OSError:  # nobody listens any more
                return
            time.sleep(0)

# SPDX-License-Identifier: GPL-3.0-or-later
"""Fetching a model on request: one commit, safetensors and configuration only, resumable, every file verified.

A fetched model is the folder `models_dir()/NAME`. While it is being fetched it is `NAME.part`; it gets its name
once every file has the size and the SHA-256 that the hub states, which are kept in `manifest.json` so that the
folder can be verified again.
"""

from __future__ import annotations

import fnmatch
import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import httpx2  # the HTTP library of huggingface_hub 2
from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError

from trackshade.core.atomic_files import write_bytes

from ..config.registry import ModelSpec, model_folder
from ..core.errors import CancelledError, ModelError
from ..core.text import format_size

if TYPE_CHECKING:
    from huggingface_hub import HfApi

# Never pickles (.bin, .pt, .ckpt), never code (.py).
WANTED = ("model_index.json", "*/*.json", "*/*.safetensors", "*/spiece.model", "*/*.txt", "LICENSE*", "README.md")
MANIFEST = "manifest.json"
CHUNK = 1 << 18  # bytes between two reports, and between two chances to cancel
Progress = Callable[[int, int], None]  # bytes done, bytes in all


@dataclass(frozen=True)
class RemoteFile:
    path: str  # in the repository, with /
    size: int  # bytes
    sha256: str | None  # of large files
    blob: str | None  # git blob id, of small ones


@dataclass(frozen=True)
class Listing:
    commit: str
    files: tuple[RemoteFile, ...]

    @property
    def size(self) -> int:
        return sum(file.size for file in self.files)


def licence_text(spec: ModelSpec) -> str:
    """What to show before fetching: the licence's name, where it stands, and how the weights are got."""
    terms = f"{spec.title}: {spec.licence}. Read it at {spec.licence_url}."
    return f"{terms} Weights: {spec.repo}, fetched by you from the Hugging Face hub."


def wanted(path: str) -> bool:
    """Whether a file of the repository is fetched: of a known kind, and staying in its folder."""
    stays = (
        not PurePosixPath(path).is_absolute()
        and ".." not in PurePosixPath(path).parts
        and "\\" not in path
        and ":" not in path
    )
    return stays and any(fnmatch.fnmatchcase(path, pattern) for pattern in WANTED)


def list_files(spec: ModelSpec, endpoint: str | None = None) -> Listing:
    """The files to fetch, of the spec's revision or of the commit that an earlier fetch began with. Raises
    ModelError.
    """
    from huggingface_hub import HfApi

    if spec.shipped or not spec.repo:
        raise ModelError("nothing-to-fetch", f"The model {spec.name} is part of Trackshade; there is nothing to fetch.")
    began = _begun(model_folder(spec))
    revision = began.commit if began else spec.revision
    hub = HfApi(endpoint=endpoint)
    try:
        revision = _whole_hash(hub, spec.repo, revision)
        info = hub.model_info(spec.repo, revision=revision, files_metadata=True)
    except (RepositoryNotFoundError, RevisionNotFoundError) as error:
        raise ModelError(
            "unknown-repository", f"The hub has no {spec.repo} at revision {revision}.", "Update Trackshade."
        ) from error
    except (HfHubHTTPError, httpx2.HTTPError, OSError) as error:
        raise _unreachable(error) from error
    files = []
    for item in info.siblings or []:
        if wanted(item.rfilename):
            sha256 = item.lfs.sha256 if item.lfs else None
            files.append(
                RemoteFile(item.rfilename, int(item.size or 0), sha256, item.blob_id if sha256 is None else None)
            )
    if not any(file.path == "model_index.json" for file in files) or info.sha is None:
        raise ModelError(
            "wrong-weights", f"{spec.repo} is not a pipeline in diffusers' layout.", "Choose another model."
        )
    return Listing(info.sha, tuple(sorted(files, key=lambda file: file.path)))


def _whole_hash(hub: HfApi, repo: str, revision: str) -> str:
    """The hub resolves whole hashes only; the first digits of one are looked up in the repository's history."""
    if re.fullmatch("[0-9a-f]{7,39}", revision) is None:
        return revision
    found = [item.commit_id for item in hub.list_repo_commits(repo) if item.commit_id.startswith(revision)]
    if len(found) != 1:
        raise ModelError("unknown-repository", f"{repo} has {len(found)} commits {revision}.", "Update Trackshade.")
    return found[0]


def fetch(
    spec: ModelSpec,
    progress: Progress | None = None,
    cancelled: Callable[[], bool] | None = None,
    endpoint: str | None = None,
) -> Path:
    """Fetch a model, or go on where an earlier fetch ended; returns its folder.

    `cancelled` is asked often; once it says True, Cancelled is raised and what was fetched stays for the next time.
    Raises ModelError: hub unreachable, disk full, a file that does not verify.
    """
    target = model_folder(spec)
    if (target / "model_index.json").is_file():
        verify(target, sizes_only=True)
        return target
    listing = list_files(spec, endpoint)
    part = _part(target)
    _make_room(part, listing)
    _write_manifest(part, spec, listing)
    done = 0
    for file in listing.files:
        _fetch_file(
            spec,
            listing.commit,
            file,
            part,
            endpoint,
            lambda n, base=done: _report(progress, cancelled, base + n, listing.size),
        )
        done += file.size
        if progress:
            progress(done, listing.size)
    os.replace(part, target)
    return target


def verify(folder: Path, sizes_only: bool = False) -> None:
    """Compare a fetched folder with its manifest; ModelError names the first file that differs."""
    manifest = _manifest(folder)
    if manifest is None:
        raise ModelError(
            "damaged-weights",
            f"{folder / MANIFEST} is missing or damaged.",
            "Remove the folder and fetch the model again.",
        )
    for entry in manifest["files"]:
        _check(folder, RemoteFile(**entry), sizes_only)


def _fetch_file(
    spec: ModelSpec, commit: str, file: RemoteFile, part: Path, endpoint: str | None, report: Callable[[int], None]
) -> None:
    from huggingface_hub import constants, hf_hub_url
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils import build_hf_headers

    path = part / file.path
    try:
        _check(part, file, sizes_only=False)
        return  # of an earlier fetch, and whole
    except ModelError:
        path.unlink(missing_ok=True)
    begun = path.with_name(path.name + ".begun")
    constants.DOWNLOAD_CHUNK_SIZE = CHUNK
    try:
        begun.parent.mkdir(parents=True, exist_ok=True)
        # The hub library's own download starts a file anew after a cancel; of 16 GB that would be too much.
        with begun.open("ab") as stream:
            have = stream.tell()
            if have > file.size:
                stream.truncate(have := 0)
            url = hf_hub_url(spec.repo, file.path, revision=commit, endpoint=endpoint)
            http_get(
                url,
                stream,
                resume_size=have,
                headers=build_hf_headers(),
                expected_size=file.size,
                tqdm_class=_bar(report),  # type: ignore[arg-type]
            )
        os.replace(begun, path)
    except HfHubHTTPError as error:
        raise _unreachable(error) from error
    except OSError as error:
        raise _disk_or_network(error, part) from error
    except httpx2.HTTPError as error:
        raise _unreachable(error) from error
    try:
        _check(part, file, sizes_only=False)
    except ModelError:
        path.unlink(missing_ok=True)  # so that the next fetch takes it anew
        raise


def _bar(report: Callable[[int], None]) -> type:
    """A progress bar class for huggingface_hub that reports bytes of one file instead of drawing."""
    from tqdm import tqdm

    class Bar(tqdm):
        def __init__(self, *args: Any, initial: int = 0, **kwargs: Any) -> None:
            self.got = initial  # bytes of an earlier fetch
            super().__init__(*args, **{key: kwargs[key] for key in ("total",) if key in kwargs}, disable=True)

        def update(self, n: float | None = 1) -> bool | None:
            self.got += int(n or 0)
            report(self.got)
            return None

    return Bar


def _report(progress: Progress | None, cancelled: Callable[[], bool] | None, done: int, total: int) -> None:
    if progress:
        progress(done, total)
    if cancelled and cancelled():
        raise CancelledError("cancelled", "Fetching was stopped; the next fetch goes on from here.")


def _check(folder: Path, file: RemoteFile, sizes_only: bool) -> None:
    """ModelError where the file is not what the hub states."""
    path = folder / file.path
    if not path.is_file():
        raise ModelError("damaged-weights", f"{path} is missing.", "Fetch the model again.")
    if path.stat().st_size != file.size:
        raise ModelError(
            "damaged-weights",
            f"{path} has {path.stat().st_size} bytes instead of {file.size}.",
            "Fetch the model again.",
        )
    if sizes_only:
        return
    state = hashlib.sha256() if file.sha256 else hashlib.sha1(f"blob {file.size}\0".encode())  # git's id of small files
    with path.open("rb") as stream:
        while block := stream.read(1 << 22):
            state.update(block)
    if state.hexdigest() != (file.sha256 or file.blob or state.hexdigest()):
        raise ModelError(
            "damaged-weights", f"{path} arrived damaged (its digest is not the stated one).", "Fetch the model again."
        )


def _part(target: Path) -> Path:
    return target.with_name(target.name + ".part")


def _make_room(part: Path, listing: Listing) -> None:
    try:
        part.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(part).free
    except OSError as error:
        raise ModelError(
            "unwritable",
            f"{part} cannot be made: {error.strerror}.",
            "Set TRACKSHADE_MODELS to a folder you can write.",
        ) from error
    have = sum(path.stat().st_size for path in part.rglob("*") if path.is_file())
    if free + have < listing.size:
        raise ModelError(
            "disk-full",
            f"The model needs {format_size(listing.size)} but {part.parent} has {format_size(free)} free.",
            "Make room, or set TRACKSHADE_MODELS to a larger disk.",
        )


def _write_manifest(part: Path, spec: ModelSpec, listing: Listing) -> None:
    manifest = {
        "name": spec.name,
        "repo": spec.repo,
        "commit": listing.commit,
        "licence": spec.licence,
        "licence_url": spec.licence_url,
        "files": [asdict(file) for file in listing.files],
    }
    write_bytes(part / MANIFEST, json.dumps(manifest, indent=1).encode())


def _manifest(folder: Path) -> dict[str, Any] | None:
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        return manifest if isinstance(manifest["files"], list) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _begun(target: Path) -> Listing | None:
    """The listing of a fetch that was begun and not ended: it goes on with the same commit."""
    manifest = _manifest(_part(target))
    return Listing(manifest["commit"], tuple(RemoteFile(**entry) for entry in manifest["files"])) if manifest else None


def _unreachable(error: Exception) -> ModelError:
    return ModelError(
        "hub-unreachable",
        f"The hub did not answer as it should: {error}",
        "Check the connection and fetch again; it goes on from here.",
    )


def _disk_or_network(error: OSError, part: Path) -> ModelError:
    if error.errno is not None and error.errno in (28, 122):  # ENOSPC, EDQUOT
        return ModelError(
            "disk-full", f"The disk of {part} is full.", "Make room and fetch again; it goes on from here."
        )
    return _unreachable(error)

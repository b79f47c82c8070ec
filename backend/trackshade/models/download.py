# SPDX-License-Identifier: GPL-3.0-or-later
"""Fetching of models from the Hugging Face hub: one commit, no code, no pickles, resumable, every file verified.

A fetched model is the folder `models_dir()/NAME`. While it is being fetched its folder is `NAME.part`. It gets its name
once every file has the size and the digest that the hub states; these are kept in `manifest.json`, so that the folder
can be verified again.

`huggingface_hub` lists the files and transfers them. Its `hf_hub_download` is not used, since it deletes the part of a
file that was transferred when the transfer ends early: of files of many gigabytes that would be too much.
"""

from __future__ import annotations

import errno
import fnmatch
import hashlib
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import httpx2  # the HTTP library of huggingface_hub 2
from huggingface_hub import HfApi, constants, hf_hub_url
from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError
from huggingface_hub.file_download import http_get
from huggingface_hub.utils import build_hf_headers
from tqdm import tqdm

from trackshade.core.text import format_size

from ..config.image_models import ImageModelSpec, controlnet_folder, image_model_folder
from ..config.model_spec import ModelSpec
from ..config.registry import model_folder
from ..core import folders
from ..core.errors import CancelledError, ModelError
from .checkpoint import INDEX, read_json

# Never pickles (.bin, .pt, .ckpt), never code (.py).
ALLOWED = (INDEX, "*/*.json", "*/*.safetensors", "*/spiece.model", "*/*.txt", "LICENSE*", "README.md")
_IMAGE_COMPONENTS = ("vae", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2", "unet", "scheduler")
# Half precision, which the image models are made for.
_IMAGE_MODEL = (
    *(INDEX, "LICENSE*", "README.md"),
    *(f"{name}/{kind}" for name in _IMAGE_COMPONENTS for kind in ("*.json", "*.txt", "*.fp16.safetensors")),
)
_CONTROLNET = ("config.json", "*.fp16.safetensors", "LICENSE*", "README.md")
MANIFEST = "manifest.json"
CHUNK_SIZE = 1 << 18  # bytes between two reports of progress, and between two chances to cancel
Progress = Callable[[int, int], None]  # bytes done, bytes in all


@dataclass(frozen=True)
class Download:
    """What is fetched from one repository.

    Attributes:
        spec: Model that it belongs to.
        repo: Hugging Face repository.
        revision: Commit.
        folder: Folder that the files go to.
        allowed: Patterns of the files that are fetched.
        index: File that the repository has to have, and that tells that the folder is complete.
    """

    spec: ModelSpec | ImageModelSpec
    repo: str
    revision: str
    folder: Path
    allowed: tuple[str, ...] = ALLOWED
    index: str = INDEX

    @property
    def part(self) -> Path:
        """The folder while it is being fetched."""
        return self.folder.with_name(self.folder.name + ".part")


def downloads_of(spec: ModelSpec | ImageModelSpec) -> tuple[Download, ...]:
    """Return what has to be fetched for a model; nothing if it is shipped or the user's own."""
    if isinstance(spec, ModelSpec):
        return () if spec.shipped or not spec.repo else (Download(spec, spec.repo, spec.revision, model_folder(spec)),)
    if not spec.repo:
        return ()
    return (
        Download(spec, spec.repo, spec.revision, image_model_folder(spec), _IMAGE_MODEL),
        Download(spec, *spec.controlnet, controlnet_folder(spec), _CONTROLNET, "config.json"),
    )


@dataclass(frozen=True)
class RemoteFile:
    """A file of a repository, as the hub states it.

    Attributes:
        path: Path in the repository, with /.
        size: Bytes.
        sha256: Digest of a large file, else None.
        blob: Git blob id of a small file, else None.
    """

    path: str
    size: int
    sha256: str | None
    blob: str | None

    def check(self, folder: Path, sizes_only: bool = False) -> None:
        """Raise ModelError unless the file in `folder` is the stated one."""
        path = folder / self.path
        if not path.is_file():
            raise ModelError("damaged-weights", f"{path} is missing.", "Fetch the model again.")
        size = path.stat().st_size
        if size != self.size:
            raise ModelError(
                "damaged-weights", f"{path} has {size} bytes instead of {self.size}.", "Fetch the model again."
            )
        expected = self.sha256 or self.blob
        if sizes_only or expected is None:
            return
        state = hashlib.sha256() if self.sha256 else hashlib.sha1(f"blob {size}\0".encode())  # as git does
        with path.open("rb") as stream:
            while block := stream.read(1 << 22):
                state.update(block)
        if state.hexdigest() != expected:
            raise ModelError(
                "damaged-weights",
                f"{path} arrived damaged (its digest is not the stated one).",
                "Fetch the model again.",
            )


@dataclass(frozen=True)
class Listing:
    """The files to fetch of one commit."""

    commit: str
    files: tuple[RemoteFile, ...]

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)


def license_text(spec: ModelSpec | ImageModelSpec) -> str:
    """Return what to show before fetching: the license's name and address, and where the weights come from."""
    terms = f"{spec.title}: {spec.license}. Read it at {spec.license_url}."
    if isinstance(spec, ModelSpec):
        terms += f" {spec.use}" if spec.use else ""
        terms += f" About {format_size(spec.download_bytes)}." if spec.download_bytes else ""
        if spec.source:
            return f"{terms} Weights: {spec.source}, downloaded by you."
    repos = " and ".join(item.repo for item in downloads_of(spec)) or spec.repo
    return f"{terms} Weights: {repos}, fetched by you from the Hugging Face hub."


def is_allowed(path: str, allowed: tuple[str, ...] = ALLOWED) -> bool:
    """Whether a file of a repository is fetched: it is of a known kind and stays within its folder."""
    parts = PurePosixPath(path)
    stays = not parts.is_absolute() and ".." not in parts.parts and "\\" not in path and ":" not in path
    return stays and any(fnmatch.fnmatchcase(path, pattern) for pattern in allowed)


def list_files(download: Download, endpoint: str | None = None) -> Listing:
    """List the files to fetch, of the stated revision or of the commit that an earlier fetch began with.

    Args:
        download: What is fetched.
        endpoint: Address of the hub; None for the usual one.

    Raises:
        ModelError: if the hub does not answer, or it does not know the repository.
    """
    begun = download.part / MANIFEST
    hub, revision, repo = HfApi(endpoint=endpoint), download.revision, download.repo
    try:
        revision = str(read_json(begun)["commit"]) if begun.is_file() else _full_hash(hub, repo, revision)
        info = hub.model_info(repo, revision=revision, files_metadata=True)
    except (RepositoryNotFoundError, RevisionNotFoundError) as error:
        raise ModelError(
            "unknown-repository", f"The hub has no {repo} at revision {revision}.", "Update Trackshade."
        ) from error
    except (httpx2.HTTPError, OSError) as error:
        raise _unreachable(error) from error
    files = []
    for item in info.siblings or []:
        if is_allowed(item.rfilename, download.allowed):
            sha256 = item.lfs.sha256 if item.lfs else None
            blob = None if sha256 else item.blob_id
            files.append(RemoteFile(path=item.rfilename, size=int(item.size or 0), sha256=sha256, blob=blob))
    if not any(file.path == download.index for file in files) or info.sha is None:
        raise ModelError("wrong-weights", f"{repo} is not a pipeline in diffusers' layout.", "Choose another model.")
    return Listing(info.sha, tuple(sorted(files, key=lambda file: file.path)))


def fetch(
    spec: ModelSpec | ImageModelSpec,
    progress: Progress | None = None,
    is_cancelled: Callable[[], bool] | None = None,
    endpoint: str | None = None,
) -> Path:
    """Fetch a model, or continue an earlier fetch.

    Args:
        spec: Registry entry.
        progress: Called with the bytes done and the bytes in all.
        is_cancelled: Called often; once it returns True the fetch ends. What was fetched stays for the next one.
        endpoint: Address of the hub; None for the usual one.

    Returns:
        The model's folder.

    Raises:
        ModelError: if the model is not fetched at all, the hub does not answer, the disk is full, or a file is damaged.
        CancelledError: if it was cancelled.
    """
    downloads = downloads_of(spec)
    if not downloads:
        own = isinstance(spec, ImageModelSpec) or not spec.shipped
        why = "you download it yourself" if own else "it is part of Trackshade"
        source = spec.source if isinstance(spec, ModelSpec) else ""
        raise ModelError(
            "nothing-to-fetch",
            f"There is nothing to fetch for the model {spec.name}: {why}.",
            f"Download it from {source}, then name the folder to `trackshade models add`." if source else None,
        )
    listings: list[tuple[Download, Listing]] = []
    for download in downloads:
        if (download.folder / download.index).is_file():
            verify(download.folder, sizes_only=True)
        else:
            listings.append((download, list_files(download, endpoint)))
    total = sum(listing.size for _, listing in listings)
    finished = 0  # bytes of the files before

    def report(done: int) -> None:
        if progress:
            progress(finished + done, total)
        if is_cancelled and is_cancelled():
            raise CancelledError("cancelled", "Fetching was stopped; the next fetch goes on from here.")

    for download, listing in listings:
        _check_disk_space(download.part, listing)
        manifest = {
            "name": spec.name,
            "repo": download.repo,
            "commit": listing.commit,
            "licence": spec.license,
            "licence_url": spec.license_url,
            "files": [asdict(file) for file in listing.files],
        }
        folders.write_json(download.part / MANIFEST, manifest)
        for file in listing.files:
            url = hf_hub_url(download.repo, file.path, revision=listing.commit, endpoint=endpoint)
            _fetch_file(url, file, download.part, report)
            finished += file.size
            if progress:
                progress(finished, total)
        os.replace(download.part, download.folder)
    return downloads[0].folder


def verify(folder: Path, sizes_only: bool = False) -> None:
    """Compare a fetched folder with its manifest. Raises ModelError naming the first file that differs."""
    try:
        files = [RemoteFile(**entry) for entry in read_json(folder / MANIFEST)["files"]]
    except (ModelError, KeyError, TypeError) as error:
        raise ModelError(
            "damaged-weights",
            f"{folder / MANIFEST} is missing or damaged.",
            "Remove the folder and fetch the model again.",
        ) from error
    for file in files:
        file.check(folder, sizes_only)


def _full_hash(hub: HfApi, repo: str, revision: str) -> str:
    """Look up the first digits of a commit in the repository's history, as the hub resolves full hashes only."""
    if re.fullmatch("[0-9a-f]{7,39}", revision) is None:
        return revision
    commits = [item.commit_id for item in hub.list_repo_commits(repo) if item.commit_id.startswith(revision)]
    if len(commits) != 1:
        raise ModelError("unknown-repository", f"{repo} has {len(commits)} commits {revision}.", "Update Trackshade.")
    return commits[0]


def _fetch_file(url: str, file: RemoteFile, part: Path, report: Callable[[int], None]) -> None:
    """Fetch the rest of a file, unless it is there and intact. `report` is called with the bytes that are there."""
    path = part / file.path
    try:
        file.check(part)
        return
    except ModelError:
        path.unlink(missing_ok=True)
    begun = path.with_name(path.name + ".begun")
    constants.DOWNLOAD_CHUNK_SIZE = CHUNK_SIZE
    try:
        begun.parent.mkdir(parents=True, exist_ok=True)
        with begun.open("ab") as stream:
            resume_size = stream.tell()
            if resume_size > file.size:
                stream.truncate(resume_size := 0)
            http_get(
                url,
                stream,
                resume_size=resume_size,
                headers=build_hf_headers(),
                expected_size=file.size,
                tqdm_class=_progress_bar(report),  # type: ignore[arg-type]
            )
        os.replace(begun, path)
    except (httpx2.HTTPError, OSError) as error:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise ModelError(
                "disk-full", f"The disk of {part} is full.", "Make room and fetch again; it goes on from here."
            ) from error
        raise _unreachable(error) from error
    try:
        file.check(part)
    except ModelError:
        path.unlink(missing_ok=True)  # so that the next fetch begins it anew
        raise


def _progress_bar(report: Callable[[int], None]) -> type[tqdm]:
    """Return a class of progress bars that report the bytes of one file instead of drawing them."""

    class Bar(tqdm):
        def __init__(self, *args: Any, initial: int = 0, **kwargs: Any) -> None:
            self.done = initial
            super().__init__(*args, total=kwargs.get("total"), disable=True)

        def update(self, n: float | None = 1) -> bool | None:
            self.done += int(n or 0)
            report(self.done)
            return None

    return Bar


def _check_disk_space(part: Path, listing: Listing) -> None:
    try:
        part.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(part).free
    except OSError as error:
        raise ModelError(
            "unwritable",
            f"{part} cannot be made: {error.strerror}.",
            "Set TRACKSHADE_MODELS to a folder you can write.",
        ) from error
    present = sum(path.stat().st_size for path in part.rglob("*") if path.is_file())
    if free + present < listing.size:
        raise ModelError(
            "disk-full",
            f"The model needs {format_size(listing.size)} but {part.parent} has {format_size(free)} free.",
            "Make room, or set TRACKSHADE_MODELS to a larger disk.",
        )


def _unreachable(error: Exception) -> ModelError:
    return ModelError(
        "hub-unreachable",
        f"The hub did not answer as it should: {error}",
        "Check the connection and fetch again; it goes on from here.",
    )

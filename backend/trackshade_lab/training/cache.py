# SPDX-License-Identifier: GPL-3.0-or-later
# The classes of diffusers and transformers are typed too loosely for these rules.
# pyright: reportArgumentType=false, reportAttributeAccessIssue=false
"""Clips and captions encoded once, kept as safetensors under digests of what they follow from.

latents-KEY.safetensors   KEY: of both video files and the autoencoder
    video, tracking [2C, L, h, w]   mean and standard deviation of the unscaled latents, so that every epoch may
    tracking_first  [2C, 1, h, w]   draw them anew
    first           [H, W, 3] u8    the first frame: it gets new noise every time, and is encoded then
    pixels          [T, H, W, 3] u8 the tracking video, for models that read coordinates
text-KEY.safetensors      KEY: of the caption, its length and the text encoder
    text [N, E]
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from trackshade.core.errors import UsageError

from .dataset import Entry, read_video

_ENDS = 1 << 20  # bytes at either end of a weight file that its digest reads


@dataclass(frozen=True)
class Keys:
    """Where an entry's tensors are."""

    latents: Path
    text: Path


class Cache:
    """Encoded clips in a folder, for one autoencoder and one text encoder."""

    def __init__(self, folder: Path, vae: Path, text: tuple[Path, Path], length: int, *, pixels: bool) -> None:
        """vae: the component's folder; text: those of text encoder and tokenizer; length: tokens of a caption."""
        self.folder, self.length, self.pixels = folder, length, pixels
        self._vae = folder_digest(vae)
        self._text = "".join(folder_digest(part) for part in text)
        self._files: dict[Path, str] = {}
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(
                "output-unwritable", f"The encoded clips cannot be kept in {folder}.", "Give another with --cache."
            ) from error

    def keys(self, entry: Entry) -> Keys:
        parts = [self._file(entry.video), self._file(entry.tracking), self._vae, str(self.pixels)]
        return Keys(self.folder / f"latents-{_digest(parts)}.safetensors", self.text_key(entry.prompt))

    def text_key(self, prompt: str) -> Path:
        return self.folder / f"text-{_digest([prompt, str(self.length), self._text])}.safetensors"

    def _file(self, path: Path) -> str:
        if path not in self._files:
            state = hashlib.blake2b(digest_size=16)
            with path.open("rb") as stream:
                while block := stream.read(1 << 22):
                    state.update(block)
            self._files[path] = state.hexdigest()
        return self._files[path]

    @torch.no_grad()
    def encode_clip(self, entry: Entry, vae: Any) -> None:
        """Encode both videos and keep them. Raises UsageError: they cannot be read or do not fit each other."""
        video, tracking = read_video(entry.video), read_video(entry.tracking)
        if video.shape != tracking.shape:
            raise UsageError(
                "bad-dataset",
                f"{entry.video} is {_said(video)} and {entry.tracking} {_said(tracking)}.",
                "Both must have the same frames and size.",
            )
        tensors = {
            "video": moments(vae, video),
            "tracking": moments(vae, tracking),
            "tracking_first": moments(vae, tracking[:1]),
            "first": torch.from_numpy(video[0]),
        }
        if self.pixels:
            tensors["pixels"] = torch.from_numpy(tracking)
        store(self.keys(entry).latents, tensors)

    @torch.no_grad()
    def encode_text(self, prompt: str, tokenizer: Any, text_encoder: torch.nn.Module) -> None:
        tokens = tokenizer(
            [prompt], padding="max_length", max_length=self.length, truncation=True, return_tensors="pt"
        ).input_ids
        text = text_encoder(tokens.to(next(text_encoder.parameters()).device))[0][0]
        store(self.text_key(prompt), {"text": text})


def moments(vae: Any, video: np.ndarray) -> torch.Tensor:
    """[T, H, W, 3] uint8 -> [2C, L, h, w]: mean and standard deviation of its unscaled latents."""
    unit = torch.from_numpy(np.ascontiguousarray(video)).permute(3, 0, 1, 2)[None].float() / 127.5 - 1
    found = vae.encode(unit.to(vae.device, vae.dtype)).latent_dist
    deviation = getattr(found, "std", None)
    return torch.cat([found.mean, torch.zeros_like(found.mean) if deviation is None else deviation], dim=1)[0]


def draw(moment: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """[2C, L, h, w] -> a sample [L, C, h, w], float32."""
    mean, deviation = moment.float().chunk(2)
    return (mean + deviation * torch.randn(mean.shape, generator=generator)).transpose(0, 1)


def store(path: Path, tensors: dict[str, torch.Tensor]) -> None:
    """Whole or not at all; several processes may write the same."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    save_file({key: value.contiguous().cpu() for key, value in tensors.items()}, part)
    os.replace(part, path)


def load(path: Path) -> dict[str, torch.Tensor]:
    return load_file(path)


def folder_digest(folder: Path) -> str:
    """Of a component's configuration and of the ends and sizes of its weights: quick even where they are large."""
    state = hashlib.blake2b(digest_size=16)
    for path in sorted(folder.iterdir()):
        if path.suffix == ".json":
            values = path.read_bytes()
            if path.name == "config.json":  # not the library's version, nor where it came from
                kept = {key: value for key, value in json.loads(values).items() if not key.startswith("_")}
                values = json.dumps(kept, sort_keys=True).encode()
            state.update(path.name.encode() + values)
        elif path.suffix in (".safetensors", ".model"):
            size = path.stat().st_size
            state.update(f"{path.name}{size}".encode())
            with path.open("rb") as stream:
                state.update(stream.read(_ENDS))
                stream.seek(max(0, size - _ENDS))
                state.update(stream.read(_ENDS))
    return state.hexdigest()


def _digest(parts: list[str]) -> str:
    state = hashlib.blake2b(digest_size=16)
    for part in parts:
        state.update(part.encode() + b"\0")
    return state.hexdigest()


def _said(video: np.ndarray) -> str:
    return f"{video.shape[2]}x{video.shape[1]} with {len(video)} frames"

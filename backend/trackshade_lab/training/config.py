# SPDX-License-Identifier: GPL-3.0-or-later
"""What a training run is: one frozen dataclass per kind of training, stored as JSON beside its checkpoints.

Each setting says in its own words what it is for; `arguments.py` makes the command line from them.
"""

from __future__ import annotations

import dataclasses
from dataclasses import MISSING, dataclass, field
from typing import Any

from trackshade.core.errors import UsageError

STAGES = ("joint", "base", "branch", "autoencoder")
# Settings that may change between a run's parts: they say how long and where it runs, not what it learns.
FREE = frozenset(
    (
        *("out", "data", "start", "base", "cache", "device", "threads", "minutes", "steps", "accumulate"),
        *("gradient_checkpointing", "lora_fuse", "checkpoint_minutes", "checkpoint_steps", "sheet_minutes"),
        *("sheet_steps", "sheet_clips", "log_seconds", "tensorboard"),
    )
)


def setting(text: str, group: str, default: Any = MISSING, choices: tuple[str, ...] = ()) -> Any:
    """A dataclass field with what `--help` says about it, and under which heading."""
    return field(default=default, metadata={"help": text, "group": group, "choices": choices})


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """What every kind of training has."""

    out: str = setting("folder of the run: checkpoint/, log.jsonl, sheets/, tensorboard/, export/", "run")
    data: str = setting("folder of the training data", "run")
    minutes: float | None = setting(
        "budget in minutes over all resumes; the learning rate falls to zero at its end", "run", None
    )
    steps: int | None = setting(
        "budget in optimizer steps instead; a resumed run is then the uninterrupted one, bit for bit on a CPU",
        "run",
        None,
    )
    seed: int = setting("everything that is drawn follows from it and the step's number", "run", 0)

    batch: int = setting("samples of one optimizer step, over all processes", "optimization", 6)
    accumulate: int = setting(
        "pieces in which each process takes its share of a step: less memory, the same gradients", "optimization", 1
    )
    warmup: int = setting("steps until the learning rate is at its height", "optimization", 100)
    clip_norm: float = setting("largest norm of the gradient", "optimization", 1.0)
    average: float = setting("decay of the averaged weights, which are exported; 0: none", "optimization", 0.998)

    device: str = setting("auto, cpu, cuda, cuda:N or mps; each process of a launch takes its own", "machine", "auto")
    threads: int = setting("of the CPU; 0: torch's own number", "machine", 0)
    bf16: bool = setting("products in bfloat16", "machine", True)
    gradient_checkpointing: bool = setting(
        "keep no activations inside blocks: far less memory, a third more time", "machine", False
    )

    checkpoint_minutes: float = setting("between two checkpoints", "watching", 4.0)
    checkpoint_steps: int | None = setting("besides, a checkpoint every so many steps", "watching", None)
    sheet_minutes: float = setting("between two sample sheets", "watching", 10.0)
    log_seconds: float = setting("between two log entries", "watching", 15.0)
    tensorboard: bool = setting("write tensorboard/ too", "watching", True)

    def __post_init__(self) -> None:
        if (self.minutes is None) == (self.steps is None):
            raise UsageError("bad-setting", "Training needs a budget.", "Give either --minutes or --steps.")
        for name, least in (("batch", 1), ("accumulate", 1), ("steps", 1)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise UsageError("bad-setting", f"--{name} is {value}.", f"Give {least} or more.")
        for entry in dataclasses.fields(self):
            if entry.metadata["group"] == "what is left out" or entry.name == "average":
                share = getattr(self, entry.name)
                if not 0 <= share <= 1:
                    flag = entry.name.replace("_", "-")
                    raise UsageError("bad-setting", f"--{flag} is {share}.", "Give a share between 0 and 1.")

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]):
        """Of stored values; settings that did not exist then have their defaults. Raises UsageError: unknown ones."""
        known = {entry.name for entry in dataclasses.fields(cls)}
        if unknown := sorted(set(values) - known):
            raise UsageError(
                "other-run",
                f"The run has settings that this version does not know: {', '.join(unknown)}.",
                "Use the version that began it.",
            )
        return cls(**values)


@dataclass(frozen=True, kw_only=True)
class TrainConfig(RunConfig):
    """A small model from nothing, on procedural clips: autoencoder, base and tracking branch."""

    data: str = setting("folder of shards, or of folders of them; made there where it is empty", "run")
    stage: str = setting(
        "joint: base and branch together, from scratch the better way; base: without tracks, and without "
        "what a branch of --start learned; branch: freeze all but the branch, which starts as a copy of the base in "
        "--start; autoencoder: that alone",
        "run",
        "joint",
        STAGES,
    )
    start: str | None = setting(
        "run or pipeline folder whose weights this one starts from; its tokens may have another size", "run", None
    )

    clips: int = setting("procedural clips to make", "data", 10000)
    width: int = setting("of clips that are made, pixels", "data", 144)
    height: int = setting("of clips that are made, pixels", "data", 96)
    frames: int = setting("of clips that are made", "data", 17)
    mirror: bool = setting(
        "show half of the clips mirrored, tracks too; never one whose caption names left, right or a sense of turning",
        "data",
        False,
    )
    sparse_tracks: float = setting(
        "share of the samples whose tracks are thinned to random points, drawn as small squares", "data", 0.0
    )
    terminal: float = setting(
        "share of the samples at the last noise level, where nothing is seen of the video: for sampling in few steps",
        "data",
        0.0,
    )
    one_frame: float = setting(
        "share of the steps that learn from single first frames (as many pictures as a step of clips has), "
        "by text and tracks alone",
        "data",
        0.0,
    )

    named: float = setting(
        "share of those single pictures that is drawn of clips whose caption names their main body's color, so that "
        "the text is heard sooner; 0: as they come",
        "data",
        0.0,
    )

    text_steps: int = setting(
        "optimizer steps in which the text encoder first learns by itself which word is beside which, and the order of "
        "the colors; it is then left as it is. 0: it is trained along",
        "optimization",
        0,
    )

    width_heads: int = setting("attention heads", "model", 3)
    head_dim: int = setting("width of a head", "model", 64)
    layers: int = setting("blocks", "model", 6)
    tracking_layers: int = setting("blocks of the tracking branch", "model", 3)
    token: int = setting("latent cells per side of a token", "model", 2)
    time_dim: int = setting("width of the noise level's embedding", "model", 192)
    text_dim: int = setting("width of the text encoder", "model", 64)
    text_length: int = setting("words of a caption that are read", "model", 24)
    track_correction: float = setting(
        "what a unit of output corrects where the first frame shows the surface; elsewhere it is 1", "model", 1.0
    )
    pooled_text: bool = setting("the mean of the text's vectors modulates every token", "model", False)
    patch: int = setting("pixels per side of a latent cell", "model", 4)
    latent_channels: int = setting("of the autoencoder", "model", 16)
    track_frequencies: int = setting("octaves of the track coordinates; 0: the published forward pass", "model", 6)

    autoencoder_minutes: float = setting("of the decoder's refinement", "autoencoder", 4.0)
    autoencoder_steps: int | None = setting("optimizer steps of it instead", "autoencoder", None)

    matrix_rate: float = setting("height of Muon's learning rate, for the blocks' matrices", "optimization", 1.5e-3)
    other_rate: float = setting("height of AdamW's learning rate, for the rest", "optimization", 1e-3)

    image_dropout: float = setting("share of the samples without the first frame", "what is left out", 0.05)
    text_dropout: float = setting("share of the samples without a caption", "what is left out", 0.1)
    track_dropout: float = setting("share of the samples without tracks", "what is left out", 0.1)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.stage not in STAGES:
            raise UsageError(
                "bad-setting", f"There is no training stage '{self.stage}'.", f"Choose one of {', '.join(STAGES)}."
            )
        if self.stage == "branch" and self.start is None:
            raise UsageError(
                "bad-setting", "The tracking branch alone needs a trained base.", "Give the base's run with --start."
            )
        for name in ("sparse_tracks", "terminal", "one_frame", "named"):
            if not 0 <= getattr(self, name) <= 1:
                flag = name.replace("_", "-")
                raise UsageError("bad-setting", f"--{flag} is {getattr(self, name)}.", "Give a share between 0 and 1.")


@dataclass(frozen=True, kw_only=True)
class TuneConfig(RunConfig):
    """The tracking branch of a published base, on a dataset folder (prompt.txt, videos.txt, trackings.txt).

    Defaults are the published recipe (arXiv 2501.03847, section 4.1, and the released training script).
    """

    data: str = setting("dataset folder: prompt.txt, videos.txt, trackings.txt", "run")
    base: str = setting(
        "folder of a CogVideoX image-to-video model, or of one with a tracking branch to train on; or the name of a "
        "model that is here",
        "run",
    )
    cache: str | None = setting("folder of the encoded clips; the dataset's cache/ if left out", "data", None)
    tracking_blocks: int = setting("blocks that the branch copies from a base without one", "model", 18)
    lora_rank: int = setting("rank of a LoRA on the base's attention, trained along; 0: none", "model", 0)
    lora_alpha: int | None = setting("its scale times the rank; the rank if left out", "model", None)
    lora_fuse: bool = setting("export the base with the LoRA in its weights; it lies beside them anyway", "model", True)

    steps: int | None = setting(
        "budget in optimizer steps (2000 if neither is given); a resumed run is the uninterrupted one", "run", None
    )
    batch: int = setting("samples of one optimizer step, over all processes", "optimization", 64)
    average: float = setting("decay of averaged weights, which are then exported; 0: none", "optimization", 0.0)
    rate: float = setting("height of AdamW's learning rate", "optimization", 1e-4)
    weight_decay: float = setting("of AdamW", "optimization", 1e-3)
    restarts: int = setting("cosines that the learning rate goes through", "optimization", 1)
    image_noise: float = setting("mean of the logarithm of the noise on the first frame", "data", -3.0)
    image_noise_spread: float = setting("its standard deviation; below 0: no noise", "data", 0.5)

    image_dropout: float = setting("share of the samples without the first frame", "what is left out", 0.05)
    text_dropout: float = setting("share of the samples without a caption", "what is left out", 0.0)
    track_dropout: float = setting("share of the samples without tracks", "what is left out", 0.0)

    checkpoint_minutes: float = setting("between two checkpoints", "watching", 15.0)
    sheet_minutes: float = setting("between two sample sheets", "watching", 60.0)
    sheet_steps: int = setting("denoising steps of the sample sheet", "watching", 20)
    sheet_clips: int = setting("clips on the sample sheet, the dataset's first; 0: no sheets", "watching", 1)

    def __post_init__(self) -> None:
        if self.minutes is None and self.steps is None:
            object.__setattr__(self, "steps", 2000)
        super().__post_init__()
        if self.restarts < 1:
            raise UsageError("bad-setting", f"--restarts is {self.restarts}.", "Give 1 or more.")

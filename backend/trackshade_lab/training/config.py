# SPDX-License-Identifier: GPL-3.0-or-later
# accelerate's names are not marked as exported.
# pyright: reportPrivateImportUsage=false
"""Settings of a training run: one frozen dataclass per kind of training, stored as config.json in the run's folder.

The command line (`__main__.py`) is generated from the fields and their help texts.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import MISSING, dataclass, field
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from trackshade.core.errors import UsageError

STAGES = ("joint", "base", "branch", "autoencoder")
# Settings that may change when a run is resumed: they affect how long and where it runs, not what it learns.
_CHANGEABLE = frozenset(
    (
        *("out", "data", "initialize_from", "base", "cache", "device", "threads", "minutes", "steps"),
        *("gradient_accumulation_steps", "gradient_checkpointing", "lora_fuse", "checkpoint_minutes"),
        *("checkpoint_steps", "validation_minutes", "validation_inference_steps", "validation_clips"),
        *("log_seconds", "tensorboard"),
    )
)


def setting(text: str, group: str, default: Any = MISSING, choices: tuple[str, ...] = (), old: str = "") -> Any:
    """Declare a dataclass field with its command-line documentation.

    Args:
        text: Help text.
        group: Heading under which `--help` lists the option.
        default: Default value; without one the option is required.
        choices: Accepted values, if there are only a few.
        old: Earlier name, still accepted as an option and in stored configurations.
    """
    return field(default=default, metadata={"help": text, "group": group, "choices": choices, "old": old})


def _with_default(cls: type, name: str, default: Any) -> Any:
    """Declare a setting of a base class with another default value."""
    return field(default=default, metadata=cls.__dataclass_fields__[name].metadata)  # type: ignore[attr-defined]


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Settings that every kind of training has."""

    out: str = setting("Folder of the run: checkpoint/, log.jsonl, sheets/, tensorboard/, export/.", "run")
    data: str = setting("Folder of the training data.", "run")
    minutes: float | None = setting(
        "Training budget in minutes, over all resumes. The learning rate decays to zero at its end.", "run", None
    )
    steps: int | None = setting(
        "Training budget in optimizer steps (with --base 2000 if no budget is given). A resumed run is bit for bit the "
        "uninterrupted one on a CPU.",
        "run",
        None,
    )
    seed: int = setting("Random seed. All random draws follow from it and the step number.", "run", 0)

    batch_size: int = setting("Samples per optimizer step, over all processes.", "optimization", 6, old="batch")
    gradient_accumulation_steps: int = setting(
        "Number of forward and backward passes in which each process computes its part of a batch. "
        "Saves memory; the gradients stay the same.",
        "optimization",
        1,
        old="accumulate",
    )
    warmup_steps: int = setting("Steps of linear learning-rate warm-up.", "optimization", 100, old="warmup")
    max_grad_norm: float = setting("Norm at which gradients are clipped.", "optimization", 1.0, old="clip_norm")
    ema_decay: float = setting(
        "Decay of the exponential moving average (EMA) of the weights, which is exported. 0 turns it off.",
        "optimization",
        0.998,
        old="average",
    )

    image_dropout: float = setting("Fraction of samples without the first frame.", "conditioning dropout", 0.05)
    text_dropout: float = setting("Fraction of samples without the caption.", "conditioning dropout", 0.1)
    track_dropout: float = setting("Fraction of samples without tracks.", "conditioning dropout", 0.1)

    device: str = setting("Device: auto, cpu, cuda, cuda:N or mps. Each process of a launch uses its own.", "hardware",
                          "auto")  # fmt: skip
    threads: int = setting("Number of CPU threads. 0 uses torch's default.", "hardware", 0)
    bf16: bool = setting("Run the forward pass in bfloat16 mixed precision.", "hardware", True)
    gradient_checkpointing: bool = setting(
        "Recompute activations in the backward pass: far less memory, about a third slower.", "hardware", False
    )

    checkpoint_minutes: float = setting("Minutes between checkpoints.", "logging", 4.0)
    checkpoint_steps: int | None = setting("Also save a checkpoint every N optimizer steps.", "logging", None)
    validation_minutes: float = setting("Minutes between validation samples.", "logging", 10.0, old="sheet_minutes")
    log_seconds: float = setting("Seconds between log entries.", "logging", 15.0)
    tensorboard: bool = setting("Also write TensorBoard logs.", "logging", True)

    def __post_init__(self) -> None:
        if (self.minutes is None) == (self.steps is None):
            raise UsageError("bad-setting", "Training needs a budget.", "Give either --minutes or --steps.")
        for name in ("batch_size", "gradient_accumulation_steps", "steps"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UsageError("bad-setting", f"--{name.replace('_', '-')} is {value}.", "Give 1 or more.")
        for entry in dataclasses.fields(self):
            if entry.name.endswith(("_dropout", "_fraction")) or entry.name == "ema_decay":
                value = getattr(self, entry.name)
                if not 0 <= value <= 1:
                    flag = entry.name.replace("_", "-")
                    raise UsageError("bad-setting", f"--{flag} is {value}.", "Give a number between 0 and 1.")

    @classmethod
    def from_dict(cls, values: dict[str, Any]):
        """Build a configuration from stored values.

        Settings that did not exist when they were stored get their defaults; earlier names are translated.

        Raises:
            UsageError: for settings that this version does not have.
        """
        renamed = {entry.metadata["old"]: entry.name for entry in dataclasses.fields(cls) if entry.metadata["old"]}
        values = {renamed.get(name, name): value for name, value in values.items()}
        if unknown := sorted(set(values) - {entry.name for entry in dataclasses.fields(cls)}):
            raise UsageError(
                "other-run",
                f"The run has settings that this version does not know: {', '.join(unknown)}.",
                "Use the version that began it.",
            )
        return cls(**values)


@dataclass(frozen=True, kw_only=True)
class FromScratchConfig(RunConfig):
    """Training of a small model from scratch on procedural clips: autoencoder, base and tracking branch."""

    data: str = setting(
        "Folder of shards, or of such folders. If it holds none, procedural clips are generated there.", "run"
    )
    stage: str = setting(
        "joint: train base and branch together (best from scratch). base: train without tracks. branch: train only the "
        "tracking branch, which starts as a copy of the base given by --start. autoencoder: train only the "
        "autoencoder.",
        "run",
        "joint",
        STAGES,
    )
    initialize_from: str | None = setting(
        "Run or pipeline folder whose weights are the initial values. Its token size may differ.",
        "run",
        None,
        old="start",
    )

    num_clips: int = setting("Number of procedural clips to generate.", "data", 10000, old="clips")
    width: int = setting("Width of generated clips, in pixels.", "data", 144)
    height: int = setting("Height of generated clips, in pixels.", "data", 96)
    num_frames: int = setting("Frames of a generated clip.", "data", 17, old="frames")
    mirror: bool = setting(
        "Mirror half of the clips left to right, tracks included, except where the caption names a side or a sense of "
        "rotation.",
        "data",
        False,
    )
    sparse_tracks_fraction: float = setting(
        "Fraction of samples whose tracks are thinned to random points, drawn as small squares.",
        "data",
        0.0,
        old="sparse_tracks",
    )
    terminal_fraction: float = setting(
        "Fraction of samples trained at the last timestep (pure noise). Helps sampling in few steps.",
        "data",
        0.0,
        old="terminal",
    )
    one_frame_fraction: float = setting(
        "Fraction of steps that train on single first frames from text and tracks alone, as many images as a step of "
        "clips has frames.",
        "data",
        0.0,
        old="one_frame",
    )
    named_color_fraction: float = setting(
        "Fraction of those single frames drawn from clips whose caption names the main object's color.",
        "data",
        0.0,
        old="named",
    )

    text_pretraining_steps: int = setting(
        "Optimizer steps in which the text encoder is trained alone on word neighbors and the order of colors; it is "
        "frozen afterwards. 0 trains it with the transformer.",
        "optimization",
        0,
        old="text_steps",
    )

    num_attention_heads: int = setting("Attention heads.", "model", 3, old="width_heads")
    attention_head_dim: int = setting("Channels of an attention head.", "model", 64, old="head_dim")
    num_layers: int = setting("Transformer blocks.", "model", 6, old="layers")
    num_tracking_blocks: int = setting("Blocks of the tracking branch.", "model", 3, old="tracking_layers")
    token_size: int = setting("Side of a transformer token, in latent cells.", "model", 2, old="token")
    time_embed_dim: int = setting("Channels of the timestep embedding.", "model", 192, old="time_dim")
    text_embed_dim: int = setting("Channels of the text encoder.", "model", 64, old="text_dim")
    max_text_length: int = setting("Tokens of a caption that are used.", "model", 24, old="text_length")
    track_correction: float = setting(
        "Scale of the transformer's output where the warped first frame shows the surface; elsewhere it is 1.",
        "model",
        1.0,
    )
    pooled_text: bool = setting("Add the mean text embedding to the timestep embedding.", "model", False)
    autoencoder_patch_size: int = setting("Side of a latent cell, in pixels.", "model", 4, old="patch")
    latent_channels: int = setting("Channels of the latents.", "model", 16)
    track_frequencies: int = setting(
        "Octaves of the track coordinates' positional encoding. 0 is the published forward pass.", "model", 6
    )

    autoencoder_minutes: float = setting("Minutes of training the decoder's refiner.", "autoencoder", 4.0)
    autoencoder_steps: int | None = setting("Optimizer steps instead of minutes.", "autoencoder", None)

    muon_learning_rate: float = setting(
        "Peak learning rate of Muon, for the matrices of the blocks.", "optimization", 1.5e-3, old="matrix_rate"
    )
    adamw_learning_rate: float = setting(
        "Peak learning rate of AdamW, for all other parameters.", "optimization", 1e-3, old="other_rate"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.stage not in STAGES:
            raise UsageError(
                "bad-setting", f"There is no training stage '{self.stage}'.", f"Choose one of {', '.join(STAGES)}."
            )
        if self.stage == "branch" and self.initialize_from is None:
            raise UsageError(
                "bad-setting", "The tracking branch alone needs a trained base.", "Give the base's run with --start."
            )


@dataclass(frozen=True, kw_only=True)
class FineTuningConfig(RunConfig):
    """Training of the tracking branch of a published base on a dataset folder.

    The defaults are the published recipe (arXiv 2501.03847, section 4.1, and the released training script).
    """

    data: str = setting("Dataset folder with prompt.txt, videos.txt and trackings.txt.", "run")
    base: str = setting(
        "Folder of a CogVideoX image-to-video model, with or without a tracking branch, or the name of an installed "
        "model.",
        "run",
    )
    cache: str | None = setting("Folder of the encoded clips; default: cache/ in the dataset.", "data", None)
    num_tracking_blocks: int = setting(
        "Blocks that the branch copies from a base without one.", "model", 18, old="tracking_blocks"
    )
    lora_rank: int = setting("Rank of a LoRA on the base's attention. 0 trains none.", "model", 0)
    lora_alpha: int | None = setting("Alpha of the LoRA; default: its rank.", "model", None)
    lora_fuse: bool = setting("Fuse the LoRA into the exported weights. lora/ holds it in any case.", "model", True)

    batch_size: int = _with_default(RunConfig, "batch_size", 64)
    ema_decay: float = _with_default(RunConfig, "ema_decay", 0.0)
    learning_rate: float = setting("Peak learning rate of AdamW.", "optimization", 1e-4, old="rate")
    weight_decay: float = setting("Weight decay of AdamW.", "optimization", 1e-3)
    num_cycles: int = setting("Cycles of the cosine learning-rate schedule.", "optimization", 1, old="restarts")
    image_noise_log_mean: float = setting(
        "Mean of the logarithm of the noise's standard deviation on the first frame.", "data", -3.0, old="image_noise"
    )
    image_noise_log_std: float = setting(
        "Standard deviation of that logarithm. A negative value adds no noise.", "data", 0.5, old="image_noise_spread"
    )

    text_dropout: float = _with_default(RunConfig, "text_dropout", 0.0)
    track_dropout: float = _with_default(RunConfig, "track_dropout", 0.0)

    checkpoint_minutes: float = _with_default(RunConfig, "checkpoint_minutes", 15.0)
    validation_minutes: float = _with_default(RunConfig, "validation_minutes", 60.0)
    validation_inference_steps: int = setting(
        "Denoising steps of the validation samples.", "logging", 20, old="sheet_steps"
    )
    validation_clips: int = setting(
        "Clips to generate as validation samples, the first of the dataset. 0 generates none.",
        "logging",
        1,
        old="sheet_clips",
    )

    def __post_init__(self) -> None:
        if self.minutes is None and self.steps is None:
            object.__setattr__(self, "steps", 2000)
        super().__post_init__()
        if self.num_cycles < 1:
            raise UsageError("bad-setting", f"--num-cycles is {self.num_cycles}.", "Give 1 or more.")


def lock_run_directory(out: Path, config: RunConfig, accelerator: Accelerator) -> None:
    """Store the configuration in the run's folder, so that no run with other settings continues there.

    Raises:
        UsageError: if the folder holds another run, or cannot be written.
    """
    path = out / "config.json"
    if path.exists():
        stored = read_config(out)
        if type(stored) is not type(config):
            different = ["another kind of training"]
        else:
            names = (entry.name for entry in dataclasses.fields(config) if entry.name not in _CHANGEABLE)
            different = [name for name in names if getattr(stored, name) != getattr(config, name)]
        if different:
            raise UsageError(
                "other-run",
                f"{out} holds a run with other settings ({', '.join(different)}).",
                "Choose another folder with --out.",
            )
    accelerator.wait_for_everyone()  # every process compares before the main process writes
    if accelerator.is_main_process:
        try:
            out.mkdir(parents=True, exist_ok=True)
            part = path.with_suffix(".part")
            part.write_text(json.dumps(dataclasses.asdict(config), indent=1), encoding="utf-8")
            part.replace(path)
        except OSError as error:
            raise UsageError(
                "output-unwritable",
                f"The run cannot be written to {out}: {error.strerror or error}.",
                "Choose a folder that can be written with --out.",
            ) from error


def read_config(out: Path) -> RunConfig:
    """Read the configuration of the run in a folder.

    Raises:
        UsageError: if there is none, or it cannot be read.
    """
    try:
        values: dict[str, Any] = json.loads((out / "config.json").read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UsageError("no-run", f"There is no run in {out}.", "Name the folder that was given as --out.") from error
    except (OSError, ValueError) as error:
        raise UsageError("damaged-run", f"{out / 'config.json'} cannot be read: {error}.") from error
    return (FineTuningConfig if "base" in values else FromScratchConfig).from_dict(values)

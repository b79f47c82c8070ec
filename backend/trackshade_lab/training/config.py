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
from functools import partial
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from trackshade.core.atomic_files import write_bytes
from trackshade.core.errors import UsageError

STAGES = ("joint", "base", "branch", "autoencoder")
# Settings that may change when a run is resumed: they affect how long and where it runs, not what it learns.
_CHANGEABLE = frozenset(
    (
        *("out", "data", "initialize_from", "base", "cache", "device", "threads", "minutes", "steps"),
        *("generator_minutes", "generator_steps", "baselines"),
        *("gradient_accumulation_steps", "gradient_checkpointing", "lora_fuse", "checkpoint_minutes"),
        *("checkpoint_steps", "validation_minutes", "validation_inference_steps", "validation_clips"),
        *("log_seconds", "tensorboard"),
    )
)


def setting(group: str, text: str, default: Any = MISSING, old: str = "", choices: tuple[str, ...] = ()) -> Any:
    """Declare a dataclass field with its help text, and the group of options under which `--help` lists it.

    A field without a default value is required. `old` is an earlier name, still accepted as an option and in stored
    configurations; `choices` are the accepted values, if there are only a few.
    """
    return field(default=default, metadata={"help": text, "group": group, "choices": choices, "old": old})


_run, _data, _model = partial(setting, "run"), partial(setting, "data"), partial(setting, "model")
_autoencoder, _optimization = partial(setting, "autoencoder"), partial(setting, "optimization")
_dropout = partial(setting, "conditioning dropout")
_hardware, _logging = partial(setting, "hardware"), partial(setting, "logging")


def _with_default(name: str, default: Any) -> Any:
    """Declare a setting of `RunConfig` with another default value."""
    return field(default=default, metadata=RunConfig.__dataclass_fields__[name].metadata)


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Settings that every kind of training has."""

    out: str = _run("Folder of the run: checkpoint/, log.jsonl, sheets/, tensorboard/, export/.")
    data: str = _run("Folder of the training data.")
    minutes: float | None = _run(
        "Training budget in minutes, over all resumes. The learning rate decays to zero at its end.", None
    )
    steps: int | None = _run(
        "Training budget in optimizer steps (with --base 2000 if no budget is given). A resumed run is bit for bit "
        "the uninterrupted one on a CPU.",
        None,
    )
    seed: int = _run("Random seed. All random draws follow from it and the step number.", 0)

    batch_size: int = _optimization("Samples per optimizer step, over all processes.", 6, old="batch")
    gradient_accumulation_steps: int = _optimization(
        "Number of forward and backward passes in which each process computes its part of a batch. Saves memory; the "
        "gradients stay the same.",
        1,
        old="accumulate",
    )
    warmup_steps: int = _optimization("Steps of linear learning-rate warm-up.", 100, old="warmup")
    max_grad_norm: float = _optimization("Norm at which gradients are clipped.", 1.0, old="clip_norm")
    ema_decay: float = _optimization(
        "Decay of the exponential moving average (EMA) of the weights, which is exported. 0 turns it off.",
        0.998,
        old="average",
    )

    image_dropout: float = _dropout("Fraction of samples without the first frame.", 0.05)
    text_dropout: float = _dropout("Fraction of samples without the caption.", 0.1)
    track_dropout: float = _dropout("Fraction of samples without tracks.", 0.1)

    device: str = _hardware("Device: auto, cpu, cuda, cuda:N or mps. Each process of a launch uses its own.", "auto")
    threads: int = _hardware("Number of CPU threads. 0 uses torch's default.", 0)
    bf16: bool = _hardware(
        "Run the forward pass in bfloat16 mixed precision, unless a CPU has no instructions for it.", True
    )
    gradient_checkpointing: bool = _hardware(
        "Recompute activations in the backward pass: far less memory, about a third slower.", False
    )

    checkpoint_minutes: float = _logging("Minutes between checkpoints.", 4.0)
    checkpoint_steps: int | None = _logging("Also save a checkpoint every N optimizer steps.", None)
    validation_minutes: float = _logging("Minutes between validation samples.", 10.0, old="sheet_minutes")
    log_seconds: float = _logging("Seconds between log entries.", 15.0)
    tensorboard: bool = _logging("Also write TensorBoard logs.", True)

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

        Raise UsageError for settings that this version does not have.
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

    data: str = _run("Folder of shards, or of such folders. If it holds none, procedural clips are generated there.")
    stage: str = _run(
        "joint: train base and branch together (best from scratch). base: train without tracks. branch: train only "
        "the tracking branch, which starts as a copy of the base given by --start. autoencoder: train only the "
        "autoencoder.",
        "joint",
        choices=STAGES,
    )
    initialize_from: str | None = _run(
        "Run or pipeline folder whose weights are the initial values. Its token size may differ.", None, old="start"
    )

    num_clips: int = _data("Number of procedural clips to generate.", 10000, old="clips")
    width: int = _data("Width of generated clips, in pixels.", 144)
    height: int = _data("Height of generated clips, in pixels.", 96)
    num_frames: int = _data("Frames of a generated clip.", 17, old="frames")
    mirror: bool = _data(
        "Mirror half of the clips left to right, tracks included, except where the caption names a side or a sense of "
        "rotation.",
        False,
    )
    sparse_tracks_fraction: float = _data(
        "Fraction of samples whose tracks are thinned to random points, drawn as small squares.",
        0.0,
        old="sparse_tracks",
    )
    terminal_fraction: float = _data(
        "Fraction of samples trained at the last timestep (pure noise). Helps sampling in few steps.",
        0.0,
        old="terminal",
    )
    one_frame_fraction: float = _data(
        "Fraction of steps that train on single first frames from text and tracks alone, as many images as a step of "
        "clips has frames.",
        0.0,
        old="one_frame",
    )
    named_color_fraction: float = _data(
        "Fraction of those single frames drawn from clips whose caption names the main object's color.",
        0.0,
        old="named",
    )

    text_pretraining_steps: int = _optimization(
        "Optimizer steps in which the text encoder is trained alone on word neighbors and the order of colors; it is "
        "frozen afterwards. 0 trains it with the transformer.",
        0,
        old="text_steps",
    )

    num_attention_heads: int = _model("Attention heads.", 3, old="width_heads")
    attention_head_dim: int = _model("Channels of an attention head.", 64, old="head_dim")
    num_layers: int = _model("Transformer blocks.", 6, old="layers")
    num_tracking_blocks: int = _model("Blocks of the tracking branch.", 3, old="tracking_layers")
    token_size: int = _model("Side of a transformer token, in latent cells.", 2, old="token")
    time_embed_dim: int = _model("Channels of the timestep embedding.", 192, old="time_dim")
    text_embed_dim: int = _model("Channels of the text encoder.", 64, old="text_dim")
    max_text_length: int = _model("Tokens of a caption that are used.", 24, old="text_length")
    track_correction: float = _model(
        "Scale of the transformer's output where the warped first frame shows the surface; elsewhere it is 1.", 1.0
    )
    pooled_text: bool = _model("Add the mean text embedding to the timestep embedding.", False)
    autoencoder_patch_size: int = _model("Side of a latent cell, in pixels.", 4, old="patch")
    latent_channels: int = _model("Channels of the latents.", 16)
    track_frequencies: int = _model(
        "Octaves of the track coordinates' positional encoding. 0 is the published forward pass.", 6
    )

    autoencoder_minutes: float = _autoencoder("Minutes of training the decoder's refiner.", 4.0)
    autoencoder_steps: int | None = _autoencoder("Optimizer steps instead of minutes.", None)

    muon_learning_rate: float = _optimization(
        "Peak learning rate of Muon, for the matrices of the blocks.", 0.0015, old="matrix_rate"
    )
    adamw_learning_rate: float = _optimization(
        "Peak learning rate of AdamW, for all other parameters.", 0.001, old="other_rate"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.stage not in STAGES:
            fix = f"Choose one of {', '.join(STAGES)}."
            raise UsageError("bad-setting", f"There is no training stage '{self.stage}'.", fix)
        if self.stage == "branch" and self.initialize_from is None:
            fix = "Give the base's run with --start."
            raise UsageError("bad-setting", "The tracking branch alone needs a trained base.", fix)


@dataclass(frozen=True, kw_only=True)
class FineTuningConfig(RunConfig):
    """Training of the tracking branch of a published base on a dataset folder.

    The defaults are the published recipe (arXiv 2501.03847, section 4.1, and the released training script).
    """

    data: str = _run("Dataset folder with prompt.txt, videos.txt and trackings.txt.")
    base: str = _run(
        "Folder of a CogVideoX image-to-video model, with or without a tracking branch, or the name of an installed "
        "model."
    )
    cache: str | None = _data("Folder of the encoded clips; default: cache/ in the dataset.", None)
    num_tracking_blocks: int = _model(
        "Blocks that the branch copies from a base without one.", 18, old="tracking_blocks"
    )
    lora_rank: int = _model("Rank of a LoRA on the base's attention. 0 trains none.", 0)
    lora_alpha: int | None = _model("Alpha of the LoRA; default: its rank.", None)
    lora_fuse: bool = _model("Fuse the LoRA into the exported weights. lora/ holds it in any case.", True)

    batch_size: int = _with_default("batch_size", 64)
    ema_decay: float = _with_default("ema_decay", 0.0)
    learning_rate: float = _optimization("Peak learning rate of AdamW.", 0.0001, old="rate")
    weight_decay: float = _optimization("Weight decay of AdamW.", 0.001)
    num_cycles: int = _optimization("Cycles of the cosine learning-rate schedule.", 1, old="restarts")
    image_noise_log_mean: float = _data(
        "Mean of the logarithm of the noise's standard deviation on the first frame.", -3.0, old="image_noise"
    )
    image_noise_log_std: float = _data(
        "Standard deviation of that logarithm. A negative value adds no noise.", 0.5, old="image_noise_spread"
    )

    text_dropout: float = _with_default("text_dropout", 0.0)
    track_dropout: float = _with_default("track_dropout", 0.0)

    checkpoint_minutes: float = _with_default("checkpoint_minutes", 15.0)
    validation_minutes: float = _with_default("validation_minutes", 60.0)
    validation_inference_steps: int = _logging("Denoising steps of the validation samples.", 20, old="sheet_steps")
    validation_clips: int = _logging(
        "Clips to generate as validation samples, the first of the dataset. 0 generates none.", 1, old="sheet_clips"
    )

    def __post_init__(self) -> None:
        if self.minutes is None and self.steps is None:
            object.__setattr__(self, "steps", 2000)
        super().__post_init__()
        if self.num_cycles < 1:
            raise UsageError("bad-setting", f"--num-cycles is {self.num_cycles}.", "Give 1 or more.")


@dataclass(frozen=True, kw_only=True)
class MultiviewConfig(RunConfig):
    """Training of `mini-matrix` on rows and columns of generated scenes with several cameras."""

    data: str = _run("Not used: every step renders its own scenes.", "")
    initialize_from: str = _run(
        "Folder or name of the model whose weights are the initial values: a warp-guided one, or the folder of an "
        "earlier run's export.",
        "mini",
    )

    width: int = _data("Width of the cells, in pixels.", 144)
    height: int = _data("Height of the cells, in pixels.", 96)
    num_views: int = _data("Cameras of a scene.", 5)
    num_frames: int = _data("Frames of a scene.", 9)
    least_span: float = _data("Least angle between the first camera and the last, in degrees.", 60.0)
    greatest_span: float = _data("Greatest angle between the first camera and the last, in degrees.", 150.0)
    first_seed: int = _data("Seed of the first scene; each step uses the next ones.", 0)
    rows: int = _data("Rows (videos at a fixed camera) of each scene of a step.", 1)
    columns: int = _data("Columns (sweeps at a frozen time) of each scene of a step.", 2)
    single_frames: int = _data("Single pictures of each scene of a step.", 1)
    repeats: int = _data("Consecutive steps that have the same clips, with other noise at other levels.", 3)
    terminal_fraction: float = _data("Fraction of the clips that are trained on noise alone.", 0.25)

    batch_size: int = _with_default("batch_size", 1)
    warmup_steps: int = _with_default("warmup_steps", 50)
    ema_decay: float = _with_default("ema_decay", 0.995)
    muon_learning_rate: float = _optimization("Peak learning rate of Muon, for the matrices of the blocks.", 0.0006)
    adamw_learning_rate: float = _optimization("Peak learning rate of AdamW, for all other parameters.", 0.0004)


@dataclass(frozen=True, kw_only=True)
class MotionConfig(RunConfig):
    """Training of `mini-motion` on generated figures: motion tokens first, without the generator, then the generator.

    The budget (`minutes` or `steps`) is that of the tokens; the generator has one of its own.
    """

    data: str = _run("Not used: every step generates its own clips.", "")
    generator_minutes: float | None = _run(
        "Training budget of the generator in minutes. Without one, tokens alone are trained.", None
    )
    generator_steps: int | None = _run("Training budget of the generator in optimizer steps.", None)
    baselines: str | None = _run(
        "Run with --sources baselines. The generator is then trained on its sources as well, for comparisons.", None
    )
    sources: str = _run(
        "tokens: encoder and generator. baselines: no motion, true rotations and exact 2D joints in place of the "
        "encoder, without generator.",
        "tokens",
        choices=("tokens", "baselines"),
    )

    cross_view_fraction: float = _data("Fraction of clips driven from another azimuth than the target's.", 0.9)
    cross_view: bool = _data("Whether clips are ever driven from another view (false: an ablation).", True)
    single_view_steps: int = _data("First steps without clips that are driven from another view.", 600)
    hands_fraction: float = _data("Fraction of clips with crops of hands. 0: an encoder without hands.", 0.8)
    stylized_fraction: float = _data(
        "Fraction of driving figures with the proportions of children, toys or robots.", 0.15
    )
    skeletons: bool = _data("Driving frames are pictures of exact 2D skeletons (an ablation).", False)
    motions: str | None = _data("Folder of BVH files from which a part of the motions is taken.", None)
    motions_fraction: float = _data("Fraction of motions from BVH files, if there are any.", 0.5)
    characters: tuple[str, ...] | None = _data(
        "Files of 'trackshade character', or folders of them: characters that are a part of the figures.", None
    )
    characters_fraction: float = _data("Fraction of figures that are characters, if there are any.", 0.3)
    geometry: bool = _optimization("Supervise joint rotations (false: an ablation).", True)
    layout: bool = _optimization("Supervise where landmarks are in the driving frames (false: an ablation).", True)

    token_dim: int = _model("Width of motion tokens.", 128)
    body_tokens: int = _model("Motion tokens about the body, in each frame.", 5)
    encoder_layers: int = _model("Transformer blocks of the body's encoder.", 2)
    encoder_channels: int = _model("Channels of the heat maps from which the body's encoder reads.", 64)
    motion_channels: bool = _model(
        "The generator gets motion tokens along the channels of its own tokens, not by cross-attention (an ablation).",
        False,
    )
    num_attention_heads: int = _model("Attention heads of the generator.", 3)
    attention_head_dim: int = _model("Channels of an attention head.", 64)
    num_layers: int = _model("Transformer blocks of the generator.", 4)
    latent_channels: int = _model("Channels of the latents.", 32)
    generator_batch_size: int = _optimization("Clips per optimizer step of the generator.", 6)
    generator_learning_rate: float = _optimization(
        "Peak learning rates of the generator, as a factor of those of the tokens.", 0.5
    )
    terminal_fraction: float = _data("Fraction of clips that the generator is trained on from noise alone.", 0.7)

    batch_size: int = _with_default("batch_size", 64)
    warmup_steps: int = _with_default("warmup_steps", 50)
    ema_decay: float = _with_default("ema_decay", 0.998)
    muon_learning_rate: float = _optimization("Peak learning rate of Muon, for the matrices of the blocks.", 0.004)
    adamw_learning_rate: float = _optimization("Peak learning rate of AdamW, for all other parameters.", 0.002)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.characters is not None:  # a list in stored configurations
            object.__setattr__(self, "characters", tuple(self.characters))


def lock_run_directory(out: Path, config: RunConfig, accelerator: Accelerator) -> None:
    """Store the configuration in the run's folder, so that no run with other settings continues there.

    Raise UsageError if the folder holds another run, or cannot be written.
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
            fix = "Choose another folder with --out."
            raise UsageError("other-run", f"{out} holds a run with other settings ({', '.join(different)}).", fix)
    accelerator.wait_for_everyone()  # every process compares before the main process writes
    if accelerator.is_main_process:
        try:
            write_bytes(path, json.dumps(dataclasses.asdict(config), indent=1).encode())
        except OSError as error:
            raise UsageError(
                "output-unwritable",
                f"The run cannot be written to {out}: {error.strerror or error}.",
                "Choose a folder that can be written with --out.",
            ) from error


def read_config(out: Path) -> RunConfig:
    """Read the configuration of the run in a folder. Raise UsageError if there is none, or it cannot be read."""
    try:
        values: dict[str, Any] = json.loads((out / "config.json").read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UsageError("no-run", f"There is no run in {out}.", "Name the folder that was given as --out.") from error
    except (OSError, ValueError) as error:
        raise UsageError("damaged-run", f"{out / 'config.json'} cannot be read: {error}.") from error
    kinds = {"num_views": MultiviewConfig, "single_view_steps": MotionConfig, "base": FineTuningConfig}
    kind = next((kind for name, kind in kinds.items() if name in values), FromScratchConfig)
    return kind.from_dict(values)

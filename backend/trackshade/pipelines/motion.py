# SPDX-License-Identifier: GPL-3.0-or-later
# The classes of diffusers are typed too loosely for these rules.
# pyright: reportAttributeAccessIssue=false
"""Motion from footage: motion tokens of a driving video, the rotations they say, and pictures of another figure."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

import trackshade

from ..core.errors import ModelError
from ..models.checkpoint import INDEX, read_json
from ..models.motion_encoder import MotionEncoder, rotation_matrices
from ..models.patch_autoencoder import PatchAutoencoder
from ..models.puppet_guided import PuppetGuidedTransformer3DModel
from ..models.view_adapter import ViewAdapter
from ..motion.pose_fit import fit_rotations
from .motion_sampling import MotionNetworks

FPS = 8.0
_BATCH = 64  # frames that are encoded together


class MotionPipeline:
    """Reads the motion of a figure in a driving video, and lets the figure of a reference picture do it.

    The motion tokens of a frame say what the body does and not where the camera stood. One frame of the driving video
    gives the tokens of one frame of the result, so that videos of any length can be encoded; generation takes them in
    windows of `frame_count` frames.

    Args:
        networks: the networks, all on one device.
    """

    def __init__(self, networks: MotionNetworks) -> None:
        self.networks = networks

    @classmethod
    def from_pretrained(cls, folder: str | Path | None = None, device: str | torch.device = "cpu") -> MotionPipeline:
        """Load a folder that training has exported, strictly.

        Args:
            folder: the folder; that of the embedded `mini-motion` if None.
            device: device of torch.

        Raises:
            ModelError: if weights are missing, damaged or those of another model.
        """
        path = Path(trackshade.__file__).parent / "models" / "mini-motion" if folder is None else Path(folder)
        index = read_json(path / INDEX)
        if index.get("_class_name") != "MotionPipeline":
            raise ModelError(
                "wrong-weights",
                f"{path} holds a {index.get('_class_name')}, not a motion model.",
                "Choose the folder of mini-motion or of a run of `trackshade train motion`.",
            )
        classes = {
            "encoder": MotionEncoder,
            "adapter": ViewAdapter,
            "transformer": PuppetGuidedTransformer3DModel,
            "vae": PatchAutoencoder,
        }
        parts = {
            name: component.from_pretrained(path, subfolder=name, torch_dtype=torch.float32).eval().to(device)
            for name, component in classes.items()
        }
        return cls(MotionNetworks(**parts))

    @property
    def device(self) -> torch.device:
        """Device of the networks."""
        return self.networks.encoder.device

    @property
    def frame_size(self) -> tuple[int, int]:
        """Width and height in pixels of driving frames, of the reference and of the result."""
        config = self.networks.encoder.config
        return config.frame_width, config.frame_height

    @property
    def hand_size(self) -> int:
        """Side in pixels of the square crops of hands."""
        return self.networks.encoder.config.hand_size

    @property
    def frame_count(self) -> int:
        """Number of frames that are generated together; longer motions are generated in such windows."""
        return self.networks.transformer.config.sample_frames - 1

    @property
    def fps(self) -> float:
        """Frame rate of the training clips."""
        return FPS

    @torch.no_grad()
    def encode_motion(
        self,
        frames: np.ndarray,  # [T, H, W, 3] float32 in 0..1
        hands: np.ndarray | None = None,  # [T, 2, h, h, 3] float32 in 0..1
        hands_visible: np.ndarray | None = None,  # [T, 2] bool
    ) -> np.ndarray:
        """Return the motion tokens of driving frames, [T, K, C] float32.

        Args:
            frames: crops about the figure, sRGB, of `frame_size`. The figure fills about three quarters of the height
                and is upright about the middle; crops of another size are resampled.
            hands: square crops about the left and the right hand, in this order, of `hand_size` px, or of another size,
                which is resampled. Each is centred on the middle of the hand and is as wide as about a quarter of the
                figure's height. None: without hands.
            hands_visible: which of them show the hand; all by default.

        Raises:
            ModelError: if the arrays have other shapes or hold no frame.
        """
        pictures = _resized(_pictures(frames, "Driving frames"), self.frame_size)
        crops = visible = None
        if hands is not None and self.hand_size:
            if hands.ndim != 5 or hands.shape[:2] != (len(frames), 2):
                raise ModelError(
                    "bad-input", f"Crops of hands have the shape {list(hands.shape)}.", "Give [T, 2, h, h, 3]."
                )
            flat = _pictures(hands.reshape(-1, *hands.shape[2:]), "Crops of hands")
            crops = _resized(flat, (self.hand_size, self.hand_size)).unflatten(0, (-1, 2))
            visible = torch.ones(len(frames), 2, dtype=torch.bool)
            if hands_visible is not None:
                visible = torch.from_numpy(np.asarray(hands_visible, bool).reshape(len(frames), 2).copy())
        tokens = []
        for first in range(0, len(pictures), _BATCH):
            part = slice(first, first + _BATCH)
            pair = (None, None)
            if crops is not None and visible is not None:
                pair = (crops[part].to(self.device), visible[part].to(self.device))
            tokens.append(self.networks.encoder(pictures[part].to(self.device), *pair)[0].cpu())
        return torch.cat(tokens).numpy()

    @torch.no_grad()
    def joint_rotations(
        self,
        tokens: np.ndarray,  # [T, K, C]
    ) -> np.ndarray:
        """Return the local rotations of the joints of `trackshade.motion.skeleton`, [T, J, 3, 3] float32.

        Those of the geometric head are fitted to the landmarks that tokens say. The root's is the identity: tokens do
        not say how the body is turned or where it is.
        """
        motion = self._tokens(tokens)
        matrices = rotation_matrices(self.networks.encoder.rotations(motion).float())
        root = torch.eye(3, device=matrices.device).expand(len(matrices), 1, 3, 3)
        landmarks = self.networks.adapter.body_landmarks(motion)
        local = torch.cat([root, matrices], dim=1)
        return fit_rotations(local.cpu().numpy(), landmarks.cpu().numpy()).astype(np.float32)

    @torch.no_grad()
    def facing(
        self,
        picture: np.ndarray,  # [H, W, 3] uint8 or float32 in 0..1
    ) -> float:
        """Return the azimuth in degrees, -180 to 180, of the camera that sees the figure of a picture.

        At 0 it sees the figure's front, at 90 its left side: the azimuth increases as the camera moves to its right.
        """
        pictures = _resized(_pictures(picture[None], "Pictures"), self.frame_size).to(self.device)
        return float(torch.rad2deg(self.networks.read_azimuth(pictures)[0]))

    @torch.no_grad()
    def __call__(
        self,
        reference: np.ndarray,  # [H, W, 3] uint8
        tokens: np.ndarray,  # [T, K, C]
        azimuths: np.ndarray,  # [T] degrees
        elevations: np.ndarray,  # [T] degrees
        seed: int = 0,
        steps: int = 2,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> np.ndarray:
        """Generate the figure of a reference picture in the motion of tokens, [T, H, W, 3] uint8 of `frame_size`.

        Args:
            reference: crop about the figure, as of a driving frame; another size is resampled.
            tokens: motion tokens.
            azimuths: the camera of each frame relative to the reference's view; an increasing azimuth moves the camera
                to its right.
            elevations: elevation of the camera of each frame above the horizon.
            seed: seed of the noise.
            steps: denoising steps of each window.
            on_progress: called as on_progress(done, total) after every step; what it raises ends the generation.

        Raises:
            ModelError: if the arrays have other shapes or lengths, or the picture is blank.
        """
        if steps < 1:
            raise ModelError("bad-input", f"The number of denoising steps is {steps}.", "Give 1 or more.")
        motion = self._tokens(tokens)
        cameras = [np.asarray(angles, np.float32).reshape(-1) for angles in (azimuths, elevations)]
        if any(len(angles) != len(motion) for angles in cameras):
            raise ModelError(
                "bad-input",
                f"{len(motion)} frames of motion have {len(cameras[0])} azimuths and {len(cameras[1])} elevations.",
                "Give as many of each.",
            )
        picture = _resized(_pictures(reference[None], "References"), self.frame_size).to(self.device)
        if float(picture.std(dim=(2, 3)).max()) < 0.01:
            raise ModelError("bad-input", "The reference is a picture of one color.", "Give a picture of a figure.")
        azimuth, elevation = (torch.deg2rad(torch.from_numpy(angles)).to(self.device) for angles in cameras)
        windows = _windows(len(motion), self.frame_count)
        vae = self.networks.vae.config
        cells = [side // vae.patch_size for side in reversed(self.frame_size)]
        noise = torch.randn(
            self.frame_count, vae.latent_channels, *cells, generator=torch.Generator().manual_seed(seed)
        ).to(self.device)
        total, done = steps * len(windows), 0

        def count_step() -> None:
            nonlocal done
            done += 1
            if on_progress is not None:
                on_progress(done, total)

        facing = self.networks.read_azimuth(picture)
        result = torch.empty(len(motion), 3, *reversed(self.frame_size))
        for window in windows:
            index = torch.tensor(window, device=self.device)
            condition = self.networks.condition(
                picture, motion[index][None], facing, facing[:, None] + azimuth[index][None], elevation[index][None]
            )
            latents = self.networks.denoise(noise[None, : len(window)], condition, steps, count_step)
            result[window] = self.networks.decode(latents[0]).cpu()
        return (result * 255).round().byte().permute(0, 2, 3, 1).numpy()

    def _tokens(self, tokens: np.ndarray) -> torch.Tensor:
        """Return motion tokens on the device. Raise ModelError if they are none of this model."""
        encoder = self.networks.encoder
        expected = (encoder.num_tokens, encoder.config.dim)
        if tokens.ndim != 3 or tokens.shape[1:] != expected or not len(tokens):
            raise ModelError(
                "bad-input",
                f"Motion tokens have the shape {list(tokens.shape)}, not [T, {expected[0]}, {expected[1]}].",
                "Encode the driving video with this model.",
            )
        return torch.from_numpy(np.ascontiguousarray(tokens, np.float32)).to(self.device)


def _pictures(pictures: np.ndarray, name: str) -> torch.Tensor:
    """Return pictures [N, H, W, 3], uint8 or in 0..1, as [N, 3, H, W] float32. Raise ModelError."""
    if pictures.ndim != 4 or pictures.shape[-1] != 3 or not pictures.size:
        raise ModelError(
            "bad-input", f"{name} have the shape {list(pictures.shape)}.", "Give RGB pictures, [N, H, W, 3]."
        )
    scale = 255.0 if pictures.dtype == np.uint8 else 1.0
    values = torch.from_numpy(np.ascontiguousarray(pictures, np.float32) / scale)
    return values.clamp(0, 1).permute(0, 3, 1, 2).contiguous()


def _resized(
    pictures: torch.Tensor,  # [N, 3, H, W]
    size: tuple[int, int],
) -> torch.Tensor:
    """Return pictures of another width and height."""
    if tuple(pictures.shape[:-3:-1]) == size:
        return pictures
    return F.interpolate(pictures, size=size[::-1], mode="bilinear", antialias=True, align_corners=False).clamp(0, 1)


def _windows(count: int, longest: int) -> list[list[int]]:
    """Return the frames of each window; the last window begins earlier, so that all have the greatest length."""
    if count <= longest:
        return [list(range(count))]
    starts = [*range(0, count - longest, longest), count - longest]
    return [list(range(start, start + longest)) for start in starts]

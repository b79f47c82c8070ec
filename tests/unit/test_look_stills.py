# SPDX-License-Identifier: GPL-3.0-or-later
"""Stills by image models, on tiny random components of the published classes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.helpers.shots import shots, small_shot
from tests.helpers.tiny_image_models import corrupt, write_image_model
from trackshade.config.image_models import ImageModelSpec, image_model, image_models
from trackshade.config.settings import ShadeSettings
from trackshade.control.scene import ShotRaster
from trackshade.core.errors import CancelledError, ModelError, UsageError
from trackshade.pipelines.look_stills import LookPipeline, depth_image
from trackshade.server.stills import StillParts, make_still_doer, parse_lora, write_stills
from trackshade.shot import Shot

pytestmark = pytest.mark.slow

SIZE = (64, 48)
FAMILIES = ("sd15", "sdxl", "flux")


@pytest.fixture(scope="module", params=FAMILIES)
def look(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> LookPipeline:
    folder = write_image_model(tmp_path_factory.mktemp(request.param) / "model", request.param)
    return LookPipeline.load(image_model(f"{request.param}:{folder}"), device="cpu")


def ramp(reverse: bool = False) -> np.ndarray:
    gray = np.linspace(0, 255, SIZE[0]).astype(np.uint8)[:: -1 if reverse else 1]
    return np.broadcast_to(gray[None, :, None], (SIZE[1], SIZE[0], 3)).copy()


def paint(look: LookPipeline, depth: np.ndarray, seed: int = 0, **options: object) -> np.ndarray:
    (still,) = look.paint("a red robot", depth, [seed], steps=2, **options)  # type: ignore[arg-type]
    return still


def test_a_still_is_painted_at_the_size_of_its_depth(look: LookPipeline) -> None:
    still = paint(look, ramp())
    assert still.shape == (SIZE[1], SIZE[0], 3)
    assert still.dtype == np.uint8
    assert np.array_equal(still, paint(look, ramp()))
    assert not np.array_equal(still, paint(look, ramp(), seed=1))
    assert not np.array_equal(still, paint(look, ramp(reverse=True)))  # the depth is read


def test_each_still_depends_on_its_own_seed(look: LookPipeline) -> None:
    stills = list(look.paint("a red robot", ramp(), [3, 4], steps=2))
    assert np.array_equal(stills[1], paint(look, ramp(), seed=4))


def test_an_image_is_changed_by_the_strength_and_within_the_mask_only(look: LookPipeline) -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 255, (SIZE[1], SIZE[0], 3), dtype=np.uint8)
    changed = paint(look, ramp(), image=image, strength=0.5)
    assert not np.array_equal(changed, paint(look, ramp(), image=255 - image, strength=0.5))
    mask = np.zeros((SIZE[1], SIZE[0]), bool)
    mask[:, 32:] = True
    inside = paint(look, ramp(), image=image, mask=mask, strength=1.0)
    assert np.array_equal(inside[:, :32], image[:, :32])
    assert not np.array_equal(inside[:, 32:], image[:, 32:])


def test_steps_are_reported_and_can_be_cancelled(look: LookPipeline) -> None:
    done: list[tuple[int, int]] = []
    list(look.paint("a red robot", ramp(), [0, 1], steps=2, on_step=lambda *step: done.append(step)))
    assert done[-1][0] == done[-1][1] == len(done)
    assert [step for step, _ in done] == list(range(1, len(done) + 1))

    def cancel(step: int, total: int) -> None:
        raise CancelledError("cancelled", "Cancelled.")

    with pytest.raises(CancelledError):
        list(look.paint("a red robot", ramp(), [0], steps=2, on_step=cancel))


def test_inputs_of_other_sizes_are_named(look: LookPipeline) -> None:
    with pytest.raises(ModelError, match="The image is 10 × 10, the depth 64 × 48"):
        paint(look, ramp(), image=np.zeros((10, 10, 3), np.uint8))
    with pytest.raises(ModelError, match="A mask needs the image"):
        paint(look, ramp(), mask=np.ones((SIZE[1], SIZE[0]), bool))


@pytest.mark.parametrize("family", FAMILIES)
def test_checkpoints_are_read_strictly(tmp_path: Path, family: str) -> None:
    folder = write_image_model(tmp_path / "model", family)
    network = "transformer" if family == "flux" else "unet"
    corrupt(folder, "", network, '["some_package", "SomeCode"]')
    with pytest.raises(ModelError, match=f"The {network} in .* is SomeCode"):
        LookPipeline.load(image_model(f"{family}:{folder}"), device="cpu")
    folder = write_image_model(tmp_path / "other", family)
    (folder / "vae" / "diffusion_pytorch_model.safetensors").write_bytes(b"damaged")
    with pytest.raises(ModelError, match="cannot be read"):
        LookPipeline.load(image_model(f"{family}:{folder}"), device="cpu")


def test_other_files_and_folders_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACKSHADE_MODELS", str(tmp_path / "models"))
    with pytest.raises(ModelError, match="not on this machine"):
        LookPipeline.load(image_model("sdxl-depth"), device="cpu")
    pickled = tmp_path / "look.ckpt"
    pickled.write_bytes(b"x")
    model = write_image_model(tmp_path / "models" / "sd15-depth", "sd15")
    with pytest.raises(ModelError, match="The depth ControlNet is not on this machine"):
        LookPipeline.load(
            image_model(f"sd15:{write_image_model(tmp_path / 'own', 'sd15', control=False)}"), device="cpu"
        )
    (model / "controlnet").rename(tmp_path / "models" / "sd15-depth-controlnet")
    with pytest.raises(ModelError, match=r"not a \.safetensors file"):
        LookPipeline.load(image_model(f"sd15:{pickled}"), device="cpu")
    with pytest.raises(ModelError, match=r"not a \.safetensors file"):
        LookPipeline.load(image_model("sd15-depth"), device="cpu", loras=[(pickled, 1.0)])
    with pytest.raises(ModelError, match="Known models: sd15-depth, sdxl-depth, flux-depth"):
        image_model("imagen")


@pytest.mark.long
def test_a_lora_changes_the_still(tmp_path: Path) -> None:
    from peft import LoraConfig
    from safetensors.torch import save_file

    folder = write_image_model(tmp_path / "model", "sd15")
    spec = image_model(f"sd15:{folder}")
    plain = LookPipeline.load(spec, device="cpu")
    unet = plain.pipe.unet
    unet.add_adapter(LoraConfig(r=2, target_modules=["to_k", "to_q"], init_lora_weights=False))
    state = {
        f"unet.{key.replace('.default', '')}": value.contiguous()
        for key, value in unet.state_dict().items()
        if "lora_" in key
    }
    save_file(state, tmp_path / "style.safetensors")
    styled = LookPipeline.load(spec, device="cpu", loras=[(tmp_path / "style.safetensors", 1.0)])
    weak = LookPipeline.load(spec, device="cpu", loras=[(tmp_path / "style.safetensors", 0.0)])
    fresh = LookPipeline.load(spec, device="cpu")
    assert not np.array_equal(paint(styled, ramp()), paint(fresh, ramp()))
    assert np.array_equal(paint(weak, ramp()), paint(fresh, ramp()))


@pytest.mark.parametrize("spec", image_models(), ids=lambda spec: spec.name)
@pytest.mark.parametrize("size", [(1920, 1080), (720, 1280), (640, 640), (33, 7)])
def test_stills_have_about_the_trained_area_and_the_aspect(spec: ImageModelSpec, size: tuple[int, int]) -> None:
    width, height = spec.size_for(size)
    assert width % spec.multiple == height % spec.multiple == 0
    assert 0.8 < width * height / spec.area < 1.25
    assert abs(width / height / (size[0] / size[1]) - 1) < 0.1


@settings(max_examples=30)
@given(shots(), st.data())
def test_the_depth_image_is_the_inverse_depth_of_that_frame_at_that_size(shot: Shot, data: st.DataObject) -> None:
    t = data.draw(st.integers(0, len(shot.frame_numbers) - 1))
    depth = ShotRaster(shot).draw(t).depth
    image = depth_image(shot, t, shot.size)
    assert image.shape == (shot.size[1], shot.size[0], 3)
    seen = np.isfinite(depth)
    assert (image[~seen] == 0).all()
    if seen.any():
        order = np.argsort(depth[seen], kind="stable")
        assert (np.diff(image[seen][order, 0].astype(int)) <= 0).all()  # nearer is never darker
        assert image[seen].max() == 255 or np.ptp(depth[seen]) == 0
    twice = depth_image(shot, t, (2 * shot.size[0], 2 * shot.size[1]))
    assert twice.shape == (2 * shot.size[1], 2 * shot.size[0], 3)


def test_stills_of_a_job_are_written_with_a_sheet(look: LookPipeline, tmp_path: Path) -> None:
    shot = replace(small_shot(), size=(120, 80))
    settings = ShadeSettings(output="stills", image_model="sd15-depth", stills=3, seed=5, steps=2)
    look.spec = replace(look.spec, area=64 * 48)
    reports: list[dict[str, object]] = []
    parts = StillParts(look, shot, settings, lambda *words, **more: reports.append({"words": words, **more}))
    entry = write_stills(tmp_path, parts)
    assert [item["seed"] for item in entry["stills"]] == [5, 6, 7]
    images = [np.asarray(Image.open(tmp_path / item["path"])) for item in entry["stills"]]
    assert {image.shape for image in images} == {(80, 120, 3)}
    assert not np.array_equal(images[0], images[1])
    assert Image.open(tmp_path / "sheet.png").width > 3 * 120
    assert reports[-1]["step"] == reports[-1]["steps"]
    assert "Look 3 of 3" in str(reports[-1]["words"])
    do = make_still_doer(parts.pack(), lambda *_: look, lambda *_, **__: None)  # another worker paints one of them
    _, (painted,) = do(parts.pack_part(1))
    np.testing.assert_array_equal(painted, images[1])


@pytest.mark.parametrize(
    ("text", "path", "strength"),
    [("a.safetensors", "a.safetensors", 1.0), ("a.safetensors:0.5", "a.safetensors", 0.5), ("C:/a.b", "C:/a.b", 1.0)],
)
def test_loras_have_a_strength(text: str, path: str, strength: float) -> None:
    assert parse_lora(text) == (Path(path), strength)


def test_wrong_settings_of_stills_are_named() -> None:
    with pytest.raises(UsageError, match="'x' is not the strength"):
        parse_lora("a.safetensors:x")
    for wrong in ({"output": "stills"}, {"stills": 0}, {"strength": 2.0}, {"loras": "style"}, {"image_model": 3}):
        with pytest.raises(UsageError):
            ShadeSettings(**wrong)  # type: ignore[arg-type]
    stored = ShadeSettings(loras=("a.safetensors:0.5",), image_model="sd15-depth")
    assert ShadeSettings.from_dict(json.loads(json.dumps(stored.to_dict()))) == stored

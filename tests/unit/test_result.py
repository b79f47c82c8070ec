# SPDX-License-Identifier: GPL-3.0-or-later
"""The result folder: exact frames, videos that play, a sheet, the record, and what happens when it cannot be
written.
"""

from __future__ import annotations

import json
import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tests.helpers.result_shots import at, paint, shot, texture
from trackshade.client.job_result import JobResult, name_files
from trackshade.config import registry
from trackshade.config.settings import ShadeSettings
from trackshade.core.errors import OutputError
from trackshade.core.fitting import fit_frames, fit_size
from trackshade.results import write_result
from trackshade.results.labels import _has_characters, label_of
from trackshade.results.record import format_json, shot_digest
from trackshade.results.sheets import contact_sheet
from trackshade.results.video import frame_rate, write_video

T = 9


def test_cameras_of_a_result_keep_their_names(tmp_path: Path) -> None:
    """A folder's suffix is none: "Camera.001" and "Camera.002" are two cameras."""
    for name in ("Camera.001", "Camera.002", "sheet"):
        (tmp_path / name).mkdir()
    files = name_files(tmp_path, ["Camera.001", "Camera.002", "sheet", "sheet.png", "tracking.mp4"])
    assert {key: Path(path).name for key, path in files.items()} == {
        "Camera.001": "Camera.001", "Camera.002": "Camera.002", "sheet": "sheet", "sheet.png": "sheet.png",
        "tracking_video": "tracking.mp4",
    }  # fmt: skip


@pytest.mark.parametrize(
    "text", ["[]", "{", "[" * 100_000, '{"warnings": 1}', '{"warnings": [1]}', '{"files": "x"}', '{"files": ["../x"]}']
)
def test_a_record_that_was_edited_is_a_sentence(tmp_path: Path, text: str) -> None:
    (tmp_path / "job.json").write_text(text)
    with pytest.raises(OutputError) as caught:
        JobResult.load("job", tmp_path, 0.0)
    assert caught.value.code == "damaged-result"


def test_parts_of_a_record_that_were_edited_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "job.json").write_text('{"model": 1, "shot": {"size_fit": [], "source": {"light": "x"}}}')
    assert JobResult.load("job", tmp_path, 0.0).to_dict()["model"] is None


def arguments(size: tuple[int, int] = (96, 64), **changed: Any) -> dict[str, Any]:
    frame_map = fit_frames(1, T, 1, 24000 / 1001, (T,))
    made = shot(
        [("Square", [at(-0.6 + 0.15 * t, 0, 0) for t in range(T)])],
        size=size,
        fps=frame_map.fps,
        frame_map=frame_map.to_dict(),
        size_fit=fit_size(size, (1, 1), [size]).to_dict(),
    )
    tracking = paint(made, {0: texture()})
    frames = np.random.default_rng(1).integers(0, 256, (T, size[1], size[0], 3), np.uint8)
    return {
        "frames": frames,
        "tracking": tracking,
        "shot": made,
        "settings": ShadeSettings(prompt="ein Würfel", seed=7),
        "spec": registry.spec("mini"),
        "first_frame": frames[0],
        "input_render": None,
        "timings": {"denoise": 1.25},
        "warnings": ["One thing."],
        "model_digests": {"transformer/diffusion_pytorch_model.safetensors": "ab" * 32},
        **changed,
    }


def read(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        assert image.mode == "RGB"
        return np.asarray(image)


def test_everything_is_written_and_the_pictures_are_exact(tmp_path: Path) -> None:
    given_values = arguments()
    record = write_result(tmp_path / "partial", **given_values)
    folder = tmp_path / "partial"
    assert sorted(item.name for item in folder.iterdir()) == sorted(record["files"])
    for t in range(T):
        assert np.array_equal(read(folder / "frames" / f"{t + 1:04d}.png"), given_values["frames"][t])
        assert np.array_equal(read(folder / "tracking" / f"{t + 1:04d}.png"), given_values["tracking"].frames[t])
    assert np.array_equal(read(folder / "first_frame.png"), given_values["first_frame"])
    assert json.loads((folder / "job.json").read_text(encoding="utf-8")) == json.loads(json.dumps(record))


def test_the_record_says_how_it_was_made(tmp_path: Path) -> None:
    values = arguments()
    write_result(tmp_path / "r", **values)
    record = json.loads((tmp_path / "r" / "job.json").read_text(encoding="utf-8"))
    assert ShadeSettings.from_dict(record["settings"]) == values["settings"]
    assert record["used"]["steps"] == registry.spec("mini").steps
    assert record["model"]["digests"] == values["model_digests"]
    assert record["versions"]["torch"]
    assert record["versions"]["blender"] == "4.5.0"
    assert record["shot"]["frames"] == list(range(1, T + 1))
    assert record["shot"]["frame_map"]["rule"] == "exact"
    assert record["shot"]["size_fit"]["size"] == [96, 64]
    assert np.allclose(np.reshape(record["shot"]["camera"]["intrinsics"], (T, 3, 3)), values["shot"].camera.intrinsics)
    assert record["warnings"] == ["One thing."]
    assert record["shot"]["nearest"] == pytest.approx(6.0)
    assert record["consistency"]["result"] > record["consistency"]["first_frame_held"] * 0.1
    assert record["first_frame"]["file"] == "first_frame.png"


def test_without_a_first_frame_there_is_none(tmp_path: Path) -> None:
    record = write_result(tmp_path / "r", **arguments(first_frame=None))
    assert record["first_frame"] is None
    assert not (tmp_path / "r" / "first_frame.png").exists()


def test_the_input_render_gets_a_figure_and_a_row(tmp_path: Path) -> None:
    values = arguments()
    plain = write_result(tmp_path / "plain", **values)
    compared = write_result(tmp_path / "compared", **values | {"input_render": values["tracking"].frames})
    assert plain["consistency"]["input_render"] is None
    assert compared["consistency"]["input_render"] < 1
    assert sorted(item.name for item in (tmp_path / "compared").iterdir()) == sorted(compared["files"])
    kept = [read(path) for path in sorted((tmp_path / "compared" / "input").iterdir())]
    assert np.array_equal(np.stack(kept), values["tracking"].frames)
    assert not (tmp_path / "plain" / "input").exists()
    heights = [read(tmp_path / name / "sheet.png").shape[0] for name in ("plain", "compared")]
    assert heights[1] > heights[0] + 100


def test_equal_input_makes_equal_files(tmp_path: Path) -> None:
    values = arguments()
    write_result(tmp_path / "a", **values)
    write_result(tmp_path / "b", **values)
    for path in sorted((tmp_path / "a").rglob("*")):
        if path.is_file():
            assert path.read_bytes() == (tmp_path / "b" / path.relative_to(tmp_path / "a")).read_bytes(), path.name


def test_the_digest_knows_the_shot_and_not_its_origin() -> None:
    tracks = [("Square", [at(0.1 * t, 0, 0) for t in range(3)])]
    assert shot_digest(shot(tracks)) == shot_digest(shot(tracks, file="elsewhere.blend"))
    moved = [("Square", [at(0.1 * t, 1e-9, 0) for t in range(3)])]
    assert shot_digest(shot(tracks)) != shot_digest(shot(moved))


@pytest.mark.parametrize(("width", "height"), [(96, 64), (95, 63), (720, 480)])
def test_the_video_plays_with_the_right_colors_rate_and_tags(tmp_path: Path, width: int, height: int) -> None:
    patches = np.random.default_rng(3).integers(0, 256, (-(-height // 16), -(-width // 16), 3))
    picture = patches.repeat(16, 0).repeat(16, 1)[:height, :width]
    frames = np.stack([np.roll(picture, 16 * t, axis=1) for t in range(5)]).astype(np.uint8)
    write_video(tmp_path / "v.mp4", frames, 24000 / 1001)
    with av.open(str(tmp_path / "v.mp4")) as file:
        stream = file.streams.video[0]
        assert stream.average_rate == Fraction(24000, 1001)
        codec = stream.codec_context
        assert codec.name == "h264"
        assert codec.pix_fmt == "yuv420p"
        assert (codec.color_primaries, codec.color_trc, codec.colorspace, codec.color_range) == (1, 13, 1, 1)
        decoded = list(file.decode(stream))
    times = [float((frame.pts or 0) * (frame.time_base or 0)) for frame in decoded]
    assert np.allclose(times, np.arange(5) * 1001 / 24000, atol=1e-6)
    shown = np.stack([bt709_to_rgb(frame) for frame in decoded])[:, :height, :width]
    place = np.mgrid[0:height, 0:width] % 16
    inner = ((place >= 3) & (place < 13)).all(axis=0)  # away from the patches' edges, where chroma is shared
    shown, wanted = shown[0][inner], frames[0][inner].astype(float)
    assert np.abs(shown - wanted).max() < 8
    assert np.abs(shown - wanted).mean() < 1.5


def bt709_to_rgb(frame: av.VideoFrame) -> np.ndarray:
    """[H, W, 3] levels by the formula of BT.709 in limited range, apart from the library's own conversion."""
    planes = []
    for plane, factor in zip(frame.planes, (1, 2, 2), strict=True):
        array = np.frombuffer(bytes(plane), np.uint8).reshape(plane.height, plane.line_size)[:, : plane.width]
        planes.append(array.repeat(factor, 0).repeat(factor, 1).astype(float))
    y, u, v = ((planes[0] - 16) / 219, (planes[1] - 128) / 224, (planes[2] - 128) / 224)
    r, b = y + 1.5748 * v, y + 1.8556 * u
    g = (y - 0.2126 * r - 0.0722 * b) / 0.7152
    return np.clip(np.stack([r, g, b], axis=-1) * 255, 0, 255)


@given(st.floats(0.01, 1000))
def test_any_rate_becomes_a_near_fraction(fps: float) -> None:
    rate = frame_rate(fps)
    assert abs(float(rate) - fps) <= max(2e-5, 2e-6 * fps)
    assert rate.denominator <= 50_000


@pytest.mark.parametrize(
    ("fps", "rate"),
    [
        (24, (24, 1)),
        (23.976, (24000, 1001)),
        (29.97, (30000, 1001)),
        (59.94005994, (60000, 1001)),
        (12.8, (64, 5)),
    ],
)
def test_known_rates(fps: float, rate: tuple[int, int]) -> None:
    assert frame_rate(fps) == Fraction(*rate)


@pytest.mark.parametrize(("count", "columns"), [(1, 1), (5, 5), (9, 9), (49, 9)])
def test_the_sheet_shows_first_and_last_and_enlarges_by_whole_factors(count: int, columns: int) -> None:
    frames = np.zeros((count, 64, 96, 3), np.uint8)
    frames[:, ::2, ::2] = np.linspace(10, 255, count).astype(np.uint8)[:, None, None, None]
    sheet = np.asarray(contact_sheet([("tracking", frames), ("result", frames)], range(count)))
    first, last = frames[0, 0, 0], frames[-1, 0, 0]
    right = sheet[-6 - 64 * 2 : -6, -6 - 96 * 2 : -6]
    assert np.array_equal(right, frames[-1].repeat(2, 0).repeat(2, 1))
    pitch = 96 * 2 + 6
    left = sheet[-6 - 64 * 2 : -6, -columns * pitch : -columns * pitch + 192]
    assert np.array_equal(left, frames[0].repeat(2, 0).repeat(2, 1))
    assert first[0] == 10
    assert last[0] in (10, 255)


def test_labels_have_no_characters_that_their_font_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    assert label_of("Side view", 2, 16)[0] == "Side view"
    for text, plain in (("Caméra", "Camera"), ("Камера", "2"), ("カメラ 7", "7")):
        label, font = label_of(text, 2, 16)
        assert label in (text, plain)  # as the fonts of the system allow
        assert _has_characters(font, label)
        with monkeypatch.context() as patch:
            patch.setattr("trackshade.results.labels._FONTS", ())
            assert label_of(text, 2, 16)[0] == plain


def test_a_folder_that_cannot_be_made_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="cannot be written") as caught:
        write_result(tmp_path / "file" / "partial", **arguments())
    assert caught.value.fix


_FILL = """
import resource, sys
sys.path.insert(0, {root!r})
from pathlib import Path
from tests.unit.test_result import arguments
from trackshade.core.errors import OutputError
from trackshade.results import write_result
values = arguments()
sys.dont_write_bytecode = True  # otherwise it would compile modules to files that end in the middle
resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))
try:
    write_result(Path({folder!r}), **values)
except OutputError as error:
    print(error.code, error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs a limit on the size of files")
@pytest.mark.parametrize("limit", [10_000, 150_000])
def test_a_disk_that_fills_up_is_a_sentence(tmp_path: Path, limit: int) -> None:
    """A limit on file size stands for a full disk: the same call fails, with the neighboring error number."""
    script = _FILL.format(root=str(Path(__file__).parents[2]), limit=limit, folder=str(tmp_path / "partial"))
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.startswith("output-full "), done.stdout + done.stderr
    assert not (tmp_path / "partial" / "job.json").exists()


def test_pictures_of_another_shot_are_refused(tmp_path: Path) -> None:
    values = arguments()
    with pytest.raises(ValueError, match="frames must be"):
        write_result(tmp_path / "r", **values | {"frames": values["frames"][:-1]})
    assert not (tmp_path / "r").exists()


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(json_values)
def test_pretty_json_reads_back(value: Any) -> None:
    assert json.loads(format_json(value)) == value


def test_pretty_json_keeps_a_list_of_numbers_on_one_line() -> None:
    assert format_json({"a": [[1, 2], [3, 4]], "b": {}}) == '{\n  "a": [\n    [1, 2],\n    [3, 4]\n  ],\n  "b": {}\n}'

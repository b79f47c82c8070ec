# SPDX-License-Identifier: GPL-3.0-or-later
"""The whole of an evaluation: clips made by the embedded model, what is kept, tables, plots, and results of renders."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from trackshade.config import registry
from trackshade.config.settings import ShadeSettings
from trackshade.control import tracking_video
from trackshade.core.errors import ModelError, ShotError, UsageError
from trackshade.results import write_result
from trackshade_lab.evaluation.__main__ import main
from trackshade_lab.evaluation.generator import SamplingConfig, find_pipeline_folder
from trackshade_lab.evaluation.plots import write_plots
from trackshade_lab.evaluation.results import read_result
from trackshade_lab.evaluation.run import EvaluationConfig, evaluate
from trackshade_lab.evaluation.summary import summarize
from trackshade_lab.evaluation.tables import format_report
from trackshade_lab.scenes import generate_clip, scene_shot

SMALL = ["--size", "48x36", "--frames", "5", "--steps", "1", "--batch", "2"]


@pytest.fixture(scope="module")
def small() -> EvaluationConfig:
    return EvaluationConfig(
        SamplingConfig.from_defaults("mini", size=(48, 36), frames=5, steps=1),
        clips=3,
        spin=1,
        variants=("truth", "ceiling", "right", "warp", "inpainted", "still", "other", "none", "destroyed"),
        controls=("none", "tracks-60"),
        sheets=1,
        batch=2,
        device="cpu",
    )


@pytest.fixture(scope="module")
def measured(small: EvaluationConfig, tmp_path_factory: pytest.TempPathFactory):
    """One evaluation, its folder and what it said."""
    out, lines = tmp_path_factory.mktemp("report"), []
    return evaluate(small, out, lines.append), out, lines


def test_every_variant_of_every_clip_is_measured(measured, small: EvaluationConfig):
    result, out, lines = measured
    assert [clip["extra"] for clip in result["clips"]] == [False, False, False, True]
    for clip in result["clips"]:
        assert tuple(clip["ways"]) == small.variants
        assert clip["ways"]["truth"]["psnr"] > 100
        assert clip["ways"]["ceiling"]["psnr"] > clip["ways"]["right"]["psnr"]
        assert tuple(clip["controls"]) == ("none", "tracks-60")
        assert len(clip["frames"]["right"]) == 4
        assert (clip["text"] is None) or clip["text"]["named"]
    assert sum("clip " in line for line in lines) == 4
    assert [path.name for path in (out / "sheets").iterdir()] == [f"{result['clips'][0]['name']}.png"]


def test_an_evaluation_is_resumed(measured, small: EvaluationConfig):
    result, out, _ = measured
    kept = out / "clips" / f"{result['clips'][0]['name']}.json"
    changed = json.loads(kept.read_text()) | {"caption": "told apart"}
    kept.write_text(json.dumps(changed))
    (out / "clips" / f"{result['clips'][3]['name']}.json").unlink()  # shares a batch with the third
    lines: list[str] = []
    again = evaluate(small, out, lines.append)
    assert again["clips"][0]["caption"] == "told apart"
    assert again["clips"][3]["ways"]["right"]["psnr"] == pytest.approx(result["clips"][3]["ways"]["right"]["psnr"])
    assert sum(line.startswith("clip ") for line in lines) == 2


def test_other_settings_are_rejected(measured, small: EvaluationConfig):
    _, out, _ = measured
    other = replace(small, sampling=replace(small.sampling, steps=2))
    with pytest.raises(UsageError, match="other settings"):
        evaluate(other, out, lambda line: None)


def test_tables_and_plots(measured, small: EvaluationConfig, tmp_path: Path):
    result, _, _ = measured
    summary = summarize(result)
    assert [row["id"] for row in summary["all"]] == list(small.variants)
    assert summary["all"][0]["clips"] == 3
    right = next(row for row in summary["all"] if row["id"] == "right")["psnr"]
    values = [clip["ways"]["right"]["psnr"] for clip in result["clips"][:3]]
    assert right["mean"] == pytest.approx(np.mean(values))
    assert right["low"] < right["mean"] < right["high"]
    difference = next(row for row in summary["differences"] if row["id"] == "all:psnr:right-other")["difference"]
    others = [clip["ways"]["other"]["psnr"] for clip in result["clips"][:3]]
    assert difference["mean"] == pytest.approx(np.mean(np.subtract(values, others)))
    text = format_report(result, summary)
    assert text.count("\n| model, right tracks |") >= 2
    assert "## Control signals" in text
    assert "LPIPS" in text
    assert "nan" not in text
    for path in write_plots(tmp_path, result, summary):
        assert Image.open(path).width > 300


def test_the_command_prints_tables_and_writes_a_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    arguments = ["--out", str(tmp_path), "--clips", "2", "--spin", "0", "--ways", "right,warp", "--no-text", *SMALL]
    assert main(arguments) == 0
    printed = capsys.readouterr()
    assert "| first frame warped along the tracks |" in printed.out
    assert "clip 2 of 2" in printed.err
    stored = json.loads((tmp_path / "report.json").read_text())
    assert {"settings", "notes", "clips", "tables"} <= set(stored)
    assert (tmp_path / "report.md").read_text() == printed.out.rstrip("\n") + "\n"
    assert (tmp_path / "plots" / "psnr.png").is_file()


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ([], 2, "--out"),
        (["--out", "x", "--clips", "1", "--spin", "0"], 2, "two clips"),
        (["--out", "x", "--size", "big"], 2, "144x96"),
        (["--out", "x", "--kind", "nonsense"], 2, "nonsense"),
        (["--out", "x", "--ways", "upwards"], 2, "upwards"),
        (["--out", "x", "--model", "giant"], 3, "giant"),
        (["--out", "x", "--folder", "nowhere"], 3, "no pipeline"),
        (["--out", "x", "--control-model", "depth=run"], 2, "--controls"),
        (["--out", "x", "--results", "nowhere"], 3, "no result"),
    ],
)
def test_the_command_prints_errors(
    arguments: list[str], code: int, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch
):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == code
    assert words in capsys.readouterr().err


def test_the_export_of_a_training_run_is_found(tmp_path: Path):
    with pytest.raises(ModelError, match="no pipeline"):
        find_pipeline_folder(tmp_path)
    (tmp_path / "export").mkdir()
    (tmp_path / "export" / "model_index.json").write_text("{}")
    assert find_pipeline_folder(tmp_path) == tmp_path / "export"


def result_folder(folder: Path, made: str = "truth", input_render: bool = True) -> Path:
    """A result of a procedural scene, whose frames are the true ones or the first one repeated."""
    clip = generate_clip(6, (144, 96), 9, "moving-camera", split="held-out")
    assert clip.scene is not None
    shot = scene_shot(clip.scene, (144, 96))
    write_result(
        folder,
        frames=clip.video if made == "truth" else np.repeat(clip.video[:1], 9, axis=0),
        tracking=tracking_video(shot, threads=1),
        shot=shot,
        settings=ShadeSettings(prompt=clip.caption),
        spec=registry.spec("mini"),
        first_frame=clip.video[0],
        input_render=clip.video if input_render else None,
        timings={},
        warnings=[],
        model_digests={},
    )
    return folder


@pytest.mark.long
def test_results_are_measured_against_the_input_render(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    folders = [result_folder(tmp_path / made, made) for made in ("truth", "still")]
    assert main(["--out", str(tmp_path / "report"), "--results", *map(str, folders)]) == 0
    assert "## Mean of 2" in capsys.readouterr().out
    right, still = json.loads((tmp_path / "report" / "report.json").read_text())["clips"]
    assert right["ways"]["right"]["psnr"] > 100 > right["ways"]["warp"]["psnr"] > right["ways"]["still"]["psnr"]
    assert right["ways"]["right"]["end_px"] < 0.7 < 2 < still["ways"]["right"]["end_px"]
    assert still["ways"]["right"]["psnr"] == pytest.approx(still["ways"]["still"]["psnr"])
    assert right["ways"]["warp"]["psnr_covered"] > right["ways"]["warp"]["psnr_uncovered"]
    assert len(list((tmp_path / "report" / "sheets").iterdir())) == 2


def test_results_without_true_frames_raise_errors(tmp_path: Path):
    with pytest.raises(ShotError, match="--input-render"):
        read_result(result_folder(tmp_path / "r", input_render=False))
    damaged = result_folder(tmp_path / "d")
    (damaged / "frames" / "0003.png").unlink()
    with pytest.raises(ShotError, match="differ"):
        read_result(damaged)

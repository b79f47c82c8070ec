# SPDX-License-Identifier: GPL-3.0-or-later
"""Rows of a batch, the record by which it goes on, and its report."""

from __future__ import annotations

import json
import os
import shutil
import unicodedata
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests.helpers.shots import small_shot
from trackshade.cli.batch.record import DONE, FAILED, BatchRecord
from trackshade.cli.batch.report import write_report
from trackshade.cli.batch.rows import Row, read_rows
from trackshade.core.errors import OutputError, ShotError, UsageError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    small_shot().save(tmp_path / "a.shot")
    (tmp_path / "b.blend").write_bytes(b"BLENDER")
    (tmp_path / "paint.png").write_bytes(b"png")
    return tmp_path


def rows_of(folder: Path, text: str, **shared: object) -> list[Row]:
    path = folder / "list.csv"
    path.write_text(text, encoding="utf-8")
    return read_rows([path], shared)


def test_columns_are_options_and_paths_are_beside_the_list(folder: Path) -> None:
    text = (
        "Scene,name,Prompt,seed,first-frame,--alpha,key\n"
        '# a comment\n\nb.blend,,"night, rain",7,paint.png,yes,5=paint.png | 9=paint.png\n'
        "a.shot,Two words!,,,,no,\n"
    )
    first, second = rows_of(folder, text, prompt="day", steps=3)
    assert (first.line, first.command, first.stem, first.name) == (4, "render", "b", "")
    assert (first.values["prompt"], first.values["seed"], first.values["alpha"]) == ("night, rain", 7, True)
    assert first.values["first_frame"] == str(folder / "paint.png")
    assert first.values["key"] == [f"{frame}={folder / 'paint.png'}" for frame in (5, 9)]
    assert (second.line, second.command, second.name) == (5, "shade", "Two-words")
    assert (second.values["prompt"], second.values["steps"], second.values["alpha"]) == ("day", 3, False)


def test_names_keep_the_letters_of_every_script(folder: Path) -> None:
    names = {
        "पहला दृश्य": "पहला-दृश्य",  # vowel signs and the virama are marks of their own
        "क्\u200dष": "क्ष",  # a joiner is not seen
        "سَلام": "سَلام",
        "שָׁלוֹם!": unicodedata.normalize("NFC", "שָׁלוֹם"),
        "Cafe\u0301 #2": "Café-2",
        "shot_010+B": "shot_010-B",
        "NUL": "_NUL",
        "???": "",
    }
    text = "scene,name,seed\n" + "".join(f'b.blend,"{name}",{seed}\n' for seed, name in enumerate(names))
    assert [row.name for row in rows_of(folder, text)] == list(names.values())
    long = rows_of(folder, f"scene,name\nb.blend,{'दृश्य' * 40}\n")[0].name
    assert len(long.encode()) <= 120


@pytest.mark.parametrize("delimiter", [";", "\t"])
def test_lists_of_spreadsheets(folder: Path, delimiter: str) -> None:
    text = '\ufeffscene,prompt,seed\r\na.shot,"x\r\ny",1\r\na.shot,z,2\r\n'.replace(",", delimiter)
    (folder / "list.csv").write_bytes(text.encode())
    rows = read_rows([folder / "list.csv"], {})
    assert [(row.line, row.values["prompt"]) for row in rows] == [(2, "x\ny"), (4, "z")]


def test_a_lora_of_the_list_is_found_and_one_of_the_backend_is_kept(folder: Path) -> None:
    (folder / "style.safetensors").touch()
    row = rows_of(folder, "scene,lora\nb.blend,style.safetensors:0.5 | far.safetensors\n")[0]
    assert row.values["lora"] == [f"{folder / 'style.safetensors'}:0.5", "far.safetensors"]


def test_all_mistakes_are_told_with_their_lines(folder: Path) -> None:
    text = (
        "scene,name,seed,steps,model,first_frame,camera,alpha,orbit\n"
        "nowhere.blend,,,,,,,,\n,x,,,,,,,\nb.blend,,x,,,,,,\nb.blend,,,0,,,,,\nb.blend,,,,nope,,,,\n"
        "b.blend,,,,,lost.png,,,\na.shot,,,,,,Cam,,\nb.blend,same,,,,,,,\nb.blend,SAME,3,,,,,,\nb.blend,,,,,,,maybe,\n"
        "b.blend,,,,,,,,many\nlist.csv,,,,,,,,\nb.blend,,,,,,,,\nb.blend,,,,,,,,\n"
    )
    with pytest.raises(UsageError) as caught:
        rows_of(folder, text)
    told = caught.value.message.splitlines()
    words = ["nowhere.blend", "no scene", "seed", "steps", "nope", "lost.png", "camera", "line 9", "alpha", "many",
             "list.csv", "same options is in line 9", "line 9"]  # fmt: skip
    lines = [2, 3, 4, 5, 6, 7, 8, 10, 11, 12, 13, 14, 15]
    assert len(told) == 1 + len(words)
    for sentence, line, word in zip(told[1:], lines, words, strict=True):
        assert f"line {line}: " in sentence
        assert word in sentence.partition(": ")[2]
    assert (caught.value.code, caught.value.exit_code) == ("bad-rows", 3)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("scene,promt\na.shot,x\n", "Did you mean prompt"),
        ("scene,out\na.shot,x\n", "no option of a shot"),
        ("scene,seed,Seed\na.shot,1,2\n", "stands twice"),
        ("prompt\nx\n", "no column with scenes"),
        ("scene,seed\na.shot,1,2\n", "Line 2"),
        ('scene,prompt\na.shot,"x\n', "Line 2"),
        ("scene,prompt\n", "nothing to shade"),
    ],
)
def test_a_list_that_cannot_be_read_is_a_sentence(folder: Path, text: str, words: str) -> None:
    with pytest.raises((UsageError, ShotError)) as caught:
        rows_of(folder, text)
    assert words in str(caught.value)


def test_a_list_in_another_encoding(folder: Path) -> None:
    (folder / "list.csv").write_bytes("scene,prompt\na.shot,grün\n".encode("latin-1"))
    with pytest.raises(ShotError, match="UTF-8"):
        read_rows([folder / "list.csv"], {})


def test_a_folder_has_a_row_for_each_scene(folder: Path) -> None:
    rows = read_rows([folder], {"seed": 4})
    assert [(row.source.name, row.command, row.values["seed"]) for row in rows] == [
        ("a.shot", "shade", 4), ("b.blend", "render", 4)
    ]  # fmt: skip


def test_the_digest_is_that_of_options_and_files(folder: Path) -> None:
    text = "scene,prompt,first_frame\nb.blend,x,paint.png\n"
    digest = rows_of(folder, text)[0].digest
    assert rows_of(folder, "first_frame,scene,prompt,seed\npaint.png,b.blend,x,0\n")[0].digest == digest
    assert rows_of(folder, text.replace("x", "y"))[0].digest != digest
    moved = shutil.copytree(folder, folder.with_name("moved"), copy_function=shutil.copy2)
    assert rows_of(moved, text)[0].digest == digest
    os.utime(folder / "paint.png", (1, 1))
    assert rows_of(folder, text)[0].digest != digest
    known = set()
    for beside in ("", "a.png", "a.light.npy", "a.Camera.001.png"):  # what is shaded with a shot
        if beside:
            (folder / beside).touch()
        known.add(rows_of(folder, "scene\na.shot\n")[0].digest)
    assert len(known) == 4


def finish(record: BatchRecord, row: Row) -> None:
    folder = record.out / record.state(row).folder
    folder.mkdir(exist_ok=True)
    (folder / "job.json").write_text("{}")
    record.set(row, state=DONE)


def opened(out: Path, rows: list[Row]) -> BatchRecord:
    record = BatchRecord(out)
    record.assign_folders(rows)
    return record


def test_finished_rows_keep_their_folders_in_any_order(folder: Path) -> None:
    out = folder / "out"
    rows = rows_of(folder, "scene,seed,name\nb.blend,1,\nb.blend,2,\nb.blend,3,three\n")
    record = opened(out, rows)
    assert [record.state(row).folder for row in rows] == ["b", "b-2", "three"]
    for row in rows:
        finish(record, row)
    record.close()
    (out / "b-2" / "job.json").unlink()
    rows = rows_of(folder, "scene,seed,name\nb.blend,9,\nb.blend,2,\nb.blend,1,\nb.blend,4,three\n")
    record = opened(out, rows)
    found = [(record.state(row).folder, record.state(row).state) for row in rows]
    assert found == [("b-3", "waiting"), ("b-2", "waiting"), ("b", DONE), ("three", "waiting")]
    assert record.forgotten(rows[:2]) == ["b", "three"]
    record.close()


def test_a_folder_of_something_else_and_another_batch_are_left_alone(folder: Path) -> None:
    out = folder / "out"
    (out / "three").mkdir(parents=True)
    (out / "three" / "thesis.txt").touch()
    rows = rows_of(folder, "scene,name\nb.blend,three\n")
    record = BatchRecord(out)
    with pytest.raises(UsageError, match="not of this batch"):
        record.assign_folders(rows)
    with pytest.raises(OutputError, match="Another batch"):
        BatchRecord(out)
    record.close()
    (out / "batch.json").write_text("[]")
    with pytest.raises(OutputError, match="cannot be read"):
        BatchRecord(out)


class Page(HTMLParser):
    """Collects the tags, addresses and text of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.addresses: list[str] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.addresses += [value for name, value in attrs if name in ("src", "href", "poster") and value]

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_report_escapes_everything_and_names_files_beside_it(folder: Path) -> None:
    shutil.copy2(folder / "a.shot", folder / "a b#.shot")
    evil = '<script>alert(1)</script>"&'
    quoted = evil.replace('"', '""')
    rows = rows_of(folder, f'scene,prompt\na b#.shot,"{quoted}"\nb.blend,fails\n')
    record = opened(folder / "out", rows)
    finish(record, rows[0])
    result = folder / "out" / record.state(rows[0]).folder
    data = {"seed": evil, "warnings": [evil], "shot": {"size": [96, 64], "frames": [1, 2]}, "versions": {evil: evil}}
    (result / "job.json").write_text(json.dumps(data))
    for name in ("video.mp4", "sheet.png"):
        (result / name).touch()
    record.set(rows[1], state=FAILED, error={"code": evil, "message": evil, "fix": None})
    page = write_report(folder / "out" / "report.html", rows, record).read_text(encoding="utf-8")
    record.close()
    parsed = Page(page)
    assert "script" not in parsed.tags
    assert parsed.text.count("<script>alert(1)</script>") == 7
    files = [address for address in parsed.addresses if not address.startswith("#")]
    assert files == [f"./a-b/{name}" for name in ("video.mp4", "sheet.png", "job.json")]
    assert all((folder / "out" / address).is_file() for address in files)
    assert "96×64" in parsed.text

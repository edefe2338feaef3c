"""The data report: its numbers on hand-made files, near duplicates, the page and the picture."""

import argparse
import base64
import io
import json
import random
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from fontTools.ttLib import TTFont
from PIL import Image

from model.config import TransformerConfig
from model.heads import TextModel
from model.tokenizer import Tokenizer, train_wordpiece
from model.weights import save_model
from service.data_cli import add_commands
from service.report.data.page import report_page
from service.report.data.picture import report_png
from service.report.typeface import font_face
from service.settings import Settings
from tests.faults import Faults
from training.catalogue.duplicates import letters_key
from training.config import Recipe
from training.report import data_report, read_source
from training.report.near import SIMILARITY, near_groups, similarity

RECIPE = Recipe(max_length=8, batch_size=4)
WORDS = ["red", "green", "blue", "cat", "dog", "bird", "runs", "sleeps"]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_wordpiece([" ".join(WORDS)] * 5, 120)


def report_on(
    folder: Path, rows: list[Any], tokenizer: Tokenizer, validation: list[Any] | None = None
) -> dict[str, Any]:
    readings = []
    for name, part in (("rows.jsonl", rows), ("held.jsonl", validation)):
        if part is not None:
            path = folder / name
            lines = (row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) for row in part)
            path.write_text("\n".join(lines) + "\n", encoding="utf-8")
            readings.append(read_source(path, name))
    return data_report(readings[0], readings[1] if len(readings) > 1 else None, "tiny", tokenizer, RECIPE)


LONG = "red green blue cat dog bird runs sleeps"  # 8 words: 10 tokens with [CLS] and [SEP]
ROWS: list[dict[str, Any]] = [
    {"text": "red cat runs", "label": "a"},
    {"text": "red cat runs", "label": "a"},
    {"text": "blue dog", "label": "b"},
    {"text": "blue dog", "label": "a"},
    {"text": LONG, "label": "b"},
    {"text": "好 bird", "label": "b"},
]


def test_numbers_of_a_file_by_hand(tmp_path: Path, tokenizer: Tokenizer) -> None:
    report = report_on(tmp_path, ROWS, tokenizer, [{"text": "blue dog", "label": "b"}, {"text": "green", "label": "a"}])
    assert report["rows"] == {"read": 6, "kept": 6, "faulty": 0}
    assert report["labels"] == [
        {"label": "a", "count": 4, "training": 3, "validation": 1},
        {"label": "b", "count": 4, "training": 3, "validation": 1},
    ]
    train = report["splits"][0]["tokens"]
    assert (train["total"], train["longest"], train["rows_cut"], train["tokens_cut"]) == (
        5 + 5 + 4 + 4 + 10 + 4,
        10,
        1,
        2,
    )
    tokens = report["tokens"]  # both splits
    assert tokens["total"] == 32 + 4 + 3
    assert sum(tokens["histogram"]["counts"]) == 8
    assert tokens["histogram"]["counts"][10] == 1
    assert tokens["cut_at"] == 8
    vocabulary = report["vocabulary"]
    assert vocabulary["unknown_tokens"] == 1
    assert vocabulary["unknown"] == [{"text": "好", "count": 1}]
    assert vocabulary["tokens"] == 3 + 3 + 2 + 2 + 6 + 2 + 2 + 1
    assert vocabulary["used"] == 7  # "sleeps" is cut
    characters = 12 + 12 + 8 + 8 + len(LONG) + 6 + 8 + 5
    assert vocabulary["tokens_per_character"] == pytest.approx((32 + 7 - 2 * 8) / characters)
    assert report["duplicates"]["exact"]["rows"] == 1
    assert report["duplicates"]["exact"]["groups"][0]["lines"] == [1, 2]
    assert report["duplicates"]["contradictory"]["groups"][0]["lines"] == [3, 4]
    assert report["leakage"]["exact"] == 1
    assert report["leakage"]["lines"] == [1]
    lengths = sorted([5, 5, 4, 4, 8, 4])
    padded = 4 * lengths[3] + 2 * lengths[5]
    assert report["batches"]["padding_share"] == pytest.approx(1 - sum(lengths) / padded)
    assert report["batches"]["per_epoch"] == 2
    assert [(stage["stage"], stage["count"], stage["lost"]) for stage in report["flow"]] == [
        ("rows read", 6, 0), ("rows fit", 6, 0), ("training rows", 6, 0), ("tokens", 30, 2), ("batches", 2, 0),
    ]  # fmt: skip
    assert any("1 of 6 training rows are longer than 8 tokens" in item["message"] for item in report["warnings"])


def test_samples_follow_a_row_to_its_ids(tmp_path: Path, tokenizer: Tokenizer) -> None:
    report = report_on(tmp_path, ROWS, tokenizer, [{"text": "green", "label": "a"}])
    assert [(sample["line"], sample["why"]) for sample in report["samples"]][-2:] == [
        (5, "the longest row"),
        (6, "the row with the largest share of unknown tokens"),
    ]
    sample = report["samples"][-1]
    assert sample["raw"] == ["好 bird"]
    assert [token["kind"] for token in sample["tokens"]] == ["special", "unknown", "known", "special"]
    assert sample["tokens"][1]["text"] == "好"
    assert sample["tokens"][2]["id"] == tokenizer.id_of("bird")
    assert sample["target"] == "b"


def test_a_faulty_file_still_tells_what_is_in_it(tmp_path: Path, tokenizer: Tokenizer) -> None:
    report = report_on(tmp_path, [*ROWS, "nope", {"text": ""}], tokenizer)
    assert report["rows"] == {"read": 7, "kept": 6, "faulty": 1}
    assert [item["line"] for item in report["faults"]] == [7, 8, 8]
    empty = report_on(tmp_path, ["nope"], tokenizer)
    assert empty["rows"]["kept"] == 0
    for found in (report, empty):
        assert "a fine-tuning job refuses this file" in report_page(found).html
        assert report_png(found).startswith(b"\x89PNG")


TASK_ROWS = {
    "tagging": [{"tokens": ["red", "北京"], "tags": ["O", "B-P"]}, {"tokens": ["cat"], "tags": ["O"]}] * 5,
    "regression": [{"text": f"red cat {index}", "score": index / 3} for index in range(12)],
    "multi_label": [{"text": f"red cat {index}", "labels": ["a", "b"][: index % 3]} for index in range(12)],
    "language_model": [{"text": "red cat"}, {"text": "blue dog"}],
    "classification": ROWS,
}


@pytest.mark.parametrize("task", TASK_ROWS)
def test_every_task_has_a_report_a_page_and_a_picture(tmp_path: Path, tokenizer: Tokenizer, task: str) -> None:
    report = report_on(tmp_path, TASK_ROWS[task], tokenizer)
    assert report["task"] == task
    assert json.loads(json.dumps(report, allow_nan=False)) == report
    page = report_page(report)
    check_self_contained(page.html)
    image = Image.open(io.BytesIO(report_png(report)))
    assert image.width == 2 * (760 + 80)
    assert 800 < image.height < 12_000
    if task == "tagging":
        assert ">B-P</b>" in page.html


class References(HTMLParser):
    """Everything on a page that would load, run or lead elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        if tag in ("script", "link", "img", "iframe", "object", "embed", "a", "form", "use", "image"):
            self.found.append(tag)
        self.found += [
            f"{tag} {name}" for name, _ in attributes if name in ("src", "href", "style") or name.startswith("on")
        ]
        if tag not in ("meta", "br", "rect", "polyline"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in ("rect", "polyline"):
            assert self.open.pop() == tag


def check_self_contained(html: str) -> None:
    parser = References()
    parser.feed(html)
    assert parser.found == []
    assert parser.open == []
    assert all(url.startswith("data:font/otf;base64,") for url in re.findall(r"url\(([^)]*)\)", html))
    assert "http:" not in html
    assert "https:" not in html


def test_text_of_the_file_can_not_become_markup(tmp_path: Path, tokenizer: Tokenizer, faults: Faults) -> None:
    evil = '<script>alert(1)</script><img src=x onerror="a">'
    rows = [{"text": f"{evil} {index}", "label": f"<b>{index % 2}"} for index in range(8)]
    html = report_page(report_on(tmp_path, [*rows, rows[0], {**rows[0], "label": "<b>1"}], tokenizer)).html
    check_self_contained(html)
    assert "&lt;script&gt;" in html
    faults.saw("scripts and handlers in the rows of a report", f"{html.count('<script>alert')} of them are markup")


def test_the_page_carries_the_glyphs_of_its_chinese() -> None:
    rule = font_face("一部好电影, good")
    (data,) = re.findall(r"base64,([^)]+)\)", rule)
    cmap = TTFont(io.BytesIO(base64.b64decode(data))).getBestCmap()
    assert {chr(code) for code in cmap} >= set("一部好电影")
    assert len(data) < 20_000
    assert font_face("only Latin") == ""


def test_near_duplicates_are_found_whatever_their_case_and_punctuation() -> None:
    texts = [
        "The quick brown fox jumps over the lazy dog near the river bank",
        "the quick, brown fox jumps over the lazy dog near the river bank!",
        "The quick brown fox jumps over the lazy dog near the river banks",
        "Nothing of the kind stands here, this is another sentence",
        "今天天气很好我们一起去公园玩吧",
        "今天天气很好,我们一起去公园玩吧吧",
        "ok", "OK!", "",
    ]  # fmt: skip
    assert near_groups(texts) == [[0, 1, 2], [4, 5], [6, 7]]


def test_near_duplicates_of_many_rows_have_no_false_and_few_missing_pairs() -> None:
    generator = random.Random(0)
    words = [f"w{number}" for number in range(3_000)]
    texts = [" ".join(generator.choices(words, k=20)) for _ in range(2_000)]
    changed = []
    for text in texts[:200]:
        parts = text.split()
        parts[generator.randrange(20)] = generator.choice(words)
        changed.append(" ".join(parts))
    groups = near_groups(texts + changed)
    pairs = {(group[0], index) for group in groups for index in group[1:]}
    wanted = {
        (index, 2_000 + index)
        for index in range(200)
        if similarity(letters_key(texts[index]), letters_key(changed[index])) >= SIMILARITY
    }
    assert pairs <= wanted
    assert len(pairs) >= 0.95 * len(wanted)
    assert len(wanted) > 150


@pytest.mark.parametrize("ending", ["html", "json", "png"])
def test_the_command_writes_each_form_and_says_what_is_wrong(
    tmp_path: Path, tokenizer: Tokenizer, capsys: pytest.CaptureFixture[str], ending: str
) -> None:
    base = tmp_path / "base"
    config = TransformerConfig(vocab_size=tokenizer.vocab_size, width=16, num_layers=1, num_heads=2, max_positions=64)
    save_model(TextModel(config), tokenizer, base)
    (tmp_path / "rows.csv").write_text("text,label\nred cat,a\nblue dog,b\n,a\n", encoding="utf-8")
    parser = argparse.ArgumentParser()
    add_commands(parser.add_subparsers(), Settings(home=tmp_path / "home"))
    output = tmp_path / f"report.{ending}"
    command = ["data", "report", str(tmp_path / "rows.csv"), "--base", str(base), "--output", str(output)]
    arguments = parser.parse_args(command)
    arguments.run(arguments)
    shown = capsys.readouterr().out
    assert "fault: line 4: 'text' is empty" in shown
    assert "2 of 3 rows can be trained on" in shown
    content = output.read_bytes()
    assert content.startswith({"html": b"<!doctype html>", "json": b"{", "png": b"\x89PNG"}[ending])
    arguments = parser.parse_args([*command[:-1], str(tmp_path / "report.pdf")])
    with pytest.raises(ValueError, match=r"its ending must be one of \.html, \.json, \.png"):
        arguments.run(arguments)
    arguments = parser.parse_args([*command[:-1], str(tmp_path / "new" / output.name)])
    with pytest.raises(ValueError, match=r"there is no folder '.*new'; make it first"):
        arguments.run(arguments)
    assert capsys.readouterr().out == "", "before anything is read"

"""The evaluation page and picture, and `vitrine evaluate`."""

import argparse
import csv
import io
import json
import re
from collections.abc import Callable, Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image, ImageColor

from model.config import TransformerConfig
from model.heads import TextModel
from model.lora import LoraConfig, make_trainable, save_adapter, take_adapter
from model.tokenizer import Tokenizer, train_wordpiece
from model.weights import save_model
from service.evaluate_cli import add_commands
from service.report.canvas import LIGHT, SCALE, PixelCanvas
from service.report.chart import WIDTH
from service.report.evaluation.charts import MATRIX_LABELS, charts_of
from service.report.evaluation.page import evaluation_page
from service.report.evaluation.picture import evaluation_png
from service.report.evaluation.words import gain, summary, verdict
from service.report.output import write_form
from service.report.sheet import MARGIN, draw_sheet
from service.settings import Settings
from training.data import load_examples
from training.dynamics import Dynamics
from training.evaluation import Evidence, Names, evaluation_report
from training.evaluation.files import judge, write_evaluation
from training.finetune import Data

WORDS = ["red", "green", "blue", "cat", "dog", "bird", "runs", "sleeps", "电影", "好看"]
SENTENCES = [[a, b, c] for a in WORDS[:3] for b in WORDS[3:6] for c in WORDS[6:10]]
ROWS: dict[str, list[dict[str, Any]]] = {
    "classification": [{"text": " ".join(words), "label": "温暖" if words[0] == "red" else "cold"} for words in SENTENCES],
    "multi_label": [{"text": " ".join(words), "labels": [word for word in words if word in ("red", "cat", "好看")]} for words in SENTENCES],
    "regression": [{"text": " ".join(words), "score": float(len(" ".join(words)))} for words in SENTENCES],
    "tagging": [{"tokens": words, "tags": ["O", "B-ANIMAL", "B-电影" if words[2] == "电影" else "O"]} for words in SENTENCES],
}  # fmt: skip
LABELS: dict[str, tuple[str, ...]] = {
    "classification": ("cold", "温暖"),
    "multi_label": ("cat", "red", "好看"),
    "regression": (),
    "tagging": ("B-ANIMAL", "B-电影", "O"),
}


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_wordpiece([" ".join(WORDS)] * 5, 150)


def model_for(task: str, tokenizer: Tokenizer, labels: tuple[str, ...]) -> TextModel:
    torch.manual_seed(1)
    config = TransformerConfig(
        vocab_size=tokenizer.vocab_size, width=16, num_layers=1, num_heads=2, feed_forward_width=24, max_positions=32,
        dropout=0.0, task=task, labels=labels,  # type: ignore[arg-type]
    )  # fmt: skip
    return TextModel(config).eval()


def write(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def report_on(
    folder: Path, task: str, tokenizer: Tokenizer, rows: list[dict[str, Any]] | None = None
) -> dict[str, Any]:
    rows = rows or ROWS[task]
    labels = tuple(sorted({row["label"] for row in rows})) if task == "classification" else LABELS[task]
    examples = load_examples(write(folder / "rows.jsonl", rows))
    dynamics = Dynamics(3, len(rows))
    for epoch in range(3):
        generator = torch.Generator().manual_seed(epoch)
        dynamics.record(epoch, range(len(rows)), torch.rand(len(rows), generator=generator))
    history = [{"step": step, "train_loss": 1 / step} for step in range(1, 30)]
    history += [
        {
            "step": 29,
            "valid_loss": 0.5,
            "valid_accuracy": 0.5,
            "valid_micro_f1": 0.4,
            "valid_span_f1": 0.2,
            "valid_mean_absolute_error": 3.0,
        }
    ]
    evidence = Evidence(examples, None if task == "regression" else dynamics, history)
    return evaluation_report(
        model_for(task, tokenizer, labels), tokenizer, examples, evidence, None, Names("tiny", "rows.jsonl")
    )


KEYS = {
    "classification": ["baselines", "confusion", "labels", "calibration", "slice-label", "curves", "map"],
    "multi_label": ["baselines", "labels", "calibration", "slice-label", "curves", "map"],
    "regression": ["baselines", "truth", "slice-label", "curves"],
    "tagging": ["baselines", "labels", "calibration", "slice-label", "curves", "map"],
}


@pytest.mark.parametrize("task", ROWS)
def test_every_task_has_a_page_and_a_picture_of_its_charts(tmp_path: Path, tokenizer: Tokenizer, task: str) -> None:
    report = report_on(tmp_path, task, tokenizer)
    report = json.loads(json.dumps(report))  # as it comes from a file
    charts = [chart.key for chart in charts_of(report)]
    assert [key for key in charts if key not in ("slice-length", "slice-script")] == KEYS[task]
    page = evaluation_page(report)
    check_self_contained(page.html)
    assert page.html.count("<svg") == len(charts)
    assert page.policy.startswith("default-src 'none'")
    image = Image.open(io.BytesIO(evaluation_png(report)))
    assert image.width == 2 * (760 + 80)
    assert image.height > 2 * sum(chart.height for chart in charts_of(report))


def test_what_a_temperature_changed_is_drawn_and_said(tmp_path: Path, tokenizer: Tokenizer) -> None:
    report = report_on(tmp_path, "classification", tokenizer)
    plain = evaluation_png(report)
    assert "red line" not in evaluation_page(report).html
    examples = load_examples(tmp_path / "rows.jsonl")
    model = model_for("classification", tokenizer, LABELS["classification"])
    warm = evaluation_report(model, tokenizer, examples, Evidence(examples, temperature=3.0))
    assert warm["calibration"]["before"]["mean_confidence"] > warm["calibration"]["mean_confidence"]
    report["calibration"] = warm["calibration"]
    html = evaluation_page(report).html
    assert "the model before its logits were divided by 3.00" in html
    check_self_contained(html)
    assert evaluation_png(report) != plain


class Tags(HTMLParser):
    """Every tag and attribute name of a page; void and drawn elements have no end tag to pair."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.attributes: set[str] = set()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.names.add(tag)
        self.attributes.update(name for name, _ in attributes)
        if tag not in ("meta", "polyline"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag != "polyline":
            assert self.open.pop() == tag


def check_self_contained(html: str) -> None:
    tags = Tags()
    tags.feed(html)
    assert tags.open == []
    assert not tags.names & {"script", "link", "img", "iframe", "object", "embed", "a", "form", "use", "image", "b"}
    assert not {name for name in tags.attributes if name in ("src", "href", "style") or name.startswith("on")}
    assert all(url.startswith("data:font/otf;base64,") for url in re.findall(r"url\(([^)]*)\)", html))


def test_text_and_labels_of_the_rows_can_not_become_markup(tmp_path: Path, tokenizer: Tokenizer) -> None:
    evil = '<script>alert(1)</script><img src=x onerror="a">'
    rows = [{"text": f"{evil} {index}", "label": f"<b>{index % 2}</b>"} for index in range(20)]
    report = report_on(tmp_path, "classification", tokenizer, rows)
    report |= {"model": evil, "data": evil}
    html = evaluation_page(report).html
    check_self_contained(html)
    assert "&lt;script&gt;alert(1)" in html
    assert "&lt;b&gt;0" in html
    assert evaluation_png(report).startswith(b"\x89PNG")


def test_many_labels_show_those_with_most_mistakes(tmp_path: Path, tokenizer: Tokenizer) -> None:
    rows = [{"text": f"red cat {index}", "label": f"label {index % 30}"} for index in range(90)]
    report = report_on(tmp_path, "classification", tokenizer, rows)
    (confusion,) = (chart for chart in charts_of(report) if chart.key == "confusion")
    assert f"Of 30 labels the {MATRIX_LABELS} with most mistakes" in confusion.hint
    check_self_contained(evaluation_page(report).html)
    report["confusion"] = None  # as for more than 50
    assert "What is taken for what" in evaluation_page(report).html


def test_without_training_rows_there_is_neither_baseline_nor_claim(tmp_path: Path, tokenizer: Tokenizer) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS["classification"]))
    examples = load_examples(path)
    report = evaluation_report(model_for("classification", tokenizer, LABELS["classification"]), tokenizer, examples)
    assert verdict(report)[0] == "warn"
    assert "give the training rows" in verdict(report)[1]
    html = evaluation_page(report).html
    assert "mislabelled" not in html
    assert "majority" not in html


@pytest.mark.parametrize(
    ("higher", "interval", "expected"),
    [(True, [0.01, 0.2], 1), (True, [-0.1, 0.2], 0), (True, [-0.2, -0.1], -1), (False, [-2.0, -1.0], 1), (False, [1.0, 2.0], -1), (False, None, 0)],
)  # fmt: skip
def test_the_verdict_needs_an_interval_on_one_side_of_zero(
    higher: bool, interval: list[float] | None, expected: int
) -> None:
    report = {
        "metric": {"key": "x", "title": "figure", "higher_is_better": higher},
        "headline": {"value": 0.5, "interval": None},
        "versus": {"baseline": "TF-IDF", "value": 0.1, "interval": interval},
    }
    assert gain(report) == expected
    assert verdict(report)[0] == {1: "good", 0: "warn", -1: "bad"}[expected]


def ink_of(draw: Callable[[PixelCanvas], None]) -> bytes:
    image = Image.new("RGB", (300, 80), LIGHT["paper"])
    draw(PixelCanvas(image, 20, 20))
    return image.tobytes()


@pytest.mark.parametrize(("one", "another"), [("😀", "🎉"), ("שלום", "עולם"), ("สวัสดี", "ขอบคุณ"), ("नमस्ते", "धन्यवाद")])
def test_a_picture_has_the_letters_of_every_script(one: str, another: str) -> None:
    """Boxes of a font without them would be the same."""
    first, second = (ink_of(lambda canvas, text=text: canvas.text(0, 0, text[:2])) for text in (one, another))  # type: ignore[misc]
    assert first != second
    assert Image.new("RGB", (300, 80), LIGHT["paper"]).tobytes() not in (first, second)


def test_the_verdict_stands_whole_on_the_picture_and_without_remarks() -> None:
    words = "Not surely better than the simple models: +11.0 points of accuracy against the baseline TF-IDF " * 2
    heights = []
    for title in ("", "short", words):
        image = Image.open(io.BytesIO(draw_sheet("How good", "is it", (), (), (), title)))
        beyond = image.crop(((MARGIN + WIDTH + 10) * SCALE, 0, image.width, image.height))
        assert beyond.getcolors() == [(beyond.width * beyond.height, ImageColor.getrgb(LIGHT["paper"]))]
        heights.append(image.height)
    assert heights[0] < heights[1] < heights[2]


def test_a_figure_with_nothing_to_count_is_no_lack_of_training_rows() -> None:
    report = {
        "metric": {"key": "span_f1", "title": "span F1", "higher_is_better": True},
        "headline": {"value": None, "interval": None},
    }
    assert verdict(report) == (
        "warn",
        "span F1 can't be told: these rows, and what the model says of them, have nothing to count.",
    )


SPARSE: dict[str, list[list[dict[str, Any]]]] = {  # training rows, held-out rows: the poorest that a job may have
    "classification": [
        [{"text": "!", "label": "cold"}, {"text": "!", "label": "cold"}, {"text": "?", "label": "温暖"}, {"text": "?", "label": "温暖"}],
        [{"text": "?", "label": "cold"}],
    ],
    "multi_label": [
        [{"text": "a", "labels": []}, {"text": "a", "labels": ["cat", "red", "好看"]}],
        [{"text": "a", "labels": []}],
    ],
    "regression": [
        [{"text": "a", "score": 1.0}, {"text": "b", "score": 1e15}],
        [{"text": "a", "score": 1e15}],
    ],
    "tagging": [
        [{"tokens": ["a"], "tags": ["O"]}, {"tokens": ["b"], "tags": ["B-ANIMAL"]}],
        [{"tokens": ["red"], "tags": ["O"]}],
    ],
}  # fmt: skip


@pytest.mark.parametrize("repeated", [1, 3])
@pytest.mark.parametrize("task", SPARSE)
def test_the_poorest_rows_still_have_a_report(tmp_path: Path, tokenizer: Tokenizer, task: str, repeated: int) -> None:
    train, held_out = (
        load_examples(write(tmp_path / f"{index}.jsonl", rows * repeated)) for index, rows in enumerate(SPARSE[task])
    )
    evidence = Evidence(train, Dynamics(2, len(train.rows)), [{"step": 1, "train_loss": 0.0}])
    model = model_for(task, tokenizer, LABELS[task])
    report = json.loads(json.dumps(evaluation_report(model, tokenizer, held_out, evidence), allow_nan=False))
    check_self_contained(evaluation_page(report).html)
    assert evaluation_png(report).startswith(b"\x89PNG")
    assert summary(report)


def test_a_report_that_can_not_be_written_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "report.json").mkdir()  # a rename over it fails
    with pytest.raises(OSError, match=r"report\.json"):
        write_form(tmp_path / "report.json", {".json": lambda: b"{}"})
    assert [path.name for path in tmp_path.iterdir()] == ["report.json"]


# The command


@pytest.fixture
def command(tmp_path: Path, tokenizer: Tokenizer) -> argparse.ArgumentParser:
    """With a model folder, an adapter folder over a base beside it, and rows to ask about."""
    torch.manual_seed(0)
    save_model(model_for("classification", tokenizer, LABELS["classification"]), tokenizer, tmp_path / "run" / "model")
    base = model_for("embeddings", tokenizer, ())
    save_model(base, tokenizer, tmp_path / "base")
    tuned = TextModel(base.config.with_task("classification", LABELS["classification"]))
    tuned.stack.load_state_dict(base.stack.state_dict())
    make_trainable(tuned, LoraConfig(rank=2))
    save_adapter(take_adapter(tuned, LoraConfig(rank=2)), str(tmp_path / "base"), tmp_path / "adapter")
    for name, rows in (("train", ROWS["classification"]), ("held", ROWS["classification"][::2])):
        (tmp_path / f"{name}.jsonl").write_text(
            "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8"
        )
    (tmp_path / "numbers.csv").write_text("text,score\nred,1\nblue,2\n")
    (tmp_path / "strangers.csv").write_text("text,label\nred,cold\nblue,hot\n")
    parser = argparse.ArgumentParser()
    add_commands(parser.add_subparsers(), Settings(home=tmp_path / "home", device="cpu"))
    return parser


def test_an_adapter_without_its_base_says_how_to_get_it(command: argparse.ArgumentParser, tmp_path: Path) -> None:
    (tmp_path / "base").rename(tmp_path / "moved")
    with pytest.raises(ValueError, match=r"adapter' is an adapter, and its base is not here: .* import FOLDER --name"):
        run(command, "--model", tmp_path / "adapter", "--data", tmp_path / "held.jsonl")


def run(command: argparse.ArgumentParser, *words: str | Path) -> None:
    arguments = command.parse_args(["evaluate", *map(str, words)])
    arguments.run(arguments)


@pytest.mark.parametrize("model", ["run/model", "run", "adapter"])
def test_the_command_prints_the_figures_beside_the_baselines(
    tmp_path: Path, command: argparse.ArgumentParser, capsys: pytest.CaptureFixture[str], model: str
) -> None:
    run(
        command,
        "--model",
        tmp_path / model,
        "--data",
        tmp_path / "held.jsonl",
        "--training-data",
        tmp_path / "train.jsonl",
    )
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["model", "majority", "TF-IDF"]
    accuracy = lines[1].split()
    assert accuracy[0] == "accuracy"
    assert accuracy[2] == "0.667"  # two of three texts are cold
    assert any(line.startswith("calibration error") for line in lines)
    assert "95% interval" in lines[-1]


@pytest.mark.parametrize(
    ("ending", "begin"), [("html", b"<!doctype html>"), ("json", b"{"), ("png", b"\x89PNG"), ("csv", b"line,text,true")]
)
def test_the_command_writes_each_form(
    tmp_path: Path, command: argparse.ArgumentParser, ending: str, begin: bytes
) -> None:
    output = tmp_path / f"out.{ending}"
    run(command, "--model", tmp_path / "run", "--data", tmp_path / "held.jsonl", "--output", output)
    assert output.read_bytes().startswith(begin)
    if ending == "csv":
        rows = list(csv.DictReader(output.open(encoding="utf-8", newline="")))
        assert [int(row["line"]) for row in rows] == list(range(1, 19))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--model", "nowhere", "--data", "held.jsonl"], "model 'nowhere' does not exist.*or name a model folder"),
        (["--model", "run", "--data", "numbers.csv"], "task 'classification' needs 'text' and 'label'"),
        (["--model", "run", "--data", "strangers.csv"], r"line 3: label 'hot' is none of the model's, which are \['cold', '温暖'\]"),
        (["--model", "run", "--data", "held.jsonl", "--training-data", "strangers.csv"], "line 3: label 'hot' is none"),
        (["--model", "run", "--data", "held.jsonl", "--max-length", "2"], "max_length is 2; at least 4 tokens are needed"),
        (["--model", "base", "--data", "held.jsonl"], "is for 'embeddings'; name a model for classification, multi_label"),
        (["--model", "run", "--data", "held.jsonl", "--output", "x.pdf"], r"its ending must be one of \.html, \.json, \.png, \.csv"),
    ],
)  # fmt: skip
def test_the_command_says_what_is_wrong(
    tmp_path: Path, command: argparse.ArgumentParser, monkeypatch: pytest.MonkeyPatch, words: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=message):
        run(command, *words)


def test_a_runs_own_folder_is_shown_as_it_was_measured(
    tmp_path: Path, command: argparse.ArgumentParser, capsys: pytest.CaptureFixture[str], tokenizer: Tokenizer
) -> None:
    with pytest.raises(ValueError, match=r"has no evaluation.json, as a training run leaves it; name labelled rows"):
        run(command, "--model", tmp_path / "run")
    train, held = (load_examples(tmp_path / f"{name}.jsonl") for name in ("train", "held"))
    data = Data(train, held, LABELS["classification"])
    dynamics = Dynamics(1, len(train.rows))
    dynamics.record(0, range(len(train.rows)), torch.linspace(0, 1, len(train.rows)))
    model = model_for("classification", tokenizer, LABELS["classification"])
    judged = judge(model, tokenizer, held)
    write_evaluation(judged, data, dynamics, [{"step": 1, "train_loss": 0.5}], tmp_path / "run")
    output = tmp_path / "page.html"
    run(command, "--model", tmp_path / "run", "--output", output)
    assert "accuracy" in capsys.readouterr().out
    assert "Map of the training rows" in output.read_text(encoding="utf-8")
    run(command, "--model", tmp_path / "run", "--output", tmp_path / "rows.csv")
    assert (tmp_path / "rows.csv").read_bytes() == (tmp_path / "run" / "predictions.csv").read_bytes()


def test_the_summary_has_every_figure_once(tmp_path: Path, tokenizer: Tokenizer) -> None:
    report = report_on(tmp_path, "regression", tokenizer)
    text = summary(report)
    assert [line.split("  ")[0] for line in text.splitlines()[1:-1]] == [
        "mean absolute error", "median absolute error", "root mean squared error", "R²", "correlation (Pearson)",
        "rank correlation (Spearman)", "mean error (bias)",
    ]  # fmt: skip

"""`vitrine explain benchmark`: a model whose answer hangs on one word, and methods that find it or do not."""

import argparse
import io
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from model.config import TransformerConfig
from model.explain.comparison import Judged
from model.explain.faithfulness import Erasure, Faithfulness, Spread, Trial
from model.heads import TextModel
from model.tokenizer import Tokenizer, train_wordpiece
from model.weights import save_model
from service.explain_cli import add_commands
from service.report.attributions import picture, table
from service.settings import Settings
from training.evaluation.attributions import attribution_report

WORDS = ["red", "green", "blue", "cat", "dog", "bird", "runs", "sleeps"]
TEXTS = [f"{a} {b} {c} and then the {b} {a}" for a in WORDS[:3] for b in WORDS[3:6] for c in WORDS[6:]]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_wordpiece([" ".join([*WORDS, "and then the"])] * 5, 150)


@pytest.fixture
def folder(tmp_path: Path, tokenizer: Tokenizer) -> Path:
    torch.manual_seed(1)
    config = TransformerConfig(
        vocab_size=tokenizer.vocab_size, width=16, num_layers=2, num_heads=2, feed_forward_width=24, max_positions=32,
        dropout=0.0, task="classification", labels=("cold", "warm"), pooling="mean",
    )  # fmt: skip
    model = TextModel(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape))
    save_model(model.eval(), tokenizer, tmp_path / "model")
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS), encoding="utf-8")
    return tmp_path


def run(folder: Path, *options: str) -> None:
    parser = argparse.ArgumentParser()
    add_commands(parser.add_subparsers(), Settings(home=folder / "home"))
    given = ["explain", "benchmark", "--model", str(folder / "model"), "--data", str(folder / "rows.jsonl"), *options]
    arguments = parser.parse_args(given)
    arguments.run(arguments)


def test_all_methods_stand_in_a_table_with_intervals(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = folder / "found.json"
    run(folder, "--rows", "6", "--num-random", "4", "--output", str(output))
    report = json.loads(output.read_text(encoding="utf-8"))
    assert report["rows"] == 6
    assert {row["name"] for row in report["methods"]} == {
        "decomposition", "gradient_weighted", "gradient_x_input", "integrated_gradients", "occlusion", "attention", "rollout",
        "random",
    }  # fmt: skip
    found = [row["comprehensiveness"]["value"] for row in report["methods"]]
    assert found == sorted(found, reverse=True), "the most comprehensive first"
    for row in report["methods"]:
        low, high = row["comprehensiveness"]["interval"]
        assert low <= row["comprehensiveness"]["value"] <= high
        assert row["comprehensiveness_normalised"] is None
        assert row["seconds"] > 0.0
    printed = capsys.readouterr().out
    assert printed.count("\n| ") == 9, "a header's rule and eight methods"
    assert f"| {report['methods'][0]['name'].replace('_', ' ')} | {found[0]:.3f} (" in printed


def test_the_same_seed_gives_the_same_table_and_rows_and_methods_are_chosen(folder: Path) -> None:
    options = ["--methods", "occlusion", "random", "--rows", "5", "--num-random", "3", "--bounds", "1"]
    tables = []
    for index, seed in enumerate((1, 1, 2)):
        output = folder / f"{index}.json"
        run(folder, *options, "--seed", str(seed), "--output", str(output))
        report = json.loads(output.read_text(encoding="utf-8"))
        assert {row["name"] for row in report["methods"]} == {"occlusion", "random"}
        for row in report["methods"]:
            assert 0.0 <= row["sufficiency_normalised"]["value"] <= 1.0
            del row["seconds"]
        tables.append(report)
    assert tables[0] == tables[1]
    assert tables[0] != tables[2]


def test_the_output_is_markdown_or_a_picture(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--methods", "attention", "random", "--rows", "3", "--num-random", "2"]
    run(folder, *options, "--output", str(folder / "found.md"))
    assert (folder / "found.md").read_text(encoding="utf-8") in capsys.readouterr().out
    run(folder, *options, "--output", str(folder / "found.png"))
    assert Image.open(folder / "found.png").width == 2 * (760 + 80)


def erasure(aopc: float, chance: float) -> Erasure:
    return Erasure((aopc,) * 5, aopc, Spread(chance, 0.1), None)


def judged(comprehensiveness: float, sufficiency: float, verdict: Any) -> Judged:
    return Judged(Faithfulness(0.9, erasure(comprehensiveness, 0.2), erasure(sufficiency, 0.3), verdict), 0.5)


def test_the_table_has_means_over_texts_beside_chance() -> None:
    texts = [
        {"low": judged(0.1, 0.3, "near random"), "high": judged(0.6, 0.1, "better than random")},
        {"low": judged(0.3, 0.5, "near random"), "high": judged(0.8, 0.1, "near random")},
    ]
    report = attribution_report(texts, Trial(beam_width=0), "a model", "rows")
    assert [row["name"] for row in report["methods"]] == ["high", "low"]
    high, low = report["methods"]
    assert high["comprehensiveness"]["value"] == pytest.approx(0.7)
    assert high["comprehensiveness_above_random"]["value"] == pytest.approx(0.5)
    assert low["sufficiency_above_random"]["value"] == pytest.approx(0.1)
    assert (high["near_random"], low["near_random"]) == (0.5, 1.0)
    assert "| high | 0.700 (0.600 to 0.800) | +0.500 (+0.400 to +0.600) | 0.100 (0.100 to 0.100) |" in table(report)
    image = Image.open(io.BytesIO(picture(report)))
    assert image.width == 2 * (760 + 80)


def test_what_cannot_be_compared_is_refused(folder: Path, tokenizer: Tokenizer) -> None:
    with pytest.raises(ValueError, match=r"--output is 'found.svg'; its ending must be one of"):
        run(folder, "--output", str(folder / "found.svg"))
    with pytest.raises(ValueError, match="rows is 0; it must be at least 1"):
        run(folder, "--rows", "0")
    with pytest.raises(ValueError, match="num_random is 1"):
        run(folder, "--num-random", "1")
    config = TransformerConfig(vocab_size=tokenizer.vocab_size, width=16, num_layers=1, num_heads=2, max_positions=32)
    save_model(TextModel(config).eval(), tokenizer, folder / "model")
    with pytest.raises(ValueError, match="is for 'embeddings'; name one for classification"):
        run(folder)

"""The training commands: no option is ignored, own text trains as asked."""

import argparse
import io
from collections.abc import Iterator
from pathlib import Path

import pytest
from tqdm import tqdm

from training.cli import Store, add_commands, show, show_all
from training.config import PretrainRecipe
from training.events import Finishing, Noted, Progress, Started, TrainingEvent
from training.results import read_manifest

TEXT = ["the film was good", "这本书非常好", "a song is rather long", "酒店房间很小"] * 6


def run(home: Path, *arguments: str) -> list[tuple[str, Path]]:
    """Runs one command -> what it published."""
    published: list[tuple[str, Path]] = []

    def publish(name: str, folder: Path) -> str:
        published.append((name, folder))
        return f"published as {name}"

    def check_name(name: str) -> None:
        if not name.isidentifier():
            raise ValueError(f"name {name!r} can't be used")

    parser = argparse.ArgumentParser()
    add_commands(parser.add_subparsers(), home, Store(publish, Path, dict, check_name))
    parsed = parser.parse_args(arguments)
    parsed.run(parsed)
    return published


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--seed", "0"], "--seed"),
        (["--epochs", "1"], "--epochs"),
        (["--task", "masked_lm"], "--task"),
        (["--preset", "tiny", "--vocabulary", "500"], "--preset, --vocabulary"),
        (["--batch-rows", "4", "--row-tokens", "64"], "--batch-rows, --row-tokens"),
        (["--learning-rate", "0.1", "--validation", "x.txt"], "--validation, --learning-rate"),
    ],
)
def test_a_model_of_ours_refuses_options_that_its_recipe_sets(tmp_path: Path, options: list[str], named: str) -> None:
    with pytest.raises(ValueError, match=f"chinese-writer is trained as its recipe says; leave out {named}, or train"):
        run(tmp_path, "pretrain", "chinese-writer", *options)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "command", [["finetune", "--data", "x.jsonl", "--output", "x"], ["pretrain", "chinese-writer"]]
)
def test_sharding_among_one_process_is_refused(tmp_path: Path, command: list[str]) -> None:
    with pytest.raises(ValueError, match=r"--shard spreads the weights over several processes.*start it with torchrun"):
        run(tmp_path, *command, "--shard")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--vocabulary", "0"], "vocabulary is 0; choose from 1 to 1,000,000 tokens"),
        (["--vocabulary", "-5"], "vocabulary is -5; choose from 1 to 1,000,000 tokens"),
        (["--vocabulary", "1000001"], "vocabulary is 1000001; choose from 1 to 1,000,000 tokens"),
        (
            ["--vocabulary", "20"],
            r"vocabulary is 20; the characters of this text and .* make \d\d, choose at least that",
        ),
        (["--vocabulary", "99", "--task", "causal_lm"], r"vocabulary is 99; the .* make 2\d\d, choose at least that"),
        (["--publish", "no name"], "name 'no name' can't be used"),
        (["--publish", ""], "name '' can't be used"),
    ],
)
def test_what_own_text_can_not_become_is_said_before_it_is_trained_on(
    tmp_path: Path, options: list[str], words: str
) -> None:
    text = tmp_path / "text.txt"
    text.write_text("\n".join(TEXT), encoding="utf-8")
    common = ["pretrain", "--data", str(text), "--validation", str(text), "--preset", "tiny", "--epochs", "1"]
    with pytest.raises(ValueError, match=words):
        run(tmp_path, *common, "--output", str(tmp_path / "run"), *options)
    assert not (tmp_path / "run" / "model").exists()


def test_ctrl_c_says_how_a_run_goes_on(capsys: pytest.CaptureFixture[str]) -> None:
    def events() -> Iterator[TrainingEvent]:
        yield Noted("begun")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        show_all(events())
    assert "interrupted; the same command again continues from the last checkpoint" in capsys.readouterr().out


def test_what_follows_the_last_step_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    show_all([Finishing("Writing the model")])
    assert "Writing the model" in capsys.readouterr().out


def test_a_run_that_goes_on_shows_the_pace_of_its_own_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    terminal = io.StringIO()
    bar = tqdm(unit="step", file=terminal, ncols=100)
    monkeypatch.setattr(bar, "_time", lambda: now)
    now = 100.0  # read and checked the data until then
    show(Started(5000, 6600, 800, 80, "float32", 8, 0.1, 1_000_000), bar)
    assert "5000/6600" in terminal.getvalue()
    now = 110.0
    show(Progress(5020, 6600, 3.8, 0.5, 1e-4, 900.0, 1_000_000, 1.0), bar)
    assert "5020/6600 [00:10<13:10,  2.00step/s, loss 0.500, 900 tokens/s]" in str(bar)
    bar.close()


def test_a_tuned_model_never_takes_the_place_of_its_base(tmp_path: Path) -> None:
    (tmp_path / "base" / "model").mkdir(parents=True)
    options = ["--data", "x.jsonl", "--base", str(tmp_path / "base" / "model"), "--output", str(tmp_path / "base")]
    with pytest.raises(ValueError, match=r"--output .*base would put the tuned model in the place of its base"):
        run(tmp_path, "finetune", *options)


def test_own_text_is_trained_with_the_options_given_and_the_recipes_defaults(tmp_path: Path) -> None:
    (tmp_path / "train.txt").write_text("\n".join(TEXT), encoding="utf-8")
    (tmp_path / "held-out.txt").write_text("\n".join(TEXT[:4]), encoding="utf-8")
    common = ["pretrain", "--data", str(tmp_path / "train.txt"), "--validation", str(tmp_path / "held-out.txt")]
    common += ["--preset", "tiny", "--epochs", "1", "--vocabulary", "320"]
    assert run(tmp_path, *common, "--output", str(tmp_path / "a")) == []
    fields = read_manifest(tmp_path / "a")
    assert (fields["recipe"]["num_epochs"], fields["recipe"]["seed"]) == (1, PretrainRecipe.seed)
    assert fields["recipe"]["row_tokens"] == PretrainRecipe.row_tokens
    assert fields["config"]["task"] == "masked_lm"
    assert fields["config"]["max_positions"] == PretrainRecipe.row_tokens, "short texts reach no more"
    with pytest.raises(ValueError, match=r"a holds another run.*give --output another folder"):
        run(tmp_path, *common, "--output", str(tmp_path / "a"), "--seed", "5")
    corpus = {path: path.read_bytes() for path in (tmp_path / "a" / "corpus").rglob("*") if path.is_file()}
    with pytest.raises(ValueError, match=r"a holds another run.*give --output another folder"):
        run(tmp_path, *common, "--output", str(tmp_path / "a"), "--vocabulary", "321")
    assert {path: path.read_bytes() for path in corpus} == corpus, "its tokens are what they were"
    more = ["--task", "causal_lm", "--row-tokens", "32", "--batch-rows", "2", "--learning-rate", "0.01", "--seed", "5"]
    published = run(tmp_path, *common, *more, "--output", str(tmp_path / "b"), "--publish", "own")
    assert published == [("own", tmp_path / "b" / "model")]
    fields = read_manifest(tmp_path / "b")
    asked = {"row_tokens": 32, "batch_rows": 2, "learning_rate": 0.01, "seed": 5, "num_epochs": 1}
    assert {name: fields["recipe"][name] for name in asked} == asked
    assert fields["config"]["task"] == "causal_lm"
    assert fields["config"]["max_positions"] == 32
    assert fields["config"]["vocab_size"] <= 320
    (tmp_path / "train.txt").write_text("\n".join([*TEXT, "长" * 70]), encoding="utf-8")
    run(tmp_path, *common, "--row-tokens", "32", "--preset", "minilm-l6", "--output", str(tmp_path / "c"))
    assert read_manifest(tmp_path / "c")["config"]["max_positions"] == 72, "the longest document has its own positions"

"""`vitrine models`: import, export and list, over a real model store."""

import argparse
import asyncio
import dataclasses
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file
from torch import Tensor

from model.batch import Batch, pad
from model.folders import load_adapter_config
from model.heads import TextModel
from model.lora import LoraConfig, load_adapter, make_trainable, merge, save_adapter, take_adapter
from model.tokenizer import Tokenizer, train_wordpiece
from model.weights import load_model, load_tensors, read_tensors, save_model
from service.command import main
from service.engine.runner import run
from service.exchange import name_of
from service.formats import Formats
from service.metrics import Metrics
from service.model_store import ModelStore
from service.models_cli import add_commands
from service.registry import Registry
from service.settings import Settings
from tests.reference import (
    ENCODER,
    LABELS,
    TEXTS,
    Case,
    assert_equal_tensors,
    bert,
    change_tensors,
    our_output,
    reference_model,
    save_reference,
    tensors_of,
    their_output,
    tiny_tokenizer,
)
from tests.small import random_model


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.delenv("BENTOML_HOME", raising=False)
    monkeypatch.setenv("VITRINE_HOME", str(tmp_path / "home"))
    return Settings(home=tmp_path / "home")


def vitrine(home: Settings, *words: str) -> None:
    parser = argparse.ArgumentParser()
    add_commands(parser.add_subparsers(), home)
    arguments = parser.parse_args(words)
    arguments.run(arguments)


def test_models_go_in_and_come_out_the_same(home: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    case = Case("distilbert", "ForSequenceClassification", "classification", LABELS)
    folder = save_reference(reference_model(case), "distilbert", tmp_path / "My Model (v2)")
    vitrine(home, "models", "list")
    assert "no model yet" in capsys.readouterr().out
    for _ in range(2):  # idempotent
        vitrine(home, "models", "import", str(folder))
    tags = capsys.readouterr().out.split()
    assert tags[0] == tags[1]
    assert tags[0].startswith("my-model-v2:")
    vitrine(home, "models", "list")
    assert capsys.readouterr().out.split() == ["my-model-v2", "classification", "2", "x", "16", tags[0]]
    vitrine(home, "models", "export", "my-model-v2", str(tmp_path / "out"))
    before, after = (load_file(path / "model.safetensors") for path in (folder, tmp_path / "out"))
    assert_equal_tensors(before, after)


def test_a_second_model_needs_another_name(home: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = bert(tmp_path / "model")
    vitrine(home, "models", "import", str(folder))
    change_tensors(folder, lambda tensors: {name: tensor + 1 for name, tensor in tensors.items()})
    with pytest.raises(ValueError, match=r"'model' is in the store with other content.*another --name"):
        vitrine(home, "models", "import", str(folder))
    vitrine(home, "models", "import", str(folder), "--name", "model.v2")
    assert {card.id for card in ModelStore(home.bentoml_home).cards()} == {"model", "model.v2"}


def test_an_adapter_is_exported_merged_into_its_base(home: Settings, tmp_path: Path) -> None:
    theirs = save_reference(reference_model(Case("bert", "Model", "embeddings")), "bert", tmp_path / "base")
    vitrine(home, "models", "import", str(theirs))
    base, tokenizer = load_model(theirs)
    tuned = TextModel(base.config.with_task("classification", ("no", "yes"), "first", "tanh"))
    load_tensors(tuned, tensors_of(base), may_miss=("classifier.",))
    make_trainable(tuned, LoraConfig(rank=2))
    with torch.no_grad():
        for parameter in tuned.parameters():
            if parameter.requires_grad:
                parameter.normal_(std=0.1)
    save_adapter(take_adapter(tuned, LoraConfig(rank=2)), "base", tmp_path / "adapter")
    shutil.copy(theirs / "tokenizer.json", tmp_path / "adapter")
    save_model(base, tokenizer, tmp_path / "adapter")  # the store asks every folder for a config
    ModelStore(home.bentoml_home).publish(tmp_path / "adapter", "tuned", "tuned:1", "base", None)
    vitrine(home, "models", "export", "tuned", str(tmp_path / "out"))
    reference = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "out").eval()
    batch = pad(tokenizer.encode(TEXTS, 64), 0)
    tokens = {"input_ids": batch.ids, "attention_mask": batch.real.long(), "token_type_ids": batch.segments}
    assert (our_output(tuned.eval(), batch) - their_output(reference, tokens)).abs().max() < 1e-5


def tune(tmp_path: Path, base: str, *options: str) -> Path:
    """The whole command line on `vitrine finetune` with a few rows -> the tuned folder."""
    rows = [("a good film", "yes"), ("a dull film", "no"), ("so good", "yes"), ("no", "no")] * 3
    data = tmp_path / "rows.csv"
    data.write_text("text,label\n" + "".join(f"{text},{label}\n" for text, label in rows), encoding="utf-8")
    command = ["vitrine", "finetune", "--data", str(data), "--validation", str(data), "--base", base]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [*command, "--output", str(tmp_path / "run"), "--epochs", "1", *options])
        main()
    return tmp_path / "run" / "model"


def import_base(home: Settings, tmp_path: Path, name: str, seed: int) -> TextModel:
    model = random_model(dataclasses.replace(ENCODER, max_positions=32), seed)
    save_model(model, Tokenizer(tiny_tokenizer("bert")), tmp_path / f"{name}{seed}")
    vitrine(home, "models", "import", str(tmp_path / f"{name}{seed}"), "--name", name)
    return model


def test_an_adapter_tuned_at_the_command_line_is_imported_and_served(
    home: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = import_base(home, tmp_path, "own", seed=1)
    tuned = tune(tmp_path, "own", "--adapter", "lora", "--learning-rate", "0.05")
    assert f"to serve it: vitrine models import {tuned} --name NAME" in capsys.readouterr().out
    for _ in range(2):
        vitrine(home, "models", "import", str(tuned), "--name", "mine")
    card = ModelStore(home.bentoml_home).find("mine")
    assert (card.adapter, card.base_model, card.config.labels) == (True, "own", ("no", "yes"))
    assert {path.name for path in card.folder.iterdir()} >= {"adapter.json", "adapter.safetensors"}

    async def serve() -> tuple[Batch, Tensor]:
        loaded = await Registry(
            ModelStore(home.bentoml_home), Metrics(), torch.device("cpu"), Formats("float32"), 4
        ).get("mine")
        encodings = loaded.tokenizer.encode(TEXTS, 32)
        return pad(encodings, 0), torch.tensor(np.array(run([loaded] * len(TEXTS), "classify", encodings)))

    batch, served = asyncio.run(serve())
    with torch.inference_mode():
        expected = torch.softmax(merge(base, load_adapter(tuned)).classify(batch), dim=-1)
    assert torch.allclose(served, expected, atol=1e-5)


def test_an_adapter_goes_only_over_the_weights_it_was_trained_over(home: Settings, tmp_path: Path) -> None:
    import_base(home, tmp_path, "own", seed=1)
    tuned = tune(tmp_path, "own", "--adapter", "lora")
    store = ModelStore(home.bentoml_home)
    store.delete("own")
    with pytest.raises(
        ValueError, match="an adapter over 'own', which is no base in the store; import that under this"
    ):
        vitrine(home, "models", "import", str(tuned), "--name", "mine")
    import_base(home, tmp_path, "own", seed=2)
    with pytest.raises(ValueError, match="was trained over another 'own' than the one in the store"):
        vitrine(home, "models", "import", str(tuned), "--name", "mine")
    assert [card.id for card in store.cards()] == ["own"]


def test_a_folder_as_a_base_gives_the_adapter_its_name(home: Settings, tmp_path: Path) -> None:
    import_base(home, tmp_path, "own", seed=1)
    tuned = tune(tmp_path, str(tmp_path / "own1"), "--adapter", "lora")
    assert load_adapter_config(tuned)[0] == "own1", "no path of this machine"
    vitrine(home, "models", "import", str(tmp_path / "own1"))
    vitrine(home, "models", "import", str(tuned), "--name", "mine")
    with pytest.raises(SystemExit, match="'mine' is an adapter over 'own1'; name that one"):
        tune(tmp_path, "mine")
    with pytest.raises(
        SystemExit, match=r"model 'nobody' does not exist; this service has: .*; or name a model folder"
    ):
        tune(tmp_path, "nobody")


def test_a_base_that_lacks_the_text_is_told_of_a_better_one_in_the_store(
    home: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, words in (("fits", ["a good dull film so no"]), ("foreign", ["我爱北京"])):
        tokenizer = train_wordpiece(words * 5, 60)
        config = dataclasses.replace(ENCODER, vocab_size=tokenizer.vocab_size, max_positions=32)
        save_model(random_model(config), tokenizer, tmp_path / name)
        vitrine(home, "models", "import", str(tmp_path / name))
    tune(tmp_path, "foreign")
    said = capsys.readouterr()
    assert "unknown to base 'foreign', more than 5%; base 'fits' leaves 0.0% unknown" in said.out + said.err


def test_the_command_line_says_what_to_do(home: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = bert(tmp_path / "model")
    with pytest.raises(ValueError, match="neither a folder nor an id on the Hugging Face hub"):
        vitrine(home, "models", "import", str(tmp_path / "nowhere"))
    with pytest.raises(ValueError, match=r"has neither config\.json nor adapter\.json"):
        vitrine(home, "models", "import", str(tmp_path))
    with pytest.raises(ValueError, match="name 'A B' can't be used; take at most 63"):
        vitrine(home, "models", "import", str(folder), "--name", "A B")
    with pytest.raises(ValueError, match="'nobody' does not exist"):
        vitrine(home, "models", "export", "nobody", str(tmp_path / "out"))
    train_wordpiece([f"word{number}" for number in range(2000)], 400).save(folder)
    with pytest.raises(ValueError, match=r"the tokenizer has \d+ tokens, the model 300"):
        vitrine(home, "models", "import", str(folder))
    assert ModelStore(home.bentoml_home).cards() == []


def test_an_unreachable_hub_is_an_error_with_a_remedy(home: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(
        ValueError, match=r"'someone/model' is no folder here.*could not be fetched.*copy its folder here"
    ):
        vitrine(home, "models", "import", "someone/model", "--revision", "v1")


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("google-bert/BERT base", "bert-base"),
        ("sentence-transformers/all-MiniLM-L6-v2", "all-minilm-l6-v2"),
        ("models/--odd--/", "odd"),
        ("x/" + "a" * 80, "a" * 63),
    ],
)
def test_names_follow_bentoml(source: str, name: str) -> None:
    assert name_of(source) == name


def test_our_own_folder_is_imported_too(home: Settings, tmp_path: Path) -> None:
    model = TextModel(ENCODER)
    save_model(model, Tokenizer(tiny_tokenizer("bert")), tmp_path / "tuned")
    vitrine(home, "models", "import", str(tmp_path / "tuned"))
    (card,) = ModelStore(home.bentoml_home).cards()
    assert card.config == ENCODER
    assert_equal_tensors(tensors_of(model), read_tensors(card.folder / "model.safetensors"))

"""The models this project trains from nothing: their shapes, and how sentences are cut for the segmenter."""

import json
import shutil
from functools import partial
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from model.heads import TextModel
from model.tokenizer import train_byte_bpe, train_wordpiece
from tests.small import few
from training import recipes
from training.config import PretrainRecipe
from training.events import Evaluated
from training.recipes import PIECE_ENDS, RECIPES, pieces

TEXTS = ["我爱北京天安门，天安门上太阳升。", "酒店房间很小，服务态度差！", "这本书非常好。"] * 3


@given(st.lists(st.text("我爱京，。！a", min_size=1, max_size=4), min_size=1, max_size=30), st.integers(4, 20))
@few
def test_pieces_hold_every_word_once_end_at_punctuation_and_are_short(words: list[str], longest: int) -> None:
    cut = pieces(words, longest)
    assert [word for piece in cut for word in piece] == words
    for piece in cut[:-1]:
        assert piece[-1][-1] in PIECE_ENDS
    for piece in cut:
        clauses = sum(word[-1] in PIECE_ENDS for word in piece[:-1]) + 1
        assert len("".join(piece)) <= longest or clauses == 1


def test_a_sentence_and_its_words_are_cut_at_the_same_places() -> None:
    words = ["我", "爱", "北京", "，", "天安门", "上", "。", "好", "！"]
    by_words = ["".join(piece) for piece in pieces(words, 6)]
    by_characters = ["".join(piece) for piece in pieces("".join(words), 6)]
    assert by_words == by_characters == ["我爱北京，", "天安门上。", "好！"]


def test_every_recipe_has_a_model_that_fits_its_tokenizer() -> None:
    shapes = [
        (recipes.chinese_encoder_config, train_wordpiece(TEXTS, 200)),
        (recipes.chinese_writer_config, train_byte_bpe(TEXTS, 300, split_characters=True)),
        (recipes.chinese_segmenter_config, train_byte_bpe(TEXTS, 300, encoder_decoder=True, split_characters=True)),
    ]
    assert len(shapes) == len(RECIPES)
    for make, tokenizer in shapes:
        config = make(tokenizer)
        assert TextModel(config).stack.embeddings.token.num_embeddings == tokenizer.vocab_size == config.vocab_size


def test_the_encoder_recipe_trains_on_its_texts_and_leaves_a_model(tmp_path: Path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    texts = {"train": TEXTS, "validation": TEXTS[:3], "test": []}
    monkeypatch.setattr(recipes, "language_model_texts", lambda _: texts)
    monkeypatch.setattr(recipes, "CHINESE_ENCODER_RECIPE", PretrainRecipe(num_epochs=2, batch_rows=1, row_tokens=32))
    events = list(RECIPES["chinese-encoder"].run(tmp_path, tmp_path / "run", torch.device("cpu")))
    scores = [event.evaluation for event in events if isinstance(event, Evaluated)]
    assert len(scores) == 2
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["seconds"] > 0
    assert manifest["metrics"]["loss"] == scores[-1].loss
    assert (tmp_path / "run" / "model" / "vitrine.json").is_file()


def test_a_recipe_replaces_its_earlier_run_only_where_it_may(tmp_path: Path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    run = partial(RECIPES["chinese-encoder"].run, tmp_path, tmp_path / "run", torch.device("cpu"))
    monkeypatch.setattr(recipes, "CHINESE_ENCODER_RECIPE", PretrainRecipe(num_epochs=1, batch_rows=1, row_tokens=32))
    monkeypatch.setattr(recipes, "language_model_texts", lambda _: {"train": TEXTS, "validation": TEXTS[:3]})
    list(run())
    made = (tmp_path / "run" / "corpus" / "train" / "ids.bin").read_bytes()
    for change, value in (
        ("language_model_texts", lambda _: {"train": TEXTS[1:], "validation": TEXTS[:3]}),
        ("CHINESE_ENCODER_RECIPE", PretrainRecipe(num_epochs=2, batch_rows=1, row_tokens=32)),
    ):
        with monkeypatch.context() as other:
            other.setattr(recipes, change, value)
            with pytest.raises(ValueError, match=r"run holds another run.*give --output another folder"):
                list(run(replaces=False))
    assert (tmp_path / "run" / "corpus" / "train" / "ids.bin").read_bytes() == made
    manifest = tmp_path / "run" / "manifest.json"
    fields = json.loads(manifest.read_text(encoding="utf-8"))
    manifest.write_text(json.dumps({name: fields[name] for name in fields if name != "run_key"}), encoding="utf-8")
    shutil.rmtree(tmp_path / "run" / "checkpoint", ignore_errors=True)
    monkeypatch.setattr(recipes, "language_model_texts", lambda _: {"train": TEXTS[1:], "validation": TEXTS[:3]})
    with pytest.raises(ValueError, match="run holds another run"):  # of before runs had keys
        list(run(replaces=False))
    assert any(isinstance(event, Evaluated) for event in run())
    assert (tmp_path / "run" / "corpus" / "train" / "ids.bin").read_bytes() != made

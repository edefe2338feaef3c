"""What a tagging row teaches and where it is judged is what /v1/tag reads, whatever the tokenizer and the words."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import tokenizers
import torch
from hypothesis import given
from hypothesis import strategies as st
from tokenizers.processors import RobertaProcessing

from model.batch import pad
from model.heads import TextModel
from model.tokenizer import BEGIN, END, Tokenizer, train_byte_bpe, train_wordpiece
from model.weights import load_model, save_model
from service.engine.tags import find_tags
from tests.conftest import write_jsonl
from tests.small import few, small_config
from training.config import Recipe
from training.data import join_words
from training.finetune import finetune, load_data
from training.labelled import NOT_LEARNED, align_tags

KNOWN = ["it was seen by the lake in may , he said"] * 5  # of names the byte-level vocabularies know the bytes alone


def roberta() -> Tokenizer:
    """Byte-level, with spaces left out of the offsets: of a token that is but a space nothing remains."""
    inner = tokenizers.Tokenizer.from_str(train_byte_bpe(KNOWN, 300, encoder_decoder=True)._inner.to_str())
    ids = {token: inner.token_to_id(token) for token in (BEGIN, END)}
    inner.post_processor = RobertaProcessing(
        (END, ids[END]), (BEGIN, ids[BEGIN]), trim_offsets=True, add_prefix_space=False
    )
    return Tokenizer(inner)


TOKENIZERS = {
    "wordpiece": train_wordpiece([*KNOWN, "zoe quist bob rome oslo ada 北 京 我 ，"], 300),
    "byte_bpe": train_byte_bpe(KNOWN, 300),
    "roberta": roberta(),
}
ROWS: list[tuple[list[str], list[str]]] = [
    (["it", "was", "seen", "by", "Zoe", "Quist", "in", "Yvoire"], ["O", "O", "O", "O", "B-PER", "I-PER", "O", "B-LOC"]),
    (["he", " was", " by", " Bob", " in", " Rome"], ["O", "O", "O", "B-PER", "O", "B-LOC"]),
    ([" Kim", " said", " it"], ["B-PER", "O", "O"]),
    (["in", "Oslo ", "he", "was", "seen", "by", "\u200bAda"], ["O", "B-LOC", "O", "O", "O", "O", "B-PER"]),
    (["in", " New", " York"], ["O", "B-LOC", "I-LOC"]),
    (["\ufeffAda", "said", "it"], ["B-PER", "O", "O"]),
    (["我", "，", "\u3000北京", "，", "it"], ["B-PER", "O", "B-LOC", "O", "O"]),
]  # fmt: skip


def spans(words: Sequence[str], tags: Sequence[str]) -> list[tuple[str, str]]:
    """(kind, text) of each span in these rows."""
    found: list[tuple[str, str]] = []
    for word, tag in zip(words, tags, strict=True):
        if tag.startswith("I-"):
            found[-1] = (found[-1][0], f"{found[-1][1]} {word}")
        elif tag != "O":
            found.append((tag[2:], word))
    return [(kind, visible(text)) for kind, text in found]


def visible(text: str) -> str:
    return text.strip(" \u3000\u200b\ufeff")


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_a_tagger_serves_the_rows_that_it_learned(tmp_path: Path, kind: str) -> None:
    tokenizer = TOKENIZERS[kind]
    config = small_config(
        "encoder", vocab_size=tokenizer.vocab_size, width=32, num_layers=1, feed_forward_width=64, norm_embeddings=True,
        dropout=0.0, bos_id=None, eos_id=None,
    )  # fmt: skip
    torch.manual_seed(0)
    save_model(TextModel(config), tokenizer, tmp_path / "base")
    rows = [{"tokens": words, "tags": tags} for words, tags in ROWS]
    train, held_out = write_jsonl(tmp_path / "train.jsonl", rows * 4), write_jsonl(tmp_path / "held_out.jsonl", rows)
    recipe = Recipe(num_epochs=25, batch_size=8, learning_rate=1e-2, max_length=64, metric="loss", bfloat16=False)
    (tmp_path / "run").mkdir()
    list(finetune(tmp_path / "base", load_data(train, held_out, recipe), recipe, tmp_path / "run", torch.device("cpu")))
    model, tokenizer = load_model(tmp_path / "run" / "model")
    for words, tags in ROWS:
        (text, _), own = join_words(words), model.config.labels
        (encoding,) = tokenizer.encode([text], 64)
        with torch.inference_mode():
            probabilities = model.tag(pad([encoding], 0)).softmax(dim=-1)[0].numpy()
        found = find_tags(encoding, probabilities, own, "auto")
        assert [(tag.label, visible(text[tag.start : tag.end])) for tag in found] == spans(words, tags)
    report = json.loads((tmp_path / "run" / "evaluation.json").read_text())
    assert report["headline"]["value"] == 1.0
    assert report["words"] == {"judged": sum(len(words) for words, _ in ROWS), "unread": 0}


@pytest.mark.parametrize("kind", TOKENIZERS)
@pytest.mark.parametrize("inside", ["I", "M"])
def test_a_word_of_several_parts_is_one_span_in_every_notation(kind: str, inside: str) -> None:
    words = ["it", "U.S.", "O'Hara", "he", "said", "Jean-Claude", "Bob", "Lee-Kim"]
    tags = ["O", "S-LOC", "S-PER", "O", "O", "B-PER", f"{inside}-PER", "E-PER"]
    labels = [*dict.fromkeys(tags), f"{inside}-LOC"]
    text, _ = join_words(words)
    (encoding,) = TOKENIZERS[kind].encode([text], 99)
    learned = align_tags(encoding, words, tags, {label: number for number, label in enumerate(labels)}).tags
    taught = torch.eye(len(labels))[torch.tensor(learned).clamp(min=0)].numpy()
    found = [(tag.label, visible(text[tag.start : tag.end])) for tag in find_tags(encoding, taught, labels, "auto")]
    assert found == [("LOC", "U.S."), ("PER", "O'Hara"), ("PER", "Jean-Claude Bob Lee-Kim")]


WORD = st.text(st.sampled_from("ab北京これは.' \u3000\u200b\ufeff"), min_size=1, max_size=5)


@pytest.mark.parametrize("kind", TOKENIZERS)
@few
@given(words=st.lists(WORD.filter(lambda word: word.strip()), min_size=1, max_size=6))
def test_a_word_is_judged_by_a_token_that_is_learned_and_served(kind: str, words: list[str]) -> None:
    (text, starts), tags = join_words(words), [f"T{place}" for place in range(len(words))]
    (encoding,) = TOKENIZERS[kind].encode([text], 64)
    target = align_tags(encoding, words, tags, {tag: place for place, tag in enumerate(tags)})
    one_hot = torch.eye(len(encoding.ids)).numpy()  # each token's answer is its own place
    served = find_tags(encoding, one_hot, [str(place) for place in range(len(encoding.ids))], "word")
    pieces = {int(tag.label): tag for tag in served}
    assert {place for place, tag in enumerate(target.tags) if tag != NOT_LEARNED} == pieces.keys()
    for number, (start, word, place) in enumerate(zip(starts, words, target.places, strict=True)):
        if place < 0:
            assert not any(piece.start < start + len(word) and piece.end > start for piece in served), "it has a token"
            continue
        piece = text[pieces[place].start : pieces[place].end]
        first = pieces[place].start + len(piece) - len(piece.lstrip())
        assert first < start + len(word)
        assert target.tags[place] == number or first < start, "unless the tokenizer joins it to the word before"

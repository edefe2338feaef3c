"""The models this project trains from nothing, by name: what they read, their shape, how they are trained.

`vitrine pretrain NAME` runs one; the benchmarks run the same. Sizes are chosen for half an hour on two cores.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch

from model.config import TransformerConfig
from model.tokenizer import BEGIN, END, END_OF_TEXT, PAD, Tokenizer, train_byte_bpe, train_wordpiece
from training.catalogue import chinese_segmentation, language_model_texts
from training.config import PretrainRecipe
from training.events import TrainingEvent
from training.parallel import ALONE, World
from training.pretrain import Texts, prepare, pretrain
from training.sequences import SequenceRecipe, load_pairs, train_sequences


class Run(Protocol):
    """Trains a model and leaves it in `output`; downloads lie in `cache`. Raises ValueError when `output` holds another
    run, unless this one `replaces` it, as today's recipe does that of yesterday's."""

    def __call__(
        self, cache: Path, output: Path, device: torch.device, world: World = ALONE, replaces: bool = True
    ) -> Iterator[TrainingEvent]: ...


@dataclass(frozen=True)
class Named:
    """One model of ours: what it is for a reader, and the run that makes it in `output/model`."""

    name: str
    summary: str
    run: Run


def chinese_encoder_config(tokenizer: Tokenizer) -> TransformerConfig:
    """A small BERT: its layout exports to Hugging Face as it is."""
    return TransformerConfig(
        vocab_size=tokenizer.vocab_size, width=192, num_layers=3, num_heads=3, feed_forward_width=768,
        max_positions=512, num_segments=2, norm_epsilon=1e-12, norm_embeddings=True, task="masked_lm",
    )  # fmt: skip


CHINESE_ENCODER_RECIPE = PretrainRecipe(num_epochs=5, batch_rows=16, row_tokens=128, learning_rate=1.5e-3)
CHINESE_ENCODER_VOCABULARY = 6_000


def run_chinese_encoder(
    cache: Path, output: Path, device: torch.device, world: World = ALONE, replaces: bool = True
) -> Iterator[TrainingEvent]:
    """Masked language model over Chinese news and reviews; held-out rows of either are never seen."""
    with world.leader_first():
        texts = language_model_texts(cache)
        corpora = prepare(
            stream(texts, "train"),
            stream(texts, "validation"),
            lambda train: train_wordpiece(train(), CHINESE_ENCODER_VOCABULARY),
            f"wordpiece {CHINESE_ENCODER_VOCABULARY}",
            output,
            replaces,
        )
    config = chinese_encoder_config(corpora.tokenizer)
    yield from pretrain(config, corpora, CHINESE_ENCODER_RECIPE, output, device, world, replaces)


def chinese_writer_config(tokenizer: Tokenizer) -> TransformerConfig:
    """A small GPT-2."""
    end = tokenizer.id_of(END_OF_TEXT)
    return TransformerConfig(
        vocab_size=tokenizer.vocab_size, architecture="decoder", width=192, num_layers=3, num_heads=3,
        feed_forward_width=768, max_positions=256, activation="gelu_tanh", norm_first=True, dropout=0.1,
        bos_id=end, eos_id=end, task="causal_lm",
    )  # fmt: skip


CHINESE_WRITER_RECIPE = PretrainRecipe(num_epochs=3, batch_rows=8, row_tokens=256, learning_rate=2e-3, weight_decay=0.1)
CHINESE_WRITER_VOCABULARY = 6_000


def run_chinese_writer(
    cache: Path, output: Path, device: torch.device, world: World = ALONE, replaces: bool = True
) -> Iterator[TrainingEvent]:
    """Causal language model over the same text."""
    with world.leader_first():
        texts = language_model_texts(cache)
        corpora = prepare(
            stream(texts, "train"),
            stream(texts, "validation"),
            lambda train: train_byte_bpe(train(), CHINESE_WRITER_VOCABULARY, split_characters=True),
            f"byte BPE, characters split, {CHINESE_WRITER_VOCABULARY}",
            output,
            replaces,
        )
    config = chinese_writer_config(corpora.tokenizer)
    yield from pretrain(config, corpora, CHINESE_WRITER_RECIPE, output, device, world, replaces)


def chinese_segmenter_config(tokenizer: Tokenizer) -> TransformerConfig:
    """The original paper's Transformer, small, and pre-LN: post-LN had not learned to copy after an epoch."""
    pad, begin, end = (tokenizer.id_of(token) for token in (PAD, BEGIN, END))
    assert pad is not None
    return TransformerConfig(
        vocab_size=tokenizer.vocab_size, architecture="encoder_decoder", width=192, num_layers=2, num_heads=4,
        feed_forward_width=768, max_positions=1024, positions="sinusoidal", activation="relu",
        norm_first=True, scale_embeddings=True, dropout=0.1, pad_id=pad, bos_id=begin, eos_id=end, task="seq2seq",
    )  # fmt: skip


CHINESE_SEGMENTER_RECIPE = SequenceRecipe(num_epochs=2, batch_size=48, learning_rate=1e-3)
CHINESE_SEGMENTER_VOCABULARY = 6_000
SEGMENTER_CHARACTERS = 32
PIECE_ENDS = "，。；：！？、,.;:!?"


def pieces(words: Sequence[str], max_characters: int) -> list[list[str]]:
    """Words of a sentence (or its characters) cut after punctuation: as few pieces as fit `max_characters` each.

    A clause longer than that stands alone.
    """
    clauses: list[list[str]] = [[]]
    for word in words:
        clauses[-1].append(word)
        if word[-1] in PIECE_ENDS:
            clauses.append([])
    found: list[list[str]] = []
    for clause in filter(None, clauses):
        if found and len("".join(found[-1])) + len("".join(clause)) <= max_characters:
            found[-1] += clause
        else:
            found.append(clause)
    return found


def run_chinese_segmenter(
    cache: Path, output: Path, device: torch.device, world: World = ALONE, replaces: bool = True
) -> Iterator[TrainingEvent]:
    """Encoder-decoder from unsegmented news text to the same with a space between words.

    It learns from pieces of at most SEGMENTER_CHARACTERS, cut after punctuation: of whole sentences it had learned to
    copy only a third after two epochs.
    """
    with world.leader_first():
        splits = chinese_segmentation(cache)
    tokenizer = train_byte_bpe(
        splits["train"]["target"], CHINESE_SEGMENTER_VOCABULARY, encoder_decoder=True, split_characters=True
    )
    config = chinese_segmenter_config(tokenizer)
    pairs = []
    for name in ("train", "validation"):
        targets = [
            piece
            for target in splits[name]["target"]
            for piece in pieces(target.split(), SEGMENTER_CHARACTERS)
            if len("".join(piece)) <= SEGMENTER_CHARACTERS
        ]
        sources = ["".join(words) for words in targets]
        pairs.append(load_pairs(sources, [" ".join(words) for words in targets], tokenizer, config.max_positions))
    train, validation = pairs
    recipe = CHINESE_SEGMENTER_RECIPE
    yield from train_sequences(config, tokenizer, train, validation, recipe, output, device, world, replaces)


def stream(texts: Mapping[str, list[str]], split: str) -> Texts:
    return lambda: texts[split]


RECIPES: dict[str, Named] = {
    named.name: named
    for named in (
        Named("chinese-encoder", "Chinese masked language model, a base to fine-tune", run_chinese_encoder),
        Named("chinese-writer", "Chinese causal language model", run_chinese_writer),
        Named("chinese-segmenter", "encoder-decoder that puts spaces between Chinese words", run_chinese_segmenter),
    )
}

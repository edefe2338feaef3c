"""From text to a pre-trained model: no token is lost in packing, losses are those of documents one by one, runs resume."""

import dataclasses
import hashlib
import math
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import example, given, settings
from hypothesis import strategies as st

import training.corpus
from model.batch import pad_ids
from model.config import TransformerConfig
from model.heads import TextModel
from model.tokenizer import CLS, END_OF_TEXT, MASK, PAD, SEP, UNKNOWN, Tokenizer, train_byte_bpe, train_wordpiece
from model.weights import load_model
from tests.small import few, random_model, small_config
from training.config import Optimisation, PretrainRecipe
from training.corpus import Corpus, PackedRows, build_corpus, open_corpus, pack_pieces, read_documents
from training.events import Evaluated, Progress, Started, TrainingEvent
from training.finetune import read_manifest
from training.objectives import CausalLanguageModel, MaskedLanguageModel, SequenceToSequence, TextPairs
from training.optim import learning_rate_at
from training.pretrain import Corpora, packed_rows, prepare, pretrain

CPU = torch.device("cpu")
CLOSE = 1e-5
SUBJECTS = ["the film", "this book", "我们", "the cat", "她的朋友", "a song"]
VERBS = ["is", "was never", "喜欢", "looks", "不是", "sounds"]
OBJECTS = ["very good", "a small house", "电影", "好看的书", "blue and green", "rather long, I think"]


def sentences(count: int, seed: int = 0) -> list[str]:
    """Short texts with an order worth learning, English and Chinese."""
    chance = random.Random(seed)
    parts = (SUBJECTS, VERBS, OBJECTS)
    return [
        ", ".join(" ".join(map(chance.choice, parts)) for _ in range(chance.randint(1, 3))) + "." for _ in range(count)
    ]


@pytest.fixture(scope="module")
def wordpiece() -> Tokenizer:
    return train_wordpiece(sentences(200), 120)


@pytest.fixture(scope="module")
def byte_bpe() -> Tokenizer:
    return train_byte_bpe(sentences(200), 320)


def corpus_of(documents: Sequence[Sequence[int]]) -> Corpus:
    ids = np.array([number for document in documents for number in document], dtype=np.uint32)
    return Corpus(ids, np.cumsum([0, *map(len, documents)]), 0, "")


# ---- the corpus on disk


def test_a_corpus_holds_each_text_as_the_tokenizer_gives_it(
    wordpiece: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training.corpus, "CHUNK_DOCUMENTS", 7)
    texts = sentences(40)
    built = build_corpus(iter([*texts[:20], "", " \n", *texts[20:]]), wordpiece, tmp_path / "corpus")
    for corpus in (built, open_corpus(tmp_path / "corpus")):
        assert len(corpus) == 40
        encodings = wordpiece.encode(texts, 2**30, special_tokens=False)
        assert [corpus.document(index) for index in range(40)] == [list(encoding.ids) for encoding in encodings]
        assert corpus.num_tokens == sum(len(encoding.ids) for encoding in encodings)
        assert corpus.num_characters == sum(map(len, texts))
        assert corpus.sha256 == hashlib.sha256("".join(f"{text}\0" for text in texts).encode()).hexdigest()
    assert not list((tmp_path / "corpus").glob(".*")), "no temporary file is left"


def test_a_corpus_without_text_is_refused(wordpiece: Tokenizer, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="the corpus has no text"):
        build_corpus(["", "  "], wordpiece, tmp_path)


def test_documents_are_read_a_line_each(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text('one\n\n 电影 \n{"text": "x"}', encoding="utf-8")
    (tmp_path / "b.jsonl").write_text('{"text": "one\\ntwo"}\n\n{"text": "电影", "more": 1}\n', encoding="utf-8")
    assert list(read_documents(tmp_path / "a.txt")) == ["one", "", "电影", '{"text": "x"}']
    assert list(read_documents(tmp_path / "b.jsonl")) == ["one\ntwo", "电影"]


@pytest.mark.parametrize(
    ("name", "line", "words"),
    [
        ("x.jsonl", b'{"text": ', 'not an object with "text"; write one a line'),
        ("x.jsonl", b'{"txt": "a"}', "not an object"),
        ("x.jsonl", b'["text"]', "not an object"),
        ("x.jsonl", b"7", "not an object"),
        ("x.jsonl", b'{"text": 5}', "'text' is a int; it must be a string"),
        ("x.jsonl", b'{"text": null}', "'text' is a NoneType"),
        ("x.jsonl", b'{"a":' * 100_000, "not an object"),
        ("x.jsonl", rb'{"text": "a \ud800"}', "half of a surrogate pair"),
        ("x.jsonl", b'{"text": "caf\xe9"}', "byte 0xe9 is not UTF-8; save the file as UTF-8"),
        ("x.txt", b"caf\xe9", "byte 0xe9 is not UTF-8"),
    ],
)
def test_a_faulty_line_is_named_with_its_file(tmp_path: Path, name: str, line: bytes, words: str) -> None:
    good = b'{"text": "good"}\n' if name.endswith("jsonl") else b"good\n"
    (tmp_path / name).write_bytes(good * 2 + line + b"\n" + good)
    read = read_documents(tmp_path / name)
    assert len([next(read), next(read)]) == 2, "what comes before is read"
    with pytest.raises(ValueError, match=f"{name}, line 3: .*{words}"):
        next(read)


# ---- packing


@settings(max_examples=60, deadline=None, derandomize=True)
@given(lengths=st.lists(st.integers(1, 40), max_size=80), spare=st.integers(0, 30), pool=st.sampled_from([3, 4000]))
def test_packing_keeps_every_piece_once_and_no_row_overflows(lengths: list[int], spare: int, pool: int) -> None:
    row_tokens = max(lengths, default=1) + spare
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training.corpus, "POOL_PIECES", pool)
        rows = pack_pieces(lengths, row_tokens)
    assert sorted(index for row in rows for index in row) == list(range(len(lengths)))
    assert all(row and sum(lengths[index] for index in row) <= row_tokens for row in rows)
    assert rows == pack_pieces(lengths, row_tokens) or pool == 3, "the same rows each time"


def test_real_lengths_leave_little_padding() -> None:
    chance = random.Random(0)
    lengths = [min(128, max(3, round(chance.lognormvariate(3.5, 0.7)))) for _ in range(6000)]
    rows = pack_pieces(lengths, 128)
    assert 1 - sum(lengths) / (128 * len(rows)) < 0.02
    assert 1 - sum(lengths) / (128 * len(lengths)) > 0.6, "a row each would be mostly padding"


PREFIX, SUFFIX, PADDING = 1, 2, 7


@few
@given(sizes=st.lists(st.integers(0, 40), min_size=1, max_size=12), row_tokens=st.integers(8, 24), causal=st.booleans())
@example(sizes=[6, 12, 13, 18], row_tokens=8, causal=True)  # pieces that end exactly at a row's end
def test_every_token_of_every_document_is_in_one_piece_with_its_wrapping(
    sizes: list[int], row_tokens: int, causal: bool
) -> None:
    first = np.cumsum([10, *sizes]).tolist()
    documents = [list(range(start, start + size)) for start, size in zip(first, sizes, strict=False)]  # no number twice
    rows = PackedRows(corpus_of(documents), row_tokens, PREFIX, SUFFIX, PADDING, causal)
    batch = rows.batch(list(range(len(rows))))
    assert batch.packed
    assert batch.ids.shape == (len(rows), row_tokens)
    assert not batch.segments.any()
    assert set(batch.ids[~batch.real].tolist()) <= {PADDING}
    assert not batch.positions[~batch.real].any()
    owner = {number: index for index, document in enumerate(documents) for number in document}
    predicted: Counter[tuple[int, int]] = Counter()  # (document, token): what stands after another token of its piece
    for row in range(len(rows)):
        for number in range(1, int(batch.documents[row].max()) + 1):
            where = batch.documents[row] == number
            ids = batch.ids[row, where].tolist()
            assert batch.positions[row, where].tolist() == list(range(len(ids)))
            (which,) = {owner[token] for token in ids if token in owner}
            document = documents[which]
            own = [token for token in ids[1:] if token in owner]
            assert own == list(range(own[0], own[-1] + 1))
            if not causal:
                assert ids == [PREFIX, *own, SUFFIX]
            else:
                assert ids[0] == (PREFIX if own[0] == document[0] else own[0] - 1), "a later piece starts one earlier"
                assert (ids[-1] == SUFFIX) == (own[-1] == document[-1])
            predicted.update((which, token) for token in ids[1:] if token in owner or causal)
    ends = {(index, SUFFIX) for index, document in enumerate(documents) if document} if causal else set()
    assert predicted.keys() == {(which, token) for token, which in owner.items()} | ends
    assert set(predicted.values()) <= {1}
    if len(rows):
        assert rows.padding_share == pytest.approx(batch.padding_share)


def test_the_wrapping_follows_the_task(wordpiece: Tokenizer, byte_bpe: Tokenizer, tmp_path: Path) -> None:
    for tokenizer, architecture, edges in (
        (wordpiece, "encoder", (CLS, SEP)),
        (byte_bpe, "decoder", (END_OF_TEXT,) * 2),
    ):
        corpus = build_corpus(["the film"], tokenizer, tmp_path / architecture)
        rows = packed_rows(corpus, tokenizer, small_config(architecture), 16)
        ids = rows.batch([0]).ids[0, rows.batch([0]).real[0]].tolist()
        assert [tokenizer.token_of(ids[0]), tokenizer.token_of(ids[-1])] == list(edges)
        other = byte_bpe if tokenizer is wordpiece else wordpiece
        with pytest.raises(ValueError, match=r"the tokenizer lacks .* train one for task"):
            packed_rows(corpus, other, small_config(architecture), 16)


# ---- objectives


SPECIAL = (0, 1, 2, 3, 4)


def masked_objective(mask_share: float = 0.3, seed: int = 0) -> MaskedLanguageModel:
    chance = random.Random(5)
    documents = [[chance.randint(1, 39) for _ in range(chance.randint(1, 40))] for _ in range(120)]  # 1 is [UNK]
    rows = PackedRows(corpus_of(documents), 32, 2, 3, 0, causal=False)
    model = random_model(small_config("encoder"))
    return MaskedLanguageModel(model, rows, rows, 8, seed, mask_share, 4, SPECIAL)


def hidden_by(objective: MaskedLanguageModel, rows: Sequence[int], step: int) -> tuple[torch.Tensor, torch.Tensor]:
    """One loss -> the ids the model saw [B, T], and which positions it had to name [B, T], found by their states."""
    seen: list[torch.Tensor] = []
    model = objective.model
    hooks = [
        model.encoder.register_forward_hook(lambda _, given, states: seen.extend([given[0].ids, states])),
        model.language_model.register_forward_hook(lambda _, given, _logits: seen.append(given[0])),  # type: ignore[union-attr]
    ]
    result = objective.loss(rows, step)
    loss, tokens = result.mean, result.tokens
    for hook in hooks:
        hook.remove()
    ids, states, asked = seen
    assert tokens == int(objective.train.batch(rows).real.sum())
    assert math.isfinite(float(loss))
    chosen = (states[:, :, None] == asked[None, None]).all(dim=-1).any(dim=-1)  # [B, T, M, D] -> [B, T]
    chosen &= objective.train.batch(rows).real
    assert int(chosen.sum()) == len(asked)
    expected = F.cross_entropy(model.vocabulary_logits(states[chosen]), objective.train.batch(rows).ids[chosen])
    assert float(loss) == pytest.approx(float(expected), abs=CLOSE), "the targets are the original ids"
    return ids, chosen


def test_masking_hides_its_share_of_ordinary_tokens_and_no_special_ones() -> None:
    objective = masked_objective()
    rows = list(range(len(objective.train)))
    batch = objective.train.batch(rows)
    ids, chosen = hidden_by(objective, rows, step=3)
    special = torch.isin(batch.ids, torch.tensor(SPECIAL)) | ~batch.real
    assert special.sum() > 200
    assert not chosen[special].any()
    assert torch.equal(ids[~chosen], batch.ids[~chosen])
    candidates, count = int((~special).sum()), int(chosen.sum())
    assert abs(count - 0.3 * candidates) < 4 * math.sqrt(candidates * 0.3 * 0.7)
    masked = int((ids[chosen] == 4).sum())
    kept = int((ids[chosen] == batch.ids[chosen]).sum())
    for number, share in ((masked, 0.8), (kept, 0.1), (count - masked - kept, 0.1)):
        assert abs(number - share * count) < 4 * math.sqrt(count * share * (1 - share))


def test_the_same_step_hides_the_same_tokens_and_another_step_others() -> None:
    objective = masked_objective()
    rows = [0, 1, 2]
    first, again, other = (hidden_by(objective, rows, step)[0] for step in (5, 5, 6))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert not torch.equal(first, hidden_by(masked_objective(seed=1), rows, 5)[0]), "the seed counts too"
    with torch.inference_mode():
        assert objective.evaluate() == objective.evaluate()


def test_very_little_text_still_hides_one_ordinary_token() -> None:
    model = random_model(small_config("encoder"))
    rows = PackedRows(corpus_of([[1, 1, 9, 1]]), 16, 2, 3, 0, causal=False)
    objective = MaskedLanguageModel(model, rows, rows, 1, 0, 1e-9, 4, SPECIAL)
    _, chosen = hidden_by(objective, [0], 0)
    assert rows.batch([0]).ids[chosen].tolist() == [9]


@few
@given(
    documents=st.lists(st.lists(st.integers(0, 39), min_size=1, max_size=14), min_size=1, max_size=8),
    seed=st.integers(0, 1000),
)
def test_the_causal_loss_equals_that_of_each_document_by_itself(documents: list[list[int]], seed: int) -> None:
    model = random_model(small_config("decoder"), seed)
    rows = PackedRows(corpus_of(documents), 16, 0, 0, 0, causal=True)
    losses: list[torch.Tensor] = []
    right = 0
    for document in documents:
        ids = [0, *document, 0]
        logits = model.vocabulary_logits(model.decoder(pad_ids([ids[:-1]], 0))[0])
        losses.append(F.cross_entropy(logits, torch.tensor(ids[1:]), reduction="none"))
        right += int((logits.argmax(dim=-1) == torch.tensor(ids[1:])).sum())
    expected = torch.cat(losses)
    objective = CausalLanguageModel(model, rows, rows, 4, 0)
    result = objective.loss(list(range(len(rows))), 0)
    loss, tokens = result.mean, result.tokens
    assert float(loss) == pytest.approx(float(expected.mean()), rel=CLOSE)
    assert tokens == sum(map(len, documents)) + 2 * len(documents)
    scores = objective.evaluate()
    assert scores.loss == pytest.approx(float(expected.mean()), rel=CLOSE)
    assert (scores.num_tokens, scores.accuracy) == (len(expected), pytest.approx(right / len(expected)))
    assert scores.perplexity == pytest.approx(math.exp(scores.loss))


@few
@given(
    pairs=st.lists(
        st.tuples(*[st.lists(st.integers(0, 39), min_size=least, max_size=9) for least in (1, 0)]),
        min_size=1,
        max_size=6,
    ),
    smoothing=st.sampled_from([0.0, 0.1]),
    seed=st.integers(0, 1000),
)
def test_the_loss_of_pairs_equals_that_of_each_pair_by_itself(
    pairs: list[tuple[list[int], list[int]]], smoothing: float, seed: int
) -> None:
    model = random_model(small_config("encoder_decoder"), seed)
    smoothed, plain = [], []
    for source, target in pairs:
        states = model.transformer(pad_ids([source], 0), pad_ids([[1, *target]], 0))[0]
        logits, wanted = model.vocabulary_logits(states), torch.tensor([*target, 2])
        smoothed.append(F.cross_entropy(logits, wanted, reduction="none", label_smoothing=smoothing))
        plain.append(F.cross_entropy(logits, wanted, reduction="none"))
    data = TextPairs([source for source, _ in pairs], [target for _, target in pairs])
    objective = SequenceToSequence(model, data, data, 4, 0, smoothing)
    result = objective.loss(list(range(len(pairs))), 0)
    loss, tokens = result.mean, result.tokens
    assert float(loss) == pytest.approx(float(torch.cat(smoothed).mean()), rel=CLOSE)
    assert tokens == sum(len(source) + len(target) for source, target in pairs)
    scores = objective.evaluate()
    assert scores.loss == pytest.approx(float(torch.cat(plain).mean()), rel=CLOSE), "scores are without smoothing"
    assert scores.num_tokens == sum(len(target) + 1 for _, target in pairs)
    for epoch in (0, 1):
        assert sorted(row for rows in objective.steps(epoch) for row in rows) == list(range(len(pairs)))


def test_each_epoch_takes_every_packed_row_once_in_an_order_of_its_own() -> None:
    objective = masked_objective()
    epochs = [objective.steps(epoch) for epoch in (0, 1, 0)]
    for epoch in epochs:
        assert sorted(row for rows in epoch for row in rows) == list(range(len(objective.train)))
        assert max(map(len, epoch)) == 8
    assert epochs[0] == epochs[2] != epochs[1]


# ---- whole runs


RECIPE = PretrainRecipe(
    num_epochs=2, batch_rows=4, row_tokens=32, learning_rate=3e-3, checkpoint_steps=7, dropout=0.05, bfloat16=False
)  # fmt: skip
ARCHITECTURES = ["encoder", "decoder"]


def config_for(architecture: str, tokenizer: Tokenizer) -> TransformerConfig:
    return small_config(architecture, vocab_size=tokenizer.vocab_size, width=32, feed_forward_width=64, dropout=0.2)


@pytest.fixture(scope="module")
def runs(
    wordpiece: Tokenizer, byte_bpe: Tokenizer, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, tuple[TransformerConfig, Corpora, Path, list[TrainingEvent]]]:
    """One uninterrupted run of each kind of language model."""
    done = {}
    for architecture, tokenizer in zip(ARCHITECTURES, (wordpiece, byte_bpe), strict=True):
        folder = tmp_path_factory.mktemp(architecture)
        train, validation = (lambda: sentences(200)), (lambda: sentences(30, seed=1))
        corpora = prepare(train, validation, lambda _, own=tokenizer: own, architecture, folder)  # type: ignore[misc]
        config = config_for(architecture, tokenizer)
        done[architecture] = (config, corpora, folder, list(pretrain(config, corpora, RECIPE, folder, CPU)))
    return done


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_few_steps_lower_the_loss(runs: dict, architecture: str) -> None:
    config, corpora, folder, events = runs[architecture]
    losses = [event.train_loss for event in events if isinstance(event, Progress)]
    scores = [event.evaluation for event in events if isinstance(event, Evaluated)]
    assert losses[0] < math.log(config.vocab_size) + 0.5
    assert losses[-1] < losses[0] - 0.5
    assert scores[1].loss < scores[0].loss
    assert [event.step for event in events if isinstance(event, Evaluated)] == [
        events[0].total_steps // 2,
        events[0].total_steps,
    ]
    progress = [event for event in events if isinstance(event, Progress)]
    real = sum(map(len, (corpora.train.document(index) for index in range(len(corpora.train)))))
    assert progress[-1].tokens_seen >= 2 * real, "each token once an epoch"
    assert progress[-1].epoch == 2.0
    manifest = read_manifest(folder)
    assert manifest["metrics"] == scores[-1].to_dict()
    assert manifest["train_tokens"] == corpora.train.num_tokens == real


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_pre_trained_folder_loads_with_the_dropout_of_its_config(runs: dict, architecture: str) -> None:
    config, corpora, folder, events = runs[architecture]
    model, tokenizer = load_model(folder / "model")
    assert model.config == config
    assert model.config.dropout == 0.2 != RECIPE.dropout
    assert not model.training
    texts = sentences(5, seed=2)
    assert tokenizer.encode(texts, 32) == corpora.tokenizer.encode(texts, 32)
    rows = packed_rows(corpora.validation, tokenizer, config, RECIPE.row_tokens)
    special = [tokenizer.id_of(token) or 0 for token in (PAD, UNKNOWN, CLS, SEP, MASK)]
    objective = (
        MaskedLanguageModel(model, rows, rows, 4, RECIPE.seed, RECIPE.mask_share, special[-1], special)
        if architecture == "encoder"
        else CausalLanguageModel(model, rows, rows, 4, RECIPE.seed)
    )
    with torch.inference_mode():
        assert objective.evaluate().loss == pytest.approx(events[-1].evaluation.loss, abs=CLOSE)


def timeless(events: Sequence[TrainingEvent]) -> list[TrainingEvent]:
    return [dataclasses.replace(e, tokens_per_second=0.0) if isinstance(e, Progress) else e for e in events]


def until(run: Iterator[TrainingEvent], kind: type, step: int) -> list[TrainingEvent]:
    """Takes events up to the first of this kind at or after `step`, then closes the run as a cancelled job does."""
    events = []
    for event in run:
        events.append(event)
        if isinstance(event, kind) and event.step >= step:
            run.close()  # type: ignore[attr-defined]
            return events
    raise AssertionError(f"the run ended before a {kind.__name__} at step {step}")


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("cut", ["before the first checkpoint", "in an epoch", "at an epoch's end", "twice"])
def test_an_interrupted_run_ends_as_an_uninterrupted_one(
    runs: dict, architecture: str, cut: str, tmp_path: Path
) -> None:
    config, corpora, folder, whole = runs[architecture]
    half = whole[0].total_steps // 2
    assert half > 10
    assert half % RECIPE.checkpoint_steps, "an epoch's end is between two of the other checkpoints"
    again = lambda: pretrain(config, corpora, RECIPE, tmp_path, CPU)  # noqa: E731
    if cut == "before the first checkpoint":
        until(again(), Started, 0)
        start = 0
    elif cut == "at an epoch's end":
        until(again(), Evaluated, half)
        start = half // 7 * 7  # its scores are told before they are saved: twice rather than never
    else:
        until(again(), Progress, 10)
        start = 7
    if cut == "twice":
        stopped = until(again(), Progress, half + 8)[-1].step  # its checkpoint, if any, comes after the event
        start = max(half, (stopped - 1) // 7 * 7)
    assert not (tmp_path / "manifest.json").exists()
    rest = list(again())
    assert rest[0] == dataclasses.replace(whole[0], step=start, memory_bytes=rest[0].memory_bytes)
    expected = [e for e in whole[1:] if e.step > start]
    assert timeless(rest[1:]) == timeless(expected)
    first, second = (path / "model" / "model.safetensors" for path in (folder, tmp_path))
    assert first.read_bytes() == second.read_bytes()
    assert read_manifest(tmp_path)["metrics"] == read_manifest(folder)["metrics"]


def test_a_checkpoint_of_another_recipe_or_shape_is_not_resumed(runs: dict, tmp_path: Path) -> None:
    config, corpora, _, _ = runs["encoder"]
    until(pretrain(config, corpora, RECIPE, tmp_path, CPU), Progress, 10)
    for recipe, shape in (
        (dataclasses.replace(RECIPE, mask_share=0.2), config),
        (RECIPE, dataclasses.replace(config, dropout=0.1)),
        (RECIPE, config),
    ):
        run = pretrain(shape, corpora, recipe, tmp_path, CPU)
        started = next(run)
        run.close()  # type: ignore[attr-defined]
        assert started.step == (7 if (recipe, shape) == (RECIPE, config) else 0)


def test_texts_are_tokenized_once_until_they_or_the_tokenizer_change(wordpiece: Tokenizer, tmp_path: Path) -> None:
    made = []

    def make(texts: object) -> Tokenizer:
        made.append(texts)
        return wordpiece

    def sizes(train: int, validation: int, kind: str) -> tuple[int, int]:
        corpora = prepare(lambda: sentences(train), lambda: sentences(validation), make, kind, tmp_path)
        assert corpora.tokenizer.vocab_size == wordpiece.vocab_size
        return len(corpora.train), len(corpora.validation)

    assert sizes(9, 3, "wordpiece 120") == sizes(9, 3, "wordpiece 120") == (9, 3)
    assert len(made) == 1, "found again"
    assert sizes(12, 3, "wordpiece 120") == (12, 3)
    assert sizes(12, 5, "wordpiece 120") == (12, 5)
    assert sizes(12, 5, "wordpiece 121") == (12, 5)
    assert len(made) == 4, "other text, other held-out text, another kind"


def test_a_corpus_that_was_interrupted_while_it_changed_is_built_again(wordpiece: Tokenizer, tmp_path: Path) -> None:
    def broken(_: object) -> Tokenizer:
        raise KeyboardInterrupt

    prepare(lambda: sentences(9), lambda: sentences(3), lambda _: wordpiece, "a", tmp_path)
    with pytest.raises(KeyboardInterrupt):
        prepare(lambda: sentences(12), lambda: sentences(3), broken, "a", tmp_path)
    made = []
    again = prepare(lambda: sentences(9), lambda: sentences(3), lambda _: made.append(1) or wordpiece, "a", tmp_path)
    assert made == [1]
    assert len(again.train) == 9


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"row_tokens": 7}, "row_tokens is 7"),
        ({"batch_rows": 0}, "batch_rows 0"),
        ({"mask_share": 0.0}, "mask_share is 0.0; choose a value between 0 and 1"),
        ({"mask_share": 1.0}, "mask_share is 1.0"),
        ({"num_epochs": 0}, "n_epochs is 0; choose at least 1"),
        ({"learning_rate": 0.0}, "learning_rate is 0.0"),
    ],
)
def test_recipe_errors_name_value_and_limit(fields: dict[str, float], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        PretrainRecipe(**fields)  # type: ignore[arg-type]


# ---- learning rates


@pytest.mark.parametrize(
    ("schedule", "warmup_share", "step", "rate"),
    [
        ("linear", 0.1, 0, 0.1), ("linear", 0.1, 4, 0.5), ("linear", 0.1, 9, 1.0), ("linear", 0.1, 10, 1.0),
        ("linear", 0.1, 55, 0.5), ("linear", 0.1, 99, 1 / 90), ("linear", 0.1, 100, 0.0),
        ("cosine", 0.1, 0, 0.1), ("cosine", 0.1, 9, 1.0), ("cosine", 0.1, 10, 1.0), ("cosine", 0.1, 55, 0.5),
        ("cosine", 0.1, 40, 0.75), ("cosine", 0.1, 99, 0.5 * (1 - math.cos(math.pi / 90))), ("cosine", 0.1, 100, 0.0),
        ("linear", 0.0, 0, 1.0), ("cosine", 0.0, 0, 1.0), ("cosine", 0.0, 50, 0.5),
    ],
)  # fmt: skip
def test_learning_rates_rise_in_a_line_and_fall_as_asked(
    schedule: str, warmup_share: float, step: int, rate: float
) -> None:
    optimisation = Optimisation(1, 1.0, warmup_share=warmup_share, schedule=schedule)  # type: ignore[arg-type]
    assert learning_rate_at(step, 100, optimisation) == pytest.approx(rate, abs=1e-9)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_an_untrained_model_knows_nothing(architecture: str) -> None:
    """The loss of the first steps is that of a guess: the initialisation gives no token an advantage."""
    torch.manual_seed(0)
    model = TextModel(small_config(architecture, dropout=0.0)).eval().requires_grad_(False)
    hidden = model.body(pad_ids([[5, 6, 7, 8]], 0))[0]
    assert float(F.cross_entropy(model.vocabulary_logits(hidden), torch.tensor([9, 10, 11, 12]))) == pytest.approx(
        math.log(40), abs=0.3
    )

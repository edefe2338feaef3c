"""Kneser-Ney against a plain version and as a distribution; segmentation and its score by hand; TF-IDF on real rows."""

import math
from collections import Counter, defaultdict
from dataclasses import dataclass
from functools import cache as memory
from pathlib import Path

import numpy as np
import pytest
from datasets import DatasetDict
from hypothesis import given
from hypothesis import strategies as st

from training.baselines import DictionarySegmenter, KneserNey, WordScores, character_tfidf, word_f1, word_tfidf
from training.baselines.kneser_ney import FALLBACK_DISCOUNTS, _discounts
from training.catalogue import chinese_reviews, chinese_segmentation, movie_sentiment

VOCAB = 4
corpora = st.lists(st.lists(st.integers(0, VOCAB - 1), max_size=12), min_size=1, max_size=12)
contexts = st.lists(st.integers(0, VOCAB - 1), max_size=8)


@dataclass(frozen=True)
class Characters:
    """Short real documents as character ids; 0 is every character seen once or never."""

    train: list[list[int]]
    test: list[list[int]]
    vocab_size: int


@pytest.fixture(scope="module")
def reviews(cache: Path) -> DatasetDict:
    return chinese_reviews(cache)


@pytest.fixture(scope="module")
def characters(reviews: DatasetDict) -> Characters:
    splits = {name: rows["text"][:1000] for name, rows in reviews.items()}
    seen = Counter("".join(splits["train"]))
    ids = {char: place for place, char in enumerate(sorted(char for char in seen if seen[char] > 1), start=1)}
    encoded = {name: [[ids.get(char, 0) for char in text] for text in part] for name, part in splits.items()}
    return Characters(encoded["train"], encoded["test"], len(ids) + 1)


def plain_probabilities(corpus: list[list[int]], order: int, context: list[int], vocab_size: int) -> list[float]:
    """The textbook's recursion over dictionaries."""
    begin, end = vocab_size + 1, vocab_size
    raw: dict[int, Counter[tuple[int, ...]]] = defaultdict(Counter)
    for document in corpus:
        stream = [begin, *document, end]
        for length in range(1, order + 1):
            raw[length].update(tuple(stream[stop - length : stop]) for stop in range(max(length, 2), len(stream) + 1))

    @memory
    def counts(length: int) -> Counter[tuple[int, ...]]:
        if length == order:
            return raw[length]
        before = Counter(gram[1:] for gram in raw[length + 1])
        return Counter({gram: raw[length][gram] if gram[0] == begin else before[gram] for gram in raw[length]})

    def probabilities(history: tuple[int, ...]) -> list[float]:
        lower = probabilities(history[1:]) if history else [1 / (vocab_size + 1)] * (vocab_size + 1)
        own = counts(len(history) + 1)
        follow = {gram[-1]: count for gram, count in own.items() if gram[:-1] == history}
        if not follow:
            return lower
        discounts = _discounts(np.array(list(own.values()))).tolist()
        taken = sum(discounts[min(count, 3)] for count in follow.values())
        kept = [follow.get(token, 0) - discounts[min(follow.get(token, 0), 3)] for token in range(vocab_size + 1)]
        return [(own + taken * rest) / sum(follow.values()) for own, rest in zip(kept, lower, strict=True)]

    history = [begin, *context]
    return probabilities(tuple(history[max(0, len(history) - order + 1) :]))


@given(corpus=corpora, context=contexts, order=st.integers(1, 5))
def test_kneser_ney_sums_to_one_after_any_context(corpus: list[list[int]], context: list[int], order: int) -> None:
    found = KneserNey(order).fit(corpus, VOCAB).probabilities(context)
    assert found.shape == (VOCAB + 1,)
    assert found.min() > 0
    assert found.sum() == pytest.approx(1)


@given(corpus=corpora, context=contexts, order=st.integers(1, 5))
def test_kneser_ney_equals_the_plain_recursion(corpus: list[list[int]], context: list[int], order: int) -> None:
    found = KneserNey(order).fit(corpus, VOCAB).probabilities(context)
    assert found == pytest.approx(plain_probabilities(corpus, order, context, VOCAB))


def test_kneser_ney_with_estimated_discounts_equals_the_plain_recursion(characters: Characters) -> None:
    corpus, vocab_size = characters.train[:100], characters.vocab_size
    assert (_discounts(np.array([1, 1, 1, 1, 1, 2, 2, 3, 4])) != FALLBACK_DISCOUNTS).any()
    model = KneserNey(4).fit(corpus, vocab_size)
    for context in ([], corpus[0][:1], corpus[1][:5], [0, 0, 0]):
        found = model.probabilities(context)
        assert found.sum() == pytest.approx(1)
        assert found == pytest.approx(plain_probabilities(corpus, 4, context, vocab_size))


def test_discounts_by_hand() -> None:
    counts = np.array([1] * 8 + [2] * 4 + [3] * 2 + [4] * 1 + [9])  # n1 = 8, n2 = 4: Y = 8 / (8 + 2 * 4) = 1/2
    assert _discounts(counts) == pytest.approx([0, 1 - 2 / 2 * 4 / 8, 2 - 3 / 2 * 2 / 4, 3 - 4 / 2 * 1 / 2])
    assert _discounts(np.array([1, 1, 2])) is FALLBACK_DISCOUNTS


@given(corpus=corpora, held_out=corpora)
def test_bits_are_the_logarithms_of_the_probabilities(corpus: list[list[int]], held_out: list[list[int]]) -> None:
    model = KneserNey(3).fit(corpus, VOCAB)
    expected = sum(
        -math.log2(model.probabilities(document[:position])[token])
        for document in held_out
        for position, token in enumerate([*document, VOCAB])
    )
    assert model.bits(held_out) == pytest.approx(expected)


def test_longer_contexts_beat_a_unigram_on_real_text(characters: Characters) -> None:
    num_characters = sum(map(len, characters.test))
    bits = {
        order: KneserNey(order).fit(characters.train, characters.vocab_size).bits(characters.test) / num_characters
        for order in (1, 2, 3)
    }
    assert bits[3] < bits[2] < 0.8 * bits[1]


def test_ids_outside_the_vocabulary_are_refused() -> None:
    with pytest.raises(ValueError, match=r"token id 4 is outside \[0, 4\)"):
        KneserNey(2).fit([[0, 4]], 4)
    with pytest.raises(ValueError, match="order 0 is below 1"):
        KneserNey(0)
    with pytest.raises(ValueError, match="no documents"):
        KneserNey(2).fit([], 4)
    assert KneserNey(2).fit([[0]], 4).bits([]) == 0


def test_viterbi_takes_the_probable_words_where_the_longest_are_wrong() -> None:
    learned = [["研究", "生命"]] * 5 + [["研究生"], ["命"], ["生命", "起源"], ["起源"]]
    segmenter = DictionarySegmenter(learned)
    # Cuts of 研究生命起源 into known words: 研究|生命|起源 (5 · 6 · 2 of 15 words), 研究生|命|起源 (1 · 1 · 2).
    assert segmenter.viterbi("研究生命起源") == ["研究", "生命", "起源"]
    assert segmenter.viterbi("") == segmenter.maximum_matching("") == []
    seen = segmenter.log_probability("研究") - segmenter.log_probability("命")
    assert seen == pytest.approx(math.log(5)), "known words keep the ratio of their counts"


def test_maximum_matching_takes_the_better_direction() -> None:
    segmenter = DictionarySegmenter([["abc", "de", "cde"], ["研究", "研究生", "生命", "命", "起源"]])
    assert segmenter.maximum_matching("abcx") == ["abc", "x"]
    assert segmenter.maximum_matching("abcde") == ["abc", "de"], "fewer words than the backward a|b|cde"
    assert segmenter.maximum_matching("研究生命起源") == ["研究", "生命", "起源"], "fewer single characters"


def test_unknown_characters_are_kept_and_probabilities_stay_below_one() -> None:
    segmenter = DictionarySegmenter([["天气", "好"], ["天气"], ["１９９７"], ["１９９８"]])
    for cut in (segmenter.viterbi, segmenter.maximum_matching):
        assert "".join(cut("天气ＺＺ好Ｑ")) == "天气ＺＺ好Ｑ"
    assert segmenter.viterbi("天气１９９９") == ["天气", "１９９９"], "an unknown word like those seen once"
    assert sum(math.exp(segmenter.log_probability(word)) for word in segmenter.counts) < 1
    with pytest.raises(ValueError, match="no words to learn from"):
        DictionarySegmenter([])


@pytest.mark.parametrize(
    ("gold", "predicted", "expected"),
    [
        ([["ab", "c"]], [["ab", "c"]], WordScores(1.0, 1.0, 1.0)),
        ([["ab", "c"]], [["a", "b", "c"]], WordScores(1 / 3, 1 / 2, 2 / 5)),
        ([["ab", "cd"]], [["a", "bc", "d"]], WordScores(0.0, 0.0, 0.0)),
        ([["ab"], ["a", "b"]], [["a", "b"], ["a", "b"]], WordScores(2 / 4, 2 / 3, 4 / 7)),
        ([], [], WordScores(0.0, 0.0, 0.0)),
    ],
)
def test_word_f1_by_hand(gold: list[list[str]], predicted: list[list[str]], expected: WordScores) -> None:
    assert word_f1(gold, predicted) == expected


def test_word_f1_counts_a_changed_or_lost_character_as_wrong() -> None:
    assert word_f1([["ab", "c"]], [["ab", "d"]]) == WordScores(0.5, 0.5, 0.5)
    assert word_f1([["a", "b", "c"]], [["a", "c"]]) == WordScores(0.5, 1 / 3, 0.4)


def test_viterbi_beats_maximum_matching_on_real_sentences(cache: Path) -> None:
    splits = chinese_segmentation(cache)
    segmenter = DictionarySegmenter(text.split(" ") for text in splits["train"]["target"])
    sources, gold = splits["test"]["source"][:300], [text.split(" ") for text in splits["test"]["target"][:300]]
    matching = word_f1(gold, [segmenter.maximum_matching(text) for text in sources])
    viterbi = word_f1(gold, [segmenter.viterbi(text) for text in sources])
    assert viterbi.f1 > matching.f1 > 0.9


def test_character_tfidf_learns_the_reviews_from_a_thousand_rows(reviews: DatasetDict) -> None:
    train, test = reviews["train"].select(range(1000)), reviews["test"]
    model = character_tfidf().fit(list(train["text"]), list(train["label"]))
    assert model.score(list(test["text"]), list(test["label"])) > 0.75


def test_word_tfidf_scores_as_published(cache: Path) -> None:
    splits = movie_sentiment(cache)
    model = word_tfidf().fit(list(splits["train"]["text"]), list(splits["train"]["label"]))
    accuracy = model.score(list(splits["test"]["text"]), list(splits["test"]["label"]))
    assert accuracy == pytest.approx(0.766, abs=0.005)

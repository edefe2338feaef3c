"""Chinese word segmentation from a dictionary, and the score that segmenters are compared by.

Two ways to cut: maximum matching takes the longest known word; Viterbi takes the most probable sequence of words,
unknown ones included, and is the stronger of the two.
"""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

MAX_UNKNOWN_CHARACTERS = 8


@dataclass(frozen=True)
class WordScores:
    precision: float
    recall: float
    f1: float


class DictionarySegmenter:
    """Knows the words of segmented training sentences and how often each was seen."""

    def __init__(self, sentences: Iterable[Sequence[str]]) -> None:
        self.counts = Counter(word for words in sentences for word in words)
        self.total = sum(self.counts.values())
        if not self.total:
            raise ValueError("no words to learn from; give at least one segmented sentence")
        self.longest = max(map(len, self.counts))
        self._backward = {word[::-1] for word in self.counts}
        # Words seen once tell what unseen ones look like: how many there are, their lengths and characters.
        once = [word for word, count in self.counts.items() if count == 1]
        unknown_share = (len(once) + 1) / (self.total + len(once) + 1)
        self._known = {word: math.log(count / self.total * (1 - unknown_share)) for word, count in self.counts.items()}
        lengths = Counter(map(len, once))
        self._unknown_lengths = {
            length: math.log(unknown_share * (lengths[length] + 1) / (len(once) + MAX_UNKNOWN_CHARACTERS))
            for length in range(1, MAX_UNKNOWN_CHARACTERS + 1)
        }
        characters = Counter("".join(once))
        spelling = characters.total() + len(set("".join(self.counts))) + 1
        self._spelling = {character: math.log((count + 1) / spelling) for character, count in characters.items()}
        self._new_character = math.log(1 / spelling)

    def maximum_matching(self, text: str) -> list[str]:
        """Left to right and right to left, the longest word each time; the cut with fewer words, then with fewer
        single characters, then the backward one."""
        forward = self._longest_first(text, self.counts.keys())
        backward = [word[::-1] for word in self._longest_first(text[::-1], self._backward)][::-1]
        return min(backward, forward, key=lambda words: (len(words), sum(len(word) == 1 for word in words)))

    def viterbi(self, text: str) -> list[str]:
        """The most probable words by their frequencies."""
        best: list[tuple[float, int]] = [(0.0, 0)]  # at each place: log probability, start of the last word
        for end in range(1, len(text) + 1):
            starts = range(max(0, end - max(self.longest, MAX_UNKNOWN_CHARACTERS)), end)
            best.append(max((best[start][0] + self.log_probability(text[start:end]), start) for start in starts))
        words, end = [], len(text)
        while end:
            start = best[end][1]
            words.append(text[start:end])
            end = start
        return words[::-1]

    def log_probability(self, word: str) -> float:
        """Of a known word its share; of an unknown one the share of unknown words times its length and spelling."""
        if (known := self._known.get(word)) is not None:
            return known
        if len(word) > MAX_UNKNOWN_CHARACTERS:
            return -math.inf
        spelling = sum(self._spelling.get(character, self._new_character) for character in word)
        return self._unknown_lengths[len(word)] + spelling

    def _longest_first(self, text: str, dictionary: AbstractSet[str]) -> list[str]:
        words, start = [], 0
        while start < len(text):
            lengths = range(min(self.longest, len(text) - start), 1, -1)
            length = next((length for length in lengths if text[start : start + length] in dictionary), 1)
            words.append(text[start : start + length])
            start += length
        return words


def word_f1(gold: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]]) -> WordScores:
    """A word counts as found when it stands at its place, as character positions in its sentence, letter by letter.

    A segmenter that writes the sentence anew may lose or change a character: then the words it touches, and those that
    it shifts, are wrong.
    """
    right = num_gold = num_predicted = 0
    for wanted, found in zip(gold, predicted, strict=True):
        first, second = _placed(wanted), _placed(found)
        right, num_gold, num_predicted = right + len(first & second), num_gold + len(first), num_predicted + len(second)
    precision, recall = right / max(num_predicted, 1), right / max(num_gold, 1)
    return WordScores(precision, recall, 2 * right / max(num_gold + num_predicted, 1))


def _placed(words: Sequence[str]) -> set[tuple[int, str]]:
    """Each word with the place of its first character."""
    placed, start = set(), 0
    for word in words:
        placed.add((start, word))
        start += len(word)
    return placed

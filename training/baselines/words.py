"""The commonest tag of each word: what a tagger must beat (Jurafsky and Martin, chapter on sequence labelling)."""

from collections import Counter
from collections.abc import Sequence


class CommonestTag:
    """Remembers the tag that each word had most often; a word it never saw gets the commonest of all."""

    def __init__(self, sentences: Sequence[Sequence[str]], tags: Sequence[Sequence[str]]) -> None:
        counts: dict[str, Counter[str]] = {}
        for words, own in zip(sentences, tags, strict=True):
            for word, tag in zip(words, own, strict=True):
                counts.setdefault(word, Counter())[tag] += 1
        self._tag_of = {word: counter.most_common(1)[0][0] for word, counter in counts.items()}
        self.commonest = sum(counts.values(), Counter()).most_common(1)[0][0]

    def tag(self, words: Sequence[str]) -> list[str]:
        return [self._tag_of.get(word, self.commonest) for word in words]

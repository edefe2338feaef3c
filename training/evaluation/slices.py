"""The metric on parts of the held-out rows: by length, script, label, and whether a row was cut."""

import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from model.tokenizer import Encoding
from training.evaluation.ratio import Ratio, interval

SHORTEST = 8  # tokens: the end of the first range of lengths; each further one ends at twice the last
SEEN_LETTERS = 400  # of a text, to tell its script
RARE_SCRIPT = 0.01  # of the rows: a script below this is counted among the others
SCRIPTS = {"CJK": "Han", "HIRAGANA": "Japanese", "KATAKANA": "Japanese"}
SHOWN_GROUPS = 50  # of one kind, the largest


def slices(
    ratio: Ratio, encodings: Sequence[Encoding], texts: Sequence[str], groups: Mapping[str, Sequence[int]]
) -> list[dict[str, Any]]:
    """One section a kind of slice that tells more than one group apart."""
    kinds = [
        ("length", by_length(encodings)),
        ("cut", by_cut(encodings)),
        ("script", by_script(texts)),
        ("label", groups),
    ]
    return [{"by": by, "groups": _measure(ratio, named)} for by, named in kinds if len(named) > 1]


def _measure(ratio: Ratio, named: Mapping[str, Sequence[int]]) -> list[dict[str, Any]]:
    largest = sorted(named, key=lambda name: -len(named[name]))[:SHOWN_GROUPS]
    measured = []
    for name in (name for name in named if name in largest):  # in their own order
        part = ratio.of(named[name])
        value = {"value": part.value, "interval": interval(part)}
        measured.append({"name": name, "rows": len(named[name]), **value})
    return measured


def by_length(encodings: Sequence[Encoding]) -> dict[str, list[int]]:
    """Ranges that double: a model's trouble with length grows with its order of magnitude."""
    ends: dict[int, list[int]] = {}
    for row, encoding in enumerate(encodings):
        end = SHORTEST
        while end < encoding.full_length:
            end *= 2
        ends.setdefault(end, []).append(row)
    return {f"{end // 2 + 1 if end > SHORTEST else 1} to {end}": ends[end] for end in sorted(ends)}


def by_cut(encodings: Sequence[Encoding]) -> dict[str, list[int]]:
    named: dict[str, list[int]] = {}
    for row, encoding in enumerate(encodings):
        named.setdefault("cut" if encoding.truncated else "read whole", []).append(row)
    return named


def by_script(texts: Sequence[str]) -> dict[str, list[int]]:
    """By the script of most of a text's letters, the commonest first; all together unless rows are mixed."""
    named: dict[str, list[int]] = {}
    for row, text in enumerate(texts):
        named.setdefault(script_of(text), []).append(row)
    common: dict[str, list[int]] = {}
    for name in sorted(named, key=lambda name: -len(named[name])):
        rare = len(named[name]) < RARE_SCRIPT * len(texts)
        common.setdefault("other" if rare else name, []).extend(named[name])
    mixed = max(map(len, common.values())) <= (1 - RARE_SCRIPT) * len(texts)
    return common if mixed else {next(iter(common)): list(range(len(texts)))}


def script_of(text: str) -> str:
    """The first word of most letters' names in Unicode; text with kana is Japanese, whatever its Han characters."""
    words = Counter(
        unicodedata.name(character, "OTHER").split()[0] for character in text[:SEEN_LETTERS] if character.isalpha()
    )
    if not words:
        return "no letters"
    names = Counter({SCRIPTS.get(word, word.capitalize()): count for word, count in words.items()})
    return "Japanese" if "Japanese" in names else names.most_common(1)[0][0]

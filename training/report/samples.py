"""Some rows followed from their text to token ids: raw, normalised, tokens, ids."""

from collections.abc import Sequence
from typing import Any

from model.tokenizer import Encoding, Tokenizer
from training.data import Examples, join_words
from training.labelled import NOT_LEARNED, align_tags
from training.report.copies import flat, name_target

SHOWN_TOKENS = 64
SHOWN_CHARACTERS = 400


def choose_samples(encodings: Sequence[Encoding], unknown_id: int | None) -> list[tuple[str, int]]:
    """(why, row) of rows worth a look: a short one, a typical one, the longest, one with unknown tokens."""
    order = sorted(range(len(encodings)), key=lambda row: (encodings[row].full_length, row))
    wanted = [
        ("a short row", order[len(order) // 10]),
        ("a row of typical length", order[len(order) // 2]),
        ("the longest row", order[-1]),
    ]
    shares = ((encoding.ids.count(unknown_id) / len(encoding.ids), row) for row, encoding in enumerate(encodings))
    share, row = max(shares) if unknown_id is not None else (0.0, 0)
    if share > 0:
        wanted.append(("the row with the largest share of unknown tokens", row))
    chosen: dict[int, str] = {}
    for why, row in wanted:
        chosen.setdefault(row, why)
    return [(why, row) for row, why in chosen.items()]


def describe_sample(why: str, row: int, examples: Examples, encoding: Encoding, tokenizer: Tokenizer) -> dict[str, Any]:
    """One row at each step."""
    text = examples.inputs[row]
    parts = (text,) if isinstance(text, str) else text
    tags = _tags(examples, row, encoding)
    tokens = []
    for index, token in enumerate(encoding.tokens[:SHOWN_TOKENS]):
        start, end = encoding.offsets[index]
        piece = parts[encoding.texts[index]][start:end]
        unknown = encoding.ids[index] == tokenizer.unknown_id
        kind = "unknown" if unknown else "special" if encoding.special[index] else "known"
        tokens.append(
            {"token": token, "id": encoding.ids[index], "text": piece, "kind": kind, "tag": tags[index] if tags else ""}
        )
    return {
        "why": why,
        "line": examples.line_of(row),
        "target": name_target(examples.targets[row])[:SHOWN_CHARACTERS],
        "raw": [part[:SHOWN_CHARACTERS] for part in parts],
        "characters": sum(map(len, parts)),
        "normalised": tokenizer.normalise(flat(text))[:SHOWN_CHARACTERS],
        "tokens": tokens,
        "num_tokens": len(encoding.ids),
        "tokens_cut": encoding.full_length - len(encoding.ids),
    }


def _tags(examples: Examples, row: int, encoding: Encoding) -> list[str]:
    """What each token of a tagging row is to learn; empty for other tasks."""
    if examples.task != "tagging":
        return []
    words, tags = examples.rows[row]["tokens"], examples.rows[row]["tags"]
    assert len(join_words(words)[1]) == len(tags)
    names = sorted({tag for labels in examples.label_sets for tag in labels})
    target = align_tags(encoding, words, tags, {name: index for index, name in enumerate(names)})
    by_number = dict(enumerate(names)) | {NOT_LEARNED: ""}
    return [by_number[tag] for tag in target.tags]

"""Lengths in tokens, what is cut, what the vocabulary lacks, and how rows fill batches."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from model.tokenizer import Encoding, Tokenizer
from training.collate import epoch_batches
from training.config import Recipe
from training.report.copies import flat

NUM_BINS = 40  # of a histogram of lengths, at most
ROUND_STEPS = [digit * 10**zeros for zeros in range(7) for digit in (1, 2, 5)]
SHOWN_UNKNOWN = 16
SAMPLE_ROWS = 12  # of one batch, drawn
Text = str | tuple[str, str]


def describe_lengths(encodings: Sequence[Encoding], max_length: int) -> dict[str, Any]:
    """How long rows are in tokens, special ones included, and what is beyond the cut."""
    lengths = np.array([encoding.full_length for encoding in encodings])
    kept = sum(len(encoding.ids) for encoding in encodings)
    counts, edges = np.histogram(lengths, bins=_edges(int(lengths.max()), max_length))
    return {
        "rows": len(encodings),
        "total": int(lengths.sum()),
        "kept": kept,
        "mean": float(lengths.mean()),
        "median": float(np.median(lengths)),
        "p95": float(np.percentile(lengths, 95)),
        "longest": int(lengths.max()),
        "cut_at": max_length,
        "rows_cut": sum(encoding.truncated for encoding in encodings),
        "tokens_cut": int(lengths.sum()) - kept,
        "histogram": {"edges": [int(edge) for edge in edges], "counts": [int(count) for count in counts]},
    }


def _edges(longest: int, max_length: int) -> list[int]:
    """Whole numbers at equal steps from 0; very long rows share the last bin."""
    top = min(longest, 4 * max_length)
    step = next(step for step in ROUND_STEPS if (top + 1) / step <= NUM_BINS)
    edges = list(range(0, top + step + 1, step))
    if longest > top:
        edges.append(longest + 1)
    return edges


def describe_vocabulary(texts: Sequence[Text], encodings: Sequence[Encoding], tokenizer: Tokenizer) -> dict[str, Any]:
    """How well the base's vocabulary covers these texts; special tokens are left out."""
    unknown = tokenizer.unknown_id
    times: Counter[int] = Counter()  # each id stands there
    pieces: Counter[str] = Counter()
    for text, encoding in zip(texts, encodings, strict=True):
        times.update(encoding.ids)
        if unknown in encoding.ids:
            pieces.update(_pieces(text, encoding, unknown))
    added = tokenizer.added_ids
    special = sum(times[number] for number in added)
    total, unknown_tokens = times.total() - special, sum(pieces.values())
    used = len(times.keys() - added - {unknown})
    characters = sum(len(flat(text)) for text in texts)
    whole = sum(encoding.full_length for encoding in encodings) - special
    return {
        "size": tokenizer.vocab_size,
        "used": used,
        "used_share": used / tokenizer.vocab_size,
        "tokens": total,
        "unknown_tokens": unknown_tokens,
        "unknown_rate": unknown_tokens / max(1, total),
        "unknown": [{"text": piece, "count": count} for piece, count in pieces.most_common(SHOWN_UNKNOWN)],
        "tokens_per_character": whole / max(1, characters),
    }


def _pieces(text: Text, encoding: Encoding, number: int | None) -> list[str]:
    """What the tokens of this number stand for in the text."""
    parts = (text,) if isinstance(text, str) else text
    marks = encoding.make_marks()  # not kept: they would outlive the report's other figures
    return [
        parts[own][start:end]
        for found, own, (start, end) in zip(encoding.ids, marks.texts, marks.offsets, strict=True)
        if found == number
    ]


def describe_batches(encodings: Sequence[Encoding], recipe: Recipe) -> dict[str, Any]:
    """Batches of one epoch as training forms them, and the beginning of one."""
    lengths = [len(encoding.ids) for encoding in encodings]
    batches = epoch_batches(lengths, recipe.batch_size, recipe.seed, 0)
    padded = sum(len(batch) * max(lengths[row] for row in batch) for batch in batches)
    middle = sorted(batches, key=lambda batch: max(lengths[row] for row in batch))[len(batches) // 2]
    middle = sorted(middle, key=lambda row: lengths[row])
    longest = lengths[middle[-1]]
    some = sorted({round(place * (len(middle) - 1) / (SAMPLE_ROWS - 1)) for place in range(SAMPLE_ROWS)})
    return {
        "batch_size": recipe.batch_size,
        "per_epoch": len(batches),
        "padding_share": 1 - sum(lengths) / padded,
        "sample": {
            "rows": len(middle),
            "tokens": longest,
            "padding_share": 1 - sum(lengths[row] for row in middle) / (len(middle) * longest),
            "lengths": [lengths[middle[place]] for place in some],
            "ids": [list(encodings[row].ids) for row in middle[:3]],
        },
    }

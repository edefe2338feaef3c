"""Chinese text without labels: what an encoder is pre-trained on and a causal language model is trained and tested on.

Reviews and news in one, with the splits of the labelled sets, so that no held-out row is ever trained on.
"""

from pathlib import Path

from training.catalogue.chinese_news import news_documents
from training.catalogue.chinese_reviews import chinese_reviews


def language_model_texts(cache: Path) -> dict[str, list[str]]:
    """Documents of each split: news articles, then reviews."""
    news, reviews = news_documents(cache), chinese_reviews(cache)
    return {name: news[name] + list(reviews[name]["text"]) for name in news}


def pretraining_texts(cache: Path) -> list[str]:
    """The training documents alone."""
    return language_model_texts(cache)["train"]

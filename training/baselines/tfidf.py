"""TF-IDF and a linear model: what a bag of words or characters knows about a text's label.

scikit-learn's, and fitted in seconds: a tuned Transformer that does not beat it is not worth its memory.
"""

import re
from collections.abc import Sequence
from typing import Any

from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline

from training.blas import one_core

FEW_TEXTS = 200  # below which a term need not stand in two texts
MAX_TERMS = 100_000  # of a vocabulary, the commonest
MAX_WEIGHTS = 1_000_000  # of a linear model, a term a class; while one is fitted each takes some 300 bytes
WORD = re.compile(r"\w\w")  # what scikit-learn takes for a word
UNSPACED = re.compile("[\u2e80-\u9fff\uf900-\ufaff\U00020000-\U0003ffff\u0e00-\u0eff\u1780-\u17ff]")
UNSPACED_SHARE = 0.2  # of the letters, from which on a text's words can't be told by its spaces


def word_tfidf() -> Pipeline:
    """Words and pairs of words, for text with spaces; 0.766 on the movie sentences."""
    vectors = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, min_df=2)
    return make_pipeline(vectors, logistic_regression())


def character_tfidf() -> Pipeline:
    """Runs of one to three characters, for text without spaces."""
    vectors = TfidfVectorizer(analyzer="char", ngram_range=(1, 3), sublinear_tf=True, min_df=2)
    return make_pipeline(vectors, logistic_regression())


def logistic_regression() -> LogisticRegression:
    return LogisticRegression(C=4, max_iter=1000)


def counts_characters(texts: Sequence[str]) -> bool:
    """Whether these texts are of a script without spaces (Han, kana, Thai, Lao, Khmer), or have no words at all."""
    joined = "\n".join(texts)
    letters = sum(map(str.isalpha, joined))
    unspaced = len(UNSPACED.findall(joined))
    wordless = sum(WORD.search(text) is None for text in texts)
    return unspaced > UNSPACED_SHARE * letters or wordless > len(texts) / 2


def tfidf(texts: Sequence[str], learner: Any, classes: int = 1) -> Pipeline:
    """The vectors that suit the script of these texts, under any learner of scikit-learn; not fitted yet. Fewer terms
    for a learner that has weights for each of many classes."""
    terms = min(MAX_TERMS, MAX_WEIGHTS // classes)
    limits = {"sublinear_tf": True, "min_df": 2 if len(texts) >= FEW_TEXTS else 1, "max_features": terms}
    if counts_characters(texts):
        return make_pipeline(TfidfVectorizer(analyzer="char", ngram_range=(1, 3), **limits), learner)
    return make_pipeline(TfidfVectorizer(ngram_range=(1, 2), **limits), learner)


def fit_tfidf(texts: Sequence[str], targets: Any, learner: Any, classes: int = 1) -> Pipeline:
    """The same, fitted on the texts' targets, one each, or a row of several."""
    model = tfidf(texts, learner, classes)
    with one_core():
        model.fit(texts, targets)
    return model

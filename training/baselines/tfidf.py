"""TF-IDF and logistic regression: what a bag of words or characters knows about a text's label."""

from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline


def word_tfidf() -> Pipeline:
    """Words and pairs of words, for text with spaces; 0.766 on the movie sentences."""
    vectors = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, min_df=2)
    return make_pipeline(vectors, LogisticRegression(C=4, max_iter=1000))


def character_tfidf() -> Pipeline:
    """Runs of one to three characters, for text without spaces."""
    vectors = TfidfVectorizer(analyzer="char", ngram_range=(1, 3), sublinear_tf=True, min_df=2)
    return make_pipeline(vectors, LogisticRegression(C=4, max_iter=1000))

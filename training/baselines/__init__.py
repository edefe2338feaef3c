"""The simple models that ours must beat, run on the same splits. Called by benchmarks and tests."""

from training.baselines.kneser_ney import KneserNey
from training.baselines.segmenter import DictionarySegmenter, WordScores, word_f1
from training.baselines.tfidf import character_tfidf, word_tfidf

__all__ = ["DictionarySegmenter", "KneserNey", "WordScores", "character_tfidf", "word_f1", "word_tfidf"]

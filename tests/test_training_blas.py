"""Linear models are fitted by one thread of OpenBLAS."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from datasets import Dataset
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_info, threadpool_limits

from training.baselines.tfidf import fit_tfidf, logistic_regression
from training.blas import one_core
from training.data import Examples
from training.evaluation.mislabelled import FOLDS, out_of_fold
from training.few_shot import fit_head

TEXTS = [f"{number} {word} film" for number in range(6) for word in ("good", "bad")]


def blas_threads() -> set[int]:
    """Of each library that is loaded: NumPy and SciPy bring one each."""
    return {int(found["num_threads"]) for found in threadpool_info() if found["user_api"] == "blas"}


def test_only_blas_has_one_thread_and_only_within() -> None:
    before = torch.get_num_threads()
    with threadpool_limits(2, user_api="blas"):
        with one_core():
            assert blas_threads() == {1}
            assert torch.get_num_threads() == before
        assert blas_threads() == {2}


def a_head() -> None:
    fit_head(torch.randn(6, 4), [0, 1, 0, 1, 0, 1], [1.0] * 6, 2)


def a_baseline() -> None:
    fit_tfidf(TEXTS, [0, 1] * 6, logistic_regression())


def one_that_did_not_see_a_row() -> None:
    rows = Dataset.from_dict({"text": TEXTS, "text_pair": [""] * 12, "label": ["a", "b"] * 6})
    assert out_of_fold(Examples(rows, ""), ["a", "b"]) is not None


@pytest.mark.parametrize(("fit", "times"), [(a_head, 1), (a_baseline, 1), (one_that_did_not_see_a_row, FOLDS)])
def test_each_model_is_fitted_so(fit: Callable[[], None], times: int, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[set[int]] = []
    real = LogisticRegression.fit

    def noted(self: LogisticRegression, *arguments: Any, **named: Any) -> Any:
        seen.append(blas_threads())
        return real(self, *arguments, **named)

    monkeypatch.setattr(LogisticRegression, "fit", noted)
    with threadpool_limits(2, user_api="blas"):
        fit()
    assert seen == [{1}] * times

"""Linear models are fitted by one thread of OpenBLAS."""

from typing import Any

import pytest
import torch
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_info, threadpool_limits

from training.blas import one_core
from training.few_shot import fit_head


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


def test_the_head_of_few_rows_is_fitted_so(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[set[int]] = []
    real = LogisticRegression.fit

    def noted(self: LogisticRegression, *arguments: Any, **named: Any) -> Any:
        seen.append(blas_threads())
        return real(self, *arguments, **named)

    monkeypatch.setattr(LogisticRegression, "fit", noted)
    with threadpool_limits(2, user_api="blas"):
        fit_head(torch.randn(6, 4), [0, 1, 0, 1, 0, 1], [1.0] * 6, 2)
    assert seen == [{1}]

"""What a full fast queue refuses, and what never enters it."""

from typing import Any

import pytest

from tests.house import House, house

__all__ = ["house"]  # a fixture
MOOD = "ft:tiny:vitrine:mood:1"
TEXT = "red cat dog " * 8
QUEUED: dict[str, dict[str, Any]] = {
    "/v1/classify": {"model": MOOD, "input": TEXT},
    "/v1/embeddings": {"model": MOOD, "input": TEXT},
    "/v1/fill-mask": {"model": "tiny", "input": "red [MASK]"},
    "/v1/drift": {"models": ["tiny", MOOD], "input": [TEXT, "red", "cat"]},
}
OTHERS: dict[str, dict[str, Any]] = {
    "/v1/tokenize": {"model": MOOD, "input": [TEXT] * 4},
    "/v1/attention": {"model": MOOD, "input": TEXT},
    "/v1/attention/compare": {"left": {"model": MOOD, "input": TEXT}, "right": {"model": MOOD, "input": "red cat"}},
    "/v1/explain": {"model": MOOD, "input": TEXT, "faithfulness": False},
    "/v1/trace": {"model": MOOD, "input": TEXT},
}


def ask(house: House, path: str, body: dict[str, Any]) -> Any:
    return house.ask("POST", path, house.ann, json=body)


def test_a_full_queue_refuses_what_is_for_it_alone(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    for path, body in (QUEUED | OTHERS).items():
        assert ask(house, path, body).status_code == 200, "from here on it is known how many tokens a text has"
    queue = house.app.state.parts.engine._queue
    monkeypatch.setattr(queue, "tokens", queue.max_tokens)
    for path, body in QUEUED.items():
        answer = ask(house, path, body)
        assert (answer.status_code, f"the queue holds {queue.max_tokens}" in answer.text) == (429, True), path
    for path, body in OTHERS.items():
        assert ask(house, path, body).status_code == 200, path


def test_more_tokens_than_the_queue_holds_may_be_counted(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(house.app.state.parts.engine._queue, "max_tokens", 40)
    texts = {"model": MOOD, "input": [TEXT] * 4}
    assert ask(house, "/v1/tokenize", texts).json()["usage"]["total_tokens"] > 40
    refused = ask(house, "/v1/classify", texts)
    assert (refused.status_code, "the limit is 40" in refused.text) == (413, True)

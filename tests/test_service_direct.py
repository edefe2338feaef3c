"""Routes that are answered without the framework's layers: the same answers as with them, in all but time."""

import asyncio
import json
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive, Scope, Send

from model.folders import load_tokenizer
from model.heads import TextModel
from model.weights import save_model
from service.audit import AuditLog
from service.direct import MAX_BODY_BYTES, Direct
from service.gate import Gate
from service.model_store import ModelStore
from service.routes.inference import ROUTES
from tests.house import House, house

__all__ = ["house"]

OWN = {"x-request-id", "x-queue-time", "x-inference-time"}  # of each request
JSON = "application/json"


@dataclass
class Both:
    """The service of the house with its framework alone, and with what answers directly before it."""

    house: House
    framework: TestClient
    direct: TestClient
    passed_on: list[str]  # paths that went on to the framework

    def ask(self, path: str, body: bytes, *kinds: str) -> tuple[httpx.Response, bool]:
        """-> the answer, which both give, and whether it was given directly."""
        headers = [*self.house.ann.items(), *(("content-type", kind) for kind in kinds)]
        expected = self.framework.post(path, content=body, headers=headers)
        self.passed_on.clear()
        answer = self.direct.post(path, content=body, headers=headers)
        assert (answer.status_code, answer.content) == (expected.status_code, expected.content)
        assert _shared(answer) == _shared(expected)
        assert OWN & set(answer.headers) == OWN & set(expected.headers)
        return answer, not self.passed_on


def _shared(answer: httpx.Response) -> list[tuple[str, str]]:
    return sorted((name, value) for name, value in answer.headers.multi_items() if name not in OWN)


@pytest.fixture(scope="module")
def both(house: House, tmp_path_factory: pytest.TempPathFactory) -> Both:
    """With a tagger, too, over the base of the house."""
    app, parts = house.app, house.app.state.parts
    store: ModelStore = parts.registry.store
    base = store.find("tiny")
    config, tokenizer = base.config.with_task("tagging", ("O", "B-colour")), load_tokenizer(base.folder)
    folder = tmp_path_factory.mktemp("tagger")
    save_model(TextModel(config), tokenizer, folder)
    store.publish(folder, "tagger", "tagger:1", None, None)
    passed_on: list[str] = []

    async def noted(scope: Scope, receive: Receive, send: Send) -> None:
        passed_on.append(scope["path"])
        await app(scope, receive, send)

    def client(answers: Any) -> TestClient:
        gate = Gate(answers, parts, app.state.auth, AuditLog(house.settings.audit_log))
        return TestClient(gate, base_url="http://localhost", raise_server_exceptions=False)

    return Both(house, client(app), client(Direct(noted, parts, ROUTES)), passed_on)


@pytest.mark.parametrize(
    ("path", "model", "text"),
    [
        ("/v1/classify", "moods", "red cat"),
        ("/v1/classify", "moods", ["red cat", ["blue", "dog"]]),
        ("/v1/embeddings", "tiny", "红 cat"),
        ("/v1/embeddings", "tiny", [[1, 2, 3]]),
        ("/v1/fill-mask", "tiny", "red [MASK]"),
        ("/v1/tag", "tagger", "red cat"),
        ("/v1/tag", "tagger", ["红 cat", "blue dog and a green one"]),
    ],
)
@pytest.mark.parametrize("kind", [JSON, "Application/JSON; charset=UTF-8"])
def test_what_goes_well_is_answered_directly(both: Both, path: str, model: str, text: object, kind: str) -> None:
    answer, directly = both.ask(path, json.dumps({"model": model, "input": text}).encode(), kind)
    assert directly
    assert answer.status_code == 200
    assert answer.headers["content-type"] == JSON
    assert answer.json()["data"]


@pytest.mark.parametrize(
    ("path", "fields", "status", "code"),
    [
        ("/v1/classify", {"model": "tiny", "input": "red"}, 400, "invalid_value"),
        ("/v1/embeddings", {"model": "none", "input": "red"}, 404, "model_not_found"),
        ("/v1/embeddings", {"model": "tiny", "input": "red " * 99}, 400, "context_length_exceeded"),
        ("/v1/tag", {"model": "moods", "input": ["red", " "]}, 400, "invalid_value"),
    ],
)
def test_a_refusal_of_the_route_itself(
    both: Both, path: str, fields: dict[str, object], status: int, code: str
) -> None:
    answer, directly = both.ask(path, json.dumps(fields).encode(), JSON)
    assert directly
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)


GOOD = json.dumps({"model": "tiny", "input": "red"}).encode()


@pytest.mark.parametrize(
    ("body", "kinds", "status"),
    [
        (b'{"model": "tiny"}', (JSON,), 400),
        (b'{"model": "tiny", "input": "red", "inptu": 1}', (JSON,), 400),
        (b'{"model": "tiny", "input": 3}', (JSON,), 400),
        (b'{"model": "tiny", "input": "\\ud800"}', (JSON,), 400),
        (b"{", (JSON,), 400),
        (b"", (JSON,), 400),
        (b"null", (JSON,), 400),
        (b"\xff", (JSON,), 400),
        (b"[" * 100_000, (JSON,), 400),
        *((b'{"model": "tiny", "input": %s}' % (b"[" * deep + b"]" * deep), (JSON,), 400) for deep in (40, 300, 900)),
        *((b'{"model": "tiny", "input": %s1%s}' % (b'{"a":' * deep, b"}" * deep), (JSON,), 400) for deep in (40, 900)),
        (b"9" * 5_000, (JSON,), 400),
        (GOOD, (), 415),
        (GOOD, ("text/plain",), 415),
        (GOOD, (JSON, "text/plain"), 200),
        (GOOD, ("application/problem+json",), 200),
        (GOOD + b" " * MAX_BODY_BYTES, (JSON,), 200),
    ],
)
def test_what_the_framework_reads_or_refuses(both: Both, body: bytes, kinds: tuple[str, ...], status: int) -> None:
    answer, directly = both.ask("/v1/embeddings", body, *kinds)
    assert not directly
    assert answer.status_code == status


TEXTS = st.one_of(st.text(max_size=40), st.sampled_from(["red cat", "blue [MASK]", "", " ", "狗", "a\x00b"]))
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-3, 200), st.floats(allow_nan=False), TEXTS),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXTS, inner, max_size=2)),
    max_leaves=6,
)
FIELDS = st.fixed_dictionaries(
    {},
    optional={
        "model": st.one_of(st.sampled_from(["tiny", "moods", "none"]), VALUES),
        "input": st.one_of(
            TEXTS, st.lists(TEXTS, max_size=3), st.lists(st.lists(TEXTS, max_size=3), max_size=2), VALUES
        ),
        "truncate": st.one_of(st.booleans(), VALUES),
        "windows": st.one_of(st.booleans(), VALUES),
        "top_k": VALUES,
        "dimensions": VALUES,
        "encoding_format": st.one_of(st.sampled_from(["float", "base64"]), VALUES),
        "aggregation": VALUES,
        "user": VALUES,
    },
)


@settings(
    max_examples=200, deadline=None, derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)  # fmt: skip
@given(path=st.sampled_from([route.path for route in ROUTES]), fields=st.one_of(FIELDS, VALUES))
def test_any_body_is_answered_alike(both: Both, path: str, fields: object) -> None:
    both.ask(path, json.dumps(fields).encode(), JSON)


def test_other_methods_and_routes_go_on(both: Both) -> None:
    for ask, path, status in ((both.direct.get, "/v1/embeddings", 405), (both.direct.get, "/v1/models", 200)):
        both.passed_on.clear()
        assert ask(path, headers=both.house.ann).status_code == status
        assert both.passed_on == [path]


def test_a_body_in_pieces_is_read_to_its_end_and_one_that_breaks_off_is_no_request(both: Both) -> None:
    parts = both.house.app.state.parts
    asked: list[str] = []

    async def framework(scope: Scope, receive: Receive, send: Send) -> None:
        asked.append("framework")

    def scope(length: int) -> Scope:
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % length)]
        return {"type": "http", "method": "POST", "path": "/v1/embeddings", "headers": headers}

    def answers(*messages: Message) -> list[Message]:
        sent: list[Message] = []
        coming = list(messages)

        async def receive() -> Message:
            return coming.pop(0)

        async def send(message: Message) -> None:
            sent.append(message)

        asyncio.run(Direct(framework, parts, ROUTES)(scope(len(GOOD)), receive, send))
        return sent

    pieces = [{"type": "http.request", "body": GOOD[:9], "more_body": True}]
    whole = answers(*pieces, {"type": "http.request", "body": GOOD[9:], "more_body": False})
    assert whole[0]["status"] == 200
    assert len(json.loads(whole[1]["body"])["data"]) == 1
    with pytest.raises(ClientDisconnect):
        answers(*pieces, {"type": "http.disconnect"})
    assert asked == []

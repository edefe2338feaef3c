"""What grows with the number of tokens is made beside the event loop, and is the same to the byte."""

import asyncio
import json
import threading
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import BaseModel

from model.folders import load_tokenizer
from model.heads import TextModel
from model.weights import save_model
from service import direct, large
from service.large import LARGE, PIECE, beside, json_of
from service.model_store import ModelStore
from service.routes import inference
from service.schemas.base import Usage
from service.schemas.inference import (
    Embedding,
    EmbeddingsResponse,
    Tag,
    Tagged,
    TagResponse,
    TokenizeResponse,
    Tokens,
)
from tests.house import House, house

__all__ = ["house"]
COUNTS = (0, 1, PIECE - 1, PIECE, PIECE + 1, 5 * PIECE)
USAGE = Usage(prompt_tokens=3, total_tokens=3)


def tagged(count: int) -> BaseModel:
    tags = [Tag('狗"\\', 0.1 + 1e-6 * place, place, place + 1, "\u2028") for place in range(count)]
    data = [Tagged(index=0, tags=tags, truncated=False), Tagged(index=1, tags=tags[:2], truncated=True, windows=2)]
    return TagResponse(model="模型", data=data, usage=USAGE)


def embedded(count: int) -> BaseModel:
    numbers = [1e-7, 1e22, float("nan"), float("inf"), -0.0, 1.0, 0.30000000000000004]
    vectors: list[list[float] | str] = [(numbers * count)[:count], "AAAA"]
    data = [Embedding(index=index, embedding=vector, truncated=False) for index, vector in enumerate(vectors)]
    return EmbeddingsResponse(model="m", data=data, usage=USAGE)


def tokenized(count: int) -> BaseModel:
    data = [
        Tokens(
            index=index, ids=[7] * count, tokens=["é"] * count, offsets=[(0, 1)] * count, special=[True] * count,
            truncated=False, full_length=count, normalised=text,
        )
        for index, text in enumerate(("a\tb", None))
    ]  # fmt: skip
    return TokenizeResponse(model="m", data=data, usage=USAGE)


def many(count: int) -> BaseModel:
    data = [Embedding(index=index, embedding=[0.5], truncated=False) for index in range(count)]
    return EmbeddingsResponse(model="m", data=data, usage=USAGE)


@pytest.mark.parametrize("make", [tagged, embedded, tokenized, many])
@pytest.mark.parametrize("count", COUNTS)
def test_an_answer_written_in_pieces_is_the_same_to_the_byte(make: Callable[[int], BaseModel], count: int) -> None:
    answer = make(count)
    expected = answer.model_dump_json(by_alias=True).encode()
    assert b"".join(large._written(answer)) == expected
    assert asyncio.run(json_of(answer)) == expected


def test_no_piece_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    """While one is written no other thread runs."""
    real = large.to_json
    sizes: list[int] = []

    def noted(value: Any, **options: Any) -> bytes:
        in_list = len(value) if isinstance(value, list) else 0
        sizes.append(large._entries(value) if isinstance(value, BaseModel) else in_list)
        return real(value, **options)

    monkeypatch.setattr(large, "to_json", noted)
    for make in (tagged, embedded, tokenized, many):
        list(large._written(make(20 * PIECE)))
    assert 0 < max(sizes) <= PIECE


def test_what_is_small_is_made_at_once_and_what_is_large_elsewhere() -> None:
    async def where(size: int) -> bool:
        return await beside(size, threading.get_ident) == threading.get_ident()

    assert asyncio.run(where(LARGE))
    assert not asyncio.run(where(LARGE + 1))


@pytest.fixture(scope="module")
def painted(house: House, tmp_path_factory: pytest.TempPathFactory) -> House:
    """With a tagger over the base of the house."""
    store: ModelStore = house.app.state.parts.registry.store
    base = store.find("tiny")
    config, folder = base.config.with_task("tagging", ("O", "B-colour", "I-colour")), tmp_path_factory.mktemp("painter")
    save_model(TextModel(config), load_tokenizer(base.folder), folder)
    store.publish(folder, "painter", "painter:1", None, None)
    return house


MANY: dict[str, Any] = {"input": ["red green blue cat dog " * 5] * 200}
LONG: dict[str, Any] = {"input": "red green blue cat dog " * 800, "windows": True}


@pytest.mark.parametrize("kind", ["application/json", "application/problem+json"])  # directly, by the framework
@pytest.mark.parametrize(
    ("path", "model", "makes", "fields"),
    [
        ("/v1/tag", "painter", ["find_tags", "Tag", "Tagged"], MANY),
        ("/v1/tag", "painter", ["windowed", "find_tags", "Tag"], LONG),
        ("/v1/tokenize", "tiny", ["Tokens"], MANY),
        ("/v1/embeddings", "tiny", ["Embedding"], MANY),
        ("/v1/classify", "moods", ["Classification"], {"input": ["red cat"] * 2_000}),
        ("/v1/fill-mask", "tiny", ["Mask"], {"input": ["red [MASK] cat"] * 50, "top_k": 100}),
    ],
)
def test_the_loop_makes_no_large_answer(
    path: str, model: str, makes: list[str], fields: dict[str, Any], kind: str,
    painted: House, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    loops: list[int] = []
    answers: list[BaseModel] = []
    threads: dict[str, set[int]] = {}

    def watch(module: Any, name: str) -> None:
        real = getattr(module, name)

        def watched(*given: Any, **named: Any) -> Any:
            threads.setdefault(name, set()).add(threading.get_ident())
            return real(*given, **named)

        monkeypatch.setattr(module, name, watched)

    async def noted(answer: BaseModel) -> bytes:
        loops.append(threading.get_ident())
        answers.append(answer)
        return await json_of(answer)

    for module in (inference, direct):
        monkeypatch.setattr(module, "json_of", noted)
    for name in makes:
        watch(inference, name)
    watch(large, "_written")
    content = json.dumps({"model": model, **fields}).encode()
    answer = painted.client.post(path, content=content, headers=painted.ann | {"content-type": kind})
    assert answer.status_code == 200, answer.text[:300]
    assert answer.content == answers[0].model_dump_json(by_alias=True).encode()
    assert answer.headers["content-type"] == "application/json"
    assert threads.keys() == {*makes, "_written"}
    assert all(loops[0] not in found for found in threads.values())

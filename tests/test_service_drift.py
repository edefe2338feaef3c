"""`/v1/drift` over HTTP: the vectors and the attention of the same texts, model after model."""

import io

import httpx
import numpy as np
import pytest
from PIL import Image

from tests.conftest import Service
from tests.zoo import TEXTS

PROBES = [*TEXTS[:5], "酒店服务很好", "the film"]


def post(service: Service, **body: object) -> httpx.Response:
    fields = {"models": ["base", "classifier", "adapter1"], "input": PROBES} | body
    return httpx.post(f"{service.url}/v1/drift", json=fields, timeout=60)


def test_frames_hold_what_the_other_routes_answer(exact: Service) -> None:
    answer = post(exact, attention_of=3, layer=0).json()
    assert [frame["model"] for frame in answer["frames"]] == ["base", "classifier", "adapter1"]
    assert [frame["step"] for frame in answer["frames"]] == [None] * 3
    assert answer["frames"][0]["moved"] == 0 < answer["frames"][1]["moved"]
    assert answer["frames"][0]["cosines"] == pytest.approx([1.0] * len(PROBES), abs=1e-3)
    assert 0 < answer["shown"] <= 1
    for frame in answer["frames"]:
        fields = {"model": frame["model"], "input": PROBES[3], "layers": [0]}
        attention = httpx.post(f"{exact.url}/v1/attention", json=fields).json()
        assert frame["attention"]["tokens"] == attention["tokens"]
        mean = np.array(attention["weights"][0]).mean(axis=0)
        assert np.array(frame["attention"]["weights"]) == pytest.approx(mean, abs=2e-4)
    assert answer["frames"][0]["predictions"] == [None] * len(PROBES)
    classes = httpx.post(f"{exact.url}/v1/classify", json={"model": "adapter1", "input": PROBES}).json()
    assert answer["frames"][2]["predictions"] == [item["label"] for item in classes["data"]]


@pytest.mark.parametrize("show", ["points", "attention"])
@pytest.mark.parametrize(("kind", "starts"), [("image/gif", b"GIF8"), ("image/apng", b"\x89PNG")])
def test_a_picture_moves_through_the_models(exact: Service, kind: str, starts: bytes, show: str) -> None:
    fields = {"models": ["base", "classifier", "adapter1"], "input": PROBES, "show": show}
    answers = [httpx.post(f"{exact.url}/v1/drift", json=fields, headers={"accept": kind}, timeout=60) for _ in range(2)]
    assert answers[0].headers["content-type"] == kind
    assert answers[0].content.startswith(starts)
    assert answers[0].content == answers[1].content
    with Image.open(io.BytesIO(answers[0].content)) as image:
        assert image.n_frames == 3


def test_the_same_model_twice_has_not_moved(exact: Service) -> None:
    answer = post(exact, models=["base", "base"]).json()
    assert answer["frames"][1]["moved"] == pytest.approx(0.0, abs=1e-3)
    assert np.array(answer["frames"][1]["points"]) == pytest.approx(np.array(answer["frames"][0]["points"]), abs=1e-3)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"models": ["base"]}, "models names 1; add until there are at least 2"),
        ({"models": []}, "0 models and job None are named; name either"),
        ({"job": "ftjob-1"}, "3 models and job 'ftjob-1' are named; name either"),
        ({"models": ["base", "minilm-l6"]}, "vectors of widths [32, 384]"),
        ({"input": ["a", "b"]}, "input"),
        ({"attention_of": 7}, "attention_of is 7; input has texts 0 to 6"),
        ({"layer": 2}, "layer 2 does not exist; model 'base' has layers 0 to 1"),
        ({"models": ["base", "segmenter"]}, "can't answer this"),
    ],
)
def test_what_can_not_be_followed_is_refused(exact: Service, fields: dict[str, object], words: str) -> None:
    answer = post(exact, **fields)
    assert (answer.status_code, words in answer.json()["error"]["message"]) == (400, True)


def test_a_long_text_and_an_unknown_job_are_refused(service: Service) -> None:
    body = {"models": ["minilm-l6", "minilm-l6"], "input": ["good " * 80, "b", "c"]}
    answer = httpx.post(f"{service.url}/v1/drift", json=body, timeout=60)
    assert (answer.status_code, "input 0 has 82 tokens" in answer.text) == (400, True)
    answer = httpx.post(f"{service.url}/v1/drift", json={"job": "ftjob-1", "input": ["a", "b", "c"]}, timeout=60)
    assert answer.status_code == 404

"""`/v1/trace` over HTTP: the steps of a forward pass lead to what the other routes answer."""

from typing import Any

import httpx
import numpy as np
import pytest
import torch

from model.batch import pad
from model.explain.stages import stages
from service.engine.explaining import nested
from tests.conftest import Service
from tests.zoo import Zoo

TEXT = "the film was fine 服务"


def post(service: Service, **body: object) -> httpx.Response:
    fields = {"model": "classifier", "input": TEXT} | body
    return httpx.post(f"{service.url}/v1/trace", json=fields, timeout=60)


def named(answer: dict[str, Any], name: str, layer: int | None = None) -> dict[str, Any]:
    (stage,) = [stage for stage in answer["stages"] if (stage["name"], stage["layer"]) == (name, layer)]
    return dict(stage)


@pytest.mark.parametrize("name", ["classifier", "adapter0"])
def test_the_last_step_is_the_answer(exact: Service, name: str) -> None:
    answer = post(exact, model=name).json()
    classes = httpx.post(f"{exact.url}/v1/classify", json={"model": name, "input": TEXT}).json()
    by_label = {score["label"]: score["score"] for score in classes["data"][0]["scores"]}
    last = answer["stages"][-1]
    assert last["name"] == "label_probabilities"
    assert dict(zip(answer["labels"], last["values"], strict=True)) == pytest.approx(by_label, abs=1e-3)


@pytest.mark.parametrize("columns", [5, 1])  # the classifier has 3 labels
def test_every_step_is_there_with_its_numbers(exact: Service, zoo: Zoo, columns: int) -> None:
    answer = post(exact, columns=columns).json()
    (encoding,) = zoo.words.encode([TEXT], 64)
    expected = list(stages(zoo.models["classifier"], encoding))
    assert len(answer["stages"]) == len(expected)
    for sent, stage in zip(answer["stages"], expected, strict=True):
        assert (sent["name"], sent["layer"], sent["inputs"]) == (stage.name, stage.layer, list(stage.inputs))
        assert (sent["shape"], sent["formula"]) == (list(stage.values.shape), stage.formula)
        whole = stage.name in ("scores", "probabilities", "logits", "label_probabilities")
        values = stage.values if whole else stage.values[..., :columns]
        assert np.array(sent["values"]) == pytest.approx(values.numpy(), abs=1e-3), stage.name
        figures = (stage.values.min(), stage.values.max(), stage.values.mean(), stage.values.std(correction=0))
        assert list(sent["summary"].values()) == pytest.approx([float(figure) for figure in figures], abs=1e-3)
        if sent["norms"] is not None:
            norms = stage.values.norm(dim=-1).numpy().reshape(np.array(sent["norms"]).shape)
            assert np.array(sent["norms"]) == pytest.approx(norms, abs=1e-3)
    assert {stage["name"] for stage in answer["stages"] if stage["norms"] is None} == {
        "scores", "probabilities", "logits", "label_probabilities"
    }  # fmt: skip


def test_its_probabilities_are_the_attention(exact: Service) -> None:
    answer = post(exact, model="base", layers="1", stages=["probabilities"]).json()
    attention = httpx.post(f"{exact.url}/v1/attention", json={"model": "base", "input": TEXT, "layers": [1]}).json()
    (stage,) = answer["stages"]
    assert (stage["layer"], stage["shape"]) == (1, attention["shape"][1:])
    assert np.array(stage["values"]) == pytest.approx(np.array(attention["weights"][0]), abs=2e-4)
    assert answer["tokens"] == attention["tokens"]
    assert answer["config"]["num_layers"] == 2


def test_what_a_causal_model_hides_is_null_and_its_layers_guess(exact: Service, zoo: Zoo) -> None:
    answer = post(exact, model="writer", input="the film", num_guesses=3).json()
    scores = named(answer, "scores", 0)["values"]
    count = len(answer["tokens"])
    hidden = [[value is None for value in row] for row in scores[0]]
    assert hidden == [[column > row for column in range(count)] for row in range(count)]
    assert answer["config"]["causal"] is True
    model = zoo.models["writer"]
    (encoding,) = zoo.bytes.encode(["the film"], 64)
    with torch.inference_mode():
        logits = model.vocabulary_logits(model.decoder(pad([encoding], 0))[0])
    best = torch.softmax(logits, dim=-1).topk(3)
    assert [guess["layer"] for guess in answer["guesses"]] == [0, 1, 2]
    last = answer["guesses"][-1]["tokens"]
    assert [[found["id"] for found in place] for place in last] == best.indices.tolist()
    found = [[found["probability"] for found in place] for place in last]
    assert np.array(found) == pytest.approx(best.values.numpy(), abs=1e-3)


def test_summaries_alone(exact: Service) -> None:
    answer = post(exact, columns=0, layers=[0]).json()
    assert all(stage["values"] is None for stage in answer["stages"])
    assert {stage["layer"] for stage in answer["stages"]} == {None, 0}


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"stages": ["query", "soul"]}, "stage 'soul' is not one of this model's; choose from ['activated'"),
        ({"layers": "4"}, "layers 4 does not exist; this model has layers 0 to 1"),
        ({"model": "segmenter"}, "can't answer this"),
        ({"columns": -1}, "columns"),
        ({"input": "film " * 80}, "82 tokens, more than 64"),
    ],
)
def test_what_can_not_be_traced_is_refused(exact: Service, fields: dict[str, object], words: str) -> None:
    answer = post(exact, **fields)
    assert answer.status_code == 400
    assert words in answer.json()["error"]["message"]


def test_too_many_numbers_are_refused(service: Service) -> None:
    fields = {"model": "minilm-l6", "input": "good film " * 60, "columns": 8192}
    answer = httpx.post(f"{service.url}/v1/trace", json=fields, timeout=120)
    assert answer.status_code == 400
    assert "more than 2,400,000 numbers; choose fewer layers, stages or columns" in answer.text
    few = httpx.post(f"{service.url}/v1/trace", json=fields | {"columns": 0}, timeout=120)
    assert few.status_code == 200


def test_numbers_that_are_not_finite_are_null() -> None:
    assert nested(np.array([[1.23456, -np.inf]], dtype=np.float32), 2) == [[1.23, None]]

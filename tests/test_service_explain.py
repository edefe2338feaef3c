"""`/v1/explain` over HTTP: every method is the model's own, units add up, and each answer says how far it can be
believed."""

from collections.abc import Callable
from xml.etree import ElementTree

import httpx
import numpy as np
import pytest
import torch
from torch import Tensor

from model.batch import pad
from model.explain.decomposition import decompose
from model.explain.faithfulness import Trial, faithfulness
from model.explain.gradient import gradient_input, gradient_weighted
from model.explain.integrated import integrated_gradients
from model.explain.masking import replacement_id
from model.explain.occlusion import occlusion
from model.explain.target import Attribution, Target
from model.heads import TextModel
from model.lora import AdapterBank
from model.tokenizer import Encoding
from service.engine.explaining import Abandoned, Question, explain, unit_scores
from service.engine.runner import LoadedModel
from tests.conftest import Service
from tests.zoo import Zoo

TEXT = "the film was fine 服务态度差"
METHODS: dict[str, Callable[[TextModel, Encoding, Target, int], Attribution]] = {
    "integrated_gradients": integrated_gradients,
    "occlusion": occlusion,
    "decomposition": lambda model, encoding, target, _: decompose(model, encoding, target),
    "gradient_weighted": lambda model, encoding, target, _: gradient_weighted(model, encoding, target),
    "gradient_x_input": lambda model, encoding, target, _: gradient_input(model, encoding, target),
}


def post(service: Service, **body: object) -> httpx.Response:
    fields = {"model": "classifier", "input": TEXT, "faithfulness": False} | body
    return httpx.post(f"{service.url}/v1/explain", json=fields, timeout=60)


def read(zoo: Zoo, text: str | tuple[str, str] = TEXT) -> tuple[Encoding, int]:
    (encoding,) = zoo.words.encode([text], 64)
    return encoding, replacement_id(zoo.words, zoo.models["classifier"].config)


@pytest.mark.parametrize("method", list(METHODS))
@pytest.mark.parametrize(("name", "labels"), [("classifier", ("no", "yes")), ("adapter1", ("x", "z"))])
def test_scores_are_the_methods_own(exact: Service, zoo: Zoo, name: str, labels: tuple[str, str], method: str) -> None:
    """Of an adapter over a base that others share, those of the merged model."""
    model = zoo.models[name] if name in zoo.models else zoo.adapters[name]
    encoding, replacement = read(zoo)
    target = Target(model.config.labels.index(labels[1]), model.config.labels.index(labels[0]))
    expected = METHODS[method](model, encoding, target, replacement)
    answer = post(exact, model=name, method=method, target=labels[1], against=labels[0]).json()
    assert (answer["target"], answer["against"], answer["method"]) == (labels[1], labels[0], method)
    assert [unit["score"] for unit in answer["units"]] == pytest.approx(expected.scores.tolist(), abs=1e-3)
    assert answer["value"] == pytest.approx(expected.value, abs=1e-3)
    if expected.rest is None:
        assert answer["rest"] is None
    else:
        total = answer["baseline"] + sum(unit["score"] for unit in answer["units"]) + answer["rest"]
        assert total == pytest.approx(answer["value"], abs=1e-3)


def test_the_answer_itself_is_explained_unless_a_label_is_named(exact: Service) -> None:
    answer = post(exact, method="occlusion").json()
    classes = httpx.post(f"{exact.url}/v1/classify", json={"model": "classifier", "input": TEXT}).json()
    best = classes["data"][0]["scores"][0]
    assert answer["target"] == answer["prediction"][0]["label"] == best["label"]
    assert [item["score"] for item in answer["prediction"]] == pytest.approx(
        [score["score"] for score in classes["data"][0]["scores"]], abs=1e-4
    )
    other = ({"no", "yes"} - {best["label"]}).pop()
    assert post(exact, method="occlusion", target=other).json()["value"] != answer["value"]


def test_a_regression_model_and_independent_labels_are_explained(exact: Service, zoo: Zoo) -> None:
    number = post(exact, model="number", method="occlusion").json()
    assert (number["target"], number["value"]) == ("score", pytest.approx(number["prediction"][0]["score"], abs=1e-4))
    several = post(exact, model="several", target="far", faithfulness=True).json()
    by_label = {item["label"]: item["score"] for item in several["prediction"]}
    assert several["faithfulness"]["answer"] == pytest.approx(by_label["far"], abs=1e-4)
    assert sum(by_label.values()) != pytest.approx(1.0, abs=1e-3)


def test_units_carry_the_sum_of_their_tokens(exact: Service) -> None:
    fields = {"input": ["unbelievably 服务", "差差差"], "method": "occlusion"}
    tokens = post(exact, **fields).json()
    for merge in ("word", "character"):
        units = post(exact, merge=merge, special="hide", **fields).json()
        assert not any(unit["special"] for unit in units["units"])
        everything = sum(unit["score"] for unit in tokens["units"])
        assert sum(unit["score"] for unit in units["units"]) + units["hidden"] == pytest.approx(everything, abs=1e-4)
        first = [unit for unit in units["units"] if unit["segment"] == 0]
        assert "".join(unit["text"] for unit in first) == "unbelievably服务"
    assert len(units["units"]) == len("unbelievably服务差差差")


def test_a_token_of_several_units_is_split_evenly() -> None:
    scores = unit_scores(torch.tensor([1.0, 3.0, -2.0]), [(0,), (1,), (1, 2)])
    assert scores.tolist() == [1.0, 1.5, -0.5]
    assert scores.dtype == np.float64


def test_every_answer_says_how_far_it_can_be_believed(exact: Service, zoo: Zoo) -> None:
    encoding, replacement = read(zoo)
    model = zoo.models["classifier"]
    answer = post(exact, method="occlusion", target="yes", faithfulness=True, num_random=7).json()["faithfulness"]
    target = Target(1)
    scores = occlusion(model, encoding, target, replacement).scores
    expected = faithfulness(model, encoding, target, scores, replacement, Trial(num_random=7, beam_width=0))
    assert (answer["verdict"], answer["num_random"]) == (expected.verdict, 7)
    assert answer["answer"] == pytest.approx(expected.answer, abs=1e-4)
    for name, curve in (("comprehensiveness", expected.comprehensiveness), ("sufficiency", expected.sufficiency)):
        assert answer[name]["at"] == pytest.approx(curve.at, abs=1e-4)
        assert answer[name]["aopc"] == pytest.approx(curve.aopc, abs=1e-4)
        assert answer[name]["random"] == pytest.approx(vars(curve.random), abs=1e-4)
        assert answer[name]["normalised"] is None
    assert post(exact, method="occlusion").json()["faithfulness"] is None


def test_models_are_compared_by_the_normalised_measure(exact: Service, zoo: Zoo) -> None:
    encoding, replacement = read(zoo)
    model, target = zoo.models["classifier"], Target(1)
    fields = {"method": "occlusion", "target": "yes", "faithfulness": True, "normalise": True, "num_random": 3}
    answer = post(exact, **fields).json()["faithfulness"]
    scores = occlusion(model, encoding, target, replacement).scores
    expected = faithfulness(model, encoding, target, scores, replacement, Trial(num_random=3))
    for name, curve in (("comprehensiveness", expected.comprehensiveness), ("sufficiency", expected.sufficiency)):
        assert answer[name]["normalised"] == pytest.approx(curve.normalised, abs=1e-3)
        assert 0 <= answer[name]["normalised"] <= 1


def next_logits(model: TextModel, encoding: Encoding) -> Tensor:
    with torch.inference_mode():
        return model.vocabulary_logits(model.decoder(pad([encoding], 0))[:, -1])[0]


def test_a_model_that_writes_is_asked_why_this_token_comes_next(exact: Service, zoo: Zoo) -> None:
    model = zoo.models["writer"]
    (encoding,) = zoo.bytes.encode(["the film was"], 64)
    logits = next_logits(model, encoding)
    fields = {"model": "writer", "input": "the film was", "method": "gradient_x_input"}
    answer = post(exact, **fields).json()
    likely = torch.softmax(logits, dim=-1).topk(5)
    assert [item["label"] for item in answer["prediction"]] == [
        zoo.bytes.decode([number]) for number in likely.indices.tolist()
    ]
    assert [item["score"] for item in answer["prediction"]] == pytest.approx(likely.values.tolist(), abs=1e-4)
    assert answer["value"] == pytest.approx(float(logits.max()), abs=1e-3)
    (fine,), (film,) = (zoo.bytes.encode([text], 64)[0].ids for text in ("e", "f"))
    against = post(exact, target="e", against="f", **fields).json()
    expected = gradient_input(model, encoding, Target(fine, film))
    assert [unit["score"] for unit in against["units"]] == pytest.approx(expected.scores.tolist(), abs=1e-3)
    parts = post(exact, **(fields | {"method": "decomposition", "faithfulness": True})).json()
    assert sum(unit["score"] for unit in parts["units"]) == pytest.approx(float(logits.max()), abs=1e-3)
    assert parts["faithfulness"]["answer"] == pytest.approx(float(likely.values[0]), abs=1e-4)


@pytest.mark.parametrize(
    ("fields", "words", "param"),
    [
        ({"target": "maybe"}, "target is 'maybe', not a label of this model; choose from ['no', 'yes']", "target"),
        ({"target": "no", "against": "no"}, "target and against are both 'no'", "against"),
        ({"model": "writer", "method": "gradient_x_input", "target": "film fine"}, "send the text of one", "target"),
        ({"model": "tagger"}, "its task is 'tagging'", "model"),
        ({"model": "segmenter"}, "can't answer this", "model"),
        ({"input": "film " * 80}, "82 tokens, more than 64; shorten the input or set truncate=true", "input"),
        ({"input": ["a", "b", "c"]}, "input", "input"),
        ({"num_random": 1}, "num_random", "num_random"),
        ({"method": "guess"}, "method", "method"),
    ],
)
def test_what_can_not_be_explained_is_refused(
    exact: Service, fields: dict[str, object], words: str, param: str
) -> None:
    answer = post(exact, **fields)
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert words in error["message"]
    assert param in error["param"]


def test_the_label_that_is_predicted_can_not_stand_against_itself(exact: Service) -> None:
    best = post(exact, method="occlusion").json()["target"]
    answer = post(exact, method="occlusion", against=best)
    assert (answer.status_code, "against is what the model answers" in answer.text) == (400, True)


@pytest.mark.parametrize(("kind", "starts"), [("image/png", b"\x89PNG"), ("image/svg+xml", b"<svg")])
def test_a_picture_says_what_the_numbers_say(exact: Service, kind: str, starts: bytes) -> None:
    fields = {"model": "classifier", "input": ["好 <b>film</b>", "服务"], "method": "decomposition", "merge": "word"}
    url = f"{exact.url}/v1/explain"
    picture = httpx.post(url, json=fields, headers={"accept": kind}, timeout=60)
    assert picture.headers["content-type"] == kind
    assert picture.content.startswith(starts)
    assert picture.content == httpx.post(url, json=fields, headers={"accept": kind}, timeout=60).content
    if kind == "image/svg+xml":
        answer = httpx.post(url, json=fields, timeout=60).json()
        words = " ".join(ElementTree.fromstring(picture.content).itertext())
        assert "classifier · decomposition" in words
        assert answer["faithfulness"]["verdict"] in words
        assert f"the model answers {answer['target']}" in words


def test_an_explanation_stops_when_nobody_waits_for_it(zoo: Zoo) -> None:
    model = zoo.models["classifier"]
    loaded = LoadedModel(
        id="a", tag="a:1", config=model.config, bank=AdapterBank(model), tokenizer=zoo.words, dtype="float32",
        base_tag="a:1",
    )  # fmt: skip
    encoding, _ = read(zoo)
    asked: list[int] = []

    def interrupted() -> bool:
        asked.append(len(asked))
        return len(asked) > 3

    question = Question("occlusion", 1, None, Trial(beam_width=0, max_tokens=len(encoding.ids)))
    with pytest.raises(Abandoned):
        explain(loaded, encoding, question, interrupted)
    assert len(asked) == 4, "one question before each forward pass"
    assert explain(loaded, encoding, question, lambda: False).faithfulness is not None

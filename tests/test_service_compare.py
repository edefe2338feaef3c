"""Comparisons over HTTP: what the two sides say by themselves, and the difference of it."""

from collections.abc import Iterator
from xml.etree import ElementTree

import httpx
import numpy as np
import pytest
import torch
from fastapi.testclient import TestClient
from scipy.stats import spearmanr

from model.batch import pad
from model.explain.alignment import matched
from model.explain.text_input import answers_to
from model.explain.units import Unit
from model.heads import TextModel
from model.tokenizer import Tokenizer, train_byte_bpe
from model.weights import save_model
from service.app import create_app
from service.model_store import ModelStore
from service.settings import Settings
from tests.conftest import Service
from tests.zoo import TEXTS, Zoo, shaped

TEXT, EDITED = "the film was fine 服务态度差", "the film was not fine 服务态度好"
Body = dict[str, object]


def sides(left: tuple[str, object], right: tuple[str, object]) -> Body:
    return {name: dict(zip(("model", "input"), side, strict=True)) for name, side in (("left", left), ("right", right))}


def post(service: Service, route: str, accept: str = "application/json", **body: object) -> httpx.Response:
    return httpx.post(f"{service.url}{route}", json=body, headers={"accept": accept}, timeout=60)


def units(text: str) -> list[Unit]:
    return [Unit(letter, place, place + 1, 0, False, (place,)) for place, letter in enumerate(text)]


def test_units_of_an_edited_text_are_found_again() -> None:
    assert matched(units("abcd"), units("abcd")) == [(0, 0), (1, 1), (2, 2), (3, 3)]
    assert matched(units("abcd"), units("axcdd")) == [(0, 0), (2, 2), (3, 3)]
    assert matched(units("ab"), units("xy")) == []
    other = [Unit("a", 0, 1, 1, False, (0,)), Unit("b", 0, 0, 0, True, (1,))]
    assert matched(units("ab"), other) == [], "another text of the pair, and a special token"


def test_attention_of_two_models_is_subtracted(exact: Service) -> None:
    both = sides(("base", TEXT), ("adapter1", TEXT))
    answer = post(exact, "/v1/attention/compare", layers="1", **both).json()
    left, right = (
        post(exact, "/v1/attention", model=name, input=TEXT, layers="1").json() for name in ("base", "adapter1")
    )
    expected = np.array(right["weights"]) - np.array(left["weights"])
    assert np.array(answer["difference"]) == pytest.approx(expected, abs=3e-4)
    assert answer["matched"] == [[place, place] for place in range(len(left["units"]))]
    assert np.array(answer["moved"]) == pytest.approx(np.abs(expected).sum(-1).mean(-1) / 2, abs=2e-3)
    assert np.array(answer["moved"]).max() > 0.01
    top = answer["largest"][0]
    place = (0, top["head"], top["looks"][0], top["looked_at"][0])
    assert top["layer"] == 1
    assert top["right"] - top["left"] == pytest.approx(expected[place], abs=3e-4)
    assert abs(expected[place]) == pytest.approx(np.abs(expected).max(), abs=3e-4)
    assert {key: answer["left"][key] for key in ("model", "units")} == {key: left[key] for key in ("model", "units")}


def test_a_sentence_and_its_edit_are_compared_where_they_agree(exact: Service) -> None:
    both = sides(("base", TEXT), ("base", EDITED))
    answer = post(exact, "/v1/attention/compare", merge="word", heads="0", **both).json()
    ours, theirs = answer["left"]["units"], answer["right"]["units"]
    found = [(ours[a]["text"], theirs[b]["text"]) for a, b in answer["matched"]]
    assert all(left == right for left, right in found)
    assert {"film", "服"} <= {left for left, _ in found}
    assert {"not", "好"}.isdisjoint({right for _, right in found})
    assert np.array(answer["difference"]).shape == (2, 1, len(found), len(found))


def test_explanations_are_compared_for_one_target(exact: Service) -> None:
    both = sides(("classifier", TEXT), ("classifier", EDITED))
    options: Body = {"method": "occlusion", "merge": "word", "faithfulness": False}
    answer = post(exact, "/v1/explain/compare", **options, **both).json()
    left = post(exact, "/v1/explain", model="classifier", input=TEXT, **options).json()
    right = post(exact, "/v1/explain", model="classifier", input=EDITED, target=left["target"], **options).json()
    assert (answer["left"], answer["right"]) == (left, right)
    pairs = [(left["units"][a]["score"], right["units"][b]["score"]) for a, b in answer["matched"]]
    assert answer["difference"] == pytest.approx([after - before for before, after in pairs], abs=1e-5)
    assert answer["agreement"] == pytest.approx(spearmanr(*zip(*pairs, strict=True)).statistic, abs=1e-3)
    sizes = [abs(change["right"] - change["left"]) for change in answer["largest"]]
    assert sizes == sorted(sizes, reverse=True)
    same = post(exact, "/v1/explain/compare", **options, **sides(("classifier", TEXT), ("classifier", TEXT))).json()
    assert same["agreement"] == 1
    assert set(same["difference"]) == {0}


@pytest.mark.parametrize("route", ["/v1/attention/compare", "/v1/explain/compare"])
def test_pictures_name_both_sides(exact: Service, route: str) -> None:
    both = sides(("classifier", TEXT), ("classifier", EDITED))
    options: Body = {"layers": "0", "heads": "1"} if "attention" in route else {"method": "occlusion"}
    drawn = post(exact, route, "image/svg+xml", **both, **options)
    words = " ".join(ElementTree.fromstring(drawn.content).itertext())
    assert "not fine" in words.replace("␣", " ")
    assert "classifier" in words
    assert post(exact, route, "image/png", **both, **options).content.startswith(b"\x89PNG")


@pytest.mark.parametrize("accept", ["image/svg+xml", "image/png"])
def test_texts_that_differ_where_the_vocabulary_ends_are_drawn(exact: Service, accept: str) -> None:
    """One token stands for what is written otherwise on each side."""
    both = sides(("base", ["the film", "龍"]), ("base", ["the film", "鳳"]))
    drawn = post(exact, "/v1/attention/compare", accept, **both, layers="0", heads="1")
    assert (drawn.status_code, drawn.headers["content-type"]) == (200, accept), drawn.text[:300]
    if accept == "image/svg+xml":
        words = " ".join(ElementTree.fromstring(drawn.content).itertext())
        assert "[UNK]" in words
        assert "film" in words


@pytest.mark.parametrize(
    ("left", "right", "options", "status", "words"),
    [
        (("base", "好"), ("base", "film"), {"special": "hide"}, 400, "no unit in common"),
        (("base", TEXT), ("segmenter", ["a", "b"]), {"method": "rollout"}, 400, "has raw attention alone"),
        (("base", TEXT), ("base", TEXT), {"layers": "3"}, 400, "layers 3 does not exist"),
        (("base", TEXT), ("nobody", TEXT), {}, 404, "nobody"),
        (
            ("base", "the film"),
            ("minilm-l6", "the film"),
            {},
            400,
            "the left has layers [0, 1] with 2 heads, the right",
        ),
        (("base", "the film"), ("minilm-l6", "the film"), {"layers": "0"}, 400, "choose layers and heads that both"),
    ],
)
def test_what_can_not_be_compared_is_refused(
    exact: Service, left: tuple[str, object], right: tuple[str, object], options: Body, status: int, words: str
) -> None:
    answer = post(exact, "/v1/attention/compare", **sides(left, right), **options)
    assert answer.status_code == status
    assert words in answer.json()["error"]["message"]


def test_models_of_two_shapes_are_compared_where_both_have_a_head_or_by_rollout(exact: Service) -> None:
    both = sides(("base", "the film"), ("minilm-l6", "the film"))
    for options in ({"layers": "0", "heads": "0-1"}, {"layers": "0-1", "method": "rollout"}):
        answer = post(exact, "/v1/attention/compare", **both, **options)
        assert answer.status_code == 200, answer.text
        assert np.array(answer.json()["moved"]).max() > 0


def test_the_same_twice_has_not_moved_and_labels_must_be_shared(service: Service, exact: Service) -> None:
    answer = post(service, "/v1/attention/compare", **sides(("minilm-l6", "good"), ("minilm-l6", "good")), heads="0")
    assert answer.json()["moved"] == [[0.0]] * 6
    refused = post(exact, "/v1/explain/compare", **sides(("classifier", TEXT), ("adapter1", TEXT)), faithfulness=False)
    assert refused.status_code == 400
    message = refused.json()["error"]["message"]
    assert "no target is named, and the left's answer '" in message
    assert "is not one of the labels ['x', 'y', 'z'] of 'adapter1'; name a target that both sides have" in message


@pytest.fixture(scope="module")
def writers(zoo: Zoo, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """The writer, another with a tokenizer just like its own, and one that cuts texts in another way."""
    folder = tmp_path_factory.mktemp("writers")
    settings = Settings(home=folder / "home", default_model="writer", run_worker=False, device="cpu", dtype="float32")
    store = ModelStore(settings.bentoml_home)
    models: dict[str, tuple[TextModel, Tokenizer]] = {
        "writer": (zoo.models["writer"], zoo.bytes),
        "alike": (shaped(9, zoo.models["writer"].config), zoo.bytes),
        "other": (zoo.models["writer"], train_byte_bpe([*TEXTS, "the theatre"], 300)),
    }
    for name, (model, tokenizer) in models.items():
        save_model(model, tokenizer, folder / name)
        store.publish(folder / name, name, f"{name}:1", None, None)
    with TestClient(create_app(settings)[1], base_url="http://localhost") as client:
        yield client


ASKED: Body = {"method": "gradient_x_input", "faithfulness": False}
HALF = "\ufffd"  # the text of a token that is part of a character


def logits_of(model: TextModel, zoo: Zoo, text: str) -> torch.Tensor:
    return answers_to(model, pad(zoo.bytes.encode([text], 64), model.config.pad_id))[0]


@pytest.mark.parametrize(("right", "seed"), [("writer", None), ("alike", 9)])
def test_the_next_token_is_compared_where_it_is_part_of_a_character(
    writers: TestClient, zoo: Zoo, right: str, seed: int | None
) -> None:
    texts = ("the film was fine", "the film was")
    body = ASKED | sides(("writer", texts[0]), (right, texts[1]))
    answer = writers.post("/v1/explain/compare", json=body)
    assert answer.status_code == 200, answer.text
    left, other = answer.json()["left"], answer.json()["right"]
    assert left["target"] == other["target"] == HALF
    token = int(logits_of(zoo.models["writer"], zoo, texts[0]).argmax())
    model = zoo.models["writer"] if seed is None else shaped(seed, zoo.models["writer"].config)
    assert other["value"] == pytest.approx(float(logits_of(model, zoo, texts[1])[token]), abs=1e-3)


def test_what_another_tokenizer_can_not_say_is_told_as_the_left_s_answer(writers: TestClient) -> None:
    body = ASKED | sides(("writer", "the film was fine"), ("other", "the film was"))
    refused = writers.post("/v1/explain/compare", json=body)
    assert refused.status_code == 400
    error = refused.json()["error"]
    assert error["param"] == "target"
    assert error["message"] == (
        f"no target is named, and the left's answer {HALF!r} is not one token of 'other'; name a target that both sides "
        "have"
    )
    named = writers.post("/v1/explain/compare", json=body | {"target": "the"})
    assert (named.status_code, named.json()["right"]["target"]) == (200, "the"), named.text
    whole = sides(("writer", "a"), ("other", "a"))  # the left answers a whole character
    assert writers.post("/v1/explain/compare", json=ASKED | whole).status_code == 200
    unknown = writers.post("/v1/explain/compare", json=body | {"target": "film fine"}).json()["error"]["message"]
    assert unknown.startswith("target is 'film fine', not 1 token but ")

"""`/v1/attention` over HTTP: methods, units, special tokens, lists of texts, and each form of answer."""

import json
import re
import shutil
from collections.abc import Callable
from typing import Any
from xml.etree import ElementTree

import httpx
import numpy as np
import pytest
from playwright.sync_api import sync_playwright

from service.attention_format import LEVELS, MAX_BYTES, MEDIA_TYPE, attention_bytes, quantised
from tests.conftest import ROOT, Service

M = "minilm-l6"
Read = Callable[[bytes], list[tuple[dict[str, Any], Any]]]


def ask(service: Service, accept: str = "application/json", **fields: Any) -> httpx.Response:
    url, headers = f"{service.url}/v1/attention", {"accept": accept}
    return httpx.post(url, json={"model": M} | fields, headers=headers, timeout=120)


def reader(language: str) -> str:
    found = re.search(rf"```{language}\n(.*?)```", (ROOT / "docs/en/attention-format.md").read_text(), re.DOTALL)
    assert found is not None
    assert found[1].count("\n") <= 30
    return found[1]


@pytest.fixture(scope="module")
def read() -> Read:
    names: dict[str, Any] = {}
    exec(reader("python"), names)
    made: Read = names["read_attention"]
    return made


@pytest.mark.parametrize(("layers", "expected"), [("0-3,5", [0, 1, 2, 3, 5]), ([5, 1], [1, 5]), (" 2 , 4", [2, 4])])
def test_layers_are_named_by_numbers_lists_and_ranges(service: Service, layers: object, expected: list[int]) -> None:
    assert ask(service, input="good", layers=layers, heads="0").json()["layers"] == expected
    if isinstance(layers, str):
        link = httpx.get(f"{service.url}/v1/attention", params={"model": M, "input": "good", "layers": layers})
        assert link.json()["layers"] == expected


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"layers": "3-1"}, "end comes first"),
        ({"layers": "0-9"}, "layers 6 does not exist"),
        ({"method": "rollout", "heads": [0]}, "leave heads out"),
        ({"input": "word " * 400}, "numbers exceed 2,400,000 in JSON.*Accept: "),
        ({"input": "interesting " * 68, "merge": "character"}, "exceed 40,000,000; choose merge=word, fewer layers"),
    ],
)
def test_what_can_not_be_is_refused(service: Service, fields: dict[str, Any], words: str) -> None:
    answer = ask(service, **({"input": "good"} | fields))
    assert answer.status_code == 400
    assert re.search(words, answer.json()["error"]["message"])


def test_a_picture_of_too_many_rows_is_refused(service: Service) -> None:
    fields = {"input": "interesting " * 60, "merge": "character", "layers": [0], "heads": [0]}
    for kind in ("image/png", "image/svg+xml"):
        answer = ask(service, kind, **fields)
        assert (answer.status_code, "662 rows exceed 600" in answer.text) == (400, True)
    assert ask(service, **fields).json()["shape"] == [1, 1, 662, 662]


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("image/png", "image/png"),
        ("Image/PNG", "image/png"),
        ("image/svg+xml;q=0.5, image/png;q=0.4", "image/svg+xml"),
        ("image/png, image/svg+xml", "image/png"),
        ("application/json, image/png;q=0.1", "application/json"),
        ("image/png;q=0", "application/json"),
        ("image/png;q=0, image/svg+xml;q=0.001", "image/svg+xml"),
        ("image/avif,image/webp,image/apng,image/svg+xml,image/*,*/*;q=0.8", "image/svg+xml"),
        ("image/pngx, */*", "application/json"),
    ],
)
def test_the_form_is_the_one_that_the_client_wants_most(service: Service, accept: str, kind: str) -> None:
    answer = ask(service, accept, input="A good film", layers=[0], heads=[0])
    assert (answer.status_code, answer.headers["content-type"]) == (200, kind)


def test_methods_say_what_their_rows_are(service: Service) -> None:
    rolled = ask(service, input="a good film", method="rollout", layers="4-5").json()
    assert (rolled["heads"], rolled["shape"]) == (["all"], [2, 1, 5, 5])
    assert np.array(rolled["weights"]).sum(-1) == pytest.approx(1.0, abs=1e-3)
    norms = ask(service, input="a good film", method="value_norm").json()
    assert [rolled["rows_sum_to_one"], norms["rows_sum_to_one"]] == [True, False]
    assert np.abs(np.array(norms["weights"]).sum(-1) - 1).max() > 0.1


def test_a_pair_by_words_without_special_tokens(service: Service) -> None:
    fields = {"merge": "word", "special": "renormalise"}
    answer = ask(service, input=["unbelievably 好", "good"], **fields).json()
    assert [(unit["text"], unit["segment"]) for unit in answer["units"]] == [
        ("unbelievably", 0),
        ("好", 0),
        ("good", 1),
    ]
    weights = np.array(answer["weights"])
    assert answer["shape"] == list(weights.shape) == [6, 12, 3, 3]
    assert weights.sum(-1) == pytest.approx(1.0, abs=1e-3)
    assert np.array(answer["removed_mass"]).shape == (6, 12)
    assert 0 < np.min(answer["removed_mass"]) < np.max(answer["removed_mass"]) < 1
    listed = ask(service, input=[["unbelievably 好", "good"]], **fields).json()
    assert listed["data"] == [answer]


def test_each_text_of_a_list_has_its_own_answer(service: Service, read: Read) -> None:
    texts = ["good", "a longer film"]
    listed = ask(service, input=texts, batch=True).json()
    assert [item["index"] for item in listed["data"]] == [0, 1]
    assert listed["usage"]["total_tokens"] == 3 + 5
    binary = read(ask(service, MEDIA_TYPE, input=texts, batch=True).content)
    for text, item, (header, weights) in zip(texts, listed["data"], binary, strict=True):
        assert weights == pytest.approx(np.array(item["weights"]), abs=header["largest_error"] + 1e-4)
        assert item | {"index": 0} == ask(service, input=text).json()
    for kind in ("image/png", "image/svg+xml"):
        assert "a picture shows one" in ask(service, kind, input=texts, batch=True).text


def test_512_tokens_of_all_heads_take_single_digit_megabytes(
    service: Service, read: Read, sentences: list[str]
) -> None:
    answer = ask(service, MEDIA_TYPE, input=" ".join(sentences), truncate=True)
    ((header, weights),) = read(answer.content)
    assert weights.shape == (6, 12, 512, 512)
    assert len(answer.content) < MAX_BYTES + 200_000
    assert header["levels"] >= 63
    assert np.abs(weights.sum(-1, dtype=np.float64) - 1).max() < 1e-3 + 1e-6, "the model's own rows"
    assert header["largest_error"] <= 1.0 / (header["levels"] - 1) + 1e-6


@pytest.mark.parametrize("levels", LEVELS)
@pytest.mark.parametrize("power", [0, 1, 40])
def test_codes_keep_row_sums_and_their_bound(levels: int, power: int) -> None:
    """From flat rows to one large weight among 511 small ones, where rounding each weight would lose half a row."""
    weights = np.random.default_rng(power).random((2, 2, 8, 512)).astype(np.float32) ** power
    weights[..., 0] += 0.5 * weights.sum(-1) * (power == 1)
    weights /= weights.sum(-1, keepdims=True)
    steps, codes = quantised(weights, levels)
    decoded = steps[..., None] * codes
    assert codes.max() <= levels
    assert np.abs(decoded.sum(-1, dtype=np.float64) - 1).max() < 1e-6
    bound = weights.max(-1, keepdims=True) / (levels - 1)
    assert (np.abs(decoded - weights) <= bound * (1 + 1e-5)).all()


def test_even_noise_fits(read: Read) -> None:
    noise = np.random.default_rng(0).random((6, 12, 512, 512), dtype=np.float32)
    noise /= noise.sum(-1, keepdims=True)
    document = attention_bytes(noise, {})
    assert len(document) <= MAX_BYTES + 1000
    assert read(document)[0][0]["levels"] >= 3


def test_the_javascript_reader_reads_what_the_python_reader_reads(read: Read) -> None:
    weights = np.random.default_rng(1).random((2, 3, 4, 5), dtype=np.float32)
    weights[0, 0, 0] = 0.0
    data = attention_bytes(weights, {"units": ["电", "影"]}) + attention_bytes(weights[:1], {})
    script = f"async (data) => {{ {reader('javascript')}\n" + (
        "const read = await readAttention(new Uint8Array(data).buffer);"
        "return read.map(({ header, weights }) => [header, Array.from(weights)]); }"
    )
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        theirs = browser.new_page().evaluate(script, list(data))
        browser.close()
    ours = [[header, values.ravel().tolist()] for header, values in read(data)]
    assert json.loads(json.dumps(theirs)) == ours
    assert ours[0][1][:5] == [0.0] * 5


@pytest.mark.parametrize("query", ["layers=2&heads=3", "merge=word&special=hide", "method=value_norm"])
def test_svg_is_well_formed_the_same_each_time_and_escaped(service: Service, query: str) -> None:
    link = f"{service.url}/v1/attention?model={M}&input=%3Cscript%3E %26 好看&{query}"
    answer = httpx.get(link, headers={"accept": "image/svg+xml"})
    assert answer.headers["content-type"] == "image/svg+xml"
    root = ElementTree.fromstring(answer.content)
    words = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert ("<" in words and "&" in words) == (query == "layers=2&heads=3")
    assert not list(root.iter("{http://www.w3.org/2000/svg}script"))
    assert answer.content == httpx.get(link, headers={"accept": "image/svg+xml"}).content


@pytest.mark.parametrize("query", ["view=heads&layers=1", "view=flow", "view=flow&focus=2", "view=flow&layers=2-4"])
def test_views_are_chosen_by_link_and_by_body(service: Service, query: str) -> None:
    fields = dict(pair.split("=") for pair in query.split("&"))
    for kind, start in (("image/png", b"\x89PNG"), ("image/svg+xml", b"<svg")):
        params = {"model": M, "input": "<b> 好看 שלום"} | fields
        answer = httpx.get(f"{service.url}/v1/attention", params=params, headers={"accept": kind}, timeout=120)
        assert (answer.status_code, answer.content[:4]) == (200, start)
        body = fields | ({"focus": int(fields["focus"])} if "focus" in fields else {})
        assert ask(service, kind, input="<b> 好看 שלום", **body).content == answer.content


def test_a_view_that_can_not_be_drawn_is_refused(service: Service) -> None:
    answer = ask(service, "image/png", input="good", view="heads")
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "layers"
    assert ask(service, input="good", view="flow").status_code == 400, "JSON has no view"
    assert ask(service, "image/png", input="word " * 60, view="flow").status_code == 400


def test_an_svg_shows_its_letters_where_no_font_is_installed(service: Service) -> None:
    """In a browser, under the policy that it comes with; what is a box looks like every other box."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page()
        page.route("**", lambda route: route.continue_(headers=route.request.headers | {"accept": "image/svg+xml"}))
        page.goto(f"{service.url}/v1/attention?model={M}&input=电影好看&layers=0&heads=0")
        page.evaluate("document.fonts.ready")
        faces = page.evaluate("[...document.fonts].map((face) => [face.family, face.status])")
        words = page.eval_on_selector_all("text", "(all) => all.map((one) => one.textContent[0])")
        shapes = {page.locator("text").nth(words.index(letter)).screenshot() for letter in "电影好看"}
        browser.close()
    assert ["Noto Sans CJK TC", "loaded"] in faces
    assert {status for _, status in faces} == {"loaded"}
    assert len(shapes) == 4

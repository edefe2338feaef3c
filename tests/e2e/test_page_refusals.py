"""What the page shows of answers that are awkward: refusals, names that are not there, many labels, pairs of texts. Its
files come from a plain server and its answers are made up here, in the API's form, so that no service runs."""

import json
import re
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlparse

import numpy as np
import pytest
from playwright.sync_api import Browser, Page, Route, expect

from service.attention_format import attention_bytes
from tests.conftest import ROOT
from tests.e2e.browser import running_browser, watched_page

UNITS = ["[CLS]", "a", "good", "film", "[SEP]"]
Fields = dict[str, Any]
Answer = Fields | bytes | tuple[int, str]  # an object, a document, or a refusal's status and message


class Files(SimpleHTTPRequestHandler):
    """The page as it was built; every address of its own is its one document."""

    def do_GET(self) -> None:
        self.path = self.path.removeprefix("/ui") if self.path.startswith("/ui/") else "/index.html"
        super().do_GET()

    def log_message(self, *_: object) -> None:
        pass


class Api:
    """Answers by path, to be replaced by a test; keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, Fields]] = []
        self.answers: dict[str, Answer | Callable[[Fields], Answer]] = {
            "/v1/whoami": {"owner": "me", "scopes": [], "key_id": None},
            "/v1/models": {"data": [model("alpha"), BASE, model("lora-movies", adapter=True), WRITER]},
            "/v1/aliases": {"data": []},
            "/v1/fine_tuning/jobs": {"data": []},
            "/v1/files": {"data": [file("file-films")]},
            "/v1/tokenize": lambda body: {"data": [tokens(text) for text in body["input"]]},
            "/v1/classify": {"data": [{"object": "classification", "label": "good", "score": 0.9, "scores": SCORES}]},
            "/v1/explain": explanation(),
            "/v1/attention": attention,
            "/v1/trace": trace,
        }

    def answer(self, route: Route) -> None:
        request = route.request
        path = urlparse(request.url).path
        is_json = (request.headers.get("content-type") or "").startswith("application/json")
        body: Fields = json.loads(request.post_data or "{}") if is_json else {}
        self.asked.append((path, body))
        key = f"{request.method} {path}" if f"{request.method} {path}" in self.answers else path
        found = self.answers.get(key, (404, f"there is no {path}"))
        answer = found(body) if callable(found) else found
        if isinstance(answer, bytes):
            route.fulfill(body=answer, content_type="application/octet-stream")
        elif isinstance(answer, tuple):
            route.fulfill(status=answer[0], json={"error": {"message": answer[1], "code": None}})
        else:
            route.fulfill(json=answer)

    def asked_of(self, path: str) -> list[Fields]:
        return [body for asked, body in self.asked if asked == path]


def model(name: str, **fields: object) -> Fields:
    routes = ["/v1/embeddings", "/v1/classify", "/v1/attention", "/v1/trace", "/v1/explain", "/v1/tokenize"]
    return {
        "id": name, "aliases": [], "created": 1, "task": "classification", "architecture": "encoder", "routes": routes,
        "adapter": False, "labels": ["bad", "good"], "num_layers": 2, "num_heads": 2, "width": 32, "max_length": 256,
        "base_model": "minilm-l6", "dtype": "float32", "recorded_passes": None, "resident": True, "bento_tag": "x",
        "metrics": None,
    } | fields  # fmt: skip


def file(name: str, **fields: object) -> Fields:
    return {
        "id": name, "bytes": 10, "created_at": 1, "filename": f"{name}.jsonl", "purpose": "fine-tune",
        "status": "processed", "status_details": None, "warnings": None, "num_rows": 1, "labels": None,
        "task": "classification",
    } | fields  # fmt: skip


BASE = model(
    "minilm-l6", base_model=None, task="masked_lm", labels=None,
    routes=["/v1/embeddings", "/v1/attention", "/v1/trace", "/v1/tokenize"],
)  # fmt: skip
WRITER = model(
    "segmenter", base_model=None, architecture="encoder_decoder", task="seq2seq", labels=None,
    routes=["/v1/completions", "/v1/attention", "/v1/tokenize"],
)  # fmt: skip
SCORES = [{"label": "good", "score": 0.9}, {"label": "bad", "score": 0.1}]


def tokens(text: object, full_length: int = len(UNITS)) -> Fields:
    count = len(UNITS)
    return {
        "ids": [1] * count, "tokens": UNITS, "offsets": [[0, 0]] * count, "special": [False] * count,
        "truncated": full_length > count, "full_length": full_length, "normalised": str(text),
    }  # fmt: skip


def units() -> list[Fields]:
    return [
        {"text": text, "start": 0, "end": 0, "segment": 0, "special": text[0] == "[", "tokens": [index]}
        for index, text in enumerate(UNITS)
    ]


def explanation() -> Fields:
    scored = [unit | {"score": 0.2} for unit in units()]
    return {
        "model": "alpha", "method": "decomposition", "target": "good", "against": None, "value": 1.0, "rest": 0.0,
        "baseline": 0.0, "prediction": [], "units": scored, "truncated": False, "faithfulness": None,
    }  # fmt: skip


def attention(body: Fields) -> Answer:
    count = len(UNITS)
    header = {
        "model": body["model"], "tokens": UNITS, "ids": [0] * count, "special": [False] * count, "units": units(),
        "layers": [0, 1], "heads": [0, 1], "shape": [2, 2, count, count], "removed_mass": [[0, 0], [0, 0]],
        "rows_sum_to_one": True, "truncated": False,
    }  # fmt: skip
    return attention_bytes(np.full((2, 2, count, count), 0.2, np.float32), header)


def stage(name: str, inputs: list[str], formula: str, values: Any, layer: int | None = None) -> Fields:
    return {
        "name": name, "layer": layer, "inputs": inputs, "formula": formula, "shape": list(np.shape(values)),
        "summary": {"min": 0.0, "max": 1.0, "mean": 0.0, "std": 0.0}, "norms": None, "values": values,
    }  # fmt: skip


def trace(body: Fields, num_labels: int = 2) -> Fields:
    """One layer's scores, and an answer whose last label is the likeliest."""
    count = len(UNITS)
    vectors = [[0.1] * 16] * count
    logits = [0.0] * (num_labels - 1) + [4.0]
    shares = np.exp(logits) / np.exp(logits).sum()
    return {
        "model": body["model"], "tokens": UNITS, "ids": [0] * count, "special": [False] * count, "units": units(),
        "config": {
            "num_layers": 1, "num_heads": 2, "width": 16, "head_width": 8, "feed_forward_width": 64, "vocab_size": 40,
            "task": "classification", "pooling": "mean", "norm_first": False, "causal": False,
        },
        "labels": [f"label {index}" for index in range(num_labels)], "guesses": [], "truncated": False,
        "stages": [
            stage("token", [], "E[id]", vectors),
            stage("scores", ["token"], "Q K^T", [[[0.2] * count] * count] * 2, 0),
            stage("text_vector", ["token"], "mean", vectors[0]),
            stage("logits", ["text_vector"], "x W + b", logits),
            stage("label_probabilities", ["logits"], "softmax", shares.round(4).tolist()),
        ],
    }  # fmt: skip


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Files, directory=str(ROOT / "service" / "ui" / "static")))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with running_browser() as running:
        yield running


@pytest.fixture
def api() -> Api:
    return Api()


@pytest.fixture
def page(browser: Browser, site: str, api: Api) -> Iterator[Page]:
    with watched_page(browser, site, refusals=True, base_url=site) as opened:
        opened.route("**/v1/**", api.answer)
        opened.route("**/readyz", lambda route: route.fulfill(body="ok"))
        yield opened


@pytest.mark.parametrize(("name", "links"), [("alpha", 1), ("lora-movies", 0), ("segmenter", 0)])
def test_tuning_is_offered_of_models_that_can_be_tuned(page: Page, name: str, links: int) -> None:
    page.goto(f"/models/{name}")
    expect(page.get_by_role("link", name="Look inside").last).to_be_visible()
    expect(page.get_by_role("link", name="Tune it")).to_have_count(links)


@pytest.mark.parametrize(
    ("asked", "base"), [("alpha", "alpha"), ("lora-movies", "minilm-l6"), ("deleted", "minilm-l6"), ("", "minilm-l6")]
)
def test_a_job_begins_from_the_base_that_its_program_names(page: Page, asked: str, base: str) -> None:
    page.goto(f"/tune?model={asked}" if asked else "/tune")
    expect(page.locator("select[name=model]")).to_have_value(base)
    page.locator("#job-form summary", has_text="program").click()
    expect(page.locator("#job-form pre").first).to_contain_text(f'"model":"{base}"')
    said = page.locator("#job-form .notice", has_text=f"No model named “{asked}” can be tuned")
    expect(said).to_have_count(1 if asked not in ("", base) else 0)


@pytest.mark.parametrize(("place", "route"), [("look", "/v1/attention"), ("step", "/v1/trace")])
def test_a_model_that_is_not_there_is_not_replaced_by_another(page: Page, api: Api, place: str, route: str) -> None:
    page.goto(f"/{place}?model=deleted-model&text=a+good+film")
    expect(page.locator(".notice.bad")).to_contain_text("There is no model named “deleted-model”")
    expect(page.locator("main canvas")).to_have_count(0)
    assert not api.asked_of(route)
    page.locator(".look-input select").select_option("alpha")
    expect(page.locator("main canvas").first).to_be_visible()
    expect(page.locator(".notice.bad")).to_have_count(0)
    assert {body["model"] for body in api.asked_of(route)} == {"alpha"}


def test_of_two_models_the_one_that_is_there_is_shown(page: Page, api: Api) -> None:
    page.goto("/look?model=deleted-model&text=a+good+film&model2=alpha&text2=a+bad+film")
    expect(page.locator("canvas.heatmap")).to_have_count(1)
    expect(page.locator(".notice.bad")).to_have_count(1)
    expect(page.get_by_role("radiogroup", name="Head")).to_be_visible()
    assert not api.asked_of("/v1/attention/compare")


def test_an_encoder_decoder_is_not_stepped_through_as_another_model(page: Page, api: Api) -> None:
    page.goto("/step?model=segmenter&text=a+good+film")
    expect(page.locator(".notice.bad")).to_contain_text("An encoder-decoder can't be stepped through")
    assert not api.asked_of("/v1/trace")


def test_every_label_of_an_answer_has_its_number(page: Page, api: Api) -> None:
    api.answers["/v1/trace"] = lambda body: trace(body, num_labels=50)
    page.goto("/step?model=alpha&text=a+good+film&at=out.label_probabilities")
    numbers = page.get_by_role("img", name="Answer")
    numbers.focus()
    for _ in range(50):
        numbers.press("ArrowRight")
    said = page.locator(".matrix", has=numbers).locator(".readout")
    expect(said).to_contain_text("label 49: exp(4.00) / Σ exp = 0.527")  # e^4 / (49 + e^4)
    page.locator("summary", has_text="Show as a table").last.click()
    expect(page.locator("table.data tbody tr")).to_have_count(50)
    expect(page.locator("table.data tbody tr").last).to_have_text("label 490.527")


def test_a_row_that_was_cut_is_said_to_be_and_has_no_softmax(page: Page, api: Api) -> None:
    def cut(body: Fields) -> Answer:
        found = trace(body, num_labels=50)
        for one in found["stages"][-2:]:
            one["values"] = one["values"][:16]
        return found

    api.answers["/v1/trace"] = cut
    page.goto("/step?model=alpha&text=a+good+film&at=out.label_probabilities")
    expect(page.get_by_text("the first 16 of 50 numbers of each row")).to_be_visible()
    numbers = page.get_by_role("img", name="Answer")
    numbers.focus()
    numbers.press("ArrowRight")
    said = page.locator(".matrix", has=numbers).locator(".readout")
    expect(said).to_have_text(re.compile(r"label 0: 0\.\d+$"))


@pytest.mark.parametrize(
    ("choice", "usual", "field", "value", "message"),
    [
        ("Characters", "Tokens", "merge", "character", "72,000,000 numbers exceed 40,000,000; choose merge=word"),
        ("Hide", "Show", "special", "hide", "input 0 has no token but special ones; set special=keep to see those"),
    ],
)
def test_a_choice_that_is_refused_can_be_taken_back(
    page: Page, api: Api, choice: str, usual: str, field: str, value: str, message: str
) -> None:
    api.answers["/v1/attention"] = lambda body: (400, message) if body[field] == value else attention(body)
    page.goto("/look?model=alpha&text=a+good+film")
    card = page.locator(".card", has=page.locator(".attention"))
    expect(card.locator("canvas.heatmap")).to_be_visible()
    card.get_by_role("radio", name=choice, exact=True).check()
    expect(card.locator(".notice.bad")).to_contain_text(message)
    expect(page).to_have_url(re.compile(f"{field}={value}"))
    page.reload()  # as by a link to this address
    expect(card.locator(".notice.bad")).to_contain_text(message)
    card.get_by_role("radio", name=usual, exact=True).check()
    expect(card.locator("canvas.heatmap")).to_be_visible()
    expect(card.locator(".notice.bad")).to_have_count(0)


def test_a_file_that_is_not_there_says_so(page: Page, api: Api) -> None:
    api.answers["/v1/files/file-gone"] = (404, "there is no file 'file-gone'")
    page.goto("/data/file-gone")
    expect(page.locator(".notice.bad")).to_contain_text("there is no file 'file-gone'")
    expect(page.get_by_role("button", name="Delete")).to_have_count(0)
    expect(page.get_by_role("link", name="Download")).to_have_count(0)


def test_a_file_whose_bases_do_not_come_says_so(page: Page, api: Api) -> None:
    api.answers["/v1/files/file-films"] = file("file-films")
    api.answers["/v1/models"] = (500, "the models could not be read")
    page.goto("/data/file-films")
    expect(page.locator(".notice.bad")).to_contain_text("the models could not be read")


def test_a_file_that_cannot_be_deleted_says_why(page: Page, api: Api) -> None:
    api.answers["GET /v1/files/file-films"] = file("file-films")
    api.answers["DELETE /v1/files/file-films"] = (409, "file-films is needed by job ftjob-1")
    api.answers["/v1/files/file-films/report"] = (400, "no report")
    page.goto("/data/file-films")
    page.get_by_role("button", name="Delete").click()
    expect(page.locator(".notice.bad", has_text="file-films is needed by job ftjob-1")).to_be_visible()
    expect(page).to_have_url(re.compile("/data/file-films"))


def test_a_picture_that_is_refused_says_why(page: Page, api: Api) -> None:
    page.goto("/look?model=alpha&text=a+good+film")
    expect(page.locator("canvas.heatmap")).to_be_visible()
    api.answers["/v1/attention"] = (429, "8 requests wait to look inside a model, which is the limit")
    page.get_by_role("button", name="PNG of all heads").click()
    expect(page.locator(".notice.bad")).to_have_text("8 requests wait to look inside a model, which is the limit")
    api.answers["/v1/attention"] = b"a picture"
    with page.expect_download():
        page.get_by_role("button", name="PNG of all heads").click()
    expect(page.locator(".notice.bad")).to_have_count(0)


def test_a_view_that_could_not_be_saved_says_so(page: Page) -> None:
    page.goto("/look?model=alpha&text=a+good+film")
    expect(page.locator("canvas.heatmap")).to_be_visible()
    page.evaluate("() => { HTMLCanvasElement.prototype.toBlob = (done) => done(null) }")
    page.get_by_role("button", name="Export").click()
    page.get_by_role("button", name="PNG", exact=True).click()
    expect(page.locator(".notice.bad")).to_have_text("That did not work: no PNG")
    page.get_by_role("button", name="One HTML file").click()
    expect(page.locator(".notice.bad")).to_have_count(0)


def report(**fields: object) -> Fields:
    return {
        "name": "films.jsonl", "task": "classification", "model": "minilm-l6", "max_length": 256,
        "rows": {"read": 3, "kept": 3, "faulty": 0}, "held_out": False, "flow": [], "num_faults": 0, "num_warnings": 0,
        "faults": [], "warnings": [],
    } | fields  # fmt: skip


def show_file(page: Page, api: Api, rows: list[Fields], found: Fields) -> None:
    api.answers["/v1/files/file-films"] = file("file-films")
    api.answers["/v1/files/file-films/report"] = found
    api.answers["/v1/files/file-films/content"] = "\n".join(map(json.dumps, rows)).encode()
    page.goto("/data/file-films")


@pytest.mark.parametrize(
    ("rows", "counts", "label", "lines"),
    [
        ([{"label": "spam"}, {"label": "not spam"}, {"label": "spam"}], {"spam": 2, "not spam": 1}, "spam", [1, 3]),
        ([{"labels": ["sci fi", "drama"]}, {"labels": ["fi"]}, {"labels": ["sci"]}], {"sci fi": 1}, "sci fi", [1]),
    ],
)
def test_the_rows_behind_a_label_are_its_own(
    page: Page, api: Api, rows: list[Fields], counts: dict[str, int], label: str, lines: list[int]
) -> None:
    labels = [{"label": name, "count": count} for name, count in counts.items()]
    show_file(page, api, [{"text": "a film"} | row for row in rows], report(labels=labels))
    page.locator(".bars button", has=page.get_by_text(label, exact=True)).click()
    expect(page.locator("#rows tbody tr td:first-child")).to_have_text([str(line) for line in lines])


def test_a_score_on_an_edge_is_behind_one_column(page: Page, api: Api) -> None:
    rows: list[Fields] = [{"text": "a film", "score": score} for score in (0, 1, 2)] + [{"text": "no score"}]
    show_file(page, api, rows, report(scores={"edges": [0, 1, 2], "counts": [1, 2]}))
    for column, lines in enumerate((["1"], ["2", "3"])):
        page.get_by_role("group", name="Scores").get_by_role("button").nth(column).click()
        expect(page.locator("#rows tbody tr td:first-child")).to_have_text(lines)


LENGTHS = {
    "rows": 2, "total": 715, "mean": 357.5, "median": 357.5, "p95": 700, "longest": 700, "cut_at": 256, "rows_cut": 1,
    "tokens_cut": 444, "histogram": {"edges": [0, 100, 600, 800], "counts": [1, 0, 1]},
}  # fmt: skip
PAIRS: list[Fields] = [
    {"text": "one film", "text_pair": "another", "label": "x"},
    {"text": " ", "label": "x"},
    {"text": "a long film", "text_pair": "another", "label": "x"},
]


def test_a_row_that_would_be_cut_is_behind_the_column_of_its_whole_length(page: Page, api: Api) -> None:
    def read(body: Fields) -> Answer:
        return {"data": [tokens(text, 700 if "long" in text[0] else 5) for text in body["input"]]}

    api.answers["/v1/tokenize"] = read
    show_file(page, api, PAIRS, report(tokens=LENGTHS))
    columns = page.get_by_role("group", name="Lengths in tokens").get_by_role("button")
    columns.last.click()
    expect(page.locator("#rows tbody tr td:first-child")).to_have_text(["3"])
    expect(page.locator("#rows .row-text")).to_have_text("a long film ⇥ another")
    columns.first.click()
    expect(page.locator("#rows tbody tr td:first-child")).to_have_text(["1"])
    (asked,) = api.asked_of("/v1/tokenize")
    assert asked["input"] == [["one film", "another"], ["a long film", "another"]]


def test_lengths_that_could_not_be_told_say_why(page: Page, api: Api) -> None:
    api.answers["/v1/tokenize"] = (503, "the service is stopping")
    show_file(page, api, PAIRS, report(tokens=LENGTHS))
    page.get_by_role("group", name="Lengths in tokens").get_by_role("button").last.click()
    expect(page.locator("#rows .notice.bad")).to_contain_text("the service is stopping")


def test_a_pair_is_followed_step_by_step_as_a_pair(page: Page, api: Api) -> None:
    sample = {"why": "a short row", "line": 1, "target": "x", "raw": ["one film", "another"]}
    show_file(page, api, PAIRS, report(samples=[sample]))
    expect(page.locator("#steps .raw").nth(0)).to_have_text("one film")
    expect(page.locator("#steps .raw").nth(1)).to_have_text("another")
    expect(page.locator("#steps .token").first).to_be_visible()
    assert {json.dumps(body["input"]) for body in api.asked_of("/v1/tokenize")} == {'[["one film", "another"]]'}


def drift(body: Fields) -> Answer:
    count = len(body["input"])
    frame = {
        "model": "alpha", "step": None, "points": [[index, index % 3] for index in range(count)], "moved": 0,
        "cosines": [1] * count, "predictions": [None] * count,
        "attention": {"tokens": UNITS, "layer": 1, "weights": [[0.2] * len(UNITS)] * len(UNITS)},
    }  # fmt: skip
    return {"input": body["input"], "shown": 0.8, "frames": [frame, frame]}


def test_rows_without_a_label_are_not_the_user_s_own(page: Page, api: Api) -> None:
    rows = [{"text": f"plain text {index}"} for index in range(4)]
    api.answers["/v1/files/file-films/content"] = "\n".join(map(json.dumps, rows)).encode()
    api.answers["/v1/drift"] = drift
    page.goto("/look?model=alpha&text=my+own")
    page.locator("#drift").get_by_role("button", name="Show").click()
    expect(page.locator(".scatter-point")).to_have_count(5)
    expect(page.locator(".scatter-point .ring")).to_have_count(1)
    expect(page.locator(".scatter-point", has=page.locator(".ring")).locator("title")).to_have_text(
        "my own (your text)"
    )
    expect(page.locator(".scatter-point title").first).to_have_text("plain text 3 (no label)")


def test_a_file_whose_check_answers_slowly_is_waited_for(page: Page, api: Api) -> None:
    held: list[Route] = []

    def answer(route: Route) -> None:
        if held or api.asked_of("/v1/files/file-films"):
            held.append(route)
        else:
            api.answer(route)

    api.answers["/v1/files/file-films"] = file("file-films", status="uploaded")
    api.answers["/v1/files/file-films/report"] = (400, "no report")
    page.clock.install()
    page.route("**/v1/files/file-films", answer)
    page.goto("/data/file-films")
    expect(page.locator(".badge.live")).to_have_text("being checked")
    with page.expect_request("**/v1/files/file-films"):
        page.clock.run_for(2_000)
    page.clock.run_for(30_000)
    assert len(held) == 1
    held[0].fulfill(json=file("file-films"))
    expect(page.locator(".badge.good")).to_have_text("fit")


def test_an_upload_that_is_done_does_not_call_back_who_has_gone_on(page: Page, api: Api) -> None:
    held: list[Route] = []
    page.route("**/v1/files", lambda route: held.append(route) if route.request.method == "POST" else api.answer(route))
    page.goto("/data")
    with page.expect_request(lambda request: request.method == "POST"):
        page.locator("input[type=file]").set_input_files(
            {"name": "a.csv", "mimeType": "text/csv", "buffer": b"text,label\na,b\n"}
        )
    page.get_by_role("link", name="Look inside", exact=True).first.click()
    expect(page.locator("textarea")).to_be_visible()
    with page.expect_response(lambda response: response.request.method == "POST" and "/files" in response.url):
        held[0].fulfill(json=file("file-new"))
    page.evaluate("fetch('/v1/whoami').then((answer) => answer.json())")  # answered after the upload
    expect(page).to_have_url(re.compile("/look"))

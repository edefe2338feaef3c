"""The page in a real browser on what our own code reports of runs of each kind; no service runs behind it."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import urlparse

import numpy as np
import pytest
import torch
from playwright.sync_api import Browser, Locator, Page, Route, expect

from model.tokenizer import Tokenizer, train_wordpiece
from service.attention_format import attention_bytes
from service.pictures.fonts import font_path
from tests.conftest import ROOT
from tests.e2e.browser import running_browser, violations, watched_page
from tests.small import random_model, small_config
from training.data import Examples, load_examples
from training.evaluate import Scores, score
from training.evaluation import Evidence, Names, open_task, report_on
from training.evaluation.task import Prediction
from training.scores import score_label_sets, score_numbers

STATIC = ROOT / "service" / "ui" / "static"
WORDS = ["a", "good", "film", "with", "a", "bad", "end", "and", "no", "plot", "at", "all", "very", "dull", "slow"]
TEXTS = [" ".join(WORDS[(number * step) % len(WORDS)] for step in range(3 + number % 12)) for number in range(90)]
NAMES = Names("the tuned model", "films.csv")
PROGRESS = {"step": 40, "total_steps": 40, "epoch": 2.0, "train_loss": 0.1, "learning_rate": 0.0006}


@dataclass(frozen=True)
class Run:
    """One that has ended, as the API tells of it."""

    task: str
    scores: Scores
    report: dict[str, Any]


class Files(SimpleHTTPRequestHandler):
    """The page at every address, as the service has it."""

    def translate_path(self, path: str) -> str:
        if path.startswith("/fonts/"):
            return str(font_path())
        return str(STATIC / (path.removeprefix("/ui/") if path.startswith("/ui/") else "index.html"))

    def log_message(self, *_: object) -> None: ...


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Files)
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with running_browser() as running:
        yield running


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    folder = tmp_path_factory.mktemp("rows")
    tokenizer = train_wordpiece([" ".join(WORDS)] * 5, 200)
    return {
        "prices": regression(folder, tokenizer, off=0.8),
        "guesses": regression(folder, tokenizer, off=30.0),
        "topics": several_labels(folder, tokenizer),
        "moods": classes(folder, tokenizer),
    }


def regression(folder: Path, tokenizer: Tokenizer, off: float) -> Run:
    """A model that is wrong by so much on every row."""

    def target(text: str) -> dict[str, Any]:
        return {"score": 20.0 + 10 * text.count("good") - 5 * text.count("bad") + len(text) % 3}

    training, held_out = examples(folder, target)
    task = open_task(random_model(small_config("encoder", task="regression")), tokenizer, held_out)
    answers = [true + off * (-1) ** row for row, true in enumerate(task.truth)]
    report = report_on(task, Prediction(answers, [np.empty(0)] * len(answers)), held_out, Evidence(training), NAMES)
    return Run("regression", score_numbers(answers, task.truth, 1.0), report)


def several_labels(folder: Path, tokenizer: Tokenizer) -> Run:
    """Short rows have no label, and the model gives them none: there is nothing to count."""

    def target(text: str) -> dict[str, Any]:
        return {"labels": [word for word in ("bad", "good") if word in text and len(text.split()) > 6]}

    training, held_out = examples(folder, target)
    labels = ("bad", "good")
    task = open_task(random_model(small_config("encoder", task="multi_label", labels=labels)), tokenizer, held_out)
    answers = [tuple(given and row % 7 > 0 for given in true) for row, true in enumerate(task.truth)]
    sure = [np.where(answer, 0.9, 0.1) for answer in answers]
    report = report_on(task, Prediction(answers, sure), held_out, Evidence(training), NAMES)
    assert None in [group["value"] for part in report["slices"] for group in part["groups"]]
    truth = [[float(given) for given in true] for true in task.truth]
    scores = score_label_sets(torch.tensor(np.stack(sure)).logit().float(), truth, labels)
    return Run("multi_label", scores, report)


def classes(folder: Path, tokenizer: Tokenizer) -> Run:
    """A model that is wrong on every tenth row."""
    training, held_out = examples(folder, lambda text: {"label": "up" if "good" in text else "down"})
    labels = ("down", "up")
    task = open_task(random_model(small_config("encoder", task="classification", labels=labels)), tokenizer, held_out)
    answers = [int(true) ^ (row % 10 == 0) for row, true in enumerate(task.truth)]
    sure = np.where(np.arange(2) == np.array(answers)[:, None], 0.85, 0.15)
    report = report_on(task, Prediction(answers, list(sure)), held_out, Evidence(training), NAMES)
    return Run("classification", score(torch.tensor(sure).log().float(), list(task.truth), labels), report)


def examples(folder: Path, target: Callable[[str], dict[str, Any]]) -> tuple[Examples, Examples]:
    """Two thirds to learn from, and those held out."""
    parts = []
    for name, texts in (("training", TEXTS[:60]), ("held_out", TEXTS[60:])):
        path = folder / f"{name}.jsonl"
        path.write_text("".join(json.dumps({"text": text, **target(text)}) + "\n" for text in texts))
        parts.append(load_examples(path))
    return parts[0], parts[1]


class Answers:
    """What a service with these runs would answer."""

    def __init__(self, runs: dict[str, Run]) -> None:
        self.runs = runs

    def __call__(self, route: Route) -> None:
        match urlparse(route.request.url).path.removeprefix("/v1/").split("/"):
            case ["whoami"]:
                route.fulfill(json={"owner": "local", "scopes": [], "key_id": None})
            case ["models"]:
                route.fulfill(json={"data": [model_of(name, run) for name, run in self.runs.items()]})
            case ["fine_tuning", "jobs"]:
                route.fulfill(json={"data": [job_of(name, run) for name, run in self.runs.items()]})
            case ["fine_tuning", "jobs", name]:
                route.fulfill(json=job_of(name, self.runs[name]))
            case ["fine_tuning", "jobs", name, "events"]:
                data = f"data: {json.dumps(evaluated(self.runs[name]))}\n\n"
                route.fulfill(body=f"{data}retry: 600000\n\n", content_type="text/event-stream")
            case ["fine_tuning", "jobs", _, "checkpoints"] | ["aliases"] | ["files"]:
                route.fulfill(json={"data": []})
            case ["files", file]:
                route.fulfill(json={"id": file, "filename": "evaluation.json", "bytes": 1})
            case ["files", file, "content"]:
                route.fulfill(json=self.runs[file.removeprefix("report-of-")].report)
            case ["models", _, "diagram"]:
                route.fulfill(body='<svg xmlns="http://www.w3.org/2000/svg"/>', content_type="image/svg+xml")
            case ["models", _, "card"]:
                route.fulfill(body="# A card", content_type="text/markdown")
            case ["tokenize"]:
                route.fulfill(json={"data": [{"ids": [], "tokens": [], "offsets": [], "special": []}]})
            case ["classify"]:
                route.fulfill(json={"data": [{"object": "regression", "score": 20.5, "truncated": False}]})
            case ["attention"]:
                weights = np.full((1, 2, 3, 3), 2.5, np.float32)
                route.fulfill(
                    body=attention_bytes(weights, ATTENTION), content_type="application/vnd.vitrine.attention"
                )
            case ["attention", "compare"]:
                links = [{"layer": 0, "head": 1, "looks": [0, 0], "looked_at": [1, 1], "left": 2.5, "right": 6.16}]
                sides = {"left": ATTENTION, "right": ATTENTION}
                route.fulfill(json={**sides, "matched": [[0, 0]], "moved": [[0.021, 1.83]], "largest": links})


ATTENTION = {
    "tokens": ["a", "good", "film"], "ids": [1, 2, 3], "special": [False] * 3,
    "units": [{"text": text, "special": False, "tokens": [place]} for place, text in enumerate(("a", "good", "film"))],
    "layers": [0], "heads": [0, 1], "shape": [1, 2, 3, 3], "removed_mass": [[0.0, 0.0]], "rows_sum_to_one": False,
}  # fmt: skip


def model_of(name: str, run: Run) -> dict[str, Any]:
    return {
        "id": name, "aliases": [], "created": 1, "task": run.task, "architecture": "encoder", "adapter": False,
        "routes": ["/v1/classify", "/v1/attention", "/v1/tokenize"], "labels": None, "num_layers": 1, "num_heads": 2,
        "width": 16, "max_length": 64, "base_model": "minilm-l6", "dtype": "float32", "recorded_passes": None,
        "resident": True, "bento_tag": name, "metrics": run.scores.to_dict(),
    }  # fmt: skip


def job_of(name: str, run: Run) -> dict[str, Any]:
    return {
        "id": name, "created_at": 1, "finished_at": 2, "estimated_finish": None, "model": "minilm-l6",
        "fine_tuned_model": name, "user_provided_suffix": name, "status": "succeeded", "error": None,
        "hyperparameters": {}, "reasons": {}, "seed": 0, "training_file": "file-1", "validation_file": None,
        "result_files": [f"report-of-{name}"], "trained_tokens": 1, "task": run.task, "queue_position": None,
        "progress": PROGRESS, "metrics": run.scores.to_dict(),
    }  # fmt: skip


def evaluated(run: Run) -> dict[str, Any]:
    data = {"step": 40} | {f"valid_{name}": value for name, value in run.scores.figures().items()}
    return {"id": "1", "created_at": 1, "level": "info", "message": "", "type": "metrics", "data": data}


@pytest.fixture
def page(browser: Browser, url: str, runs: dict[str, Run]) -> Iterator[Page]:
    with watched_page(browser, url) as opened:
        opened.route("**/v1/**", Answers(runs))
        yield opened


def card(page: Page, title: str) -> Locator:
    return page.locator(".card", has=page.get_by_role("heading", name=title, exact=True))


def places(ranges: Locator) -> dict[str, float]:
    """Where each dot lies, in percent of its line."""
    rows = ranges.locator(".range:not(.scale)").all()
    return {
        row.locator(".bar-name").inner_text(): row.locator("b").evaluate("dot => parseFloat(dot.style.left)")
        for row in rows
    }


def test_a_regression_is_judged_by_its_error_in_the_unit_of_the_data(
    page: Page, url: str, runs: dict[str, Run]
) -> None:
    page.goto(f"{url}/evaluate/prices")
    expect(page.locator(".headline strong")).to_have_text("0.800")
    expect(page.locator(".headline")).to_contain_text("mean absolute error on 30 rows of films.csv")
    versus = runs["prices"].report["versus"]
    badge = page.locator(".headline .badge")
    expect(badge).to_have_class("badge good")
    expect(badge).to_have_text(f"lower than {versus['baseline']} by {-versus['value']:.3g}")

    beside = card(page, "Beside simple models")
    expect(beside).to_contain_text("the further left, the better")
    assert not [text for text in beside.locator(".bar-value, .range-scale").all_inner_texts() if "%" in text]
    dots = places(beside.locator(".ranges"))
    assert list(dots) == ["this model", "mean", "TF-IDF"]
    assert dots["this model"] < min(dots["mean"], dots["TF-IDF"])
    assert all(0 <= at <= 100 for at in dots.values()), dots
    for interval in beside.locator(".range-track i").all():
        ends = interval.evaluate("line => [line.offsetLeft, line.parentElement.offsetWidth - line.offsetWidth]")
        assert 0 <= ends[0] <= ends[1] + 1, ends

    slices = card(page, "On parts of the rows")
    expect(slices).to_contain_text("far to the right")
    expect(slices.locator(".bar-value").first).to_have_text("0.800")
    worst = card(page, "The largest errors")
    expect(worst.locator("th").nth(3)).to_have_text("Error")
    expect(worst.locator("td").nth(3)).to_have_text("0.800")

    page.get_by_role("button", name="中文").click()
    expect(page.locator(".headline")).to_contain_text("平均绝对误差")
    expect(badge).to_have_text(f"比 {versus['baseline']} 低 {-versus['value']:.3g}")


def test_a_greater_error_than_a_simple_model_makes_is_bad(page: Page, url: str, runs: dict[str, Run]) -> None:
    page.goto(f"{url}/evaluate/guesses")
    expect(page.locator(".headline .badge")).to_have_class("badge bad")
    versus = runs["guesses"].report["versus"]
    expect(page.locator(".headline .badge")).to_have_text(f"higher than {versus['baseline']} by {versus['value']:.3g}")
    assert max(places(card(page, "Beside simple models").locator(".ranges")).values()) == pytest.approx(100, abs=1)


def test_a_part_of_the_rows_with_nothing_to_count_is_named_without_a_figure(
    page: Page, url: str, runs: dict[str, Run]
) -> None:
    page.goto(f"{url}/evaluate/topics")
    expect(page.locator(".headline")).to_contain_text("micro F1")
    slices = card(page, "On parts of the rows")
    slices.get_by_text("Show as a table").click()
    by_length = next(part["groups"] for part in runs["topics"].report["slices"] if part["by"] == "length")
    dots = places(slices.get_by_role("group", name="length"))
    for group in by_length:
        row = slices.locator("tr", has_text=f"length: {group['name']}")
        value = group["value"]
        expect(row.locator("td").nth(2)).to_have_text("–" if value is None else f"{value:.1%}")
        assert (group["name"] in dots) == (value is not None)
    expect(card(page, "All figures")).to_be_visible()  # the page was drawn to its end


def test_shares_are_still_percentages_and_higher_is_better(page: Page, url: str, runs: dict[str, Run]) -> None:
    page.goto(f"{url}/evaluate/moods")
    expect(page.locator(".headline strong")).to_have_text(f"{runs['moods'].report['headline']['value']:.1%}")
    expect(page.locator(".headline .badge")).to_contain_text(" points ")
    beside = card(page, "Beside simple models")
    expect(beside).to_contain_text("the further right, the better")
    expect(beside.locator(".range-scale span").last).to_have_text("100%")
    expect(card(page, "Sure and wrong").locator("td").nth(3)).to_have_text("85.0%")


@pytest.mark.parametrize("place", ["evaluate", "tune", "models"])
def test_every_list_names_the_figure_a_run_is_judged_by(page: Page, url: str, place: str) -> None:
    page.goto(f"{url}/{place}")
    for name, figure in (("prices", "mean absolute error 0.800"), ("topics", "micro F1 "), ("moods", "accuracy 90.0%")):
        expect(page.locator("tr", has=page.get_by_role("link", name=name, exact=True))).to_contain_text(figure)


def test_a_run_has_its_error_on_a_chart_of_its_own(page: Page, url: str) -> None:
    page.goto(f"{url}/tune/prices")
    expect(page.locator(".figures dd", has_text="mean absolute error")).to_contain_text("0.800")
    expect(page.locator(".figures")).to_contain_text("0.000600")
    for title, name in (("Held-out error", "mean absolute error"), ("Held-out figures", "r2")):
        chart = card(page, title)
        chart.get_by_text("Show as a table").click()
        expect(chart.locator("td", has_text=name)).to_have_count(1)
        expect(chart.locator(".u-legend .u-series")).to_have_count(2 if title == "Held-out error" else 3)


@pytest.mark.parametrize(("name", "figure"), [("topics", "micro F1"), ("moods", "accuracy"), ("prices", None)])
def test_the_gate_of_a_name_is_the_figure_that_the_model_is_judged_by(
    page: Page, url: str, name: str, figure: str | None
) -> None:
    page.goto(f"{url}/models/{name}")
    expect(page.locator("input[name=alias]")).to_be_visible()
    gate = page.locator("label", has=page.locator("input[name=gate]"))
    if figure is None:  # the service takes a higher figure for the better one
        expect(gate).to_have_count(0)
    else:
        expect(gate).to_have_text(f"Only if its {figure} is above that of the present one")


@pytest.mark.parametrize(("method", "shown"), [("value_norm", ["0.0210", "1.83"]), ("raw", ["2", "183"])])
def test_lengths_that_moved_are_numbers_and_weights_percent(
    page: Page, url: str, method: str, shown: list[str]
) -> None:
    page.goto(f"{url}/look?model=prices&text=good&text2=bad&method={method}")
    expect(page.locator(".moved button")).to_have_text(shown)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", ["prices", "topics"])
def test_an_evaluation_hinders_nobody(browser: Browser, url: str, runs: dict[str, Run], name: str, scheme: Any) -> None:
    with watched_page(browser, url, color_scheme=scheme) as page:
        page.route("**/v1/**", Answers(runs))
        page.goto(f"{url}/evaluate/{name}")
        expect(card(page, "All figures")).to_be_visible()
        assert violations(page) == []
        assert page.evaluate("document.documentElement.scrollWidth") <= 1280

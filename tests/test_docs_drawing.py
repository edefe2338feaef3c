"""The pictures of the concept pages are those that docs/drawing draws today, in both languages."""

import re

import pytest

from docs.drawing.__main__ import FOLDER, PICTURES
from docs.drawing.canvas import LANGUAGES, Language
from tests.conftest import ROOT
from tests.snippets import unlike


@pytest.mark.parametrize("name", PICTURES)
@pytest.mark.parametrize("language", LANGUAGES)
def test_a_picture_is_what_the_code_draws(name: str, language: Language) -> None:
    kept = (FOLDER / f"{name}.{language}.svg").read_text(encoding="utf-8")
    assert unlike(kept, PICTURES[name](language).svg(), numbers=True) == "", "run python -m docs.drawing"


def test_every_picture_has_its_words_in_both_languages() -> None:
    chinese = re.compile(r"<text[^>]*>[^<]*[\u4e00-\u9fff]")
    for name in PICTURES:
        assert not chinese.search((FOLDER / f"{name}.en.svg").read_text(encoding="utf-8")), name
        assert chinese.search((FOLDER / f"{name}.zh.svg").read_text(encoding="utf-8")), name


def test_every_picture_is_shown_on_a_page() -> None:
    for language in LANGUAGES:
        pages = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "docs" / language).rglob("*.md"))
        for name in PICTURES:
            assert f"diagrams/concepts/{name}.{language}.svg" in pages, f"{name} in docs/{language}"

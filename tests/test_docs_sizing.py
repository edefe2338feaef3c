"""The page on sizing a host reckons with figures that are near those of the results, and in both languages with the same."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = {language: (ROOT / f"docs/{language}/sizing.md").read_text(encoding="utf-8") for language in ("en", "zh")}
NEAR = 1.5  # times: results are taken anew, and an example stays an example
FIGURES = {  # as they stand on the page, and where they come from
    "3,087 ": ("capacity", r"\| 2 \| float32 \| [\d.]+ \| ([\d,]+)"),
    "185 GFLOP/s": ("inference_without_bfloat16", r"float32 (\d+)\s+GFLOP/s"),
    "84%": ("inference_without_bfloat16", r"\| ours \| float32 \|[^|]*\| (\d+)%"),
    "105.5 MiB": ("adapters", r"100 adapters take: ([\d.]+) MiB"),
    "622": ("overload", r"service: ([\d,]+) MiB before"),
    "594 MiB": ("overload", r"before,\s+([\d,]+) MiB after"),
    "32,768": ("overload", r"The queue holds ([\d,]+) tokens"),
    "92%": ("overload", r"Goodput under overload: (0\.\d+)"),
    "0.97": ("overload", r"p99 while a job trains: ([\d.]+) times"),
    "151": ("overload", r"\| four clients \| (\d+)"),
}


def number(text: str) -> float:
    (found,) = re.findall(r"[\d,.]+", text)
    value = float(found.replace(",", ""))
    return value / 100 if text.endswith("%") else value


@pytest.mark.parametrize("shown", FIGURES)
def test_a_figure_of_the_page_is_near_that_of_the_results(shown: str) -> None:
    name, pattern = FIGURES[shown]
    result = (ROOT / f"benchmarks/results/{name}.md").read_text(encoding="utf-8")
    found = re.search(pattern, result, re.DOTALL)
    assert found, f"{name}.md has no such figure any more"
    measured = number(found[1])
    measured = measured / 100 if shown.endswith("%") and measured > 1 else measured
    assert 1 / NEAR < number(shown) / measured < NEAR, f"the page says {shown}, {name}.md {found[1]}"
    assert all(shown in page for page in PAGES.values())


def test_both_languages_reckon_alike() -> None:
    english, chinese = (re.findall(r"```(?:python|text)\n(.*?)```", page, re.DOTALL) for page in PAGES.values())
    assert english == chinese
    assert len(english) > 8

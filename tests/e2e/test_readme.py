"""The README is true: its examples run, its tables are complete, and the tuned model reaches the bar."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
import torch
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from model.capability import has_bfloat16
from service.settings import Settings
from tests.conftest import ROOT, Service
from training.catalogue import movie_sentiment, write_splits

README = (ROOT / "README.md").read_text(encoding="utf-8")
LANGUAGES = ("en", "zh")


def reference(language: str, page: str) -> str:
    return (ROOT / "docs" / language / "reference" / page).read_text(encoding="utf-8")


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_setting_is_in_the_table_with_its_default(language: str) -> None:
    rows = dict(re.findall(r"^\| `(VITRINE_\w+)` \| `([^`]*)` \|", reference(language, "settings.md"), re.MULTILINE))
    fields = {f"VITRINE_{name.upper()}": field.default for name, field in Settings.model_fields.items()}
    assert rows.keys() == fields.keys()
    for name, default in fields.items():
        assert rows[name] == (str(default).lower() if isinstance(default, bool) else str(default).removesuffix(".0")), (
            name
        )


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_route_is_in_the_table(language: str, service: Service) -> None:
    table = [line for line in reference(language, "routes.md").splitlines() if line.startswith("|")]
    for path, methods in httpx.get(f"{service.url}/openapi.json").json()["paths"].items():
        rows = [line for line in table if f"{path}`" in line]
        for method in methods:
            assert any(method.upper() in row for row in rows), (method, path)


def test_a_newcomer_has_at_most_two_hundred_lines_to_read() -> None:
    for name in ("README.md", "README.zh.md"):
        assert len((ROOT / name).read_text(encoding="utf-8").splitlines()) <= 200


@pytest.mark.slow
@pytest.mark.timeout(1_700)  # a job of 106 or 530 steps beside another test
def test_the_script_tunes_a_model_seven_points_over_tfidf(service: Service, cache: Path, tmp_path: Path) -> None:
    """A CPU without bfloat16 takes more than twice as long, and has every fifth row, judged by a third of the held-out
    ones; the model of those need not be as good to be promoted, and is compared with TF-IDF on the same.
    VITRINE_WHOLE_README=1 takes all rows on any CPU."""
    whole = has_bfloat16(torch.device("cpu")) or "VITRINE_WHOLE_README" in os.environ
    scripts = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    (script,) = (script for script in scripts if "fine_tuning.jobs.create" in script)
    training, validation, _ = write_splits("movie-sentiment", cache, tmp_path)
    lines = training.read_text(encoding="utf-8").splitlines(keepends=True)[:: 1 if whole else 5]
    training.write_text("".join(lines), encoding="utf-8")
    held_out = validation.read_text(encoding="utf-8").splitlines(keepends=True)[:: 1 if whole else 3]
    validation.write_text("".join(held_out), encoding="utf-8")
    script = script.replace("localhost:3000", f"127.0.0.1:{service.port}")
    script = script.replace('"at_least": 0.8}', f'"at_least": {0.8 if whole else 0.75}}}')
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=1_500)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "Created fine-tuning job" in done.stdout
    assert "'label': 'positive'" in done.stdout
    assert done.stdout.strip().endswith("384")

    (name,) = set(re.findall(r"ft:minilm-l6:vitrine:movies:\w+", done.stdout))
    test = movie_sentiment(cache)["test"]
    texts, labels = list(test["text"]), list(test["label"])
    answer = httpx.post(f"{service.url}/v1/classify", json={"model": name, "input": texts}, timeout=120).json()
    accuracy = sum(item["label"] == label for item, label in zip(answer["data"], labels, strict=True)) / len(labels)
    tfidf = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, min_df=2)
    rows = [json.loads(line) for line in lines]
    features = tfidf.fit_transform([row["text"] for row in rows])
    baseline = LogisticRegression(C=4, max_iter=1000).fit(features, [row["label"] for row in rows])
    assert accuracy >= baseline.score(tfidf.transform(texts), labels) + 0.07

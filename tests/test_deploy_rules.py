"""Every alert fires on its symptom and on nothing else, says how bad it is, and has its paragraph in the runbook."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "deploy/prometheus"
RULES = (FOLDER / "rules.yml").read_text(encoding="utf-8")
ALERTS: dict[str, dict[str, Any]] = {
    rule["alert"]: rule for group in yaml.safe_load(RULES)["groups"] for rule in group["rules"] if "alert" in rule
}
TURNED_ROUND = {"<": ">", ">": "<"}


def rule_tests(folder: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(["promtool", "test", "rules", "rules_test.yml"], cwd=folder, capture_output=True, text=True)


def test_the_rules_pass_their_tests() -> None:
    done = rule_tests(FOLDER)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_that_compares_the_wrong_way_is_noticed(tmp_path: Path, name: str) -> None:
    shutil.copy(FOLDER / "rules_test.yml", tmp_path)
    expression = str(ALERTS[name]["expr"])
    wrong = re.sub(r" ([<>]) (?=[0-9])", lambda found: f" {TURNED_ROUND[found[1]]} ", expression, count=1)
    assert RULES.count(expression) == 1
    (tmp_path / "rules.yml").write_text(RULES.replace(expression, wrong), encoding="utf-8")
    assert rule_tests(tmp_path).returncode != 0


@pytest.mark.parametrize("name", [name for name in ALERTS if "for" in ALERTS[name]])
def test_an_alert_that_does_not_wait_is_noticed(tmp_path: Path, name: str) -> None:
    shutil.copy(FOLDER / "rules_test.yml", tmp_path)
    hasty = re.sub(rf"(- alert: {name}\n +expr: .*\n) +for: .*\n", r"\1", RULES)
    assert len(hasty) < len(RULES)
    (tmp_path / "rules.yml").write_text(hasty, encoding="utf-8")
    assert rule_tests(tmp_path).returncode != 0


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_says_how_bad_it_is_and_where_to_read_on(name: str) -> None:
    assert ALERTS[name]["labels"]["severity"] in ("critical", "warning")
    assert ALERTS[name]["annotations"]["summary"]
    assert ALERTS[name]["annotations"]["runbook"] == f"docs/en/runbook.md#{name.lower()}"


def test_the_runbook_has_a_paragraph_for_each_alert_in_their_order() -> None:
    parts = re.split(r"^## (.+)$", (ROOT / "docs/en/runbook.md").read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert parts[1::2] == list(ALERTS)
    assert min(len(paragraph.split()) for paragraph in parts[2::2]) > 20

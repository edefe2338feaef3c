"""What is deployed beside the service, asked of a real Prometheus: each panel and each rule finds a figure."""

import json
import math
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.conftest import ROOT, Service, free_port, wait_for

DEPLOY = ROOT / "deploy"
RULES = yaml.safe_load((DEPLOY / "prometheus/rules.yml").read_text(encoding="utf-8"))
DASHBOARD = json.loads((DEPLOY / "grafana/dashboards/vitrine.json").read_text(encoding="utf-8"))
EXPRESSIONS = {
    rule.get("record") or rule["alert"]: rule["expr"] for group in RULES["groups"] for rule in group["rules"]
}
QUERIES = {
    f"{panel['title']}: {target['legendFormat']}": target["expr"]
    for panel in DASHBOARD["panels"]
    for target in panel.get("targets", [])
}
THRESHOLD = re.compile(r"\s[<>]\s[0-9.]+")
SETTLE_SECONDS = 6.0


class Prometheus:
    """A server of our configuration, on loopback, with a short interval."""

    def __init__(self, folder: Path, service: Service) -> None:
        self.url = f"http://127.0.0.1:{free_port()}"
        self.folder = folder
        configuration = yaml.safe_load((DEPLOY / "prometheus/prometheus.yml").read_text(encoding="utf-8"))
        configuration["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
        configuration["rule_files"] = [str(DEPLOY / "prometheus" / name) for name in configuration["rule_files"]]
        (ours,) = (job for job in configuration["scrape_configs"] if job["job_name"] == "vitrine")
        ours["static_configs"] = [{"targets": [service.url.removeprefix("http://")]}]
        configuration["scrape_configs"] = [ours]
        (folder / "prometheus.yml").write_text(yaml.safe_dump(configuration), encoding="utf-8")

    def start(self) -> "subprocess.Popen[bytes]":
        command = [
            "prometheus",
            f"--config.file={self.folder}/prometheus.yml",
            f"--storage.tsdb.path={self.folder}/data",
        ]
        with open(self.folder / "log", "wb") as log:
            listen = f"--web.listen-address={self.url.removeprefix('http://')}"
            return subprocess.Popen([*command, listen, "--log.level=warn"], stdout=log, stderr=log)

    def ask(self, path: str, **parameters: str) -> Any:
        answer = httpx.get(f"{self.url}/api/v1/{path}", params=parameters, timeout=10)
        assert answer.status_code == 200, answer.text
        return answer.json()["data"]

    def samples(self, query: str) -> list[float]:
        """The values of all series now."""
        return [float(series["value"][1]) for series in self.ask("query", query=query)["result"]]

    def sees_the_service(self) -> bool:
        try:
            return self.samples("up") == [1.0]
        except httpx.TransportError:
            return False


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory, service: Service) -> Iterator[Prometheus]:
    """With some traffic between two scrapes: a rate is a difference."""
    made = Prometheus(tmp_path_factory.mktemp("prometheus"), service)
    process = made.start()
    try:
        wait_for(made.sees_the_service, 20, lambda: (made.folder / "log").read_text())
        ask_everything(service)
        time.sleep(SETTLE_SECONDS)  # two scrapes, and two turns of the rules after them
        yield made
    finally:
        process.terminate()
        process.wait(timeout=20)


def ask_everything(service: Service) -> None:
    body = {"model": "minilm-l6", "input": "A wonderful, moving film."}
    for path in ("embeddings", "tokenize", "attention", "trace"):
        httpx.post(f"{service.url}/v1/{path}", json=body, timeout=60).raise_for_status()
    assert httpx.post(f"{service.url}/v1/classify", json=body, timeout=60).status_code == 400, "it has no labels"
    assert httpx.post(f"{service.url}/v1/explain", json=body, timeout=60).status_code < 500


@pytest.mark.parametrize("title", QUERIES)
def test_a_panel_shows_a_figure(prometheus: Prometheus, title: str) -> None:
    query = QUERIES[title].replace("$__rate_interval", "1m").replace("$route", ".+")
    assert any(not math.isnan(value) for value in prometheus.samples(query)), query


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_a_rule_finds_what_it_compares(prometheus: Prometheus, name: str) -> None:
    query = THRESHOLD.sub("", EXPRESSIONS[name])
    assert any(not math.isnan(value) for value in prometheus.samples(query)), query


def test_no_rule_has_an_error_and_no_alert_fires_on_a_healthy_service(prometheus: Prometheus) -> None:
    rules = [rule for group in prometheus.ask("rules")["groups"] for rule in group["rules"]]
    assert {rule["name"] for rule in rules} == set(EXPRESSIONS)
    assert {rule["health"] for rule in rules} == {"ok"}, [rule.get("lastError") for rule in rules]
    disk = {"VitrineDiskNearlyFull", "VitrineDiskFull"}  # of whatever machine the tests run on
    firing = [alert for alert in prometheus.ask("alerts")["alerts"] if alert["state"] == "firing"]
    assert {alert["labels"]["alertname"] for alert in firing} <= disk

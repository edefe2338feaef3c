"""A load run as users make it, watched by a real Prometheus: each panel and each rule finds figures of it, and the
report names the routes."""

import contextlib
import json
import math
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.conftest import ROOT, Service, free_port, wait_for
from tests.load.texts import sentence

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
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
THRESHOLD = re.compile(r"\s[<>]\s[0-9.]+")
JOBS_BY_STATE, FULLNESS = "Jobs by state: {{state}}", "Queue fullness by lane: {{lane}}"
ANSWERED = 'sum by (route) (rate(vitrine_requests_total{status="200"}[$__rate_interval]))'
ROUTES = {
    "/v1/classify", "/v1/embeddings", "/v1/tokenize", "/v1/attention", "/v1/models",
    "/v1/fine_tuning/jobs/{job_id}/events",
}  # fmt: skip
NOTHING_WRONG = {"Server errors: 5xx", "Job trouble: overdue"}  # nought, unless the service has a fault
MOST_SECONDS = 300  # on a busy machine
REFUSED_AT_ONCE = 80  # twice what waits in the lanes that look inside, of both API workers
SEEN_SECONDS = (
    120  # a fast machine answers them between two looks of Prometheus, so they are asked until it has seen them
)


class Prometheus:
    """A server of our configuration, on loopback, with a short interval."""

    def __init__(self, folder: Path, service: Service) -> None:
        self.url = f"http://127.0.0.1:{free_port()}"
        self.folder = folder
        configuration = yaml.safe_load((DEPLOY / "prometheus/prometheus.yml").read_text(encoding="utf-8"))
        configuration["global"] = {"scrape_interval": "2s", "evaluation_interval": "2s"}
        configuration["rule_files"] = [str(DEPLOY / "prometheus" / name) for name in configuration["rule_files"]]
        targets = {"vitrine": service.url, "prometheus": self.url}
        for job in configuration["scrape_configs"]:
            job["static_configs"] = [{"targets": [targets[job["job_name"]].removeprefix("http://")]}]
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

    def ask(self, path: str, **parameters: Any) -> Any:
        answer = httpx.get(f"{self.url}/api/v1/{path}", params=parameters, timeout=30)
        assert answer.status_code == 200, answer.text
        return answer.json()["data"]

    def now(self, query: str) -> list[float]:
        """The values of all series now."""
        return [float(series["value"][1]) for series in self.ask("query", query=query)["result"]]

    def sees_the_service(self) -> bool:
        with contextlib.suppress(httpx.TransportError):
            is_ready = httpx.get(f"{self.url}/-/ready", timeout=30).status_code == 200  # before, it answers 503
            return is_ready and self.now('up{job="vitrine"}') == [1.0]
        return False

    def series(self, query: str, began: float) -> list[Any]:
        """What a panel over the time since then shows."""
        query = query.replace("$__rate_interval", "1m").replace("$route", ".+")
        return list(self.ask("query_range", query=query, start=began, end=time.time(), step="1s")["result"])

    def seen(self, query: str, began: float) -> list[float]:
        """Its values, without the gaps."""
        values = [float(value) for series in self.series(query, began) for _, value in series["values"]]
        return [value for value in values if not math.isnan(value)]

    def labels(self, query: str, name: str, began: float) -> set[str]:
        """Those of its series that are above nought."""
        found = self.series(query, began)
        return {series["metric"][name] for series in found if any(float(value) > 0 for _, value in series["values"])}


@dataclass
class Run:
    """A load run that is over."""

    prometheus: Prometheus
    began: float
    report: str
    output: str
    status: int


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, service: Service) -> Iterator[Run]:
    """Requests that are wrong or too many; then readers and a tuner, until a model is tuned and asked, and all panels
    have moved."""
    folder = tmp_path_factory.mktemp("load")
    prometheus = Prometheus(folder, service)
    watching = prometheus.start()
    try:
        wait_for(prometheus.sees_the_service, 60, lambda: (folder / "log").read_text())
        began = time.time()
        ask_wrongly(service, lambda: "look" in prometheus.labels(QUERIES[FULLNESS], "lane", began))
        missing = set(QUERIES) - NOTHING_WRONG

        def is_enough() -> bool:
            missing.difference_update(
                [title for title in missing if any(value > 0 for value in prometheus.seen(QUERIES[title], began))]
            )
            done = "succeeded" in prometheus.labels(QUERIES[JOBS_BY_STATE], "state", began)  # seen, not only done
            return not missing and done and has_tuned(service) and prometheus.labels(ANSWERED, "route", began) >= ROUTES

        status = load(service, folder, is_enough)
        report = (folder / "report.html").read_text(encoding="utf-8")
        yield Run(prometheus, began, report, (folder / "output").read_text(), status)
    finally:
        watching.terminate()
        watching.wait(timeout=20)


def load(service: Service, folder: Path, is_enough: Callable[[], bool]) -> int:
    """-> the exit status of locust, which is told to end as soon as it is enough."""
    options = [
        "--scenario",
        "mixed",
        "--users",
        "4",
        "--run-time",
        f"{MOST_SECONDS}s",
        "--html",
        folder / "report.html",
    ]
    command = [
        sys.executable,
        "-m",
        "locust",
        "--headless",
        "--locustfile",
        "tests/load/locustfile.py",
        "--only-summary",
    ]
    with open(folder / "output", "wb") as output:
        locust = subprocess.Popen(
            [*command, "--host", service.url, *options], cwd=ROOT, stdout=output, stderr=output,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a suite in the background ignores it
        )  # fmt: skip
    wait_for(lambda: locust.poll() is not None or is_enough(), MOST_SECONDS + 60, (folder / "output").read_text)
    if locust.poll() is None:
        locust.send_signal(signal.SIGINT)
    return locust.wait(timeout=120)  # users end what they are in, and clean up


def ask_wrongly(service: Service, is_seen: Callable[[], bool]) -> None:
    body = {"model": "minilm-l6", "input": sentence()}
    narrow = {**body, "layers": "0", "columns": 1}  # quickly made, slowly enough to be in the way

    def look(_: int) -> int:
        return client.post("/v1/trace", json=narrow).status_code

    statuses: set[int] = set()
    every = httpx.Limits(max_connections=REFUSED_AT_ONCE)
    with (  # one client: to make one for each request would take as long as to answer it
        httpx.Client(base_url=service.url, timeout=120, limits=every) as client,
        ThreadPoolExecutor(REFUSED_AT_ONCE) as pool,
    ):
        end = time.monotonic() + SEEN_SECONDS
        while not (429 in statuses and is_seen()) and time.monotonic() < end:
            statuses.update(pool.map(look, range(REFUSED_AT_ONCE)))
    assert statuses == {200, 429}
    assert httpx.post(f"{service.url}/v1/classify", json=body, timeout=60).status_code == 400, "it has no labels"
    assert httpx.get(f"{service.url}/v1/files/none", timeout=60).status_code == 404


def has_tuned(service: Service) -> bool:
    query = {"metadata[load-test]": "yes", "limit": 100}
    jobs = httpx.get(f"{service.url}/v1/fine_tuning/jobs", params=query, timeout=60).json()["data"]
    return any(job["status"] == "succeeded" for job in jobs)


@pytest.mark.parametrize("title", QUERIES)
def test_a_panel_shows_figures_of_the_run(run: Run, title: str) -> None:
    values = run.prometheus.seen(QUERIES[title], run.began)
    assert values, QUERIES[title]
    assert (max(values) > 0) == (title not in NOTHING_WRONG), QUERIES[title]


def test_panels_show_each_status_each_route_and_each_lane_that_was_asked(run: Run) -> None:
    def labels(title: str, name: str) -> set[str]:
        return run.prometheus.labels(QUERIES[title], name, run.began)

    assert labels("Requests by status: {{status}}", "status") >= {"200", "400", "404", "429"}
    assert labels("Requests by route: {{route}}", "route") >= ROUTES
    assert labels(FULLNESS, "lane") >= {"look"}
    assert labels(JOBS_BY_STATE, "state") >= {"running", "succeeded"}


def test_the_choice_of_routes_is_filled(run: Run) -> None:
    (variable,) = DASHBOARD["templating"]["list"]
    metric, label = re.fullmatch(r"label_values\((\w+), (\w+)\)", variable["query"]["query"]).groups()  # type: ignore[union-attr]
    assert "/v1/classify" in run.prometheus.ask(f"label/{label}/values", **{"match[]": metric})


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_a_rule_finds_what_it_compares(run: Run, name: str) -> None:
    query = THRESHOLD.sub("", EXPRESSIONS[name])
    assert run.prometheus.seen(query, run.began), query


def test_no_rule_has_an_error_and_no_alert_fires_on_a_service_that_is_only_busy(run: Run) -> None:
    rules = [rule for group in run.prometheus.ask("rules")["groups"] for rule in group["rules"]]
    assert {rule["name"] for rule in rules} == set(EXPRESSIONS)
    assert {rule["health"] for rule in rules} == {"ok"}, [rule.get("lastError") for rule in rules]
    disk = {"VitrineDiskNearlyFull", "VitrineDiskFull"}  # of whatever machine the tests run on
    firing = [alert for alert in run.prometheus.ask("alerts")["alerts"] if alert["state"] == "firing"]
    assert {alert["labels"]["alertname"] for alert in firing} <= disk


def test_no_request_of_the_run_failed(run: Run) -> None:
    assert run.status == 0, run.output[-3000:]
    requests, failures = re.search(r"Aggregated\s+(\d+)\s+(\d+)", run.output).groups()  # type: ignore[union-attr]
    assert int(requests) > 20
    assert failures == "0"


def test_the_report_names_the_routes_and_no_ids(run: Run) -> None:
    assert [route for route in ROUTES if route not in run.report] == []
    assert "ftjob-" not in run.report
    assert "<script src=" not in run.report, "it needs nothing from elsewhere"


def test_a_run_leaves_no_models_and_no_files(run: Run, service: Service) -> None:
    for path in ("models", "files"):
        assert "load-test" not in httpx.get(f"{service.url}/v1/{path}", timeout=60).text

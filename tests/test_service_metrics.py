"""Every series is there from the start, and gauges of killed processes do not count on."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from service.jobs.figures import JobFigures
from service.metrics import LANES, Metrics, _forget_dead_processes

Series = dict[tuple[str, frozenset[tuple[str, str]]], float]


def rendered(metrics: Metrics, figures: JobFigures, home: Path) -> Series:
    families = text_string_to_metric_families(metrics.render(lambda: figures, home).decode())
    return {(one.name, frozenset(one.labels.items())): one.value for family in families for one in family.samples}


def of(name: str, **labels: str) -> tuple[str, frozenset[tuple[str, str]]]:
    return name, frozenset(labels.items())


def test_what_alerts_go_by_is_there_before_anything_has_happened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PROMETHEUS_MULTIPROC_DIR", raising=False)
    metrics = Metrics()
    metrics.preset_route("/v1/classify", "POST")
    series = rendered(metrics, JobFigures({"failed": 0}), tmp_path)
    wanted = [
        of("vitrine_requests_total", route="/v1/classify", method="POST", status=status)
        for status in ("200", "400", "404", "429", "500", "503", "504")
    ]
    wanted += [of("vitrine_queue_fullness_ratio", lane=lane) for lane in LANES]
    wanted += [
        of("vitrine_job_silent_seconds"),
        of("vitrine_job_lease_overdue_seconds"),
        of("vitrine_jobs", state="failed"),
    ]
    assert [series.get(one) for one in wanted] == [0.0] * len(wanted)


def test_the_disk_of_the_state_folder_and_the_figures_of_jobs_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PROMETHEUS_MULTIPROC_DIR", raising=False)
    metrics = Metrics()
    metrics.queue("look", 4, 0.25)
    figures = JobFigures({"running": 2}, 0.5, 900.0, silent_seconds=7.0, overdue_seconds=3.0)
    series = rendered(metrics, figures, tmp_path)
    assert series[of("vitrine_disk_size_bytes")] == shutil.disk_usage(tmp_path).total
    assert 0 < series[of("vitrine_disk_free_bytes")] < series[of("vitrine_disk_size_bytes")]
    assert series[of("vitrine_queue_depth", lane="look")] == 4
    assert series[of("vitrine_queue_fullness_ratio", lane="look")] == 0.25
    assert series[of("vitrine_training_tokens_per_second")] == 900
    assert series[of("vitrine_job_silent_seconds")] == 7
    assert series[of("vitrine_job_lease_overdue_seconds")] == 3


def test_gauges_of_a_dead_process_are_forgotten_and_of_a_living_one_kept(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        ended.wait()
    dead, alive = (tmp_path / f"gauge_livesum_{process}.db" for process in (ended.pid, os.getpid()))
    counter = tmp_path / f"counter_{ended.pid}.db"
    for file in (dead, alive, counter):
        file.touch()
    _forget_dead_processes(tmp_path)
    assert [dead.exists(), alive.exists(), counter.exists()] == [False, True, True]

"""What the compose files start is locked down, watched, and configured by settings that exist."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from service.settings import Settings
from service.traces import Traces

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
GPU: dict[str, dict[str, Any]] = yaml.safe_load((DEPLOY / "compose.gpu.yaml").read_text(encoding="utf-8"))["services"]


def written(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.suffix in (".yaml", ".yml", ".env", ".json")]


def test_every_setting_that_a_deployed_file_names_exists() -> None:
    known = {f"VITRINE_{name.upper()}" for name in Settings.model_fields}
    files = [*written(DEPLOY), ROOT / "Dockerfile", ROOT / "docs/en/runbook.md"]
    named = {(path.name, name) for path in files for name in re.findall(r"VITRINE_[A-Z_]+\b", path.read_text("utf-8"))}
    assert {path for path, _ in named} >= {"compose.yaml", "settings.env", "service.yaml", "Dockerfile", "runbook.md"}
    assert [pair for pair in named if pair[1] not in known] == []


@pytest.mark.parametrize("name", SERVICES)
def test_a_container_has_no_rights_it_does_not_need(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert "/tmp" in service["tmpfs"]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert int(service["user"].split(":")[0]) > 0
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))


@pytest.mark.parametrize("name", SERVICES)
def test_a_container_comes_from_a_pinned_image_and_is_watched(name: str) -> None:
    service = SERVICES[name]
    image, _, tag = service["image"].rpartition(":")
    assert image
    assert tag != "latest"
    assert service["restart"] == "unless-stopped"
    if image == "vitrine" and "healthcheck" not in service:
        assert "HEALTHCHECK" in DOCKERFILE
    elif name == "worker":
        assert service["healthcheck"] == {"disable": True}, "it has no port; two alerts tell when it is stuck"
    else:
        assert service["healthcheck"]["test"][0] == "CMD"


@pytest.mark.parametrize("name", SERVICES)
def test_what_a_container_refers_to_is_there(name: str) -> None:
    service = SERVICES[name]
    assert set(service.get("depends_on", {})) <= SERVICES.keys()
    assert set(service.get("secrets", [])) <= COMPOSE["secrets"].keys()
    for volume in service.get("volumes", []):
        source = volume.split(":")[0]
        assert (DEPLOY / source).is_dir() if source.startswith(".") else source in COMPOSE["volumes"], source
    for argument in service.get("build", {}).get("args", {}):
        assert re.search(rf"^ARG {argument}=", DOCKERFILE, re.MULTILINE), argument


def test_no_secret_stands_in_the_files_or_has_a_default() -> None:
    for secret in COMPOSE["secrets"].values():
        assert secret["file"].startswith("./secrets/")
    assert "deploy/secrets/" in (ROOT / ".gitignore").read_text().splitlines()
    for service in SERVICES.values():
        for name, value in service.get("environment", {}).items():
            if "PASSWORD" in name:
                assert name.endswith("_FILE")
                assert value.removeprefix("/run/secrets/") in COMPOSE["secrets"]
            assert not re.search(r"://[^/@]+:[^/@]+@", str(value)), "a password in a URL"


def test_the_settings_of_the_containers_are_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SERVICES["worker"]["environment"].items():
        monkeypatch.setenv(name, re.sub(r"\$\{\w+:-(.*)\}", r"\1", value))
    settings = Settings()
    assert not settings.run_worker
    assert settings.device == "cpu"
    prometheus = yaml.safe_load((DEPLOY / "prometheus/prometheus.yml").read_text(encoding="utf-8"))
    scraped = {job["job_name"]: job["static_configs"][0]["targets"][0] for job in prometheus["scrape_configs"]}
    host, _, port = scraped["vitrine"].partition(":")
    assert host in SERVICES
    assert host in settings.allowed_host_names
    assert f"EXPOSE {port}" in DOCKERFILE
    (source,) = yaml.safe_load((DEPLOY / "grafana/provisioning/datasources/prometheus.yaml").read_text())["datasources"]
    assert source["url"] == "http://prometheus:9090"


def test_traces_are_off_until_they_are_wanted_and_then_have_a_place_to_go(monkeypatch: pytest.MonkeyPatch) -> None:
    environment = SERVICES["service"]["environment"]
    assert environment["VITRINE_TRACES"] == "${VITRINE_TRACES:-off}"
    endpoint = re.sub(r"\$\{\w+:-(.*)\}", r"\1", environment["OTEL_EXPORTER_OTLP_ENDPOINT"])
    host, _, port = endpoint.removeprefix("http://").partition(":")
    assert port == "4318", "OTLP over HTTP"
    assert SERVICES[host]["profiles"] == ["traces"]
    assert [name for name, service in SERVICES.items() if "profiles" in service] == [host]
    assert not [name for name, service in SERVICES.items() if host in service.get("depends_on", {})]
    (extras,) = re.findall(r"^ARG EXTRAS=(.*)$", DOCKERFILE, re.MULTILINE)
    assert "traces" in extras.split(",")
    monkeypatch.setenv("VITRINE_TRACES", "otlp")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", re.sub(r".*:-(.*)\}", r"\1", environment["OTEL_TRACES_SAMPLER"]))
    assert Traces.of(Settings(), "api") is not None


def test_with_gpus_service_and_worker_take_the_other_image_and_training_needs_a_choice() -> None:
    assert GPU.keys() == {"service", "worker"}
    devices = {}
    for name, service in GPU.items():
        assert service["image"] == "vitrine:gpu"
        assert service["environment"] == {"VITRINE_DEVICE": "auto"}
        assert f"ARG BASE={service['build']['args']['BASE']}\n" in DOCKERFILE
        (device,) = service["deploy"]["resources"]["reservations"]["devices"]
        assert device["capabilities"] == ["gpu"]
        (devices[name],) = device["device_ids"]
    assert devices["service"] == "${SERVICE_GPU:-0}"
    assert devices["worker"].startswith("${WORKER_GPU:?"), "no default: training takes memory from answers"

"""The objects for Kubernetes are valid by its own schemas, fit each other, and fit the service."""

import re
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from service.settings import Settings

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "deploy/kubernetes"
VERSIONS = ("1.27", kubernetes_validate.latest_version())  # oldest and newest that they are checked against
Object = dict[str, Any]


def objects(*files: Path) -> dict[tuple[str, str], Object]:
    """By kind and name."""
    found: list[Object] = [one for file in files for one in yaml.safe_load_all(file.read_text(encoding="utf-8"))]
    return {(one["kind"], one["metadata"]["name"]): one for one in found}


KUSTOMIZATION = yaml.safe_load((FOLDER / "base/kustomization.yaml").read_text(encoding="utf-8"))
BASE = objects(*(FOLDER / "base" / name for name in KUSTOMIZATION["resources"]))
DEPLOYMENTS = {name: one for (kind, name), one in BASE.items() if kind == "Deployment"}
SETTINGS = dict(
    line.split("=", 1) for line in (FOLDER / "base/settings.env").read_text().splitlines() if not line.startswith("#")
)


def pod_of(deployment: Object) -> Object:
    return deployment["spec"]["template"]["spec"]  # type: ignore[no-any-return]


def containers_of(deployment: Object) -> list[Object]:
    return [*pod_of(deployment).get("initContainers", []), *pod_of(deployment)["containers"]]


def selected(labels: dict[str, str]) -> set[str]:
    """The deployments whose pods have these labels."""
    return {
        name
        for name, one in DEPLOYMENTS.items()
        if labels.items() <= one["spec"]["template"]["metadata"]["labels"].items()
    }


@pytest.mark.parametrize("version", VERSIONS)
def test_each_object_of_the_base_keeps_the_strict_schema(version: str) -> None:
    for one in BASE.values():
        kubernetes_validate.validate(one, version, strict=True)


def test_a_misspelt_field_is_noticed() -> None:
    wrong = {**BASE["PersistentVolumeClaim", "vitrine-artefacts"], "spce": {}}
    with pytest.raises(kubernetes_validate.ValidationError, match="spce"):
        kubernetes_validate.validate(wrong, VERSIONS[0], strict=True)


@pytest.mark.parametrize("overlay", ["cpu", "gpu"])
def test_the_patches_of_an_overlay_meet_objects_and_containers_of_the_base(overlay: str) -> None:
    folder = FOLDER / "overlays" / overlay
    kustomization = yaml.safe_load((folder / "kustomization.yaml").read_text(encoding="utf-8"))
    assert [(folder / path).resolve() for path in kustomization["resources"]] == [(FOLDER / "base").resolve()]
    for patch in kustomization.get("patches", []):
        for key, one in objects(folder / patch["path"]).items():
            assert key in BASE
            if key[0] == "Deployment":
                assert {c["name"] for c in containers_of(one)} <= {c["name"] for c in containers_of(BASE[key])}


@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_a_pod_has_no_rights_it_does_not_need(name: str) -> None:
    pod = pod_of(DEPLOYMENTS[name])
    assert pod["automountServiceAccountToken"] is False
    assert pod["enableServiceLinks"] is False, "a Service called vitrine would give variables called VITRINE_..."
    assert pod["securityContext"]["runAsNonRoot"]
    assert f"--uid {pod['securityContext']['runAsUser']} " in (ROOT / "Dockerfile").read_text()
    for container in containers_of(DEPLOYMENTS[name]):
        locked = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}
        assert container["securityContext"] == locked
        assert {"/state", "/tmp", "/artefacts"} == {mount["mountPath"] for mount in container["volumeMounts"]}
        assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}
        assert container["resources"]["limits"]["memory"]
        assert container["command"][0] == "vitrine"


def test_selectors_choose_what_they_are_for() -> None:
    for name, one in DEPLOYMENTS.items():
        assert selected(one["spec"]["selector"]["matchLabels"]) == {name}
    assert selected(BASE["Service", "vitrine"]["spec"]["selector"]) == {"vitrine"}
    assert selected(BASE["PodDisruptionBudget", "vitrine"]["spec"]["selector"]["matchLabels"]) == {"vitrine"}
    policies = {name: one["spec"] for (kind, name), one in BASE.items() if kind == "NetworkPolicy"}
    chosen = {name: selected(spec["podSelector"]["matchLabels"]) for name, spec in policies.items()}
    both = {"vitrine", "vitrine-worker"}
    assert chosen == {"vitrine": {"vitrine"}, "vitrine-worker": {"vitrine-worker"}, "vitrine-outwards": both}
    assert "ingress" not in policies["vitrine-worker"], "nothing comes in"
    target = BASE["HorizontalPodAutoscaler", "vitrine"]["spec"]["scaleTargetRef"]
    assert (target["kind"], target["name"]) in BASE
    assert "replicas" not in DEPLOYMENTS["vitrine"]["spec"], "or each roll-out would undo the autoscaler"


def test_probes_ask_routes_that_exist_at_a_port_that_exists() -> None:
    routes = set(re.findall(r'@router.get\("(/\w+)"[,)]', (ROOT / "service/routes/system.py").read_text()))
    (container,) = pod_of(DEPLOYMENTS["vitrine"])["containers"]
    (port,) = container["ports"]
    assert f"EXPOSE {port['containerPort']}\n" in (ROOT / "Dockerfile").read_text()
    assert container["command"][-1] == str(port["containerPort"])
    for probe, path in (("startupProbe", "/livez"), ("livenessProbe", "/livez"), ("readinessProbe", "/readyz")):
        get = container[probe]["httpGet"]
        assert get["path"] == path
        assert path in routes
        assert get["port"] == port["name"]
        assert get["httpHeaders"] == [{"name": "Host", "value": "localhost"}], "the pod's address is no allowed name"
    assert [one["targetPort"] for one in BASE["Service", "vitrine"]["spec"]["ports"]] == [port["name"]]
    (ingress,) = BASE["NetworkPolicy", "vitrine"]["spec"]["ingress"]
    assert [one["port"] for one in ingress["ports"]] == [port["name"]]


def test_the_settings_are_accepted_and_names_refer_to_what_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VITRINE_DATABASE", "postgresql://vitrine:secret@database/vitrine")
    for name, value in SETTINGS.items():
        monkeypatch.setenv(name, value)
    settings = Settings()
    assert not settings.run_worker
    assert settings.first_key_owner, "a service that others reach needs a key"
    for deployment in DEPLOYMENTS.values():
        (claim,) = (
            v["persistentVolumeClaim"]["claimName"]
            for v in pod_of(deployment)["volumes"]
            if len(v) == 2 and "persistentVolumeClaim" in v
        )
        assert ("PersistentVolumeClaim", claim) in BASE
        for container in containers_of(deployment):
            assert container["envFrom"] == [{"configMapRef": {"name": KUSTOMIZATION["configMapGenerator"][0]["name"]}}]
            environment = {one["name"]: one for one in container["env"]}
            assert environment["VITRINE_DATABASE"]["valueFrom"] == {
                "secretKeyRef": {"name": "vitrine-database", "key": "url"}
            }
            for value in (one["value"] for one in container["env"] if "value" in one):
                assert set(re.findall(r"\$\((\w+)\)", value)) <= environment.keys() | SETTINGS.keys()


def test_the_autoscaler_goes_by_a_metric_that_the_service_has_and_the_adapter_makes() -> None:
    (rule,) = yaml.safe_load((FOLDER / "prometheus-adapter-rule.yaml").read_text(encoding="utf-8"))["rules"]
    series = rule["seriesQuery"].split("{")[0]
    assert f'"{series}"' in (ROOT / "service/metrics.py").read_text(encoding="utf-8")
    assert re.fullmatch(rule["name"]["matches"], series)
    (metric,) = BASE["HorizontalPodAutoscaler", "vitrine"]["spec"]["metrics"]
    assert metric["pods"]["metric"]["name"] == rule["name"]["as"]
    (scrape,) = yaml.safe_load((FOLDER / "prometheus-scrape.yml").read_text(encoding="utf-8"))["scrape_configs"]
    assert scrape["job_name"] == "vitrine", "the alerts' name for it"
    made = {one["target_label"] for one in scrape["relabel_configs"] if "target_label" in one}
    assert made == rule["resources"]["overrides"].keys() == {"namespace", "pod"}

"""The dashboard can be read by everybody, and its data source is the one that is provisioned."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

GRAFANA = Path(__file__).parents[1] / "deploy/grafana"
DASHBOARD = json.loads((GRAFANA / "dashboards/vitrine.json").read_text(encoding="utf-8"))
PANELS: dict[str, dict[str, Any]] = {panel["title"]: panel for panel in DASHBOARD["panels"] if panel["type"] != "row"}
OKABE_ITO = {"#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7", "#999999"}


def looks(panel: dict[str, Any]) -> list[tuple[str, bool]]:
    """Colour and dash of each named series."""
    found = []
    for override in panel["fieldConfig"]["overrides"]:
        properties = {one["id"]: one["value"] for one in override["properties"]}
        found.append((properties["color"]["fixedColor"], "custom.lineStyle" in properties))
    return found


def test_titles_and_numbers_of_panels_are_their_own() -> None:
    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len({panel["title"] for panel in panels}) == len(panels)


@pytest.mark.parametrize("title", PANELS)
def test_a_panel_explains_itself_and_has_a_unit(title: str) -> None:
    panel = PANELS[title]
    assert panel["description"].endswith(".")
    assert panel["fieldConfig"]["defaults"]["unit"]
    assert panel["targets"]
    (provisioned,) = yaml.safe_load((GRAFANA / "provisioning/datasources/prometheus.yaml").read_text())["datasources"]
    assert {target["datasource"]["uid"] for target in panel["targets"]} == {provisioned["uid"]}


@pytest.mark.parametrize("title", PANELS)
def test_no_two_series_of_a_panel_look_alike_to_the_colour_blind(title: str) -> None:
    panel = PANELS[title]
    styles = looks(panel)
    assert len(styles) == len(set(styles))
    defaults = panel["fieldConfig"]["defaults"]
    steps = [step["color"] for step in defaults.get("thresholds", {}).get("steps", [])]
    assert {color for color, _ in styles} | set(steps) <= OKABE_ITO
    assert defaults["color"]["mode"] in ("fixed", "thresholds"), "Grafana's own palettes are not safe"


def test_panels_do_not_lie_on_each_other() -> None:
    taken = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert max(x for x, _ in cells) < 24
        assert not taken & cells, panel["title"]
        taken |= cells


def test_the_dashboards_folder_is_where_the_provider_looks() -> None:
    (provider,) = yaml.safe_load((GRAFANA / "provisioning/dashboards/vitrine.yaml").read_text())["providers"]
    compose = yaml.safe_load((GRAFANA.parent / "compose.yaml").read_text(encoding="utf-8"))["services"]["grafana"]
    assert f"./grafana/dashboards:{provider['options']['path']}:ro" in compose["volumes"]
    home = compose["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert (GRAFANA / "dashboards" / Path(home).name).is_file()

"""Checks the bills of materials that `make sbom` has written: `python tests/sbom.py PYTHON.json PAGE.json`, by the
environment of the audit. The schema is CycloneDX's own, and what is installed to run the service must be in it.
"""

import json
import re
import sys
import tomllib
from pathlib import Path
from typing import Any

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

ROOT = Path(__file__).parents[1]


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def read(path: Path) -> dict[str, Any]:
    """A bill that its schema accepts."""
    text = path.read_text(encoding="utf-8")
    fields: dict[str, Any] = json.loads(text)
    problem = JsonStrictValidator(SchemaVersion.from_version(fields["specVersion"])).validate_str(text)
    if problem is not None:
        sys.exit(f"{path.name} breaks the schema: {problem}")
    return fields


def main() -> None:
    """Status 1 with the reason when something is missing."""
    python, page = (read(Path(name)) for name in sys.argv[1:3])
    pins = dict(re.findall(r"^([\w.-]+)==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE))
    pins = {normal(name): version for name, version in pins.items()}
    listed = {normal(part["name"]): part.get("version") for part in python["components"]}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [normal(re.split(r"[\[<>=~ ]", line)[0]) for line in project["dependencies"]]
    if missing := [name for name in wanted if name not in listed]:
        sys.exit(f"the bill lacks what the service needs: {missing}")
    if other := [
        name
        for name in wanted
        if listed[name] != pins.get(name) and not str(listed[name]).startswith(f"{pins.get(name)}+")
    ]:
        sys.exit(f"the bill has other versions than constraints.txt: {other}")
    on_page = {part["name"] for part in page["components"]}
    if missing := sorted(json.loads((ROOT / "service/ui/package.json").read_text())["dependencies"].keys() - on_page):
        sys.exit(f"the bill of the page lacks {missing}")
    print(f"sbom: {len(listed)} Python packages, {len(on_page)} of the page; both fit their schema")


if __name__ == "__main__":
    main()

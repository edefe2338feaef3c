"""Whether a pinned dependency has a known vulnerability: `python -m tests.audit`, a part of `make check`.

Python's pins are asked for by pip-audit at the package index, the page's by npm at its registry. A finding ends with status 1
unless audit-ignored.json names it with a reason and a day until which that holds. Where no advisories can be reached, or
an index knows a package without telling of advisories, that is said loudly for what it concerns: it is no clean audit.
"""

import json
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
IGNORED = ROOT / "tests/audit-ignored.json"
SECONDS = 240


@dataclass(frozen=True)
class Finding:
    """One advisory on one package."""

    package: str
    advisory: str
    told: str


@dataclass(frozen=True)
class Report:
    """Of one ecosystem: what was looked at, and what could not be."""

    findings: list[Finding]
    audited: int
    unaudited: int
    why: str = ""


def of_pip_audit(output: str, told: str) -> Report:
    """From its JSON; anything else is an index that was not reached."""
    try:
        packages = json.loads(output)["dependencies"]
    except (ValueError, LookupError, TypeError):
        return Report([], 0, 0, last_line(told))
    known = [package for package in packages if "skip_reason" not in package]
    findings = [
        Finding(package["name"], item["id"], f"fixed in {', '.join(item['fix_versions']) or 'no version yet'}")
        for package in known
        for item in package["vulns"]
    ]
    skipped = [package["skip_reason"] for package in packages if "skip_reason" in package]
    return Report(findings, len(known), len(skipped), skipped[0] if skipped else "")


def of_npm_audit(output: str, told: str) -> Report:
    """From its JSON, of the second form (npm 7 and later)."""
    try:
        fields = json.loads(output)
        packages, total = fields["vulnerabilities"], fields["metadata"]["dependencies"]["total"]
    except (ValueError, LookupError, TypeError):
        return Report([], 0, 0, last_line(told))
    findings = [
        Finding(name, str(via.get("url", via.get("source"))), str(via.get("title")))
        for name, package in packages.items()
        for via in package["via"]
        if isinstance(via, dict)
    ]
    return Report(findings, total, 0)


def last_line(told: str) -> str:
    lines = [line for line in told.splitlines() if line.strip()]
    return lines[-1][:200] if lines else "it said nothing"


def judged(findings: Iterable[Finding], ignored: Iterable[dict[str, str]], today: date) -> list[str]:
    """What must fail the build: findings that nobody has set aside, and what was set aside for too long."""
    problems, aside = [], set()
    for entry in ignored:
        if not entry["reason"].strip() or date.fromisoformat(entry["until"]) < today:
            problems.append(f"{entry['id']} was set aside until {entry['until']} ({entry['reason'] or 'no reason'})")
        else:
            aside.add((entry["package"], entry["id"]))
    problems += [
        f"{one.package}: {one.advisory}, {one.told}" for one in findings if (one.package, one.advisory) not in aside
    ]
    return problems


def run(*command: str) -> tuple[str, str]:
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return "", f"no answer within {SECONDS} s"
    return done.stdout, done.stderr


def main() -> None:
    """Prints what was audited and what was not; status 1 for findings."""
    folder = Path(sys.prefix)
    options = ["--no-deps", "--disable-pip", "--format", "json", "--progress-spinner", "off", "--timeout", "15"]
    python = of_pip_audit(*run(str(folder / "audit/bin/pip-audit"), "-r", "constraints.txt", *options))
    page = of_npm_audit(*run("sh", "service/ui/npm.sh", sys.executable, "audit", "--json"))
    for name, report in (("Python", python), ("the page", page)):
        print(f"audit of {name}: {report.audited} packages looked up, {len(report.findings)} advisories")
        if not report.audited:
            print(f"!!! NOT AUDITED: no source of advisories was reached for {name} ({report.why})")
        elif report.unaudited:
            print(f"!!! NOT AUDITED: {report.unaudited} packages of {name} ({report.why})")
    ignored: list[dict[str, Any]] = json.loads(IGNORED.read_text())
    problems = judged([*python.findings, *page.findings], ignored, datetime.now(UTC).date())
    if problems:
        sys.exit("\n".join(["audit failed:", *problems]))


if __name__ == "__main__":
    main()

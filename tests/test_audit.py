"""The audit of dependencies: findings fail, what is set aside does so until its day, an unreachable source is no clean bill."""

import json
from datetime import date

from tests.audit import IGNORED, Finding, judged, of_npm_audit, of_pip_audit

TODAY = date(2026, 11, 27)
FOUND = Finding("x", "PYSEC-1", "fixed in 2.0")


def test_pip_audit_s_answer_is_read() -> None:
    packages = [
        {"name": "x", "version": "1.0", "vulns": [{"id": "PYSEC-1", "fix_versions": ["2.0"], "aliases": []}]},
        {"name": "y", "version": "1.0", "vulns": []},
        {"name": "z", "skip_reason": "not found on PyPI"},
    ]
    report = of_pip_audit(json.dumps({"dependencies": packages, "fixes": []}), "")
    assert (report.findings, report.audited, report.unaudited, report.why) == ([FOUND], 2, 1, "not found on PyPI")


def test_an_index_that_is_not_reached_is_no_clean_bill() -> None:
    for read in (of_pip_audit, of_npm_audit):
        report = read("", "warning\nconnection refused\n")
        assert (report.audited, report.why) == (0, "connection refused")
    assert of_npm_audit('{"message": "405 Method Not Allowed", "error": {}}', "x").audited == 0


def test_npm_s_answer_is_read() -> None:
    via = [{"source": 1, "url": "https://example.com/GHSA-1", "title": "bad"}, "another package"]
    output = {"vulnerabilities": {"a": {"via": via}}, "metadata": {"dependencies": {"total": 4}}}
    report = of_npm_audit(json.dumps(output), "")
    assert report.findings == [Finding("a", "https://example.com/GHSA-1", "bad")]
    assert report.audited == 4


def test_a_finding_fails_until_it_is_set_aside_and_again_after_that_day() -> None:
    entry = {"package": "x", "id": "PYSEC-1", "reason": "we never call it", "until": "2026-12-31"}
    assert judged([FOUND], [], TODAY) == ["x: PYSEC-1, fixed in 2.0"]
    assert judged([FOUND], [entry], TODAY) == []
    assert len(judged([FOUND], [entry], date(2027, 1, 1))) == 2
    assert len(judged([FOUND], [entry | {"reason": " "}], TODAY)) == 2
    assert judged([], json.loads(IGNORED.read_text()), TODAY) == []

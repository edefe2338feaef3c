"""The table of attacks and faults: what stands in a row, and what is kept in the repository."""

import re

import httpx

from tests.faults import ROOT, Seen, table_of, told

ROW = re.compile(r"^\| (?!attack or fault|---)(.+) \| (.+) \|$", re.MULTILINE)


def test_an_answer_is_told_by_status_code_and_message() -> None:
    error = (
        '{"error": {"message": "model \'x\' does not exist", "type": "t", "param": null, "code": "model_not_found"}}'
    )
    wanted = "404 `model_not_found`: model 'x' does not exist"
    assert told(httpx.Response(404, text=error)) == wanted
    assert told(f"HTTP/1.1 404 Not Found\r\nx: y\r\n\r\n{error}".encode()) == wanted
    assert told(httpx.Response(200, text="ok")) == "200, 2 bytes"
    assert "closed without" in told(b"")


def test_no_attack_breaks_out_of_its_cell() -> None:
    table = table_of(
        [Seen("tests/b.py::test", "a | b\n<script>*[x](y)", "x\x00\n\n| y " * 99), Seen("tests/a.py::t", "c", "d")]
    )
    assert table.index("## tests/a.py") < table.index("## tests/b.py")
    assert len(ROW.findall(table)) == 2
    assert not re.search(r"<script|\x00|\*\[", table)
    assert max(map(len, table.splitlines())) < 1_000


def test_the_kept_table_has_at_least_sixty_rows_of_tests_that_exist() -> None:
    table = (ROOT / "docs/faults.md").read_text(encoding="utf-8")
    assert len(ROW.findall(table)) >= 60
    files = re.findall(r"^## (.+)$", table, re.MULTILINE)
    assert files
    assert all((ROOT / file).is_file() for file in files)

"""HEAD: what GET answers, its headers and its place in the figures, without its body."""

import http.client
import re

import pytest

from tests.conftest import Service
from tests.house import House, house

__all__ = ["house"]
OF_EACH_ANSWER = {"date", "x-request-id", "server"}
PATHS = (
    "/", "/docs", "/openapi.json", "/livez", "/readyz", "/healthz", "/metrics", "/v1/models", "/v1/models/minilm-l6",
    "/v1/models/nothing", "/v1/files", "/v1/nothing", "/schema.json", "/static/nothing.js",
)  # fmt: skip


@pytest.mark.parametrize("path", PATHS)
def test_head_has_the_headers_of_get_and_no_body(service: Service, path: str) -> None:
    """On one connection, so that a byte of a body would be taken for the next answer."""
    connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=60)
    answers = []
    for method in ("HEAD", "GET", "HEAD", "GET"):
        connection.request(method, path)
        answer = connection.getresponse()
        headers = {name.lower(): value for name, value in answer.getheaders()}
        if path == "/metrics":  # it has more to tell each time
            headers.pop("content-length", None)
        kept = {name: value for name, value in headers.items() if name not in OF_EACH_ANSWER}
        answers.append((answer.status, kept, len(answer.read())))
    assert [size for _, _, size in answers[::2]] == [0, 0]
    assert answers[1][2] > 0
    assert answers[0][:2] == answers[1][:2]


def test_a_file_is_described_and_not_read(house: House) -> None:
    path = f"/v1/files/{house.file}/content"
    whole = house.ask("GET", path, house.ann)
    told = house.ask("HEAD", path, house.ann)
    assert (told.status_code, told.content) == (200, b"")
    assert told.headers["content-length"] == str(len(whole.content))
    part = house.ask("HEAD", path, {**house.ann, "range": "bytes=0-3"})
    assert (part.status_code, part.headers["content-length"]) == (206, "4")
    beyond = house.ask("HEAD", path, {**house.ann, "range": "bytes=999999-"})
    assert (beyond.status_code, beyond.headers["content-range"]) == (416, f"bytes */{len(whole.content)}")


def test_of_a_stream_that_has_no_end_yet_the_headers_come(house: House) -> None:
    """The job waits for ever: there is no worker."""
    path = f"/v1/fine_tuning/jobs/{house.job}/events?stream=true"
    told = house.ask("HEAD", path, house.ann)
    assert (told.status_code, told.content) == (200, b"")
    assert told.headers["content-type"].startswith("text/event-stream")


def test_head_needs_the_key_that_get_needs(house: House) -> None:
    assert house.ask("HEAD", f"/v1/files/{house.file}", {}).status_code == 401
    assert house.ask("HEAD", f"/v1/files/{house.file}", house.bob).status_code == 404
    assert house.ask("HEAD", f"/v1/files/{house.file}", house.reader).status_code == 200


def test_it_is_allowed_where_get_is(house: House) -> None:
    models = house.ask("PUT", "/v1/models", house.ann)
    classify = house.ask("HEAD", "/v1/classify", house.ann)
    asked = house.ask("HEAD", "/v1/fine_tuning/jobs/x/cancel", house.ann)
    assert [answer.status_code for answer in (models, classify, asked)] == [405] * 3
    assert [answer.headers["allow"] for answer in (models, classify, asked)] == ["GET, HEAD", "POST", "POST"]


def test_the_figures_have_its_route(house: House) -> None:
    for path in ("/v1/models/tiny", "/v1/models/nothing"):
        house.ask("HEAD", path, house.ann)
    figures = house.ask("GET", "/metrics", house.ann).text
    lines = [line for line in figures.splitlines() if 'method="HEAD"' in line and "requests_total" in line]
    for status in (200, 404):
        wanted = rf'route="/v1/models/\{{model_id[^"]*\}}".*status="{status}"'
        assert any(re.search(wanted, line) for line in lines), lines

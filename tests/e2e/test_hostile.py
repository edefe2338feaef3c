"""Attacks on a real service over real sockets: what no client library sends, and what it must answer to others meanwhile."""

import contextlib
import gzip
import json
import os
import resource
import socket
import time
from collections.abc import Iterator
from typing import Any

import httpx
import psutil
import pytest

from tests.chaos import BASE, prepare_base
from tests.conftest import Service
from tests.faults import Faults
from tests.hostile import ask, form, head, open_to, post, read_all, status

pytestmark = pytest.mark.slow
TOKENIZE = b"/v1/tokenize"
CHUNKED = b"Transfer-Encoding: chunked"
MULTIPART = b"multipart/form-data; boundary=edge"
FILE = b'Content-Disposition: form-data; name="file"; filename="%s"'
ROWS = b'{"text": "x", "label": "a"}\n{"text": "y", "label": "b"}\n'
PURPOSE = (b'Content-Disposition: form-data; name="purpose"', b"fine-tune")
IDLE = int(os.environ.get("VITRINE_IDLE_CONNECTIONS", "5000"))  # `make flood` asks for 100,000
A_SOURCE = 20_000  # connections from one loopback address: it has some 28,000 ports


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """One API process with a model of some thousand weights."""
    home = tmp_path_factory.mktemp("hostile") / "home"
    prepare_base(home)
    settings = {"VITRINE_DEFAULT_MODEL": BASE, "VITRINE_RUN_WORKER": "false", "VITRINE_MAX_FILE_BYTES": str(2**22)}
    running = Service(home, **settings).start(set_up=False)
    yield running
    running.stop()


def tokenize(text: bytes, *lines: bytes) -> bytes:
    """With JSON for `input` as it is."""
    return post(TOKENIZE, b'{"model": "tiny", "input": %s}' % text, *lines)


def upload(*parts: tuple[bytes, bytes], kind: bytes = MULTIPART, **options: Any) -> bytes:
    return post(b"/v1/files", form(*parts, **options), kind=kind)


def smuggled(*lines: bytes) -> bytes:
    """A body that two readers of HTTP might end at different places."""
    return head(TOKENIZE, *lines, method=b"POST", close=False) + b"0\r\n\r\n" + head(b"/metrics")


# what is sent, the status
HTTP: list[tuple[str, bytes, int]] = [
    ("Content-Length beside Transfer-Encoding", smuggled(b"Content-Length: 4", CHUNKED), 400),
    ("two different Content-Length", smuggled(b"Content-Length: 4", b"Content-Length: 40"), 400),
    ("two equal Content-Length", smuggled(b"Content-Length: 5", b"Content-Length: 5"), 400),
    ("Content-Length as a list", smuggled(b"Content-Length: 5, 5"), 400),
    ("a negative Content-Length", smuggled(b"Content-Length: -1"), 400),
    ("a Content-Length of 26 digits", smuggled(b"Content-Length: " + b"9" * 26), 400),
    ("a Content-Length of 2^63 - 1", smuggled(b"Content-Length: 9223372036854775807"), 413),
    ("Transfer-Encoding: xchunked", smuggled(b"Transfer-Encoding: xchunked"), 400),
    ("Transfer-Encoding: chunked, identity", smuggled(CHUNKED + b", identity"), 400),
    ("Transfer-Encoding twice", smuggled(CHUNKED, CHUNKED), 400),
    ("a chunk whose size is no number", head(TOKENIZE, CHUNKED, method=b"POST") + b"zz\r\nabc\r\n0\r\n\r\n", 400),
    ("a chunk of 2^72 bytes", head(TOKENIZE, CHUNKED, method=b"POST") + b"f" * 18 + b"\r\nabc", 400),
    ("a space before a header's colon", head(b"/livez", b"X : y"), 400),
    ("a header folded over two lines", head(b"/livez", b"X: a\r\n b"), 400),
    ("a bare carriage return in a header", head(b"/livez", b"X: a\rEvil: b"), 400),
    ("lines that end without a carriage return", head(b"/livez").replace(b"\r", b""), 400),
    ("NUL in a header", head(b"/livez", b"X: a\0b"), 400),
    ("control characters in a cookie", head(b"/v1/models", b"Cookie: a=\x01"), 400),
    ("two Host headers", head(b"/livez", b"Host: evil.example"), 400),
    ("no Host header", head(b"/livez").replace(b"Host: localhost\r\n", b""), 403),
    ("a Host that is no address", head(b"/livez", host=b"[::1"), 403),
    ("an Origin that is no address", head(b"/v1/models", b"Origin: http://[::1"), 403),
    ("a line break in Origin, percent-encoded", head(b"/v1/models", b"Origin: http://a%0d%0aX: y"), 403),
    ("an unknown method", head(b"/livez", method=b"BREW"), 400),
    ("a method in lower case", head(b"/livez", method=b"get"), 400),
    ("TRACE", head(b"/livez", method=b"TRACE"), 405),
    ("CONNECT to elsewhere", head(b"evil.example:443", method=b"CONNECT"), 400),
    ("OPTIONS of everything", head(b"*", method=b"OPTIONS"), 404),
    ("an overridden method", head(b"/v1/models/tiny", b"X-HTTP-Method-Override: DELETE"), 200),
    ("HTTP/9.9", head(b"/livez").replace(b"HTTP/1.1", b"HTTP/9.9"), 400),
    ("the preface of HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    ("the hello of TLS", bytes.fromhex("160301020001") + b"x" * 60, 400),
    ("all bytes from 0 to 255", bytes(range(256)), 400),
    ("an upgrade to a WebSocket", head(b"/v1/models", b"Upgrade: websocket", b"Connection: Upgrade", b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", b"Sec-WebSocket-Version: 13"), 200),
    ("an upgrade to a WebSocket by a foreign host", head(b"/v1/models", b"Upgrade: websocket", b"Connection: Upgrade", host=b"evil.example"), 403),
    ("a head of 1 MB", head(b"/livez", b"X: " + b"a" * 2**20), 431),
    ("10,000 headers", head(b"/livez", *(b"X-%d: y" % number for number in range(10_000))), 431),
    ("an address of 60,000 characters", head(b"/v1/models/" + b"a" * 60_000), 404),
    ("an address in bare UTF-8", head("/v1/models/电".encode()), 400),
    ("a Range that ends before it begins", head(b"/docs", b"Range: bytes=9-1"), 200),
    ("an Accept of nonsense", head(b"/v1/attention?model=tiny&input=x&layers=0&heads=0", b"Accept: ;;q=NaN,*/*;q=-1,\xff"), 200),
    ("Expect: 100-continue with 99 MB announced", head(TOKENIZE, b"Expect: 100-continue", b"Content-Length: 99999999", method=b"POST"), 413),
    ("Authorization with bytes that are no text", head(b"/v1/models", b"Authorization: Bearer \xff\xfe"), 200),
]  # fmt: skip
BODIES: list[tuple[str, bytes, int]] = [
    ("100,000 nested lists", tokenize(b"[" * 100_000 + b"]" * 100_000), 400),
    ("100,000 nested objects", post(TOKENIZE, b'{"a":' * 100_000 + b"1" + b"}" * 100_000), 400),
    ("a number of 100,000 digits", tokenize(b"9" * 100_000), 400),
    ("NaN for a boolean", post(TOKENIZE, b'{"model": "tiny", "input": "x", "truncate": NaN}'), 400),
    ("Infinity for a whole number", post(b"/v1/embeddings", b'{"model": "tiny", "input": "x", "dimensions": Infinity}'), 400),
    ("1e999 for a whole number", post(b"/v1/embeddings", b'{"model": "tiny", "input": "x", "dimensions": 1e999}'), 400),
    ("NaN as temperature", post(b"/v1/completions", b'{"model": "tiny", "prompt": "x", "temperature": NaN}'), 400),
    ("a model named twice", post(TOKENIZE, b'{"model": "x", "model": "tiny", "input": "x"}'), 200),
    ("bytes that are not UTF-8", tokenize(b'"\xff\xfe"'), 400),
    ("half of a surrogate pair in a text", tokenize(rb'"a\ud800b"'), 400),
    ("half of a surrogate pair in a list", post(b"/v1/embeddings", rb'{"model": "tiny", "input": ["a", "\udfff"]}'), 400),
    ("half of a surrogate pair as a model's name", post(TOKENIZE, rb'{"model": "\ud800", "input": "x"}'), 400),
    ("half of a surrogate pair in a job's metadata", post(b"/v1/fine_tuning/jobs", rb'{"model": "tiny", "training_file": "f", "metadata": {"a": "\ud800"}}'), 400),
    ("NUL in a text", tokenize(rb'"a\u0000b"'), 200),
    ("a text of 200,000 words", tokenize(b'"' + b"a " * 200_000 + b'"'), 400),
    ("a text of a million words, to be cut", tokenize(b'"' + b"a " * 1_000_000 + b'", "truncate": true'), 200),
    ("a word of a million letters", tokenize(b'"' + b"a" * 1_000_000 + b'"'), 200),
    ("2,048 texts of 500 words each", tokenize(b"[" + b",".join([b'"' + b"a " * 500 + b'"'] * 2_048) + b']'), 400),
    ("a body compressed by gzip", post(TOKENIZE, gzip.compress(b'{"model": "tiny", "input": "x"}'), b"Content-Encoding: gzip"), 400),
    ("a bomb: 64 MB of zeros as gzip", post(TOKENIZE, gzip.compress(bytes(2**26)), b"Content-Encoding: gzip"), 400),
    ("XML with an external entity", post(TOKENIZE, b'<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><a>&x;</a>', kind=b"application/xml"), 415),
    ("a form in the place of JSON", post(TOKENIZE, b"model=tiny&input=x", kind=b"application/x-www-form-urlencoded"), 415),
]  # fmt: skip
NAMES: list[tuple[str, bytes, int]] = [
    *((f"the model {name.decode(errors='replace')}", head(b"/v1/models/" + name), 404) for name in (
        b"../../etc/passwd", b"%2e%2e%2f%2e%2e%2fetc%2fpasswd", b"..%5c..%5cwindows", b"%2fetc%2fpasswd", b"%00", b"CON", b"%ef%bc%8e%ef%bc%8e%ef%bc%8fetc",
        b"%c0%ae%c0%ae%c0%af", b"%ed%a0%80", b"*", b":", b"%ef%bd%94iny",
    )),
    ("a model's name with a line break", post(TOKENIZE, rb'{"model": "a\r\nX-Evil: 1", "input": "x"}'), 404),
    ("a model's name of 1 MB", post(TOKENIZE, b'{"model": "' + b"a" * 2**20 + b'", "input": "x"}'), 404),
    ("the alias ../x", post(b"/v1/models/tiny/promote", b'{"alias": "../x"}'), 400),
    ("an alias with NUL", post(b"/v1/models/tiny/promote", rb'{"alias": "a\u0000"}'), 400),
    ("the job ..", head(b"/v1/fine_tuning/jobs/%2e%2e"), 404),
    ("the events of the job ../x", head(b"/v1/fine_tuning/jobs/..%2fx/events"), 404),
    ("the checkpoint ../../store", post(TOKENIZE, b'{"model": "ft:tiny:vitrine::x:ckpt-step-../../store", "input": "x"}'), 404),
    ("the file with an absolute path", head(b"/v1/files/%2fetc%2fpasswd/content"), 404),
    ("the training file ../../vitrine.sqlite", post(b"/v1/fine_tuning/jobs", b'{"model": "tiny", "training_file": "../../vitrine.sqlite"}'), 404),
    ("a part of the page above its folder", head(b"/ui/..%2f..%2f..%2fsettings.py"), 404),
    ("the same, unencoded", head(b"/ui/../../../settings.py"), 404),
    ("a page that begins after NUL", head(b"/v1/files?after=%00"), 404),
    ("a limit of 24 digits", head(b"/v1/files?limit=" + b"9" * 24), 400),
    ("metadata by a name of NUL", head(b"/v1/fine_tuning/jobs?metadata[%00]=%00"), 200),
]  # fmt: skip
FORMS: list[tuple[str, bytes, int]] = [
    ("no boundary", upload((FILE % b"a", ROWS), PURPOSE, kind=b"multipart/form-data"), 400),
    ("an empty boundary", upload((FILE % b"a", ROWS), PURPOSE, kind=b"multipart/form-data; boundary="), 400),
    ("a boundary of 10,000 letters", upload((FILE % b"a", ROWS), PURPOSE, kind=b"multipart/form-data; boundary=" + b"b" * 10_000, boundary=b"b" * 10_000), 400),
    ("another boundary than announced", upload((FILE % b"a", ROWS), PURPOSE, boundary=b"other"), 400),
    ("a form that breaks off in its file", upload(PURPOSE, (FILE % b"a", ROWS), end=False), 400),
    ("a form that breaks off in a header", post(b"/v1/files", b"--edge\r\nContent-Dispo", kind=MULTIPART), 400),
    ("5,000 fields", upload(*((b'Content-Disposition: form-data; name="x%d"' % number, b"y") for number in range(5_000))), 400),
    ("two files", upload((FILE % b"a", ROWS), (FILE % b"b", ROWS), PURPOSE), 400),
    ("a part with a header of 2 MB", upload((FILE % b"a" + b"\r\nX: " + b"a" * 2_000_000, ROWS), PURPOSE), 400),
    ("a part with 20,000 headers", upload((FILE % b"a" + b"".join(b"\r\nX-%d: y" % number for number in range(20_000)), ROWS), PURPOSE), 400),
    ("a part without a name", upload((b'Content-Disposition: form-data; filename="a"', ROWS), PURPOSE), 400),
    ("a part without a disposition", upload((b"Content-Type: text/plain", ROWS), PURPOSE), 400),
    ("the file as a field", upload((FILE[:-14], ROWS), PURPOSE), 400),
    ("the purpose as a file", upload((FILE % b"a", ROWS), (PURPOSE[0] + b'; filename="p"', b"fine-tune")), 400),
    ("two purposes", upload((FILE % b"a", ROWS), PURPOSE, (PURPOSE[0], b"vision")), 400),
    ("a nested name", upload((b'Content-Disposition: form-data; name="file[0][x]"; filename="a"', ROWS), PURPOSE), 400),
    ("a field of 2 MB", upload((PURPOSE[0], b"x" * 2_000_000), (FILE % b"a", ROWS)), 400),
    ("1 MB before the first part", post(b"/v1/files", b"x" * 2**20 + b"\r\n" + form((FILE % b"a", ROWS), PURPOSE), kind=MULTIPART), 400),
    ("a form compressed by gzip", post(b"/v1/files", gzip.compress(form((FILE % b"a", ROWS), PURPOSE)), b"Content-Encoding: gzip", kind=MULTIPART), 400),
    ("a lifetime in Arabic digits", upload((FILE % b"a", ROWS), PURPOSE, (b'Content-Disposition: form-data; name="expires_after[anchor]"', b"created_at"), (b'Content-Disposition: form-data; name="expires_after[seconds]"', "٣٦٠٠".encode())), 400),
]  # fmt: skip
ALL = [("HTTP", *row) for row in HTTP] + [("JSON", *row) for row in BODIES] + [("name", *row) for row in NAMES]
ALL += [("upload", *row) for row in FORMS]


@pytest.mark.parametrize("kind", ["HTTP", "JSON", "name", "upload"])
def test_what_no_client_sends_gets_its_status_in_our_envelope(service: Service, faults: Faults, kind: str) -> None:
    wrong = []
    for _, name, sent, wanted in (row for row in ALL if row[0] == kind):
        answer = ask(service.port, sent)
        faults.saw(f"{kind}: {name}", answer)
        if status(answer) != wanted or (wanted >= 400 and not _has_envelope(answer)):
            wrong.append((name, wanted, answer[:300]))
    assert not wrong
    assert httpx.get(f"{service.url}/readyz", timeout=60).status_code == 200


def _has_envelope(answer: bytes) -> bool:
    lines, _, body = answer.partition(b"\r\n\r\n")
    return b"x-request-id: req-" in lines and set(json.loads(body)["error"]) == {"message", "type", "param", "code"}


def test_a_request_within_a_request_is_not_answered(service: Service, faults: Faults) -> None:
    """Of all that could be smuggled, only the outer one was ever answered."""
    answered = [ask(service.port, sent) for _, sent, _ in HTTP if sent.endswith(head(b"/metrics"))]
    assert len(answered) >= 9
    assert not any(b"vitrine_requests_total" in answer for answer in answered)
    faults.saw(
        f"{len(answered)} requests hidden in the bodies of others",
        f"{sum(answer.count(b'HTTP/1.1 ') for answer in answered)} answers, none of them to the hidden ones",
    )


FILE_NAMES = [
    b"../../../../etc/cron.d/x", b"C:\\\\windows\\\\CON", b"a\0b.jsonl", b"a%0d%0aX-Evil: 1", b"<script>alert(1)</script>", b"\xff\xfe", "\u202egpj.exe".encode(),
    b"x" * 3_000, b".", b"..", b"/",
]  # fmt: skip


def test_a_file_s_name_stays_a_name(service: Service, faults: Faults) -> None:
    """It reaches neither the disk nor the headers of an answer as more than a quoted word without folders."""
    for name in FILE_NAMES:
        answer = ask(service.port, upload((FILE % name, ROWS), PURPOSE))
        assert status(answer) == 200, answer
        made = json.loads(answer.partition(b"\r\n\r\n")[2])
        content = httpx.get(f"{service.url}/v1/files/{made['id']}/content", timeout=60)
        disposition = content.headers["content-disposition"]
        assert content.content == ROWS
        assert "x-evil" not in content.headers
        assert disposition.startswith("attachment; ")
        assert not set(made["filename"]) & set("/\\\0")
        assert content.headers["content-type"] == "application/octet-stream"
        faults.saw(
            f"the file name {name[:40].decode(errors='replace')}",
            f"200, kept as {made['filename'][:40]!r}, sent back as {disposition[:80]}",
        )
        httpx.delete(f"{service.url}/v1/files/{made['id']}", timeout=60)
    assert {path.name[:5] for path in (service.home / "files").iterdir()} <= {"file-"}


def test_clients_that_leave_cost_nothing(service: Service, faults: Faults) -> None:
    """Amid an upload, amid a body, before the answer, half closed; and a pipeline of a thousand requests."""
    files = service.home / "files"
    before = set(files.iterdir())
    whole = upload(PURPOSE, (FILE % b"a", ROWS * 1_000))
    for name, part in (
        ("an upload", whole[: len(whole) // 2]),
        ("a body", tokenize(b'"x"')[:-5]),
        ("a head", whole[:40]),
    ):
        for _ in range(20):
            with open_to(service.port) as connection:
                connection.sendall(part)
        answer = httpx.post(f"{service.url}/v1/tokenize", json={"model": "tiny", "input": "x"}, timeout=60)
        assert answer.status_code == 200
        assert set(files.iterdir()) == before
        faults.saw(
            f"20 clients that leave amid {name}",
            f"the next request: {answer.status_code}; files left behind: {len(set(files.iterdir()) - before)}",
        )
    assert "[ERROR]" not in (service.home / "service.log").read_text()
    with open_to(service.port) as connection:
        connection.sendall(tokenize(b'"x"'))
        connection.shutdown(socket.SHUT_WR)
        answer_bytes = read_all(connection)
    faults.saw("a client that closes its half after the request", answer_bytes or b"")
    answer_bytes = ask(service.port, head(b"/livez", close=False) * 999 + head(b"/livez"))
    assert answer_bytes.count(b"HTTP/1.1 200 OK") == 1_000
    faults.saw("1,000 requests in one pipeline", f"{answer_bytes.count(b'HTTP/1.1 200 OK'):,} answers of 200")


def test_a_flood_of_idle_connections_leaves_the_service_to_others(service: Service, faults: Faults) -> None:
    """Within what this process and the service may open; all are closed again."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    wanted = min(IDLE, hard - 1_000)
    assert service.process is not None
    before = _private_bytes(service.process.pid)
    with contextlib.ExitStack() as stack:
        began = time.monotonic()
        for number in range(wanted):
            stack.enter_context(open_to(service.port, f"127.0.0.{2 + number // A_SOURCE}"))
        reached = sum(1 for one in psutil.net_connections("tcp4") if one.laddr.port == service.port and one.status == "ESTABLISHED")  # fmt: skip
        times = []
        for _ in range(20):
            asked = time.monotonic()
            answer = httpx.post(f"{service.url}/v1/tokenize", json={"model": "tiny", "input": "x"}, timeout=60)
            assert answer.status_code == 200
            times.append(time.monotonic() - asked)
        grown = _private_bytes(service.process.pid) - before
        seconds = time.monotonic() - began
    assert reached >= 0.9 * wanted
    assert grown / reached < 64 * 1024
    faults.saw(
        f"{wanted:,} idle connections",
        f"{reached:,} open, {max(0, grown) / reached / 1024:.1f} KiB more each; 20 of 20 requests answered beside them, the slowest in {1000 * max(times):.0f} ms",
        seconds,
    )


def _private_bytes(pid: int) -> int:
    """Of a process and its children."""
    family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    return sum(process.memory_full_info().uss for process in family)


def test_secrets_are_in_no_log_and_no_answer(closed_service: tuple[Service, dict[str, str]], faults: Faults) -> None:
    """Known keys and passwords go wherever a client can put them, most of it wrong; then everything written is searched."""
    service, keys = closed_service
    own = {"authorization": f"Bearer {keys['ann']}"}
    planted = {
        "a made-up key": "vt-planted-5f7a2c9e41d08b36",
        "a password": "planted-pa55word-91c3",
        "a text": "planted text 7be2 of a user",
    }
    key, password, text = planted.values()
    hook = {"name": "mine", "url": "http://127.0.0.1:9/hook", "event_types": ["fine_tuning.job.succeeded"]}
    made = httpx.post(f"{service.url}/v1/webhook_endpoints", headers=own, json=hook, timeout=60)
    assert made.status_code == 200, made.text
    planted["a webhook's secret"] = made.json()["signing_secret"]
    planted |= {f"{name}'s API key": value for name, value in keys.items()}
    calls: list[tuple[str, str, dict[str, Any]]] = [
        ("GET", "/v1/models", {"headers": {"authorization": f"Bearer {key}"}}),
        ("GET", "/v1/models", {"headers": {"authorization": f"Basic {key}"}}),
        ("GET", "/v1/models", {"headers": {"cookie": f"vitrine={key}"}}),
        ("GET", f"/v1/models?api_key={key}", {}),
        ("GET", f"/v1/files/{key}", {"headers": own}),
        ("POST", "/login", {"json": {"key": key}}),
        ("POST", "/login", {"data": {"key": key}}),
        ("POST", "/v1/tokenize", {"headers": own, "json": {"model": "tiny", "input": text, "password": password}}),
        ("POST", "/v1/tokenize", {"headers": own, "content": f'{{"model": "{password}'.encode()}),
        ("POST", "/v1/embeddings", {"headers": own, "json": {"model": "tiny", "input": [text] * 3}}),
        ("POST", "/v1/webhook_endpoints", {"headers": own, "json": hook | {"url": f"http://user:{password}@127.0.0.1/"}}),
        ("POST", f"/v1/webhook_endpoints/{made.json()['id']}/test", {"headers": own, "json": {"event_type": "fine_tuning.job.succeeded"}}),
        ("DELETE", f"/v1/files/{password}", {"headers": {"authorization": f"Bearer {keys['bob asks']}"}}),
    ]  # fmt: skip
    statuses = [
        httpx.request(method, service.url + path, timeout=60, **options).status_code for method, path, options in calls
    ]
    assert 401 in statuses
    assert not [status for status in statuses if status >= 500]
    ask(service.port, head(b"/v1/models", b"Authorization: Bearer " + key.encode(), b"Bad : header"))
    metrics = httpx.get(f"{service.url}/metrics", timeout=60).content
    written = {"the log": (service.home / "service.log").read_bytes(), "the metrics": metrics}
    stored = {str(path.relative_to(service.home)): path.read_bytes() for path in _state(service)}
    for name, secret in planted.items():
        found = [where for where, content in written.items() if secret.encode() in content]
        kept = [where for where, content in stored.items() if secret.encode() in content]
        assert not found, (name, found)
        expected = name == "a webhook's secret"  # which signs, so that it must be kept, in the store alone
        audited = name in ("a made-up key", "a password")  # in a path a client has chosen
        assert all(
            (where.startswith("vitrine.sqlite") and expected) or (where == "audit.jsonl" and audited) for where in kept
        ), (name, kept)
        faults.saw(
            f"{name} in {len(calls)} requests, {sum(status >= 400 for status in statuses)} of them refused",
            f"found in {', '.join(kept) or 'no file'}, log or metric searched: {len(written) + len(stored)}",
        )
    httpx.delete(f"{service.url}/v1/webhook_endpoints/{made.json()['id']}", headers=own, timeout=60)


def _state(service: Service) -> Iterator[Any]:
    for path in service.home.rglob("*"):
        if (
            path.is_file()
            and path.stat().st_size < 2**24
            and not {"bentoml", "cache"} & set(path.relative_to(service.home).parts)
        ):
            yield path

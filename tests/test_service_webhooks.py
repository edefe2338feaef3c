"""Webhooks: signed as the client checks them, repeated until taken, told of what happened and of nothing else, and never
sent into a private network unless that is allowed."""

import contextlib
import itertools
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import openai
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from sqlalchemy import select

from service.database import Database, sqlite_url
from service.errors import Busy, Conflict, InvalidRequest, NotFound, Unreachable
from service.ids import new_id
from service.jobs.announce import EVENT_TYPES
from service.jobs.errands import Errands
from service.jobs.store import JobStore
from service.settings import Settings
from service.tables import Job, WebhookDelivery, WebhookEndpoint
from service.webhooks import BACK_OFF_SECONDS, Attempts, WebhookStore, _address, check_url, deliver, send
from tests.conftest import wait_for
from tests.faults import Faults
from tests.house import House, house, made_house
from tests.test_service_jobs_store import Clock

__all__ = ["house"]  # a fixture


class Listener:
    """A real web server on loopback that keeps what it is sent; `answers` are its statuses, the last one for ever."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.received: list[tuple[dict[str, str], bytes]] = []
        self.answers = [200]
        listener = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                listener.received.append(({name.lower(): value for name, value in self.headers.items()}, body))
                status = listener.answers.pop(0) if len(listener.answers) > 1 else listener.answers[0]
                self.send_response(status)
                if status in (301, 307):
                    self.send_header("location", listener.url + "/elsewhere")
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self.url = f"{'https' if tls else 'http'}://localhost:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class Endless:
    """A server on loopback that takes a request and then does with its connection as it is told, until we close it or
    `ends` is set."""

    def __init__(self, what: Callable[["Endless", socket.socket], None]) -> None:
        self._what = what
        self.ends = threading.Event()
        self.calls = 0
        self.closed = threading.Event()  # by us, one of the calls
        self.bytes_sent = 0
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://localhost:{self._socket.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def send(self, connection: socket.socket, content: bytes) -> None:
        connection.sendall(content)
        self.bytes_sent += len(content)

    def close(self) -> None:
        self.ends.set()
        self._socket.close()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._socket.accept()
                self.calls += 1
                threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with connection:
            try:
                connection.recv(65_536)
                self._what(self, connection)
                self.send(connection, b"\r\n\r\n")
            except OSError:
                self.closed.set()


def drips(before: bytes, drip: bytes) -> Callable[[Endless, socket.socket], None]:
    """For twenty seconds and more: longer than a test's attempt may take."""

    def run(server: Endless, connection: socket.socket) -> None:
        server.send(connection, before)
        for _ in range(200):
            if server.ends.wait(0.1):
                return
            server.send(connection, drip)

    return run


def floods(server: Endless, connection: socket.socket) -> None:
    server.send(connection, b"HTTP/1.1 200 OK\r\n\r\n")
    for _ in range(300):
        server.send(connection, b"x" * 1_000_000)


def says_nothing(server: Endless, connection: socket.socket) -> None:
    while not server.ends.is_set():
        connection.settimeout(0.1)
        with contextlib.suppress(TimeoutError):
            if not connection.recv(1):
                raise ConnectionError("closed by us")


@contextlib.contextmanager
def endless(what: Callable[[Endless, socket.socket], None]) -> Iterator[Endless]:
    server = Endless(what)
    try:
        yield server
    finally:
        server.close()


@pytest.fixture
def listener() -> Iterator[Listener]:
    made = Listener()
    yield made
    made.close()


@pytest.fixture
def stores(database_url: str) -> Iterator[tuple[JobStore, WebhookStore]]:
    clock = Clock()
    clock.now = __import__("time").time()  # signatures have a date that the client looks at
    jobs, hooks = JobStore(Database(database_url), clock), WebhookStore(Database(database_url), clock)
    yield jobs, hooks
    jobs._database.close()
    hooks._database.close()


def deliver_once(hooks: WebhookStore, private_allowed: bool) -> bool:
    """Makes one delivery that is due; False when there was none."""
    due = hooks.take_due(30)
    if due is not None:
        deliver(hooks, *due, private_allowed)
    return due is not None


def add_job(store: JobStore, owner: str = "ann") -> str:
    file_id = new_id("file")
    own = store.of(owner)
    own.add_file(file_id, "rows.jsonl", 10, "fine-tune")
    store.set_file_checked(file_id, [], [], ["a", "b"], 10)
    job = Job(id=new_id("ftjob"), model="m", training_file=file_id, seed=0, hyperparameters={}, priority=0)
    return own.create_job(job, 100, None).id


def test_each_end_of_a_job_is_told_and_the_clients_own_check_accepts_it(
    stores: tuple[JobStore, WebhookStore], listener: Listener
) -> None:
    jobs, hooks = stores
    endpoint = hooks.create("ann", "all", listener.url + "/hook?x=1", EVENT_TYPES)
    hooks.create("bob", "not his", listener.url, EVENT_TYPES)
    ended = [add_job(jobs) for _ in range(3)]
    for _ in ended[:2]:
        jobs.claim_job("w", 60)
    jobs.succeed(ended[0], "w", "ft:m", {}, 1)
    jobs.fail(ended[1], "w", "x", "y")
    jobs.cancel_job(ended[2])
    assert not jobs.fail(ended[0], "w", "x", "y"), "no second end"
    while deliver_once(hooks, private_allowed=True):
        pass
    client = openai.OpenAI(api_key="none", webhook_secret=endpoint.secret)
    told = [client.webhooks.unwrap(body, headers) for headers, body in listener.received]
    assert [(event.type, event.data.id) for event in told] == [  # type: ignore[union-attr]
        (f"fine_tuning.job.{state}", job_id)
        for state, job_id in zip(("succeeded", "failed", "cancelled"), ended, strict=True)
    ]
    assert len({event.id for event in told}) == 3
    assert listener.received[0][0]["host"] == listener.url.removeprefix("http://")
    headers, body = listener.received[0]
    with pytest.raises(openai.InvalidWebhookSignatureError):
        client.webhooks.unwrap(body.replace(b"succeeded", b"cancelled"), headers)
    with pytest.raises(openai.InvalidWebhookSignatureError):
        client.webhooks.unwrap(body, headers, secret="whsec_AAAA")


def test_a_delivery_is_repeated_with_longer_and_longer_waits_and_then_given_up(
    stores: tuple[JobStore, WebhookStore], listener: Listener
) -> None:
    jobs, hooks = stores
    clock = hooks.clock
    assert isinstance(clock, Clock)
    hooks.create("ann", "all", listener.url, ["fine_tuning.job.cancelled"])
    jobs.cancel_job(add_job(jobs))
    listener.answers = [500, 429, 200]
    for wait in BACK_OFF_SECONDS[:2]:
        assert deliver_once(hooks, True)
        assert not deliver_once(hooks, True), "not again at once"
        clock.now += wait - 1
        assert not deliver_once(hooks, True)
        clock.now += 2
    assert deliver_once(hooks, True)
    clock.now += 10 * 86_400
    assert not deliver_once(hooks, True), "taken"
    assert len({headers["webhook-id"] for headers, _ in listener.received}) == 1, (
        "the same event, so that it counts once"
    )
    assert len(listener.received) == 3
    listener.received.clear()
    listener.answers = [503]
    jobs.cancel_job(add_job(jobs))
    for attempt in itertools.count():
        if not deliver_once(hooks, True):
            break
        clock.now += 2 * 86_400
        assert attempt < 20
    assert len(listener.received) == len(BACK_OFF_SECONDS) + 1


def test_an_attempt_that_a_killed_worker_never_ended_is_made_again_and_not_by_two_at_once(
    stores: tuple[JobStore, WebhookStore], listener: Listener
) -> None:
    jobs, hooks = stores
    hooks.create("ann", "all", listener.url, EVENT_TYPES)
    jobs.cancel_job(add_job(jobs))
    assert hooks.take_due(30) is not None
    assert hooks.take_due(30) is None
    hooks.clock.now += 31  # type: ignore[attr-defined]
    assert deliver_once(hooks, True)
    assert len(listener.received) == 1


def test_a_private_address_is_called_only_when_that_is_allowed(
    stores: tuple[JobStore, WebhookStore], listener: Listener, monkeypatch: pytest.MonkeyPatch, faults: Faults
) -> None:
    jobs, hooks = stores
    hooks.create("ann", "inside", listener.url, EVENT_TYPES)
    jobs.cancel_job(add_job(jobs))
    assert deliver_once(hooks, private_allowed=False)
    assert listener.received == []
    private = [
        "127.0.0.1", "10.1.2.3", "192.168.0.1", "172.16.0.1", "169.254.169.254", "0.0.0.0", "100.64.0.1", "224.0.0.1",
        "::1", "fe80::1", "fd00::1", "::ffff:10.0.0.1", "2002:7f00:1::",
    ]  # fmt: skip
    for address in private:
        found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 443))]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, found=found, **__: found)
        with pytest.raises(Unreachable, match="a private address; VITRINE_WEBHOOK_PRIVATE=true allows") as refused:
            _address("hook.example", 443, False)
        faults.saw(f"a webhook whose name is the address {address}", f"not called: {refused.value}")
    mixed = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (one, 443)) for one in ("93.184.216.34", "10.0.0.1")]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: mixed)
    with pytest.raises(Unreachable):
        _address("hook.example", 443, False)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: mixed[:1])
    assert _address("hook.example", 443, False) == "93.184.216.34"


def test_a_redirect_is_not_followed(stores: tuple[JobStore, WebhookStore], listener: Listener, faults: Faults) -> None:
    jobs, hooks = stores
    hooks.create("ann", "moved", listener.url, EVENT_TYPES)
    jobs.cancel_job(add_job(jobs))
    listener.answers = [307]
    assert deliver_once(hooks, True)
    assert len(listener.received) == 1
    faults.saw("a webhook that redirects elsewhere", f"not followed: {len(listener.received)} call")


@pytest.mark.parametrize("url", ["", "example.com/hook", "ftp://example.com", "https://", "https://me@example.com/", "https://example.com:99999/", "file:///etc/passwd", "https://[::1", "https://e.com/" + "x" * 2000, "https://a..b/", "https://.com/", f"https://{'a' * 64}.com/", "https://e.com/\x01", "https://\u2028/"])  # fmt: skip
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(InvalidRequest, match="send an http"):
        check_url(url)


@pytest.mark.parametrize(
    ("url", "words"), [("https://a..b/", "name that no host"), ("http://127.0.0.1/\x01", "InvalidURL")]
)
def test_an_address_kept_from_before_that_can_not_be_called_counts_its_attempts(
    stores: tuple[JobStore, WebhookStore], url: str, words: str
) -> None:
    jobs, hooks = stores
    kept = hooks.create("ann", "kept", "https://example.com/", EVENT_TYPES)
    with hooks._database.write() as session:
        session.get_one(WebhookEndpoint, kept.id).url = url
    jobs.cancel_job(add_job(jobs))
    assert deliver_once(hooks, True)
    with hooks._database.read() as session:
        (delivery,) = session.scalars(select(WebhookDelivery))
    assert delivery.attempts == 1
    assert words in (delivery.problem or "")


def test_a_name_outside_of_ascii_is_called_as_dns_has_it(
    stores: tuple[JobStore, WebhookStore], listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs, hooks = stores
    hooks.create("ann", "far", listener.url.replace("localhost", "例え.jp"), EVENT_TYPES)
    asked: list[str] = []
    port = urlsplit(listener.url).port
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda host, *_, **__: asked.append(host) or found)
    jobs.cancel_job(add_job(jobs))
    assert deliver_once(hooks, True)
    assert asked[0] == "xn--r8jz45g.jp"
    ((headers, _),) = listener.received
    assert headers["host"] == f"xn--r8jz45g.jp:{port}"


@pytest.mark.parametrize(
    ("what", "scheme", "words"),
    [
        (drips(b"HTTP/1.1 200 OK\r\nx-long: ", b"a"), "http", "has sent no status within 5 s"),
        (drips(b"", b"HTTP/1.1 100 Continue\r\n\r\n"), "http", "has sent no status within 5 s"),
        (drips(b"\x16\x03\x03\x40\x00", b"\x02"), "https", "could not be reached \\(ConnectTimeout\\)"),
        (says_nothing, "http", "has sent no status within 5 s"),
    ],
    ids=["drips a header", "drips whole answers of 1xx", "drips a TLS handshake", "says nothing"],
)
def test_an_attempt_ends_in_time_whatever_the_endpoint_sends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, faults: Faults, request: pytest.FixtureRequest,
    what: Callable[[Endless, socket.socket], None], scheme: str, words: str,
) -> None:  # fmt: skip
    monkeypatch.setattr("service.webhooks.ATTEMPT_SECONDS", 5.0)
    monkeypatch.setattr("service.webhooks.CONNECT_SECONDS", 2.0)
    hooks = WebhookStore(Database(sqlite_url(tmp_path / "store.sqlite")))
    with endless(what) as server:
        endpoint = hooks.create("ann", "mine", server.url.replace("http", scheme), ["batch.completed"])
        with pytest.raises(Unreachable, match=words) as refused:
            send(endpoint, "evt-1", "{}", 0.0, private_allowed=True)
        assert server.closed.wait(60)
        assert not server.ends.is_set()
    hooks._database.close()
    faults.saw(f"a webhook's endpoint that {request.node.callspec.id}", str(refused.value).partition(" ")[2])


@pytest.mark.parametrize("what", [drips(b"HTTP/1.1 200 OK\r\n\r\n", b"."), floods], ids=["drips", "floods"])
def test_the_body_of_an_answer_is_not_read(tmp_path: Path, what: Callable[[Endless, socket.socket], None]) -> None:
    hooks = WebhookStore(Database(sqlite_url(tmp_path / "store.sqlite")))
    with endless(what) as server:
        endpoint = hooks.create("ann", "mine", server.url, ["batch.completed"])
        assert send(endpoint, "evt-1", "{}", 0.0, private_allowed=True) == 200
        assert server.closed.wait(60), "by us, before its end"
        assert server.bytes_sent < 100_000_000
    hooks._database.close()


def test_an_endpoint_that_does_not_answer_holds_up_no_other_owners(
    tmp_path: Path, listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.webhooks.ATTEMPT_SECONDS", 300.0)
    settings = Settings(home=tmp_path, webhook_private=True)
    errands = Errands(settings, Database(settings.database_url))
    hooks, jobs = errands._webhooks, errands.store
    with errands.running(), endless(says_nothing) as server:
        for name in ("first", "second"):
            hooks.create("mallory", name, server.url, EVENT_TYPES)
        hooks.create("ann", "mine", listener.url, EVENT_TYPES)
        for _ in range(10):
            jobs.cancel_job(add_job(jobs, "mallory"))
        for _ in range(2):
            jobs.cancel_job(add_job(jobs, "ann"))
        wait_for(lambda: len(listener.received) == 2, 60)
        assert server.calls == 1, "one at a time for an owner"
        assert not server.closed.is_set(), "which is under way still"
        server.ends.set()
        wait_for(lambda: server.calls > 1, 60)
    jobs._database.close()


def test_tests_of_an_endpoint_that_does_not_answer_take_no_thread_that_others_need(
    tmp_path: Path, listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.webhooks.ATTEMPT_SECONDS", 300.0)
    event = {"event_type": "fine_tuning.job.failed"}
    with made_house(tmp_path, "cpu", webhook_private=True) as house, endless(says_nothing) as server:

        def made(headers: dict[str, str], url: str) -> str:
            body = {"name": "one", "url": url, "event_types": ["fine_tuning.job.failed"]}
            made = house.ask("POST", "/v1/webhook_endpoints", headers, json=body).json()
            return f"/v1/webhook_endpoints/{made['id']}/test"

        slow, quick = made(house.bob, server.url), made(house.ann, listener.url)
        answers: list[Any] = []
        asking = [
            threading.Thread(target=lambda: answers.append(house.ask("POST", slow, house.bob, json=event)))
            for _ in range(40)  # more than asyncio has threads
        ]
        for thread in asking:
            thread.start()
        wait_for(lambda: len(answers) == 39, 60, lambda: len(answers))
        assert {(answer.status_code, answer.headers["retry-after"]) for answer in answers} == {(429, "300")}
        assert house.ask("GET", "/v1/fine_tuning/jobs", house.ann).status_code == 200
        assert house.ask("POST", quick, house.ann, json=event).json()["status_code"] == 200
        assert (len(answers), server.calls) == (39, 1)
        server.ends.set()
        for thread in asking:
            thread.join(60)
        assert house.ask("POST", quick, house.ann, json=event).json()["status_code"] == 200


def test_so_many_endpoints_are_called_at_once_and_one_of_an_owner() -> None:
    attempts, goes_on = Attempts(2), threading.Event()
    begun = [attempts.begin(owner, lambda: goes_on.wait(60)) for owner in ("ann", "bob")]
    with pytest.raises(Busy, match="2 webhook endpoints are being called, which is the limit"):
        attempts.begin("eve", lambda: None)
    with pytest.raises(Busy, match="one of your webhook endpoints is being called"):
        attempts.begin("ann", lambda: None)
    goes_on.set()
    assert [attempt.result(60) for attempt in begun] == [True, True]
    assert attempts.begin("ann", lambda: 5).result(60) == 5
    attempts.close()


def test_a_new_secret_and_for_a_day_the_old_one(stores: tuple[JobStore, WebhookStore], listener: Listener) -> None:
    jobs, hooks = stores
    first = hooks.create("ann", "all", listener.url, EVENT_TYPES)
    old = first.secret
    new = hooks.rotate_secret("ann", first.id, keep_old=True).secret
    assert new != old
    client = openai.OpenAI(api_key="none")

    def good(secret: str) -> bool:
        headers, body = listener.received[-1]
        try:
            client.webhooks.unwrap(body, headers | {"webhook-timestamp": headers["webhook-timestamp"]}, secret=secret)
        except (openai.InvalidWebhookSignatureError, ValueError):
            return False
        return True

    jobs.cancel_job(add_job(jobs))
    assert deliver_once(hooks, True)
    assert (good(new), good(old)) == (True, True)
    newest = hooks.rotate_secret("ann", first.id, keep_old=False).secret
    jobs.cancel_job(add_job(jobs))
    assert deliver_once(hooks, True)
    assert (good(newest), good(new)) == (True, False)


# ---- over HTTP, by the client


def test_the_client_makes_lists_changes_tests_and_deletes_endpoints(house: House, listener: Listener) -> None:
    def ask(method: str, path: str = "", **options: Any) -> Any:
        return house.ask(method, f"/v1/webhook_endpoints{path}", house.ann, **options)

    body = {"name": "here", "url": listener.url, "event_types": ["fine_tuning.job.failed"]}
    made = ask("POST", json=body).json()
    assert made["signing_secret"].startswith("whsec_")
    assert made["signing_secret_hint"] == f"whsec_...{made['signing_secret'][-4:]}"
    shown = ask("GET", f"/{made['id']}").json()
    assert "signing_secret" not in shown
    assert shown["object"] == "webhook_endpoint"
    assert ask("POST", f"/{made['id']}", json={"name": "there"}).json()["name"] == "there"
    assert ask("GET", "?limit=1").json()["has_more"]
    refused = ask("POST", f"/{made['id']}/test", json={"event_type": "fine_tuning.job.failed"})
    assert refused.status_code == 424
    assert "VITRINE_WEBHOOK_PRIVATE" in refused.json()["error"]["message"]
    assert ask("POST", json=body | {"event_types": ["response.completed"]}).status_code == 400
    assert ask("POST", json=body | {"url": "nonsense"}).status_code == 400
    assert ask("DELETE", f"/{made['id']}").json()["deleted"]
    assert ask("GET", f"/{made['id']}").status_code == 404


def test_an_owner_has_so_many_endpoints_and_no_more(tmp_path: Path) -> None:
    hooks = WebhookStore(Database(f"sqlite:///{tmp_path}/store.sqlite"))
    for number in range(20):
        hooks.create("ann", str(number), "https://example.com", EVENT_TYPES)
    with pytest.raises(Conflict, match="the limit is 20; delete some"):
        hooks.create("ann", "more", "https://example.com", EVENT_TYPES)
    with pytest.raises(NotFound):
        hooks.get("bob", hooks.endpoints("ann", None, 1)[0][0].id)
    hooks._database.close()


def certificate_for(name: str, folder: Path) -> Path:
    """A self-signed one, with its key in the same file."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path = folder / f"{name}.pem"
    path.write_bytes(private + made.public_bytes(Encoding.PEM))
    return path


@pytest.mark.parametrize(
    ("name", "known", "delivered"), [("localhost", True, True), ("localhost", False, False), ("elsewhere", True, False)]
)
def test_an_https_endpoint_is_called_at_the_address_looked_at_and_checked_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, known: bool, delivered: bool
) -> None:
    file = certificate_for(name, tmp_path)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(file)
    if known:
        monkeypatch.setenv("SSL_CERT_FILE", str(file))
    listener = Listener(tls)
    database = Database(sqlite_url(tmp_path / "store.sqlite"))
    hooks = WebhookStore(database)
    endpoint = hooks.create("ann", "mine", f"{listener.url}/hook", ["batch.completed"])
    try:
        if delivered:
            assert send(endpoint, "evt-1", "{}", 0.0, private_allowed=True) == 200
            assert listener.received[0][0]["host"] == listener.url.removeprefix("https://")
        else:
            with pytest.raises(Unreachable, match="could not be reached"):
                send(endpoint, "evt-1", "{}", 0.0, private_allowed=True)
            assert not listener.received
    finally:
        listener.close()
        database.close()


def test_deliveries_that_are_done_are_forgotten_in_time(
    stores: tuple[JobStore, WebhookStore], listener: Listener
) -> None:
    jobs, hooks = stores
    hooks.create("ann", "mine", f"{listener.url}/hook", list(EVENT_TYPES))
    jobs.of("ann").cancel_job(add_job(jobs))
    hooks.forget(hooks.clock() + 10)
    assert deliver_once(hooks, private_allowed=True), "what is not done is not forgotten"

    def kept() -> int:
        with hooks._database.read() as session:
            return len(session.scalars(select(WebhookDelivery)).all())

    hooks.forget(hooks.clock() - 10)
    assert kept() == 1
    hooks.forget(hooks.clock() + 10)
    assert kept() == 0

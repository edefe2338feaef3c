"""Keys, sessions and owners: what a key reaches, what nobody else learns, and what a browser may not be made to do."""

import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from service.app import create_app
from service.audit import AuditLog
from service.database import Database, sqlite_url
from service.errors import NotFound
from service.jobs.store import JobStore
from service.keys import KeyStore
from service.settings import Settings
from tests.house import House, house

__all__ = ["house"]  # a fixture

# ---- over HTTP


def test_no_key_no_answer_and_the_clients_own_error(house: House) -> None:
    for headers in (
        {},
        {"authorization": "Bearer vt-wrong"},
        {"authorization": "Basic eDp5"},
        {"authorization": "Bearer "},
    ):
        answer = house.ask("GET", "/v1/models", headers)
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == "Bearer"
        error = answer.json()["error"]
        assert (error["type"], error["code"]) == ("invalid_request_error", "invalid_api_key")
        assert "x-request-id" in answer.headers
    for path in ("/livez", "/", "/docs", "/metrics", "/ui/app.js"):
        assert house.ask("GET", path, {}).status_code == 200, path


def test_every_owner_sees_their_own_and_the_bases(house: House) -> None:
    def ids(path: str, headers: dict[str, str]) -> list[str]:
        return [item["id"] for item in house.ask("GET", path, headers).json()["data"]]

    assert house.file in ids("/v1/files", house.ann)
    assert ids("/v1/files", house.bob) == []
    assert ids("/v1/fine_tuning/jobs", house.ann) == [house.job]
    assert ids("/v1/fine_tuning/jobs", house.bob) == []
    assert set(ids("/v1/models", house.ann)) == {*(f"ft:tiny:vitrine:mood:{number}" for number in (1, 2, 3)), "tiny"}
    for path in ("/v1/aliases", "/v1/webhook_endpoints", "/v1/batches"):
        assert len(ids(path, house.ann)) == 1
        assert ids(path, house.bob) == []
    assert ids("/v1/models", house.bob) == ["tiny"]
    assert house.ask("GET", "/v1/whoami", house.reader).json() == {
        "object": "caller", "owner": "ann", "scopes": ["infer"], "key_id": house.reader_id,
    }  # fmt: skip


def test_jobs_are_found_by_metadata_over_http(house: House) -> None:
    def found(query: str) -> Any:
        return house.ask("GET", f"/v1/fine_tuning/jobs?{query}", house.ann)

    assert [job["id"] for job in found("metadata=null").json()["data"]] == [house.job]
    assert found("metadata[team]=a").json()["data"] == []
    wrong = found("metadata=team")
    assert (wrong.status_code, "metadata[key]=value" in wrong.text) == (400, True)


def by_id(house: House) -> dict[tuple[str, str], tuple[str, dict[str, Any]]]:
    """Each route that takes an id -> what stands for it, and a body."""
    file, job, model, hook = house.file, house.job, house.model, house.webhook
    jobs = "/v1/fine_tuning/jobs/{job_id}"
    text = {"model": model, "input": "red cat"}
    return {
        ("GET", "/v1/files/{file_id}"): (file, {}),
        ("GET", "/v1/files/{file_id}/content"): (file, {}),
        ("GET", "/v1/files/{file_id}/report"): (file, {}),
        ("DELETE", "/v1/files/{file_id}"): (file, {}),
        ("GET", jobs): (job, {}),
        ("GET", f"{jobs}/events"): (job, {}),
        ("GET", f"{jobs}/checkpoints"): (job, {}),
        ("POST", f"{jobs}/cancel"): (job, {}),
        ("POST", f"{jobs}/pause"): (job, {}),
        ("POST", f"{jobs}/resume"): (job, {}),
        ("GET", "/v1/models/{model_id:model}"): (model, {}),
        ("GET", "/v1/models/{model_id:model}/diagram"): (model, {}),
        ("DELETE", "/v1/models/{model_id:model}"): (model, {}),
        ("POST", "/v1/models/{model_id:model}/promote"): (model, {"json": {"alias": "mine"}}),
        ("POST", "/v1/models/{alias}/rollback"): ("moods", {}),
        ("DELETE", "/v1/aliases/{alias}"): ("moods", {}),
        ("GET", "/v1/webhook_endpoints/{endpoint_id}"): (hook, {}),
        ("POST", "/v1/webhook_endpoints/{endpoint_id}"): (hook, {"json": {"name": "other"}}),
        ("DELETE", "/v1/webhook_endpoints/{endpoint_id}"): (hook, {}),
        ("POST", "/v1/webhook_endpoints/{endpoint_id}/rotate_secret"): (hook, {}),
        ("POST", "/v1/webhook_endpoints/{endpoint_id}/test"): (
            hook,
            {"json": {"event_type": "fine_tuning.job.failed"}},
        ),
        ("GET", "/v1/models/{model_id:model}/card"): (model, {}),
        ("GET", "/v1/batches/{batch_id}"): (house.batch, {}),
        ("POST", "/v1/batches/{batch_id}/cancel"): (house.batch, {}),
        ("POST", "/v1/classify"): (model, {"json": text}),
        ("POST", "/v1/embeddings"): (model, {"json": text}),
        ("POST", "/v1/tag"): (model, {"json": text}),
        ("POST", "/v1/fill-mask"): (model, {"json": text}),
        ("POST", "/v1/tokenize"): (model, {"json": text}),
        ("POST", "/v1/attention"): (model, {"json": text}),
        ("GET", "/v1/attention"): (model, {"params": text}),
        ("POST", "/v1/explain"): (model, {"json": text}),
        ("POST", "/v1/trace"): (model, {"json": text}),
        ("POST", "/v1/attention/compare"): (model, {"json": {"left": text, "right": text}}),
        ("POST", "/v1/explain/compare"): (model, {"json": {"left": text, "right": text}}),
        ("POST", "/v1/drift"): (model, {"json": {"models": [model, model], "input": ["a", "b", "c"]}}),
        ("POST", "/v1/completions"): (model, {"json": {"model": model, "prompt": "red"}}),
    }


OTHER_IDS = [  # where an id stands in a query or a body beside those above: method, path, options with ID in them
    ("GET", "/v1/files", {"params": {"after": "FILE"}}),
    ("GET", "/v1/fine_tuning/jobs", {"params": {"after": "JOB"}}),
    ("GET", "/v1/webhook_endpoints", {"params": {"after": "WEBHOOK"}}),
    ("GET", "/v1/batches", {"params": {"after": "BATCH"}}),
    (
        "POST",
        "/v1/batches",
        {"json": {"input_file_id": "FILE", "endpoint": "/v1/classify", "completion_window": "24h"}},
    ),
    ("POST", "/v1/fine_tuning/jobs", {"json": {"model": "tiny", "training_file": "FILE"}}),
    ("POST", "/v1/fine_tuning/jobs", {"json": {"model": "tiny", "training_file": "FILE", "validation_file": "FILE"}}),
    ("POST", "/v1/fine_tuning/jobs", {"json": {"model": "MODEL", "training_file": "FILE"}}),
]


def without_ids(text: str) -> str:
    text = text.replace("'moods'", "ID").replace("'others'", "ID")
    return re.sub(r"(file|ftjob|ft|req|ftevent|we|batch)[-:][-:\w.]+", "ID", text)


def of_an_id(document: dict[str, Any]) -> set[tuple[str, str]]:
    """Method and path of what names a thing in its path, or a model in its body."""
    found = set()
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            content = operation.get("requestBody", {}).get("content", {})
            reference = content.get("application/json", {}).get("schema", {}).get("$ref", "")
            fields = document["components"]["schemas"].get(reference.rpartition("/")[2], {}).get("properties", {})
            if path.startswith("/v1/") and ("{" in path or "model" in fields):
                found.add((method.upper(), path))
    return found


def test_on_every_route_the_things_of_others_are_as_if_they_were_not_there(house: House) -> None:
    """What Bob is told of Ann's is, word for word, what he is told of a thing that never was."""
    table = by_id(house)
    asked_by_id = {
        item for item in of_an_id(house.app.openapi()) if item[1] not in ("/v1/fine_tuning/jobs", "/v1/batches")
    }
    assert len(asked_by_id) > 30, "else this test shows nothing"
    assert asked_by_id <= {(method, path.replace(":model", "")) for method, path in table}
    strangers = {house.file: "file-" + "0" * 24, house.job: "ftjob-" + "0" * 24, house.model: "ft:tiny:vitrine:none:0"}
    strangers |= {house.webhook: "we-" + "0" * 24, house.batch: "batch-" + "0" * 24, "moods": "others"}
    for (method, path), (own, options) in table.items():
        answers = []
        for name in (own, strangers[own]):
            filled = re.sub(r"\{\w+(:model)?\}", name, path)
            given = json.loads(json.dumps(options).replace(own, name))
            answers.append(house.ask(method, filled, house.bob, **given))
        theirs, none = answers
        assert theirs.status_code == none.status_code == 404, (method, path, theirs.text)
        assert without_ids(theirs.text) == without_ids(none.text), (method, path)
        assert "ann" not in theirs.text
    for method, path, options in OTHER_IDS:
        answers = []
        for names in (list(strangers), list(strangers.values())):
            given = json.dumps(options)
            for word, name in zip(("FILE", "JOB", "MODEL", "WEBHOOK", "BATCH"), names, strict=False):
                given = given.replace(word, name)
            answers.append(house.ask(method, path, house.bob, **json.loads(given)))
        theirs, none = answers
        assert theirs.status_code == none.status_code == 404, (method, path, theirs.text)
        assert without_ids(theirs.text) == without_ids(none.text)
    for path in (f"/v1/files/{house.file}", f"/v1/fine_tuning/jobs/{house.job}", f"/v1/models/{house.model}"):
        assert house.ask("GET", path, house.ann).status_code == 200, "and Ann still has them"
    assert house.ask("GET", f"/v1/fine_tuning/jobs/{house.job}", house.ann).json()["status"] == "validating_files"
    assert house.ask("POST", "/v1/classify", house.ann, json={"model": house.model, "input": "red"}).status_code == 200
    resident = house.ask("POST", "/v1/classify", house.bob, json={"model": house.model, "input": "red"})
    assert resident.status_code == 404, "in memory or not"


def test_a_key_that_may_only_ask_changes_nothing(house: House) -> None:
    assert (
        house.ask("POST", "/v1/classify", house.reader, json={"model": house.model, "input": "red"}).status_code == 200
    )
    assert house.ask("GET", f"/v1/files/{house.file}", house.reader).status_code == 200
    for method, path in (
        ("DELETE", f"/v1/files/{house.file}"),
        ("POST", f"/v1/fine_tuning/jobs/{house.job}/cancel"),
        ("DELETE", f"/v1/models/{house.model}"),
        ("POST", "/v1/files"),
    ):
        answer = house.ask(method, path, house.reader)
        assert answer.status_code == 403, path
        assert "lacks the scope 'train'; it has infer" in answer.json()["error"]["message"]
        assert answer.json()["error"]["code"] == "insufficient_permissions"


# ---- a browser


def key_of(headers: dict[str, str]) -> str:
    return headers["authorization"].removeprefix("Bearer ")


def test_a_browser_logs_in_and_out_with_a_cookie_no_script_reads(house: House) -> None:
    client = house.client
    assert client.post("/login", json={"key": "vt-wrong"}).status_code == 401
    answer = client.post("/login", json={"key": key_of(house.ann)})
    assert answer.status_code == 204
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert key_of(house.ann) not in cookie
    assert client.get("/v1/whoami").json()["owner"] == "ann"
    assert client.get(f"/v1/files/{house.file}/content").status_code == 200
    here = {"origin": "http://localhost"}
    for headers in ({}, {"origin": "http://localhost:8080"}, {"origin": "null"}):
        answer = client.post(f"/v1/fine_tuning/jobs/{house.job}/pause", headers=headers)
        assert answer.status_code == 403, headers
        assert "is not this service" in answer.text or "is not allowed" in answer.text
    assert client.post(f"/v1/fine_tuning/jobs/{house.job}/pause", headers=here).json()["status"] == "paused"
    assert client.post(f"/v1/fine_tuning/jobs/{house.job}/resume", headers=here).status_code == 200
    token = client.cookies["vitrine_session"]
    assert client.post("/logout").status_code == 204
    assert "vitrine_session" not in client.cookies
    stolen = client.get("/v1/whoami", headers={"cookie": f"vitrine_session={token}"})
    assert stolen.status_code == 401, "the session is over, not only forgotten by the browser"


def test_what_was_changed_and_who_was_refused_is_in_the_audit_log(house: House) -> None:
    before = len(house.settings.audit_log.read_text().splitlines())
    refused = house.ask("DELETE", f"/v1/files/{house.file}", house.reader)
    unknown = house.ask("GET", "/v1/models", {"authorization": "Bearer vt-wrong"})
    missed = house.ask("DELETE", "/v1/files/file-none", house.ann)
    house.ask("GET", "/v1/models", house.ann)
    house.ask("POST", "/v1/tokenize", house.ann, json={"model": "tiny", "input": "a private text"})
    text = house.settings.audit_log.read_text()
    lines = [json.loads(line) for line in text.splitlines()[before:]]
    assert [(line["owner"], line["method"], line["status"]) for line in lines] == [
        (None, "DELETE", 403), (None, "GET", 401), ("ann", "DELETE", 404),
    ]  # fmt: skip
    assert [line["request"] for line in lines] == [one.headers["x-request-id"] for one in (refused, unknown, missed)]
    assert "private text" not in text
    assert key_of(house.ann) not in text
    assert house.settings.audit_log.stat().st_mode & 0o077 == 0


def test_a_flood_of_strangers_does_not_fill_the_disk(tmp_path: Path) -> None:
    log = AuditLog(tmp_path / "audit.jsonl")
    stranger = {"type": "http", "method": "GET", "path": "/v1/models", "client": ("10.0.0.1", 1)}
    for _ in range(500):
        log.write("req-1", stranger, 401)
    log.write("req-2", stranger | {"method": "DELETE", "path": "/v1/files/file-1"}, 200)
    lines = [json.loads(line) for line in (tmp_path / "audit.jsonl").read_text().splitlines()]
    refused = len(lines) - 1
    assert 60 <= refused < 500, "sixty a minute, whatever minutes turned"
    assert lines[-1]["status"] == 200, "what was changed is always there"
    assert sum(line.get("refused_and_left_out", 0) for line in lines) == 500 - refused


# ---- limits


def test_an_owner_over_the_rate_or_the_room_is_told_so_and_others_are_not(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "home", run_worker=False, requests_per_minute=5, max_owner_bytes=100)
    store = KeyStore(Database(settings.database_url))
    headers = [{"authorization": f"Bearer {store.create(owner)[1]}"} for owner in ("ann", "bob")]
    store._database.close()
    app, gate = create_app(settings)
    app.state.auth._clock = lambda: 1_000.0  # else the allowance grows while this goes on
    with TestClient(gate, base_url="http://localhost") as client:
        sizes = []
        for size in (60, 60, 30):
            upload = {"file": ("rows.jsonl", io.BytesIO(b"x" * size)), "purpose": (None, "fine-tune")}
            sizes.append(client.post("/v1/files", headers=headers[0], files=upload))
        assert [answer.status_code for answer in sizes] == [200, 413, 200]
        assert "has files of 60 bytes, 60 more would pass the limit of 100; delete some" in sizes[1].text
        assert len(list(settings.files.glob("file-*"))) == 2
        answers = [client.get("/v1/models", headers=headers[0]) for _ in range(3)]
        assert [answer.status_code for answer in answers] == [200, 200, 429]
        assert int(answers[2].headers["retry-after"]) in range(1, 14)
        assert answers[2].json()["error"]["code"] == "rate_limit_exceeded"
        assert client.get("/v1/models", headers=headers[1]).status_code == 200


def test_a_rate_below_one_a_minute_lets_one_through(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "home", run_worker=False, requests_per_minute=1, api_workers=4)
    store = KeyStore(Database(settings.database_url))
    headers = {"authorization": f"Bearer {store.create('ann')[1]}"}
    store._database.close()
    _, gate = create_app(settings)
    with TestClient(gate, base_url="http://localhost") as client:
        assert [client.get("/v1/models", headers=headers).status_code for _ in range(2)] == [200, 429]


def test_an_open_service_answers_its_own_machine_alone(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "home", run_worker=False, allowed_hosts="*")
    for address, status in (("127.0.0.1", 200), ("[::1]", 200), ("192.168.1.7", 403), ("[fd00::7]", 403)):
        _, gate = create_app(settings)
        with TestClient(gate, base_url=f"http://{address}") as client:
            answer = client.get("/v1/models")
            assert answer.status_code == status, address
            assert status == 200 or "VITRINE_FIRST_KEY_OWNER=NAME" in answer.text


def test_a_container_shows_its_first_key_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = Settings(home=tmp_path / "home", run_worker=False, first_key_owner="admin")
    for shown in (True, False):
        _, gate = create_app(settings)
        with TestClient(gate, base_url="http://192.168.1.7", headers={"host": "localhost"}) as client:
            found = re.search(r"API key of admin, shown this once: (vt-\S+)", capsys.readouterr().out)
            assert bool(found) == shown
            if found:
                key = found[1]
            assert client.get("/v1/models").status_code == 401
            assert client.get("/v1/models", headers={"authorization": f"Bearer {key}"}).status_code == 200


def test_a_database_of_a_time_before_owners_belongs_to_the_local_one(tmp_path: Path) -> None:
    url = sqlite_url(tmp_path / "old.sqlite")
    store = JobStore(Database(url))
    store.add_file("file-1", "a", 1, "fine-tune")
    with store._database.write() as session:
        session.connection().exec_driver_sql("DROP INDEX ix_files_owner")
        session.connection().exec_driver_sql("ALTER TABLE files DROP COLUMN owner")
    store._database.close()
    again = JobStore(Database(url))
    assert again.of("local").file("file-1").owner == "local"
    with pytest.raises(NotFound):
        again.of("ann").file("file-1")
    again._database.close()

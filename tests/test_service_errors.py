"""Bad input over real HTTP: the right status, OpenAI's envelope, and words that name value, limit and remedy."""

import json
import re
from typing import Any

import httpx
import pytest

from tests.conftest import Service, wait_for
from tests.faults import Faults

M = "minilm-l6"
LONG = "word " * 2_000


def call(method: str, path: str, **options: Any) -> tuple[str, str, dict[str, Any]]:
    return method, path, options


def body(path: str, **fields: Any) -> tuple[str, str, dict[str, Any]]:
    return call("POST", path, json=fields)


JOBS = "/v1/fine_tuning/jobs"
TABLE: list[tuple[str, tuple[str, str, dict[str, Any]], int, str]] = [
    ("not JSON", call("POST", "/v1/classify", content=b"{nope", headers={"content-type": "application/json"}), 400, "JSON"),
    ("no body", call("POST", "/v1/classify"), 400, "required"),
    ("a list as body", call("POST", "/v1/classify", json=[1]), 400, "object|dictionary"),
    ("no model", body("/v1/classify", input="x"), 400, "model: Field required"),
    ("number as input", body("/v1/classify", model=M, input=5), 400, "input: a value of type int; send a string"),
    ("number in the list", body("/v1/embeddings", model=M, input=["a", 5]), 400, "item 1 is of type int"),
    ("null input", body("/v1/tokenize", model=M, input=None), 400, "NoneType"),
    ("empty text", body("/v1/embeddings", model=M, input=" "), 400, "input 0 is empty"),
    ("empty text in a list", body("/v1/embeddings", model=M, input=["a", ""]), 400, "input 1 is empty"),
    ("empty list", body("/v1/embeddings", model=M, input=[]), 400, "empty list; send at least one"),
    ("too many texts", body("/v1/embeddings", model=M, input=["a"] * 2049), 400, "2049 texts; the limit is 2048"),
    ("too many texts as token ids", body("/v1/embeddings", model=M, input=[[101]] * 2049), 400, "2049 texts; the limit is 2048"),
    ("900 lists in each other", call("POST", "/v1/trace", content=b'{"model": "x", "input": ' + b"[" * 900 + b"]" * 900 + b"}", headers={"content-type": "application/json"}), 400, "more than 32 deep"),
    ("unknown model", body("/v1/classify", model="gpt-9", input="x"), 404, "'gpt-9' does not exist; this service has: "),
    ("unknown field", body("/v1/classify", model=M, input="x", temprature=1), 400, "temprature: there is no such field here; check its spelling"),
    ("no classifier", body("/v1/classify", model=M, input="x"), 400, "use a classifier, for instance a fine-tuned model"),
    ("wrong type of truncate", body("/v1/tokenize", model=M, input="x", truncate="yes"), 400, "truncate: .*bool"),
    ("too long", body("/v1/embeddings", model=M, input=LONG), 400, "2002 tokens, more than 512; shorten .*truncate=true"),
    ("too long for attention", body("/v1/attention", model=M, input="word " * 600), 400, "602 tokens, more than 512"),
    ("10 MB text", body("/v1/embeddings", model=M, input="x" * 10_000_000), 413, "the limit is 8388608"),
    ("layer out of range", body("/v1/attention", model=M, input="x", layers=[6]), 400, "layers 6 .*0 to 5"),
    ("head out of range", body("/v1/attention", model=M, input="x", heads=[-1]), 400, "heads -1 .*0 to 11"),
    ("no layers", body("/v1/attention", model=M, input="x", layers=[]), 400, "empty list; name at least one"),
    ("layers by words", call("GET", f"/v1/attention?model={M}&input=x&layers=first"), 400, "'first'; send 'all' or numbers"),
    ("unknown method", body("/v1/attention", model=M, input="x", method="magic"), 400, "method: .*'raw'"),
    ("dimensions too many", body("/v1/embeddings", model=M, input="x", dimensions=999), 400, "999; this model's vectors have 384"),
    ("dimensions zero", body("/v1/embeddings", model=M, input="x", dimensions=0), 400, "dimensions: .*1"),
    ("unknown encoding", body("/v1/embeddings", model=M, input="x", encoding_format="hex"), 400, "'float' or 'base64'"),
    ("token id outside", body("/v1/embeddings", model=M, input=[1, 99999]), 400, "99999 is outside the vocabulary of 30522"),
    ("top_k zero", body("/v1/classify", model=M, input="x", top_k=0), 400, "top_k: .*1"),
    ("unknown training file", body(JOBS, model=M, training_file="file-x"), 404, "'file-x' does not exist; upload it"),
    ("unknown base model", body(JOBS, model="x", training_file="file-x"), 404, "model 'x' does not exist"),
    ("negative epochs", body(JOBS, model=M, training_file="f", hyperparameters={"n_epochs": -1}), 400, "n_epochs.*1"),
    ("too many epochs", body(JOBS, model=M, training_file="f", hyperparameters={"n_epochs": 51}), 400, r"^hyperparameters.n_epochs: Input should be less than or equal to 50, or 'auto' \(got 51\)$"),
    ("epochs in words", body(JOBS, model=M, training_file="f", hyperparameters={"n_epochs": "two"}), 400, r"^hyperparameters.n_epochs: Input should be a valid integer, or 'auto' \(got 'two'\)$"),
    ("weight below 0", body(JOBS, model=M, training_file="f", class_weights={"a": -1}), 400, r"^class_weights.a: Input should be greater than 0 \(got -1\)$"),
    ("a key named like a kind of value", body(JOBS, model=M, training_file="f", metadata={"int": 1}), 400, r"^metadata.int: Input should be a valid string \(got 1\)$"),
    ("dropout of everything", body(JOBS, model=M, training_file="f", dropout=1.0), 400, r"^dropout: Input should be less than 1, or 'auto' \(got 1\)$"),
    ("rank without an adapter", body(JOBS, model=M, training_file="f", lora_rank=4), 400, "lora_rank is 4, but the adapter is 'auto'; choose adapter 'lora', or none"),
    ("few-shot with an adapter", body(JOBS, model=M, training_file="f", training_method="few_shot", adapter="lora"), 400, "'few_shot', which tunes the whole model; leave out adapter 'lora'"),
    ("few-shot tagging", body(JOBS, model=M, training_file="f", training_method="few_shot", task="tagging"), 400, "learns one label a text, not 'tagging'; leave it out"),
    ("figure that does not exist", body(JOBS, model=M, training_file="f", metric="f1"), 400, "metric: Input should be 'accuracy', 'macro_f1'"),
    ("batch of 0", body(JOBS, model=M, training_file="f", hyperparameters={"batch_size": 0}), 400, "batch_size"),
    ("dpo", body(JOBS, model=M, training_file="f", method={"type": "dpo"}), 400, "'dpo'; only 'supervised'"),
    ("long suffix", body(JOBS, model=M, training_file="f", suffix="x" * 65), 400, "suffix: .*64"),
    ("negative seed", body(JOBS, model=M, training_file="f", seed=-1), 400, "seed: .*0"),
    ("unknown job", call("GET", f"{JOBS}/ftjob-x"), 404, "'ftjob-x' does not exist"),
    ("events of unknown job", call("GET", f"{JOBS}/ftjob-x/events"), 404, "'ftjob-x' does not exist"),
    ("cancel unknown job", call("POST", f"{JOBS}/ftjob-x/cancel"), 404, "'ftjob-x' does not exist"),
    ("page size 0", call("GET", f"{JOBS}?limit=0"), 400, "limit: .*1.*'0'"),
    ("page after nothing", call("GET", f"{JOBS}?after=ftjob-x"), 404, "'ftjob-x' names nothing"),
    ("unknown file", call("GET", "/v1/files/file-x"), 404, "'file-x' does not exist"),
    ("delete unknown file", call("DELETE", "/v1/files/file-x"), 404, "'file-x' does not exist"),
    ("path as file id", call("GET", "/v1/files/..%2F..%2Fetc%2Fpasswd/content"), 404, "does not exist"),
    ("upload that is no form", call("POST", "/v1/files", json={}), 415, "upload as multipart/form-data"),
    ("upload without file", call("POST", "/v1/files", files={"purpose": (None, "fine-tune")}), 400, "no part 'file'"),
    ("upload with an unknown field", call("POST", "/v1/files", files={"x": (None, "y")}), 400, "has a field 'x'; known are file, purpose"),
    ("other purpose", call("POST", "/v1/files", files={"file": ("a.jsonl", b"x"), "purpose": (None, "vision")}), 400, "'vision'; choose 'fine-tune' or 'batch'"),
    ("empty upload", call("POST", "/v1/files", files={"file": ("a.jsonl", b""), "purpose": (None, "fine-tune")}), 400, "0 bytes"),
    ("upload too large", call("POST", "/v1/files", files={"file": ("a", b"x" * 5_000_000), "purpose": (None, "fine-tune")}), 413, "4259840"),
    ("unknown route", call("GET", "/v1/nothing"), 404, "GET /v1/nothing does not exist; see /docs"),
    ("wrong method", call("PUT", "/v1/classify", json={}), 405, "PUT is not allowed on /v1/classify"),
    ("BentoML's own route", call("GET", "/schema.json"), 404, "does not exist"),
    ("delete a base model", call("DELETE", f"/v1/models/{M}"), 409, "only tuned models can be deleted"),
    ("foreign host", call("GET", "/", headers={"host": "evil.example"}), 403, "'evil.example' is not allowed; .*VITRINE_ALLOWED_HOSTS"),
    ("foreign host on a probe", call("GET", "/livez", headers={"host": "evil.example:3000"}), 403, "is not allowed"),
    ("foreign origin", call("GET", "/v1/models", headers={"origin": "http://evil.example"}), 403, "Origin 'http://evil.example'"),
    ("null origin", call("POST", "/v1/tokenize", headers={"origin": "null"}), 403, "Origin 'null'"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "request_", "status", "words"), TABLE, ids=[row[0] for row in TABLE])
def test_bad_input(
    service: Service, faults: Faults, name: str, request_: tuple[str, str, dict[str, Any]], status: int, words: str
) -> None:
    method, path, options = request_
    answer = httpx.request(method, service.url + path, timeout=30, **options)
    faults.saw(name, answer)
    assert answer.status_code == status, answer.text[:500]
    check_envelope(answer)
    assert re.search(words, answer.json()["error"]["message"]), answer.json()["error"]["message"]


def check_envelope(answer: httpx.Response) -> None:
    assert set(answer.json()) == {"error"}
    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
    assert answer.headers["x-request-id"].startswith("req-")
    assert "content-security-policy" in answer.headers
    assert answer.status_code != 409 or answer.headers["x-should-retry"] == "false"


def test_chunked_body_over_the_limit_is_cut_short(service: Service, faults: Faults) -> None:
    def chunks() -> Any:
        for _ in range(10):
            yield b"x" * 1_000_000

    answer = httpx.post(f"{service.url}/v1/embeddings", content=chunks(), timeout=30)
    assert answer.status_code == 413
    check_envelope(answer)
    faults.saw("a chunked body of 10 MB", answer)


@pytest.mark.parametrize(
    ("asked", "status", "code"),
    [("bytes=0-2", 206, None), ("bytes=99-", 416, "range_not_satisfiable"), ("bytes=2-1", 400, "invalid_value"),
     ("lines=1-2", 400, "invalid_value"), ("bytes=", 400, "invalid_value")],
)  # fmt: skip
@pytest.mark.parametrize("what", ["an upload", "the page"])
def test_a_range_that_a_file_does_not_have_is_refused_in_the_envelope(
    service: Service, what: str, asked: str, status: int, code: str | None
) -> None:
    path = f"/v1/files/{upload(service, b'0123456789')}/content" if what == "an upload" else "/ui/icon.svg"
    asked = asked.replace("99-", "99999999-")
    with httpx.Client(base_url=service.url) as client:
        for _ in range(2):  # the connection is good for more
            answer = client.get(path, headers={"range": asked})
            assert answer.status_code == status
            if code is not None:
                check_envelope(answer)
                assert answer.json()["error"]["code"] == code
            assert answer.headers["x-request-id"].startswith("req-")
        if what == "an upload":
            assert answer.headers.get("content-range") == {206: "bytes 0-2/10", 416: "bytes */10"}.get(status)


def test_a_media_type_is_read_in_any_case(service: Service) -> None:
    rows = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n{}\r\n--x--\r\n'
    headers = {"content-type": "Multipart/Form-Data; boundary=x"}
    answer = httpx.post(f"{service.url}/v1/files", content=rows, headers=headers)
    assert (answer.status_code, "purpose is None" in answer.text) == (400, True), "the form was read"


def upload(service: Service, content: bytes) -> str:
    files: Any = {"file": ("rows.jsonl", content), "purpose": (None, "fine-tune")}
    answer = httpx.post(f"{service.url}/v1/files", files=files)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["id"])


def file_status(service: Service, file_id: str) -> str:
    return str(httpx.get(f"{service.url}/v1/files/{file_id}").json()["status"])


ROWS = [{"text": f"text {index}", "label": "ab"[index % 2]} for index in range(8)]
BAD_FILES = [
    ("one class", b'{"text": "x", "label": "a"}\n' * 4, "all 4 rows have the label 'a'"),
    ("broken CSV", b'text,label\nx,a\n"y,b\n', "broken CSV"),
    ("binary", bytes(range(256)) * 10, "binary"),
    ("two faults", b'{"text": "", "label": "a"}\n{"text": "x"}\n', "line 1: 'text' is empty.*line 2: no 'label'"),
]


@pytest.mark.parametrize(("name", "content", "words"), BAD_FILES, ids=[row[0] for row in BAD_FILES])
def test_bad_files_are_refused_when_known_and_fail_the_job_when_not(
    service: Service, faults: Faults, name: str, content: bytes, words: str
) -> None:
    file_id = upload(service, content)
    early = httpx.post(f"{service.url}{JOBS}", json={"model": M, "training_file": file_id})
    wait_for(lambda: file_status(service, file_id) != "uploaded", 300)
    late = httpx.post(f"{service.url}{JOBS}", json={"model": M, "training_file": file_id})
    faults.saw(f"a job on a file with {name}", late)
    assert late.status_code == 400
    assert re.search(words, late.json()["error"]["message"])
    assert late.json()["error"]["code"] == "invalid_training_data"
    if early.status_code == 200:  # the worker had not looked yet: the job fails with the same list
        job_id = early.json()["id"]
        assert early.json()["status"] == "validating_files"
        job: dict[str, Any] = {}

        def ended() -> bool:
            job.update(httpx.get(f"{service.url}{JOBS}/{job_id}").json())
            return job["status"] == "failed"

        wait_for(ended, 300, lambda: job)
        assert re.search(words, job["error"]["message"])


def test_unseen_validation_label_is_refused(service: Service) -> None:
    good = "".join(json.dumps(row) + "\n" for row in ROWS).encode()
    train, validation = upload(service, good), upload(service, good.replace(b'"b"', b'"z"'))
    wait_for(lambda: file_status(service, validation) == file_status(service, train) == "processed", 300)
    fields = {"model": M, "training_file": train, "validation_file": validation}
    answer = httpx.post(f"{service.url}{JOBS}", json=fields)
    assert answer.status_code == 400
    assert "'z'" in answer.json()["error"]["message"]
    assert answer.json()["error"]["param"] == "validation_file"

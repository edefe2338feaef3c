"""Inference over HTTP against the model itself, and the pictures."""

import concurrent.futures
import io
import math
import socket
import subprocess
import time
from pathlib import Path

import httpx
import numpy as np
import openai
import pytest
import torch
from PIL import Image, ImageFont

from model.batch import pad
from model.weights import load_model
from service.engine.windows import windows_of
from service.pictures.fonts import font_path
from tests.conftest import Service, wait_for

M = "minilm-l6"


@pytest.fixture(scope="module")
def client(service: Service) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{service.url}/v1", api_key="none")


def test_embeddings_equal_the_model_in_both_encodings(
    client: openai.OpenAI, minilm: Path, sentences: list[str]
) -> None:
    model, tokenizer = load_model(minilm)
    with torch.inference_mode():
        expected = model.embed(pad(tokenizer.encode(sentences, 512), 0)).numpy()
    by_base64 = client.embeddings.create(model=M, input=sentences)
    by_float = client.embeddings.create(model=M, input=sentences, encoding_format="float")
    for answer in (by_base64, by_float):
        vectors = np.array([item.embedding for item in answer.data])
        assert (vectors * expected).sum(1).min() > 0.999, "cosine to the float32 model"
        assert np.linalg.norm(vectors, axis=1) == pytest.approx(1.0, abs=1e-5)
    assert by_base64.usage.prompt_tokens == sum(len(e.ids) for e in tokenizer.encode(sentences, 512))


def test_dimensions_and_token_ids(client: openai.OpenAI, minilm: Path) -> None:
    _, tokenizer = load_model(minilm)
    (encoding,) = tokenizer.encode(["a good film"], 512)
    by_text = client.embeddings.create(model=M, input="a good film", dimensions=16).data[0].embedding
    by_ids = client.embeddings.create(model=M, input=list(encoding.ids), dimensions=16).data[0].embedding
    assert len(by_text) == 16
    assert math.hypot(*by_text) == pytest.approx(1.0, abs=1e-5)
    assert by_ids == pytest.approx(by_text, abs=1e-5)


def test_concurrent_requests_get_their_own_answers(service: Service, sentences: list[str]) -> None:
    def one(text: str) -> list[float]:
        answer = httpx.post(f"{service.url}/v1/embeddings", json={"model": M, "input": text}, timeout=60)
        return list(answer.json()["data"][0]["embedding"])

    alone = [one(text) for text in sentences[:24]]
    with concurrent.futures.ThreadPoolExecutor(12) as pool:
        together = list(pool.map(one, sentences[:24]))
    for first, second in zip(alone, together, strict=True):
        assert float(np.dot(first, second)) > 0.999


def test_truncation_is_reported(service: Service) -> None:
    fields = {"model": M, "input": ["short", "word " * 900], "truncate": True}
    data = httpx.post(f"{service.url}/v1/tokenize", json=fields).json()["data"]
    assert [item["truncated"] for item in data] == [False, True]
    assert [item["full_length"] for item in data] == [3, 902]
    assert len(data[1]["ids"]) == 512


def test_a_long_text_is_read_in_windows_when_it_is_wanted(service: Service, minilm: Path, sentences: list[str]) -> None:
    _, tokenizer = load_model(minilm)
    long, short = " ".join(sentences), "a good film"
    body = {"model": M, "input": [short, long], "windows": True}
    answer = httpx.post(f"{service.url}/v1/embeddings", json=body, timeout=60).json()
    encodings = tokenizer.encode([short, long], 10**6)
    assert len(encodings[1].ids) > 2 * 512
    parts = [[window.encoding for window in windows_of(encoding, 512)] for encoding in encodings]
    assert [item["windows"] for item in answer["data"]] == [len(own) for own in parts]
    assert [item["truncated"] for item in answer["data"]] == [False, False]
    assert answer["usage"]["prompt_tokens"] == sum(len(part.ids) for own in parts for part in own)
    ids = [list(part.ids) for own in parts for part in own]
    alone = httpx.post(f"{service.url}/v1/embeddings", json={"model": M, "input": ids}, timeout=60).json()["data"]
    vectors = np.array([item["embedding"] for item in alone])
    assert answer["data"][0]["embedding"] == pytest.approx(vectors[0], abs=1e-3)
    mean = vectors[1:].mean(axis=0)  # windows of a long text are of one length
    assert answer["data"][1]["embedding"] == pytest.approx(mean / np.linalg.norm(mean), abs=1e-3)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"input": "a", "truncate": True}, "truncate and windows are both true"),
        ({"input": [5, 6]}, "windows is true for token ids"),
    ],
)
def test_what_has_no_windows_is_refused(service: Service, fields: dict[str, object], words: str) -> None:
    answer = httpx.post(f"{service.url}/v1/embeddings", json={"model": M, "windows": True} | fields, timeout=60)
    assert answer.status_code == 400
    assert words in answer.json()["error"]["message"]


def counted(service: Service, name: str) -> float:
    """The sum of the metrics that begin so."""
    lines = httpx.get(f"{service.url}/metrics", timeout=30).text.splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name))


LEFT = 'vitrine_requests_total{method="POST",route="/v1/embeddings",status="499"}'


def test_what_a_client_that_left_had_asked_for_is_not_computed(service: Service, sentences: list[str]) -> None:
    """Another request keeps the device busy meanwhile."""
    left, before = counted(service, LEFT), counted(service, 'vitrine_tokens_total{operation="embed"}')
    texts = sentences * 20
    url = f"{service.url}/v1/embeddings"
    body = {"model": M, "input": texts, "encoding_format": "base64"}
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        stay = [pool.submit(httpx.post, url, json=body, timeout=300) for _ in range(2)]  # one in each API process
        time.sleep(0.2)
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(url, json=body, timeout=0.5)
        used = sum(one.result().json()["usage"]["total_tokens"] for one in stay)
    wait_for(lambda: counted(service, LEFT) == left + 1, seconds=60)
    assert counted(service, "vitrine_queue_depth") == 0
    computed = counted(service, 'vitrine_tokens_total{operation="embed"}') - before
    assert used <= computed < used + 0.5 * used / 2, "of what nobody waits for, at most a batch or two"


@pytest.mark.parametrize("length", ["Content-Length: 1000", "Transfer-Encoding: chunked"])
def test_a_client_that_leaves_amid_its_body_is_counted_as_one_that_left(service: Service, length: str) -> None:
    """Not as one that asked for something wrong."""
    left = counted(service, LEFT)
    refused = 'vitrine_requests_total{method="POST",route="/v1/embeddings",status="400"}'
    wrong = counted(service, refused)
    url = httpx.URL(service.url)
    with socket.create_connection((url.host, url.port or 80), timeout=30) as connection:
        head = f"POST /v1/embeddings HTTP/1.1\r\nHost: {url.host}\r\nContent-Type: application/json\r\n{length}\r\n\r\n"
        connection.sendall(head.encode() + b'5\r\n{"inp\r\n')
    wait_for(lambda: counted(service, LEFT) == left + 1, seconds=60)
    assert counted(service, refused) == wrong


def test_attention_json_is_a_distribution_and_selects_layers(service: Service) -> None:
    fields = {"model": M, "input": "The film was good", "layers": [5, 1], "heads": [3]}
    answer = httpx.post(f"{service.url}/v1/attention", json=fields).json()
    weights = np.array(answer["weights"])
    assert answer["shape"] == list(weights.shape) == [2, 1, 6, 6]
    assert answer["layers"] == [1, 5]
    assert weights.sum(-1) == pytest.approx(1.0, abs=1e-3)
    whole = httpx.post(f"{service.url}/v1/attention", json={"model": M, "input": "The film was good"}).json()
    assert np.array(whole["weights"])[[1, 5], 3] == pytest.approx(weights[:, 0], abs=2e-2)


@pytest.mark.parametrize("query", ["layers=2&heads=3", "layers=all&heads=all", "layers=0&heads=0,1,2"])
def test_attention_png_by_link(service: Service, query: str) -> None:
    link = f"{service.url}/v1/attention?model={M}&input=The film was 好看&{query}"
    answer = httpx.get(link, headers={"accept": "image/png"})
    assert answer.headers["content-type"] == "image/png"
    image = np.asarray(Image.open(io.BytesIO(answer.content)).convert("RGB"))
    assert len(np.unique(image.reshape(-1, 3), axis=0)) > 20, "tiles in many colours"
    assert answer.content == httpx.get(link, headers={"accept": "image/png"}).content


def test_the_font_has_a_glyph_for_every_character_of_chinese_and_latin_text() -> None:
    font = ImageFont.truetype(font_path(), 16)
    missing = font.getmask("\U000ffffe").getbbox(), bytes(font.getmask("\U000ffffe"))
    for character in "电影好看漢字龍仮名かなカナ한글Añé€…·“”abcXYZ0189[]#␣→¶□":
        mask = font.getmask(character)
        assert (mask.getbbox(), bytes(mask)) != missing, character


def test_metrics_are_clean_preset_and_the_same_from_both_workers(service: Service) -> None:
    text = httpx.get(f"{service.url}/metrics").text
    check = subprocess.run(["promtool", "check", "metrics"], input=text, text=True, capture_output=True)
    assert check.returncode == 0, check.stdout + check.stderr
    for series in (
        'vitrine_requests_total{method="POST",route="/v1/classify",status="200"}',
        'vitrine_batch_rows_bucket{le="1.0",operation="attention"}',
        'vitrine_queue_wait_seconds_count{operation="embed"}',
        'vitrine_queue_depth{lane="fast"} 0.0',
        'vitrine_jobs{state="running"}',
        "vitrine_training_loss",
        'vitrine_model_loads_total{outcome="failure"} 0.0',
    ):
        assert series in text, series

    def counted() -> float:
        lines = httpx.get(f"{service.url}/metrics").text.splitlines()
        wanted = 'vitrine_requests_total{method="POST",route="/v1/tokenize",status="200"}'
        return next(float(line.split()[-1]) for line in lines if line.startswith(wanted))

    before = counted()
    for _ in range(40):  # a new connection each: both workers take some
        httpx.post(f"{service.url}/v1/tokenize", json={"model": M, "input": "x"})
    wait_for(lambda: counted() == before + 40, 60)  # an answer is counted when it has been sent
    assert {counted() for _ in range(12)} == {before + 40}


def test_two_workers_are_alive_and_one_job_worker_serves_both(service: Service) -> None:
    assert len(service.worker_pids()) == 1


def test_docs_and_page_come_from_this_machine_alone(service: Service) -> None:
    for path in ("/", "/docs"):
        page = httpx.get(service.url + path)
        assert page.status_code == 200
        assert "//cdn" not in page.text
        policy = page.headers["content-security-policy"]
        assert "default-src 'self'" in policy if path == "/" else "default-src 'none'" in policy
    for path in (
        "/docs-assets/swagger-ui-bundle.js",
        "/docs-assets/swagger-ui.css",
        "/ui/app.js",
        "/ui/styles.css",
        "/fonts/cjk.otf",
    ):
        assert httpx.get(service.url + path).status_code == 200, path
    routes = httpx.get(f"{service.url}/openapi.json").json()["paths"]
    assert {"/v1/classify", "/v1/attention", "/v1/fine_tuning/jobs/{job_id}/cancel"} <= set(routes)

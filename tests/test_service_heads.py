"""Every head over HTTP: tags, masks, written text, numbers, several labels, adapters; the model itself is the oracle."""

import asyncio
import json
import typing
from dataclasses import replace
from pathlib import Path

import httpx
import numpy as np
import openai
import pytest
import torch
from openai.types.completion_create_params import CompletionCreateParamsNonStreaming

from model.batch import pad
from model.config import TransformerConfig
from model.generation import Sampling, Writing, write_all
from model.heads import TextModel
from model.lora import save_adapter
from model.tokenizer import train_byte_bpe
from model.weights import save_model
from service.engine.windows import Read, windows_of
from service.model_store import ModelStore
from tests.conftest import Service
from tests.zoo import LABELS, TEXTS, Zoo, random_adapter


def post(service: Service, route: str, **body: object) -> httpx.Response:
    return httpx.post(f"{service.url}{route}", json=body, timeout=60)


def test_tags_are_the_models_own_with_places_in_the_text(exact: Service, zoo: Zoo) -> None:
    texts = ["我爱北京天安门", "the film was fine 服务"]
    answer = post(exact, "/v1/tag", model="tagger", input=texts, aggregation="token").json()
    encodings = zoo.words.encode(texts, 64)
    with torch.inference_mode():
        probabilities = torch.softmax(zoo.models["tagger"].tag(pad(encodings, 0)), dim=-1)
    for row, (text, encoding) in enumerate(zip(texts, encodings, strict=True)):
        kept = [index for index, special in enumerate(encoding.special) if not special]
        tags = answer["data"][row]["tags"]
        assert [tag["label"] for tag in tags] == [
            LABELS["tagger"][int(probabilities[row, index].argmax())] for index in kept
        ]
        assert [tag["score"] for tag in tags] == pytest.approx(
            [float(probabilities[row, index].max()) for index in kept], abs=1e-4
        )
        assert [(tag["start"], tag["end"]) for tag in tags] == [encoding.offsets[index] for index in kept]
        assert all(tag["text"] == text[tag["start"] : tag["end"]] for tag in tags)


def test_a_long_text_is_tagged_from_end_to_end_in_windows(exact: Service, zoo: Zoo) -> None:
    """Windows of the model's 64 tokens; each token as the window says that shows most around it."""
    text = " ".join(TEXTS)
    (whole,) = zoo.words.encode([text], 10**6)
    windows = windows_of(whole, 64)
    assert len(windows) > 2
    answer = post(exact, "/v1/tag", model="tagger", input=text, windows=True, aggregation="token").json()
    (item,) = answer["data"]
    assert (item["windows"], item["truncated"]) == (len(windows), False)
    assert answer["usage"]["total_tokens"] == sum(len(window.encoding.ids) for window in windows)
    kept = [index for index, special in enumerate(whole.special) if not special]
    assert [(tag["start"], tag["end"]) for tag in item["tags"]] == [whole.offsets[index] for index in kept]
    with torch.inference_mode():
        rows = [
            torch.softmax(zoo.models["tagger"].tag(pad([window.encoding], 0))[0], dim=-1).numpy() for window in windows
        ]
    expected = Read(whole, windows).by_token(rows)[kept]
    assert [tag["label"] for tag in item["tags"]] == [LABELS["tagger"][row.argmax()] for row in expected]


def test_a_long_text_is_classified_in_windows_and_a_pair_is_not(exact: Service, zoo: Zoo) -> None:
    text = " ".join(TEXTS)
    (whole,) = zoo.words.encode([text], 10**6)
    windows = windows_of(whole, 64)
    answer = post(exact, "/v1/classify", model="classifier", input=["天", text], windows=True).json()
    assert [item["windows"] for item in answer["data"]] == [1, len(windows)]
    with torch.inference_mode():
        rows = [
            torch.softmax(zoo.models["classifier"].classify(pad([window.encoding], 0))[0], dim=-1).numpy()
            for window in windows
        ]
    scores = {score["label"]: score["score"] for score in answer["data"][1]["scores"]}
    assert [scores[label] for label in LABELS["classifier"]] == pytest.approx(Read(whole, windows).mean(rows), abs=1e-4)
    refused = post(exact, "/v1/classify", model="classifier", input=["天", ["好", "不好"]], windows=True)
    assert refused.status_code == 400
    assert "input 1 is a pair, which has no windows" in refused.json()["error"]["message"]


def test_spans_leave_out_o_and_stand_in_order(exact: Service) -> None:
    answer = post(exact, "/v1/tag", model="tagger", input=["我爱北京天安门 the film", ["酒店", "房间很小"]])
    assert answer.status_code == 200, answer.text
    answer = answer.json()
    for item in answer["data"]:
        places = [(tag["segment"], tag["start"], tag["end"]) for tag in item["tags"]]
        assert places == sorted(places)
        assert {tag["label"] for tag in item["tags"]} <= {"LOC", "PER"}


def test_masks_are_filled_with_the_models_likeliest_tokens(exact: Service, zoo: Zoo) -> None:
    text = "我爱[MASK]京 the [MASK]"
    (item,) = post(exact, "/v1/fill-mask", model="masked", input=text, top_k=3).json()["data"]
    (encoding,) = zoo.words.encode([text], 64, masks=True)
    with torch.inference_mode():
        model = zoo.models["masked"]
        hidden = model.encoder(pad([encoding], 0))[0]
        mask_id = zoo.words.id_of("[MASK]")
        places = [index for index, number in enumerate(encoding.ids) if number == mask_id]
        best = torch.softmax(model.vocabulary_logits(hidden[places]), dim=-1).topk(3)
    assert [text[mask["start"] : mask["end"]] for mask in item["masks"]] == ["[MASK]", "[MASK]"]
    assert [[found["id"] for found in mask["candidates"]] for mask in item["masks"]] == best.indices.tolist()
    scores = [[found["score"] for found in mask["candidates"]] for mask in item["masks"]]
    assert torch.allclose(torch.tensor(scores), best.values, atol=1e-4)
    assert item["masks"][0]["candidates"][0]["token"] == zoo.words.token_of(int(best.indices[0, 0]))


def test_an_encoder_decoder_shows_what_it_looks_at_while_it_writes(exact: Service) -> None:
    written = post(exact, "/v1/completions", model="segmenter", prompt="我爱北京", max_tokens=6, temperature=0).json()
    fields = {"model": "segmenter", "input": ["我爱北京", written["choices"][0]["text"] or "我"]}
    cross, own = (post(exact, "/v1/attention", decoder=part, **fields).json() for part in ("cross", "self"))
    first = [unit["segment"] for unit in cross["units"]].index(1)
    assert cross["units"][first]["text"] == "<s>"
    for answer, blank in ((cross, np.s_[..., first:, first:]), (own, np.s_[..., first:, :first])):
        weights = np.array(answer["weights"])
        assert weights.sum(-1) == pytest.approx(1.0, abs=1e-3)
        assert not weights[blank].any()
    picture = httpx.post(f"{exact.url}/v1/attention", json=fields | {"layers": [1], "view": "heads", "heads": [0]},
                         headers={"accept": "image/png"})  # fmt: skip
    assert picture.content.startswith(b"\x89PNG")
    assert "the pair of them" in post(exact, "/v1/attention", model="segmenter", input="我爱北京").text
    assert "has raw attention alone" in post(exact, "/v1/attention", method="rollout", **fields).text


def test_masks_of_a_pair_say_which_text_they_are_of(exact: Service) -> None:
    pair = ("我爱[MASK]", "[MASK]京 the [MASK]")
    (item,) = post(exact, "/v1/fill-mask", model="masked", input=[pair]).json()["data"]
    assert [mask["segment"] for mask in item["masks"]] == [0, 1, 1]
    assert {pair[mask["segment"]][mask["start"] : mask["end"]] for mask in item["masks"]} == {"[MASK]"}


def test_a_text_without_a_mask_is_refused(exact: Service) -> None:
    response = post(exact, "/v1/fill-mask", model="masked", input=["a [MASK]", "no mask here"])
    assert response.status_code == 400
    assert "input 1 has no [MASK]" in response.json()["error"]["message"]


def test_only_masks_of_masked_models_are_read_in_texts(exact: Service, zoo: Zoo) -> None:
    text = "我爱[MASK]安门[SEP]服务"

    def tokens(model: str) -> list[str]:
        return post(exact, "/v1/tokenize", model=model, input=text).json()["data"][0]["tokens"]

    assert tokens("masked").count("[MASK]") == 1
    assert "[MASK]" not in tokens("classifier")
    assert tokens("masked").count("[SEP]") == tokens("classifier").count("[SEP]") == 1
    attention = post(exact, "/v1/attention", model="masked", input=text, layers=[0], heads=[0]).json()
    assert attention["tokens"] == tokens("masked")
    with torch.inference_mode():
        expected = torch.softmax(zoo.models["classifier"].classify(pad(zoo.words.encode([text], 64), 0)), dim=-1)[0]
    scores = post(exact, "/v1/classify", model="classifier", input=text).json()["data"][0]["scores"]
    assert {score["label"]: score["score"] for score in scores} == pytest.approx(
        dict(zip(LABELS["classifier"], expected.tolist(), strict=True)), abs=1e-4
    )
    usage = post(exact, "/v1/completions", model="writer", prompt="我<|endoftext|>爱", max_tokens=1).json()["usage"]
    (encoding,) = zoo.bytes.encode(["我<|endoftext|>爱"], 64, special_tokens=False)
    assert usage["prompt_tokens"] == len(encoding.ids) > 5, "the end of a text is spelled out, not ended"


def test_numbers_and_several_labels(exact: Service, zoo: Zoo) -> None:
    texts = ["酒店房间很小", "the film"]
    batch = pad(zoo.words.encode(texts, 64), 0)
    with torch.inference_mode():
        number = zoo.models["number"].classify(batch)[:, 0].tolist()
        several = torch.sigmoid(zoo.models["several"].classify(batch))
    answer = post(exact, "/v1/classify", model="number", input=texts).json()["data"]
    assert [item["object"] for item in answer] == ["regression", "regression"]
    assert [item["score"] for item in answer] == pytest.approx(number, rel=1e-3, abs=1e-3)
    answer = post(exact, "/v1/classify", model="several", input=texts).json()["data"]
    for row, item in enumerate(answer):
        scores = {score["label"]: score["score"] for score in item["scores"]}
        expected = dict(zip(LABELS["several"], several[row].tolist(), strict=True))
        assert scores == pytest.approx(expected, abs=1e-4)


def test_rows_of_different_adapters_share_batches_and_get_their_own_answers(exact: Service, zoo: Zoo) -> None:
    texts = [text[: 3 + index % 5] for index, text in enumerate(TEXTS)]
    names = ["adapter0", "adapter1", "adapter2"]

    async def ask_all() -> list[httpx.Response]:
        async with httpx.AsyncClient(base_url=exact.url, timeout=60) as client:
            requests = [
                client.post("/v1/classify", json={"model": names[index % 3], "input": text})
                for index, text in enumerate(texts)
            ]
            base = [client.post("/v1/embeddings", json={"model": "base", "input": text}) for text in texts[:6]]
            return list(await asyncio.gather(*requests, *base))

    for _ in range(2):  # the first round also loads the adapters
        responses = asyncio.run(ask_all())
        for index, (text, response) in enumerate(zip(texts, responses, strict=False)):
            model = zoo.adapters[names[index % 3]]
            with torch.inference_mode():
                expected = torch.softmax(model.classify(pad(zoo.words.encode([text], 64), 0)), dim=-1)[0]
            scores = {score["label"]: score["score"] for score in response.json()["data"][0]["scores"]}
            assert scores == pytest.approx(dict(zip(model.config.labels, expected.tolist(), strict=True)), abs=2e-4)
        for text, response in zip(texts[:6], responses[len(texts) :], strict=True):
            with torch.inference_mode():
                vector = zoo.models["base"].embed(pad(zoo.words.encode([text], 64), 0))[0]
            assert torch.allclose(torch.tensor(response.json()["data"][0]["embedding"]), vector, atol=1e-4)


def greedy(model: TextModel, prompt: list[int], max_tokens: int) -> Writing:
    writing = Writing(prompt, Sampling(max_tokens=max_tokens, temperature=0.0))
    write_all(model, [writing])
    return writing


def test_completions_by_the_openai_client_equal_the_model(exact: Service, zoo: Zoo) -> None:
    client = openai.OpenAI(base_url=f"{exact.url}/v1", api_key="none")
    prompts = ["我爱", "the film was", "服务"]
    answer = client.completions.create(model="writer", prompt=prompts, max_tokens=24, temperature=0)
    assert answer.object == "text_completion"
    assert answer.usage is not None
    total = 0
    for prompt, choice in zip(prompts, answer.choices, strict=True):
        (encoding,) = zoo.bytes.encode([prompt], 64, special_tokens=False)
        expected = greedy(zoo.models["writer"], list(encoding.ids), 24)
        stream = zoo.bytes.decode_stream()
        assert choice.text == "".join(stream.push(number) for number in expected.ids) + stream.flush()
        assert choice.finish_reason == expected.finish_reason
        total += len(expected.ids)
    assert answer.usage.completion_tokens == total


def test_null_asks_for_the_default_where_openais_types_have_it(exact: Service) -> None:
    nullable = (
        "best_of", "echo", "logprobs", "max_tokens", "n", "seed", "stop", "stream", "stream_options", "temperature",
        "top_p",
    )  # fmt: skip
    types = typing.get_type_hints(CompletionCreateParamsNonStreaming)
    assert all(type(None) in typing.get_args(types[name]) for name in nullable)
    client = openai.OpenAI(base_url=f"{exact.url}/v1", api_key="none")
    answer = client.completions.create(model="writer", prompt="我爱", **dict.fromkeys(nullable))  # type: ignore[call-overload]
    assert len(answer.choices) == 1
    assert 0 < answer.usage.completion_tokens <= 16
    beams = {"model": "writer", "prompt": "我爱", "num_beams": 2, "temperature": None, "top_p": None}
    assert post(exact, "/v1/completions", **beams).status_code == 200


def test_a_stream_gives_the_same_text_piece_by_piece(exact: Service) -> None:
    client = openai.OpenAI(base_url=f"{exact.url}/v1", api_key="none")
    options = {"model": "writer", "prompt": ["我爱", "the"], "max_tokens": 30, "temperature": 0.8, "seed": 7, "n": 2}
    whole = client.completions.create(**options)  # type: ignore[call-overload]
    pieces: dict[int, str] = {}
    reasons: dict[int, str] = {}
    chunks, usage = 0, None
    for chunk in client.completions.create(**options, stream=True, stream_options={"include_usage": True}):  # type: ignore[call-overload]
        usage = chunk.usage or usage
        for choice in chunk.choices:
            chunks += 1
            pieces[choice.index] = pieces.get(choice.index, "") + choice.text
            if choice.finish_reason:
                reasons[choice.index] = choice.finish_reason
    assert pieces == {choice.index: choice.text for choice in whole.choices}
    assert reasons == {choice.index: choice.finish_reason for choice in whole.choices}
    assert chunks > 8
    assert usage == whole.usage
    assert whole.choices[0].text != whole.choices[1].text, "n texts of one prompt differ"


def test_events_end_with_done_and_a_full_queue_is_429_before_the_stream(exact: Service) -> None:
    with httpx.stream(
        "POST", f"{exact.url}/v1/completions", json={"model": "writer", "prompt": "我", "stream": True}
    ) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        lines = [line for line in response.iter_lines() if line]
    assert lines[-1] == "data: [DONE]"
    assert all(json.loads(line[6:])["object"] == "text_completion" for line in lines[:-1])
    refused = post(exact, "/v1/completions", model="writer", prompt="我", n=21, stream=True)
    assert refused.status_code == 429
    assert refused.headers["retry-after"]


def test_a_stop_text_ends_the_answer_and_is_left_out(exact: Service) -> None:
    options = {"model": "writer", "prompt": "the film", "max_tokens": 40, "temperature": 0}
    text = post(exact, "/v1/completions", **options).json()["choices"][0]["text"]
    assert len(text) > 6
    stop = text[3:5]
    expected = text[: text.index(stop)]
    for stream in (False, True):
        response = post(exact, "/v1/completions", **options, stop=["\u0000never", stop], stream=stream)
        if stream:
            events = [json.loads(line[6:]) for line in response.text.splitlines() if line.startswith("data: {")]
            choices = [choice for event in events for choice in event["choices"]]
            found, reason = "".join(choice["text"] for choice in choices), choices[-1]["finish_reason"]
        else:
            (choice,) = response.json()["choices"]
            found, reason = choice["text"], choice["finish_reason"]
        assert (found, reason) == (expected, "stop")


def test_logprobs_and_echo(exact: Service) -> None:
    options = {"model": "writer", "prompt": "the film", "max_tokens": 8, "temperature": 0}
    (choice,) = post(exact, "/v1/completions", **options, logprobs=3, echo=True).json()["choices"]
    assert choice["text"].startswith("the film")
    logprobs = choice["logprobs"]
    assert len(logprobs["tokens"]) == len(logprobs["token_logprobs"]) == len(logprobs["top_logprobs"])
    for own, top in zip(logprobs["token_logprobs"], logprobs["top_logprobs"], strict=True):
        assert own == pytest.approx(max(top.values()), abs=1e-4), "greedy takes the likeliest"


@pytest.mark.parametrize(("prompt", "echo"), [("the film", True), ("the film", False), ("服务态度", True)])
def test_offsets_of_logprobs_point_into_the_text_whole_and_streamed(exact: Service, prompt: str, echo: bool) -> None:
    options = {"model": "writer", "prompt": prompt, "max_tokens": 40, "temperature": 1.0, "seed": 3, "logprobs": 1}
    (choice,) = post(exact, "/v1/completions", **options, echo=echo).json()["choices"]
    text, found = choice["text"], choice["logprobs"]
    offsets = found["text_offset"]
    start = len(prompt) if echo else 0
    assert offsets[0] == start
    assert offsets == sorted(offsets)
    whole_tokens = [
        (token, offset) for token, offset in zip(found["tokens"], offsets, strict=True) if "\ufffd" not in token
    ]
    assert len(whole_tokens) > 10
    assert all(text[offset : offset + len(token)] == token for token, offset in whole_tokens)
    streamed = post(exact, "/v1/completions", **options, echo=echo, stream=True).text
    events = [json.loads(line[6:])["choices"][0] for line in streamed.splitlines() if line.startswith("data: {")]
    for name, values in found.items():
        assert [value for event in events for value in event["logprobs"][name]] == values


def test_an_encoder_decoder_answers_its_prompt_greedily_and_by_beams(exact: Service, zoo: Zoo) -> None:
    tokenizer = train_byte_bpe(TEXTS, 300, encoder_decoder=True)
    (encoding,) = tokenizer.encode(["酒店房间很小"], 64, special_tokens=False)
    expected = greedy(zoo.models["segmenter"], list(encoding.ids), 20)
    stream = tokenizer.decode_stream()
    text = "".join(stream.push(number) for number in expected.ids) + stream.flush()
    options = {"model": "segmenter", "prompt": "酒店房间很小", "max_tokens": 20}
    (choice,) = post(exact, "/v1/completions", **options, temperature=0).json()["choices"]
    assert choice["text"] == text
    (beam,) = post(exact, "/v1/completions", **options, num_beams=4).json()["choices"]
    again = post(exact, "/v1/completions", **options, num_beams=4, stream=True).text
    pieces = [json.loads(line[6:])["choices"][0]["text"] for line in again.splitlines() if line.startswith("data: {")]
    assert beam["text"] == "".join(pieces)


def test_many_texts_at_once_are_each_as_if_alone(exact: Service) -> None:
    bodies = [
        {"model": "writer", "prompt": TEXTS[index], "max_tokens": 10 + index, "seed": index} for index in range(12)
    ]
    alone = [post(exact, "/v1/completions", **body).json()["choices"][0]["text"] for body in bodies]

    async def together() -> list[str]:
        async with httpx.AsyncClient(base_url=exact.url, timeout=60) as client:
            responses = await asyncio.gather(*(client.post("/v1/completions", json=body) for body in bodies))
        return [response.json()["choices"][0]["text"] for response in responses]

    assert asyncio.run(together()) == alone


def test_a_client_that_leaves_frees_its_place(exact: Service) -> None:
    body = {"model": "writer", "prompt": "the", "max_tokens": 60, "n": 20, "stream": True}
    for _ in range(3):  # three full queues, each left after its first event
        with httpx.stream("POST", f"{exact.url}/v1/completions", json=body, timeout=30) as response:
            assert response.status_code == 200, response.read()
            next(response.iter_lines())
    assert post(exact, "/v1/completions", model="writer", prompt="the", max_tokens=4).status_code == 200


@pytest.mark.parametrize(
    ("route", "body", "words"),
    [
        ("/v1/completions", {"model": "writer", "prompt": ""}, None),
        ("/v1/completions", {"model": "segmenter", "prompt": ""}, "prompt 0 is empty"),
        ("/v1/completions", {"model": "writer", "prompt": "我", "max_tokens": 64}, "exceed 64; shorten the prompt"),
        ("/v1/completions", {"model": "writer", "prompt": "我爱北京" * 5_000}, "prompt 0: about "),
        ("/v1/completions", {"model": "writer", "prompt": [1, 9999]}, "token id 9999 is outside the vocabulary"),
        ("/v1/completions", {"model": "writer", "prompt": []}, "send a string"),
        ("/v1/completions", {"model": "writer", "prompt": "a", "temperature": 3}, "less than or equal to 2"),
        ("/v1/completions", {"model": "writer", "prompt": "a", "top_p": 0}, "greater than 0"),
        ("/v1/completions", {"model": "writer", "prompt": "a", "num_beams": 3, "n": 2}, "num_beams 3 goes with n 1"),
        ("/v1/completions", {"model": "writer", "prompt": "a", "num_beams": 3, "top_k": 0, "seed": 1}, "samples nothing; leave out top_k, seed"),
        ("/v1/completions", {"model": "writer", "prompt": "a", "num_beams": 2, "temperature": 1, "top_p": 0.5}, "leave out temperature, top_p"),
        ("/v1/completions", {"model": "writer", "prompt": "a", "num_beams": 2, "seed": None}, None),
        ("/v1/completions", {"model": "writer", "prompt": "a", "stop": ["a", "b", "c", "d", "e"]}, "at most 4"),
        ("/v1/completions", {"model": "writer", "prompt": "a", "stop": ""}, "none of them empty"),
        ("/v1/completions", {"model": "classifier", "prompt": "a"}, "its task is 'classification'"),
        ("/v1/tag", {"model": "classifier", "input": "a"}, "its task is 'classification'; use a token classifier"),
        ("/v1/fill-mask", {"model": "tagger", "input": "[MASK]"}, "use a masked language model"),
        ("/v1/classify", {"model": "masked", "input": "a"}, "use a classifier"),
        ("/v1/embeddings", {"model": "segmenter", "input": "a"}, "use an encoder"),
        ("/v1/attention", {"model": "segmenter", "input": "a"}, "send the pair of them"),
        ("/v1/trace", {"model": "segmenter", "input": "a"}, "use an encoder or a causal decoder"),
    ],
)  # fmt: skip
def test_what_a_model_cannot_do_is_said(exact: Service, route: str, body: dict[str, object], words: str | None) -> None:
    response = post(exact, route, **body)
    if words is None:  # an empty prompt is fine for a causal model: it writes from the start
        assert response.status_code == 200
        return
    assert response.status_code == 400
    assert words in response.json()["error"]["message"]


def test_models_say_which_routes_answer(exact: Service) -> None:
    cards = {card["id"]: card for card in httpx.get(f"{exact.url}/v1/models").json()["data"]}
    assert cards["tagger"]["routes"] == ["/v1/embeddings", "/v1/tag", "/v1/attention", "/v1/trace", "/v1/tokenize"]
    assert cards["segmenter"]["routes"] == ["/v1/completions", "/v1/attention", "/v1/tokenize"]
    assert cards["adapter1"]["adapter"] is True
    assert cards["adapter1"]["base_model"] == "base"
    assert cards["adapter1"]["labels"] == ["x", "y", "z"]
    assert replace(TransformerConfig(vocab_size=9), task="embeddings").task == cards["base"]["task"]


def test_a_base_stays_as_long_as_an_adapter_needs_it(exact: Service, zoo: Zoo, tmp_path: Path) -> None:
    store = ModelStore(exact.home / "bentoml")
    save_model(zoo.models["classifier"], zoo.words, tmp_path / "tuned")
    store.publish(tmp_path / "tuned", "tuned", "tuned:1", "base", None)
    save_adapter(random_adapter(zoo.models["base"], 2, ("a", "b"), seed=9), "tuned", tmp_path / "over")
    store.publish(tmp_path / "over", "over", "over:1", "tuned", None)
    refused = httpx.delete(f"{exact.url}/v1/models/tuned")
    assert refused.status_code == 409
    assert "the base of the adapter over" in refused.json()["error"]["message"]
    assert httpx.delete(f"{exact.url}/v1/models/over").json()["deleted"]
    assert httpx.delete(f"{exact.url}/v1/models/tuned").json()["deleted"]


def test_attention_of_a_causal_decoder_never_looks_ahead(exact: Service) -> None:
    answer = post(exact, "/v1/attention", model="writer", input="我爱北京").json()
    weights = torch.tensor(answer["weights"])
    assert weights.triu(1).abs().max() == 0

"""What a program does with OpenAI's asynchronous client; `contract.py` does it with the other. Used by
`e2e/test_openapi.py`, against a service that `prepared.py` has filled."""

import asyncio
from pathlib import Path

import httpx
import openai
import pytest

from tests.prepared import ROWS, Prepared, start_long_batch


async def drive(standing: Prepared, rows: Path) -> None:
    async with openai.AsyncOpenAI(base_url=f"{standing.service.url}/v1", api_key=standing.key, max_retries=0) as client:
        await asyncio.gather(
            embeddings(client), completions(client), models(client), files_and_jobs(client, rows), batches(client, standing),
            extensions(client),
        )  # fmt: skip


async def embeddings(client: openai.AsyncOpenAI) -> None:
    found = await client.embeddings.create(model="minilm-l6", input=["one", "two"])  # asked for as base64
    assert [len(item.embedding) for item in found.data] == [32, 32]
    with pytest.raises(openai.NotFoundError, match="'gpt-9' does not exist"):
        await client.embeddings.create(model="gpt-9", input="one")


async def completions(client: openai.AsyncOpenAI) -> None:
    whole = await client.completions.create(model="chinese-writer", prompt="北京", max_tokens=6, temperature=0)
    stream = await client.completions.create(
        model="chinese-writer", prompt="北京", max_tokens=6, temperature=0, stream=True,
        stream_options={"include_usage": True},
    )  # fmt: skip
    pieces = [piece async for piece in stream]
    assert "".join(piece.choices[0].text for piece in pieces if piece.choices) == whole.choices[0].text
    assert pieces[-1].usage == whole.usage


async def models(client: openai.AsyncOpenAI) -> None:
    names = {model.id async for model in client.models.list()}
    assert {"minilm-l6", "movies-1"} <= names
    assert (await client.models.retrieve("named")).id == "movies-2"


async def files_and_jobs(client: openai.AsyncOpenAI, rows: Path) -> None:
    uploaded = await client.files.create(file=rows, purpose="fine-tune")
    assert (await client.files.content(uploaded.id)).read() == rows.read_bytes()
    assert uploaded.id in {file.id async for file in client.files.list(limit=1)}  # in pages
    job = await client.fine_tuning.jobs.create(
        model="minilm-l6", training_file=uploaded.id, hyperparameters={"n_epochs": 1}, metadata={"by": "async"},
        extra_body={"adapter": "lora", "priority": -1},
    )  # fmt: skip
    assert (await client.fine_tuning.jobs.retrieve(job.id)).metadata == {"by": "async"}
    assert [one.id async for one in client.fine_tuning.jobs.list(metadata={"by": "async"})] == [job.id]
    with pytest.raises(openai.ConflictError, match="cancel the job first"):
        await client.files.delete(uploaded.id)
    assert (await client.fine_tuning.jobs.cancel(job.id)).status == "cancelled"
    assert [event.message async for event in client.fine_tuning.jobs.list_events(job.id, limit=1)]
    assert (await client.files.delete(uploaded.id)).deleted


async def batches(client: openai.AsyncOpenAI, standing: Prepared) -> None:
    made = await client.batches.create(
        input_file_id=standing.ids["batch file"], endpoint="/v1/classify", completion_window="24h"
    )
    assert (await client.batches.retrieve(made.id)).id == made.id
    assert made.id in {batch.id async for batch in client.batches.list(limit=1)}
    with standing.client() as plain:
        long = await asyncio.to_thread(start_long_batch, plain)
    assert (await client.batches.cancel(long)).status in ("cancelling", "cancelled")


async def extensions(client: openai.AsyncOpenAI) -> None:
    body = {"model": "movie-sentiment", "input": ROWS[0]["text"]}
    answer = await client.post("/classify", body=body, cast_to=dict[str, object])
    assert answer["object"] == "list"
    png = {"headers": {"accept": "image/png"}}
    picture = await client.post("/attention", body=body, cast_to=httpx.Response, options=png)  # type: ignore[arg-type]
    assert picture.content.startswith(b"\x89PNG")

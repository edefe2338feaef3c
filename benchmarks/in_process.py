"""The service's engine without HTTP: what the machine gives when nothing but it computes."""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from model.tokenizer import Encoding
from service.engine.cores import cores_on
from service.engine.engine import Engine
from service.engine.runner import LoadedModel, Operation
from service.metrics import Metrics

TIMEOUT_SECONDS = 600.0


class InProcess:
    """Texts to the engine, all at once."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def run(self, models: Sequence[LoadedModel], operation: Operation, encodings: Sequence[Encoding]) -> list[Any]:
        """One result a text, in order; texts of one model that lie side by side are one call."""
        return asyncio.run(self._ask(models, operation, encodings))

    async def _ask(
        self, models: Sequence[LoadedModel], operation: Operation, encodings: Sequence[Encoding]
    ) -> list[Any]:
        calls: list[tuple[LoadedModel, list[Encoding]]] = []
        for loaded, encoding in zip(models, encodings, strict=True):
            if not calls or calls[-1][0] is not loaded:
                calls.append((loaded, []))
            calls[-1][1].append(encoding)
        answers = await asyncio.gather(
            *(self._engine.submit(loaded, operation, texts, "benchmark") for loaded, texts in calls)
        )
        return [answer for part in answers for answer in part]


@contextmanager
def in_process(max_batch_tokens: int) -> Iterator[InProcess]:
    cores = cores_on(torch.device("cpu"))
    engine = Engine(Metrics(), 10**9, max_batch_tokens, 1, 1, TIMEOUT_SECONDS, cores)
    engine.start()
    try:
        yield InProcess(engine)
    finally:
        engine.stop()

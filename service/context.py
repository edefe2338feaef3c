"""The parts one application is made of, passed to the routes. Built by `app.py`, never global."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from service.aliases import Names
from service.batches import BatchStore
from service.database import Database
from service.drain import Drain
from service.engine.engine import Engine
from service.engine.runner import LoadedModel
from service.engine.spans import Part, current_trace
from service.errors import NotFound
from service.files import FileStorage
from service.jobs.store import JobStore
from service.keys import OPEN, Caller, KeyStore
from service.metrics import Metrics
from service.registry import Registry
from service.settings import Settings
from service.traces import Traces
from service.webhooks import Attempts, WebhookStore

NOTEWORTHY_SECONDS = 0.001  # a model that is in memory is found in less
CALLER = "vitrine.caller"  # where the gate puts the Caller in a request's scope


@dataclass(frozen=True)
class Parts:
    """One instance an application."""

    settings: Settings
    metrics: Metrics
    registry: Registry
    engine: Engine
    database: Database
    jobs: JobStore
    files: FileStorage
    keys: KeyStore
    names: Names
    webhooks: WebhookStore
    webhook_tests: Attempts
    batches: BatchStore
    drain: Drain
    traces: Traces | None

    async def model(self, name: str, owner: str) -> LoadedModel:
        """The model that an id or an alias means, loaded. Raises NotFound."""
        with Part("model", at_least=NOTEWORTHY_SECONDS) as known:
            loaded = await self._model(name, owner)
            known["model"] = loaded.id
        if (trace := current_trace()) is not None:
            trace.tell(model=loaded.id)
        return loaded

    async def _model(self, name: str, owner: str) -> LoadedModel:
        model_id = await self.names.model(name, owner)
        try:
            return await self.registry.get(model_id, owner)
        except NotFound:
            moved = await self.names.model(name, owner, fresh=True)  # named or promoted elsewhere a moment ago
            if moved == model_id:
                raise
            return await self.registry.get(moved, owner)


async def _parts(request: Request) -> Parts:  # async: FastAPI would take a thread for a plain function
    parts = request.app.state.parts
    assert isinstance(parts, Parts)
    return parts


async def _caller(request: Request) -> Caller:
    caller = request.scope.get(CALLER, OPEN)
    assert isinstance(caller, Caller)
    return caller


async def _jobs(parts: "PartsOf", caller: "CallerOf") -> JobStore:
    return parts.jobs.of(caller.owner)


PartsOf = Annotated[Parts, Depends(_parts)]
CallerOf = Annotated[Caller, Depends(_caller)]
JobsOf = Annotated[JobStore, Depends(_jobs)]  # the caller's own; `parts.jobs` would be everyone's

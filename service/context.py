"""The parts one application is made of, passed to the routes. Built by `app.py`, never global."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from service.engine.engine import Engine
from service.files import FileStorage
from service.jobs.store import JobStore
from service.metrics import Metrics
from service.registry import Registry
from service.settings import Settings


@dataclass(frozen=True)
class Parts:
    """One instance an application."""

    settings: Settings
    metrics: Metrics
    registry: Registry
    engine: Engine
    jobs: JobStore
    files: FileStorage


def _parts(request: Request) -> Parts:
    parts = request.app.state.parts
    assert isinstance(parts, Parts)
    return parts


PartsOf = Annotated[Parts, Depends(_parts)]

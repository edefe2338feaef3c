"""What a backup is: a tar of the store, the files, the models and the audit log, with a manifest that comes last and
without which it is not whole.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy.engine import make_url

from service.errors import InvalidRequest
from service.settings import Settings

FORMAT = 1  # of the archive itself
STORE, AUDIT, MANIFEST = "store.sqlite", "audit.jsonl", "manifest.json"
MODEL_FILE = "model.yaml"  # of each version of a model in BentoML's store
TellBytes = Callable[[int, int], None]  # how many more are done, and of how many


@dataclass(frozen=True)
class Member:
    """One file of the archive."""

    name: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """What the archive says of itself."""

    format: int
    schema: int
    vitrine: str
    created_at: float
    members: tuple[Member, ...]

    @property
    def summary(self) -> str:
        files = sum(member.name.startswith("files/") for member in self.members)
        models = sum(
            member.name.startswith("models/") and member.name.endswith(f"/{MODEL_FILE}") for member in self.members
        )
        size = sum(member.size for member in self.members)
        day = time.strftime("%Y-%m-%d %H:%M", time.localtime(self.created_at))
        return f"the store of {day}, {files} files, {models} models, {size / 1e6:.1f} MB"


def store_of(settings: Settings) -> Path:
    """Where the store lies. Raises InvalidRequest for a service whose state is not all in its folder."""
    url = make_url(settings.database_url)
    if url.get_backend_name() != "sqlite" or settings.artefacts:
        rest = "the folder at VITRINE_ARTEFACTS" if settings.artefacts else "files/ and bentoml/models/ of VITRINE_HOME"
        raise InvalidRequest(
            "this takes a service with its state in one folder; back up VITRINE_DATABASE by its own tool, as pg_dump, "
            f"and after that {rest} by your means of copying"
        )
    assert url.database
    return Path(url.database)

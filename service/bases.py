"""A base by what a command was given. Used by the commands that train, evaluate and report."""

from pathlib import Path

from model.folders import is_model_folder
from service.errors import NotFound
from service.model_store import ModelStore
from service.settings import Settings


def find_base(given: str, settings: Settings) -> Path:
    """A model folder, a model of the store, or the default model, which is fetched when it is not there yet."""
    if is_model_folder(Path(given)):
        return Path(given)
    try:
        card = ModelStore.of(settings).find(given)
    except NotFound as error:
        if given == "minilm-l6":
            from training.catalogue import fetch_minilm  # with all that it imports

            return fetch_minilm(settings.cache)
        raise ValueError(f"{error}; or name a model folder") from None
    if card.adapter:
        raise ValueError(f"{given!r} is an adapter over {card.base_model!r}; name that one")
    return card.folder

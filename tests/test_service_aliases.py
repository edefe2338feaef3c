"""A name stands for one model at a time: promoted past a gate, rolled back, and never in between."""

import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.aliases import AliasStore
from service.database import Database
from service.engine.runner import LoadedModel
from service.errors import Conflict, InvalidRequest, NotFound
from service.registry import Registry
from service.routes.models import ERRORS
from tests.house import House, house
from tests.test_service_jobs_store import Clock
from training.optim import LOWER_IS_BETTER

__all__ = ["house"]  # a fixture
MOOD = "ft:tiny:vitrine:mood:"


@pytest.fixture
def aliases(database_url: str) -> Iterator[AliasStore]:
    made = AliasStore(Database(database_url), Clock())
    yield made
    made._database.close()


def everything(_: str) -> bool:
    return True


def test_rolling_back_goes_step_by_step_to_where_a_name_came_from(aliases: AliasStore) -> None:
    for model in ("v1", "v2", "v3"):
        named = aliases.promote("ann", "mood", model)
    assert (named.model, named.previous) == ("v3", "v2")
    assert [aliases.roll_back("ann", "mood", everything).model for _ in range(2)] == ["v2", "v1"]
    with pytest.raises(Conflict, match="has stood for nothing before v1"):
        aliases.roll_back("ann", "mood", everything)
    aliases.promote("ann", "mood", "v4")
    assert aliases.roll_back("ann", "mood", everything).model == "v1", "what was rolled back from is not gone to again"


def test_rolling_back_passes_over_models_that_are_gone(aliases: AliasStore) -> None:
    for model in ("v1", "v2", "v3"):
        aliases.promote("ann", "mood", model)
    assert aliases.roll_back("ann", "mood", lambda model: model != "v2").model == "v1"
    (named,) = aliases.all("ann")
    assert (named.model, named.previous) == ("v1", None)


def test_names_are_an_owners_own(aliases: AliasStore) -> None:
    aliases.promote("ann", "mood", "v1")
    aliases.promote("bob", "mood", "w1")
    assert [named.model for named in aliases.all("ann")] == ["v1"]
    with pytest.raises(Conflict, match="stands for v1 already"):
        aliases.promote("ann", "mood", "v1")
    assert aliases.of_model("w1") == ["mood"]
    aliases.remove("ann", "mood")
    assert aliases.all("ann") == []
    assert aliases.of_model("v1") == []
    for act in (lambda: aliases.remove("ann", "mood"), lambda: aliases.roll_back("ann", "mood", everything)):
        with pytest.raises(NotFound, match="alias 'mood' does not exist"):
            act()
    for odd in ("", "Mood", "a:b", "-a", "a" * 64, "a/b"):
        with pytest.raises(InvalidRequest, match="can't be used"):
            aliases.promote("ann", odd, "v1")


# ---- over HTTP


def test_of_errors_and_losses_the_lower_figure_is_the_better(house: House) -> None:
    better = {"alias": "losses", "metric": "loss", "beats_current": True}
    assert set(LOWER_IS_BETTER) <= ERRORS
    assert [promote(house, number, **better)[0] for number in (1, 3, 2, 2)] == [200, 409, 200, 409]  # 0.2, 0.3, 0.1
    status, text = promote(house, 2, alias="losses", metric="loss", at_least=0.0)
    assert (status, "of loss less is better; ask beats_current instead" in text) == (400, True)
    house.ask("DELETE", "/v1/aliases/losses", house.ann)


def promote(house: House, number: int, **fields: object) -> tuple[int, str]:
    answer = house.ask("POST", f"/v1/models/{MOOD}{number}/promote", house.ann, json={"alias": "movies"} | fields)
    return answer.status_code, answer.text


def test_a_name_is_called_like_a_model_and_moves_past_a_gate_only(house: House) -> None:
    def classify() -> int:
        body = {"model": "movies", "input": "red cat"}
        return int(house.ask("POST", "/v1/classify", house.ann, json=body).status_code)

    assert classify() == 404
    assert promote(house, 1, metric="accuracy", at_least=0.75)[0] == 200
    assert classify() == 200
    assert house.ask("POST", "/v1/classify", house.bob, json={"model": "movies", "input": "x"}).status_code == 404
    status, text = promote(house, 3, metric="accuracy", at_least=0.75)
    assert (status, "has accuracy 0.7000, below 0.75; it was not promoted" in text) == (409, True)
    status, text = promote(house, 3, metric="accuracy", beats_current=True)
    assert (status, f"{MOOD}1 has 0.8000" in text, "gate_not_passed" in text) == (409, True, True)
    assert promote(house, 2, metric="accuracy", beats_current=True)[0] == 200
    assert promote(house, 3, metric="f9")[0] == 400
    assert "it has accuracy, loss" in promote(house, 3, metric="f9")[1]
    assert promote(house, 3, at_least=0.5)[0] == 400
    for number in ("NaN", "Infinity", "1e999"):
        asked = f'{{"alias": "movies", "metric": "accuracy", "at_least": {number}}}'
        headers = house.ann | {"content-type": "application/json"}
        answer = house.ask("POST", f"/v1/models/{MOOD}3/promote", headers, content=asked)
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, "at_least")
    assert house.ask("POST", "/v1/models/tiny/promote", house.ann, json={"alias": "tiny"}).status_code == 409
    found = house.ask("GET", "/v1/models/movies", house.ann).json()
    assert (found["id"], found["aliases"]) == (f"{MOOD}2", ["movies"])
    refused = house.ask("DELETE", f"/v1/models/{MOOD}2", house.ann)
    assert refused.status_code == 409
    assert "the alias movies stands for" in refused.text
    back = house.ask("POST", "/v1/models/movies/rollback", house.ann).json()
    assert (back["model"], back["previous"]) == (f"{MOOD}1", None)
    assert house.ask("DELETE", "/v1/aliases/movies", house.ann).json() == {
        "id": "movies",
        "object": "alias",
        "deleted": True,
    }
    assert classify() == 404


def test_a_model_that_is_deleted_while_a_promotion_loads_it_gets_no_name(
    house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry: Registry = house.app.state.parts.registry
    shutil.copytree(registry.store.find(f"{MOOD}1").folder, tmp_path / "tuned")
    registry.store.publish(tmp_path / "tuned", f"{MOOD}4", "ft-mood:4", "tiny", None, "ann")
    real = registry.get

    async def loaded_and_deleted(model_id: str, owner: str | None = None) -> LoadedModel:
        loaded = await real(model_id, owner)
        registry.store.delete(model_id)
        return loaded

    monkeypatch.setattr(registry, "get", loaded_and_deleted)
    assert house.ask("POST", f"/v1/models/{MOOD}4/promote", house.ann, json={"alias": "late"}).status_code == 404
    assert "late" not in house.ask("GET", "/v1/aliases", house.ann).text


def test_a_name_that_another_process_gave_a_moment_ago_is_known_at_once(house: House) -> None:
    """This process has just looked which names there are, and trusts that for a second."""
    parts = house.app.state.parts
    parts.names._clock = lambda: 0.0
    try:
        body = {"model": "given-elsewhere", "input": "red cat"}
        assert house.ask("POST", "/v1/classify", house.ann, json=body).status_code == 404
        parts.names.store.promote("ann", "given-elsewhere", f"{MOOD}1")
        assert house.ask("POST", "/v1/classify", house.ann, json=body).status_code == 200
        assert house.ask("POST", "/v1/classify", house.bob, json=body).status_code == 404
    finally:
        parts.names.store.remove("ann", "given-elsewhere")
        parts.names._clock = time.monotonic
        parts.names.forget()


def test_a_swap_under_load_fails_no_request(house: House) -> None:
    """Promotions and roll-backs while eight clients ask without a pause."""
    assert house.ask("POST", f"/v1/models/{MOOD}1/promote", house.ann, json={"alias": "swapped"}).status_code == 200
    stop = threading.Event()
    statuses: list[int] = []

    def keep_asking() -> None:
        while not stop.is_set():
            body = {"model": "swapped", "input": "red cat"}
            statuses.append(house.ask("POST", "/v1/classify", house.ann, json=body).status_code)

    clients = [threading.Thread(target=keep_asking) for _ in range(8)]
    for client in clients:
        client.start()
    try:
        for number in (2, 3) * 10:
            promoted = house.ask("POST", f"/v1/models/{MOOD}{number}/promote", house.ann, json={"alias": "swapped"})
            back = house.ask("POST", "/v1/models/swapped/rollback", house.ann)
            assert (promoted.status_code, back.status_code) == (200, 200)
    finally:
        stop.set()
        for client in clients:
            client.join()
    assert set(statuses) == {200}
    assert len(statuses) > 50

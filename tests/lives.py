"""Real runs in processes of their own, to be killed: what `test_training_kills.py` starts.

Children are forked from a server that has imported everything once, so that a life costs a second, not ten.
"""

import json
import multiprocessing
import os
import pkgutil
import resource
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch

import training.lanes
from training.config import Recipe
from training.events import Evaluated, Progress, TrainingEvent
from training.finetune import finetune, load_data

LIFE_SECONDS = 120
SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload([__name__])


@dataclass(frozen=True)
class Run:
    """One fine-tuning run, the same whenever it is begun. Its events are written to `output/events.jsonl`."""

    base: Path
    rows: Path
    recipe: Recipe
    output: Path
    threads: int = 1  # with more, rows of a few tokens are dealt out to lanes

    def live(
        self, blow: "Blow | None" = None, after_seconds: float | None = None, largest_file: int | None = None
    ) -> bool:
        """One life in a process of its own -> whether it came to the run's end. It is ended by the blow, or from
        outside so long after its training began; and may write no file of more bytes than `largest_file`."""
        ours, its = SERVER.Pipe()
        child = SERVER.Process(target=_live, args=(self, blow, largest_file, its))
        child.start()
        assert ours.poll(LIFE_SECONDS), "training did not begin"
        child.join(LIFE_SECONDS if after_seconds is None else after_seconds)
        if after_seconds is not None and child.is_alive():
            child.kill()
            child.join(LIFE_SECONDS)
        assert child.exitcode in (0, -signal.SIGKILL), f"the run failed with exit status {child.exitcode}"
        return child.exitcode == 0

    def events(self) -> list[dict[str, Any]]:
        """Those of all lives."""
        return [json.loads(line) for line in (self.output / "events.jsonl").read_bytes().splitlines()]


@dataclass(frozen=True)
class Blow:
    """Where a life ends: at a call of this function, counted from 1, of those that are about a path with these
    letters in it. A life that ends amid `save_file` leaves what safetensors leaves: half a file under a name of its
    own."""

    function: str
    call: int = 1
    about: str = ""
    moment: str = "before"  # or "after", or "amid"

    def prepare(self) -> None:
        """Puts a deadly function in the place of the real one."""
        owner_name, _, name = self.function.rpartition(".")
        owner = pkgutil.resolve_name(owner_name)
        real = getattr(owner, name)
        calls = 0

        def deadly(*arguments: Any, **named: Any) -> Any:
            nonlocal calls
            paths = [one for one in arguments if isinstance(one, str | Path)]
            calls += self.about in " ".join(map(str, paths))
            due = calls == self.call and self.about in " ".join(map(str, paths))
            if due and self.moment == "before":
                _die()
            result = real(*arguments, **named)
            if due and self.moment == "amid":
                half = Path(paths[0]).rename(Path(paths[0]).with_name(f".tmp{os.getpid()}"))
                os.truncate(half, half.stat().st_size // 2)
            if due:
                _die()
            return result

        setattr(owner, name, deadly)


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _live(run: Run, blow: Blow | None, largest_file: int | None, began: Connection) -> None:
    torch.set_num_threads(run.threads)
    if run.threads > 1:
        training.lanes.FEWEST_TOKENS = 4
    if largest_file is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))
    if blow is not None:
        blow.prepare()
    run.output.mkdir(exist_ok=True)
    data = load_data(run.rows, None, run.recipe)
    with open(run.output / "events.jsonl", "ab", buffering=0) as file:  # a line in one system call: whole or not at all
        began.send_bytes(b"began")
        for event in finetune(run.base, data, run.recipe, run.output, torch.device("cpu")):
            file.write(json.dumps(_timeless(event)).encode() + b"\n")


def _timeless(event: TrainingEvent) -> dict[str, Any]:
    """What an event says, but for the speed."""
    fields: dict[str, Any] = {"kind": type(event).__name__} | dict(event.__dict__)
    if isinstance(event, Progress):
        del fields["tokens_per_second"]
    if isinstance(event, Evaluated):
        fields["evaluation"] = event.evaluation.to_dict()
    return fields


def distinct(events: Sequence[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    """Events of a kind in order of their steps, those that are told twice once. Fails where two tellings differ."""
    found: dict[int, dict[str, Any]] = {}
    for event in events:
        if event["kind"] == kind:
            assert found.setdefault(event["step"], event) == event, "two lives differ"
    return [found[step] for step in sorted(found)]

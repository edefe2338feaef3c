"""Two processes started by torchrun do what one does: the same weights, scores and decisions; killed, they resume."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from model.weights import read_tensors
from tests.conftest import ROOT
from tests.parallel_run import CASES, NUM_ROWS
from training.dynamics import Dynamics
from training.parallel import ALONE, World

SECONDS = 240
CLOSE = 1e-6
TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m"]


def launch(folder: Path, *arguments: str, together: bool = True) -> subprocess.CompletedProcess[str]:
    """`tests/parallel_run.py` in one process or, by torchrun, in two."""
    command = [sys.executable, *(TORCHRUN if together else ["-m"]), "tests.parallel_run", str(folder), *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=SECONDS)


def succeed(folder: Path, *arguments: str, together: bool = True) -> Path:
    done = launch(folder, *arguments, together=together)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return succeed(tmp_path_factory.mktemp("alone"), together=False)


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return succeed(tmp_path_factory.mktemp("together"))


def left_by(folder: Path, case: str) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor], dict[str, Any]]:
    """Weights, what the objective gathered, and the facts of one run."""
    own = folder / case.replace(" ", "-")
    facts = json.loads((own / "facts.json").read_text(encoding="utf-8"))
    return read_tensors(own / "weights.safetensors"), read_tensors(own / "gathered.safetensors"), facts


def largest_difference(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> float:
    assert first.keys() == second.keys()
    return max(float((first[name] - second[name]).abs().max()) for name in first)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_two_processes_give_the_weights_of_one(alone: Path, together: Path, case: str) -> None:
    (one, gathered_by_one, facts), (two, gathered_by_two, others) = left_by(alone, case), left_by(together, case)
    assert all(tensor.dtype == torch.float64 for tensor in one.values())
    assert largest_difference(one, two) < CLOSE
    for name in ("step", "best_step", "events"):
        assert facts[name] == others[name]
    for mine, theirs in zip(facts["history"], others["history"], strict=True):
        assert mine == pytest.approx(theirs, abs=CLOSE)
    for name, tensor in gathered_by_one.items():
        assert torch.allclose(tensor.double(), gathered_by_two[name].double(), atol=1e-3, equal_nan=True), name


@pytest.mark.slow
def test_the_cases_are_what_they_are_called(alone: Path) -> None:
    """Else the comparison above would say little."""
    assert NUM_ROWS % 7 == 1, "the last batch has fewer rows than there are processes"
    stopped = left_by(alone, "stopped early")[2]
    assert stopped["step"] < 9 * -(-NUM_ROWS // 7)
    assert stopped["best_step"] < stopped["step"], "the weights of another step than the last are kept"
    weighted, plain = left_by(alone, "class weights")[0], left_by(alone, "micro-batches")[0]
    assert largest_difference(weighted, plain) > 1e-3
    gathered = left_by(alone, "classification")[1]["probability"]
    assert gathered.shape == (9, NUM_ROWS)
    assert gathered[:2].isfinite().all(), "every row was seen in both epochs"
    assert gathered[2:].isnan().all(), "and in no other"


@pytest.mark.slow
def test_a_killed_run_resumes_to_the_same_bytes(together: Path, tmp_path: Path) -> None:
    case = "classification"
    killed = launch(tmp_path, case, "--kill-at", "8")
    assert killed.returncode != 0
    assert "SIGKILL" in killed.stderr
    assert not (tmp_path / case / "facts.json").exists()
    succeed(tmp_path, case)
    whole, resumed = left_by(together, case), left_by(tmp_path, case)
    assert len(resumed[2]["events"]) < len(whole[2]["events"]), "it went on from the checkpoint after the first epoch"
    assert resumed[2]["history"] == whole[2]["history"]
    for first, second in zip(whole[:2], resumed[:2], strict=True):
        assert all(torch.equal(first[name].nan_to_num(-1), second[name].nan_to_num(-1)) for name in first)


def test_shares_are_a_partition_and_turns_are_equally_many() -> None:
    for size in (1, 2, 3, 5):
        for count in range(12):
            items = list(range(count))
            worlds = [World(rank, size) for rank in range(size)]
            assert sorted(item for world in worlds for item in world.share(items)) == items
            turns = [list(world.turns(items)) for world in worlds]
            assert len({len(own) for own in turns}) == 1
            assert sorted(item for own in turns for item, counts in own if counts) == items
            assert all(item == 0 for own in turns for item, counts in own if not counts)


def test_a_run_of_one_process_asks_nobody() -> None:
    tensor = torch.tensor([1.0, 2.0])
    ALONE.add_up([tensor])
    assert tensor.tolist() == [1.0, 2.0]
    assert (ALONE.any(True), ALONE.any(False), ALONE.smallest(3), ALONE.from_leader(lambda: "x")) == (
        True,
        False,
        3,
        "x",
    )
    ALONE.must_agree(1, "anything")
    ALONE.wait()
    with ALONE.leader_first():
        pass
    dynamics = Dynamics(1, 3)
    dynamics.record(0, [1], torch.tensor([0.25]))
    dynamics.gather(ALONE)
    assert dynamics.tensors()["probability"].nan_to_num(-1).tolist() == [[-1, 0.25, -1]]

"""Two processes started by torchrun do what one does: the same weights, scores and decisions; killed, they resume."""

import csv
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from model.heads import TextModel
from model.lora import load_adapter, merge
from model.tokenizer import train_wordpiece
from model.weights import load_model, read_tensors, save_model
from tests.conftest import ROOT, free_port, write_jsonl
from tests.parallel_run import CASES, NUM_ROWS
from tests.small import small_config
from training.dynamics import Dynamics
from training.evaluate import predict
from training.parallel import ALONE, World
from training.results import read_manifest

pytestmark = pytest.mark.timeout(1_500)  # a run of many cases in each of two processes, on a machine that is shared
SECONDS = 550
CLOSE = 1e-6
WORDS = ["red", "green", "blue", "cat", "dog", "bird", "runs", "sleeps", "北京", "上海", "去", "在"]
SHARDED_LORA = ["--shard", "--adapter", "lora", "--epochs", "2", "--evaluation-steps", "100"]
SHORT = "out of memory"
TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m"]


def launch(folder: Path, *arguments: str, together: bool = True) -> subprocess.CompletedProcess[str]:
    """`tests/parallel_run.py` in one process or, by torchrun, in two."""
    command = [sys.executable, *(TORCHRUN if together else ["-m"]), "tests.parallel_run", str(folder), *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=SECONDS)


def launch_without_torchrun(folder: Path, *arguments: str) -> list[subprocess.CompletedProcess[str]]:
    """Nobody ends the one process when the other dies: it must find that out and say so by itself."""
    facts = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    command = [sys.executable, "-m", "tests.parallel_run", str(folder), *arguments]
    started = [
        subprocess.Popen(
            command, cwd=ROOT, env=os.environ | facts | {"RANK": rank, "LOCAL_RANK": rank, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for rank in ("0", "1")
    ]  # fmt: skip
    try:
        ends = [process.communicate(timeout=SECONDS) for process in started]
    finally:
        for process in started:
            process.kill()  # no effect on one that has ended
    return [
        subprocess.CompletedProcess(command, process.returncode, *end)
        for process, end in zip(started, ends, strict=True)
    ]


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


@pytest.fixture(scope="module")
def sharded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return succeed(tmp_path_factory.mktemp("sharded"), *(case for case in CASES if case != SHORT), "--shard")


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
    assert_same_end(alone, together, case)


@pytest.mark.slow
@pytest.mark.parametrize("case", [case for case in CASES if case != SHORT])
def test_two_processes_with_half_of_each_weight_give_the_weights_of_one(alone: Path, sharded: Path, case: str) -> None:
    assert_same_end(alone, sharded, case)


def assert_same_end(first: Path, second: Path, case: str) -> None:
    """The same weights, scores, decisions, events, and rows seen."""
    (one, gathered_by_one, facts), (_, gathered_by_two, others) = left_by(first, case), left_by(second, case)
    assert all(tensor.dtype == torch.float64 for tensor in one.values())
    assert_same_weights_and_history(first, second, case)
    for name in ("step", "best_step", "events"):
        assert facts[name] == others[name]
    for name, tensor in gathered_by_one.items():
        assert torch.allclose(tensor.double(), gathered_by_two[name].double(), atol=1e-3, equal_nan=True), name


def assert_same_weights_and_history(first: Path, second: Path, case: str) -> None:
    (one, _, facts), (two, _, others) = left_by(first, case), left_by(second, case)
    assert largest_difference(one, two) < CLOSE
    for mine, theirs in zip(facts["history"], others["history"], strict=True):
        assert mine == pytest.approx(theirs, abs=CLOSE)


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
def test_a_killed_run_resumes_at_the_agreed_checkpoint_to_the_same_bytes(together: Path, tmp_path: Path) -> None:
    case = "often saved"
    left, killed = launch_without_torchrun(tmp_path, case, "--disturb", "kill", "--step", "8")
    assert killed.returncode == -signal.SIGKILL
    assert left.returncode == 1
    assert "another process of this run has ended without a word" in left.stderr.splitlines()[-1]
    position = json.loads((tmp_path / "often-saved" / "checkpoint" / "state.json").read_text(encoding="utf-8"))
    assert '"step": 8' in json.dumps(position), "saved by time after every step, not only where an epoch ends"
    succeed(tmp_path, case)
    whole, resumed = left_by(together, case), left_by(tmp_path, case)
    assert resumed[2]["history"] == whole[2]["history"]
    for first, second in zip(whole[:2], resumed[:2], strict=True):
        assert all(torch.equal(first[name].nan_to_num(-1), second[name].nan_to_num(-1)) for name in first)


@pytest.mark.slow
def test_a_sharded_process_holds_about_half_of_the_weights(together: Path, sharded: Path) -> None:
    assert left_by(together, "classification")[2]["held"] == 1.0
    assert 0.4 < left_by(sharded, "classification")[2]["held"] < 0.6


@pytest.mark.slow
def test_no_thread_of_the_group_outlives_it(together: Path, sharded: Path) -> None:
    """It might need the interpreter while that ends, and would abort the process."""
    for folder in (together, sharded):
        for rank in (0, 1):
            threads = json.loads((folder / f"threads-{rank}.json").read_text(encoding="utf-8"))
            assert threads
            assert not [name for name in threads if "gloo" in name]


@pytest.mark.slow
def test_a_killed_sharded_run_resumes_to_the_same_bytes_and_also_unsharded(sharded: Path, tmp_path: Path) -> None:
    case = "stopped early"
    for name in ("again", "unsharded"):
        killed = launch(tmp_path / name, case, "--shard", "--disturb", "kill", "--step", "5")
        assert killed.returncode != 0
    succeed(tmp_path / "again", case, "--shard")
    whole, resumed = left_by(sharded, case), left_by(tmp_path / "again", case)
    assert resumed[2]["history"] == whole[2]["history"]
    assert all(torch.equal(whole[0][name], resumed[0][name]) for name in whole[0])
    succeed(tmp_path / "unsharded", case, together=False)
    assert_same_weights_and_history(sharded, tmp_path / "unsharded", case)
    told = left_by(tmp_path / "unsharded", case)[2]["notes"][0]
    assert "processes was 2, is 1; sharded weights was True, is False" in told


@pytest.mark.slow
def test_a_sharded_run_out_of_memory_goes_on_with_fewer_rows_when_started_again(alone: Path, tmp_path: Path) -> None:
    done = launch(tmp_path, SHORT, "--shard")
    assert done.returncode != 0
    assert (
        done.stderr.count(
            "with 4 rows at a time; start the run again, and it continues from its last checkpoint with 2"
        )
        == 1
    )
    succeed(tmp_path, SHORT, "--shard")
    assert_same_weights_and_history(alone, tmp_path, SHORT)


@pytest.mark.slow
def test_when_the_reader_of_one_process_leaves_all_end(tmp_path: Path) -> None:
    done = launch(tmp_path, "classification", "--disturb", "leave", "--step", "3")
    assert done.returncode != 0, "the run is not finished"
    assert done.stderr.count("UnfinishedRun: another process left the run at step 3 of 12") == 1
    assert not (tmp_path / "classification" / "facts.json").exists()


@pytest.mark.slow
def test_processes_with_different_runs_are_refused_in_one_message(tmp_path: Path) -> None:
    done = launch(tmp_path, "classification", "--disturb", "differ")
    assert done.returncode != 0
    assert done.stderr.count("DifferentRuns: the processes differ in run and checkpoint") == 1
    assert "give all of them the same arguments and files" in done.stderr


# ---- the commands


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random encoder of a few thousand weights."""
    folder = tmp_path_factory.mktemp("base")
    tokenizer = train_wordpiece([" ".join(WORDS)] * 5, 200)
    config = small_config("encoder", vocab_size=tokenizer.vocab_size, dropout=0.1)
    torch.manual_seed(0)
    save_model(TextModel(config), tokenizer, folder)
    return folder


def vitrine_in_two(home: Path, *arguments: str) -> str:
    """`vitrine` as the README has it -> what it wrote to both outputs."""
    tools = Path(sys.executable).parent
    command = [tools / "torchrun", "--standalone", "--nproc-per-node", "2", "--no-python", tools / "vitrine"]
    environment = os.environ | {"VITRINE_HOME": str(home), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [*command, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=SECONDS
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("options", [[], SHARDED_LORA], ids=["few-shot", "sharded LoRA"])
def test_two_processes_tune_as_the_command_of_one_does(base: Path, tmp_path: Path, options: list[str]) -> None:
    texts = [f"{color} {animal} {verb} {'在' * tail}" for tail in range(3) for color in WORDS[:3] for animal in WORDS[3:6] for verb in WORDS[6:8]]  # fmt: skip
    file = write_jsonl(tmp_path / "rows.jsonl", [{"text": text, "label": text.split()[0]} for text in texts])
    output = tmp_path / "tuned"
    arguments = ["finetune", "--data", str(file), "--base", str(base), "--output", str(output)]
    said = vitrine_in_two(tmp_path, *arguments, *options)
    for once in ("task: classification", "chosen: max_length", "training rows,", ": accuracy", "tuned model:"):
        assert said.count(once) == 1, once
    manifest = read_manifest(output)
    assert manifest["surroundings"]["processes"] == 2
    assert manifest["surroundings"]["sharded"] == ("--shard" in options)
    assert manifest["recipe"]["method"] == ("fine_tune" if options else "few_shot")
    model, tokenizer = load_model(base if options else output / "model")
    if options:
        model = merge(model, load_adapter(output / "model"))
    assert model.config.labels == ("blue", "green", "red")
    with open(output / "predictions.csv", encoding="utf-8", newline="") as table:
        held_out = list(csv.DictReader(table))
    logits = predict(model, tokenizer.encode([row["text"] for row in held_out], 64))
    assert [model.config.labels[best] for best in logits.argmax(dim=1)] == [row["predicted"] for row in held_out]
    report = json.loads((output / "evaluation.json").read_text(encoding="utf-8"))
    assert report["training_rows"] == report["dynamics"]["rows"], "the leader knows what both saw of their rows"


@pytest.mark.slow
def test_two_processes_pretrain_and_one_publishes(tmp_path: Path) -> None:
    for name, count in (("train", 40), ("held-out", 5)):
        lines = "\n".join(" ".join(WORDS[number % 5 :]) for number in range(count))
        (tmp_path / f"{name}.txt").write_text(lines, encoding="utf-8")
    arguments = ["pretrain", "--data", str(tmp_path / "train.txt"), "--validation", str(tmp_path / "held-out.txt")]
    arguments += ["--preset", "tiny", "--epochs", "1", "--vocabulary", "200", "--row-tokens", "16", "--batch-rows", "5"]
    said = vitrine_in_two(tmp_path, *arguments, "--publish", "mine", "--shard")
    assert said.count("in the model store as 'mine'") == 1
    assert said.count("pre-trained model:") == 1
    manifest = read_manifest(tmp_path / "pretraining" / "mine")
    assert manifest["surroundings"]["processes"] == 2
    assert len(list((tmp_path / "bentoml" / "models" / "mine").glob("*/model.yaml"))) == 1


# ---- without processes


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

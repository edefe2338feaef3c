"""What a run is said to need before it starts is what it takes; and how many rows pass at once under a limit."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from tests.memory_run import CASES, model_of, run
from training.memory import (
    EVALUATION_BYTES,
    HOLES,
    HOLES_OF_LENGTHS,
    MAPPED_BYTES,
    SPARE_SHARE,
    MemoryNeed,
    free_memory,
    largest_micro_batch,
    measure_need,
)
from training.parallel import ALONE
from training.sharding import NotEnoughMemory, Placement

CPU = torch.device("cpu")
MEBIBYTE = 2**20


@pytest.mark.slow
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("case", CASES)
def test_the_peak_is_at_most_what_was_estimated_and_not_much_less(case: str, threads: int) -> None:
    facts = run(case, threads=threads)
    assert facts["finished"]
    assert facts["lanes"] == threads
    assert facts["peak"] <= facts["estimated"], f"{(facts['peak'] - facts['estimated']) / MEBIBYTE:.0f} MiB more"
    assert facts["estimated"] <= 1.6 * facts["peak"]


@pytest.mark.slow
def test_a_process_that_is_refused_memory_goes_on_with_fewer_rows_at_once() -> None:
    """`ulimit -v`, whose refusals are real: what 256 rows of 512 tokens need is not there."""
    plain = run("many long rows")
    needed = plain["peak"] - plain["at_start"]
    facts = run("many long rows", spare_bytes=needed // 3)
    assert facts["finished"]
    assert facts["step"] == 1
    met = [note for note in facts["notes"] if "out of memory at step 1" in note]
    assert len(met) == 1, facts["notes"]  # beside it: a checkpoint that the refused memory cost is told too
    assert facts["peak"] - facts["at_start"] < needed // 2


# ---- the estimate by hand


class Squares(nn.Module):
    """y = (x W)^2, summed: autograd keeps x (given) and x W for the backward pass."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(10, 20))

    def forward(self, rows: int) -> Tensor:
        return ((torch.ones(rows, 10) @ self.weight) ** 2).sum()


def test_a_forward_pass_tells_what_a_row_takes() -> None:
    model = Squares()
    need = measure_need(model, model)
    assert need.training == 200 * 12
    assert need.writing == 200 * 8
    assert need.per_row == 10 * 4 + 20 * 4
    assert need.passing == 20 * 4
    assert need.fixed == 0
    assert sorted(need.scrap) == [4, 20 * 4], "the sum and the squares"
    assert sorted(need.kept) == [10 * 4, 20 * 4]
    assert model.weight.grad is None


def test_frozen_weights_need_no_gradient_and_rows_past_the_last_no_memory() -> None:
    model = Squares()
    model.weight.requires_grad_(False)
    assert measure_need(model, model).training == 0
    one = Squares()
    need = measure_need(one, lambda _: one(1))  # a training set of one row
    assert need.per_row == 0
    assert need.fixed == 10 * 4 + 20 * 4


def test_a_device_that_holds_one_row_only_is_still_measured() -> None:
    model = Squares()

    def narrow(rows: int) -> Tensor:
        if rows > 1:
            raise torch.OutOfMemoryError("full")
        return model(rows)

    assert measure_need(model, narrow).per_row == 10 * 4 + 20 * 4

    def full(rows: int) -> Tensor:
        raise torch.OutOfMemoryError("full")

    with pytest.raises(NotEnoughMemory, match="one row at a time"):
        measure_need(model, full)


def test_a_row_that_a_cpu_has_no_room_for_is_told_before_the_kernel_ends_the_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = Squares()
    need = measure_need(model, model)
    monkeypatch.setattr("training.memory.free_memory", lambda _: need.per_row + need.fixed)
    assert measure_need(model, model).per_row == need.per_row, "one row fits, of two it is reckoned"
    monkeypatch.setattr("training.memory.free_memory", lambda _: need.per_row // 2)
    with pytest.raises(NotEnoughMemory, match=r"one row at a time.*lower row_tokens"):
        measure_need(model, model)

    def refused(_: int) -> Tensor:
        return torch.empty(2**60)  # more than an address space has

    with pytest.raises(NotEnoughMemory, match="one row at a time"):
        measure_need(model, refused)

    def broken(_: int) -> Tensor:
        raise RuntimeError("another fault")

    with pytest.raises(RuntimeError, match="another fault"):
        measure_need(model, broken)


def test_a_device_without_room_for_the_weights_is_told_in_the_users_words(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise torch.OutOfMemoryError("full")

    model = model_of(16, 1)
    monkeypatch.setattr(model, "to", full)
    with pytest.raises(NotEnoughMemory, match="choose adapter 'lora' or a smaller base"):
        Placement(model, CPU, ALONE)


def test_the_peak_is_of_a_step_a_checkpoint_or_an_evaluation() -> None:
    giant = EVALUATION_BYTES
    need = MemoryNeed(present=7, training=5, writing=3, fixed=2, per_row=giant, passing=1, scrap=(4,))
    assert need.peak(2) == 7 + 5 + 2 + 2 * (giant + 2 + 4)
    assert MemoryNeed(7, 5, 3, 2, 10, 1).peak(2) == 7 + 5 + EVALUATION_BYTES
    assert MemoryNeed(7, 5, 2 * giant, 2, 10, 1).peak(2) == 7 + 5 + 2 * giant
    assert MemoryNeed(7, 5, 3, 2, giant, 10, at_once=3).peak(1) == 7 + 5 + 2 + giant + 30, "as on a GPU"
    large = MAPPED_BYTES // 2
    steady = MemoryNeed(0, 0, 0, 0, giant, 0, (large,))
    assert steady.peak(1) == giant + large
    assert steady.peak(2) == 2 * giant, "what is mapped goes back at once"
    holed = MemoryNeed(0, 0, 0, 0, giant, 0, kept=(large, 3 * large))
    many = int(HOLES_OF_LENGTHS * (large + MAPPED_BYTES))
    assert holed.peak(1) == giant + many, "a shorter batch's tensor may lie in the heap"
    even = MemoryNeed(0, 0, 0, 0, giant, 0, scrap=(large,), kept=(large, 3 * large), one_length=True)
    assert even.peak(1) == giant + large + int(HOLES * (large + MAPPED_BYTES))
    assert replace(even, one_length=False).peak(1) == giant + many


# ---- rows under a limit


NEED = MemoryNeed(present=1_000, training=100, writing=0, fixed=0, per_row=10 * EVALUATION_BYTES, passing=0)


@pytest.mark.parametrize(
    ("batch_size", "room", "rows"), [(32, 32, 32), (32, 31, 16), (32, 3, 2), (32, 1, 1), (7, 6, 4), (5, 2, 2)]
)
def test_as_many_rows_pass_at_once_as_fit(batch_size: int, room: int, rows: int) -> None:
    free = (100 + room * NEED.per_row) / (1 - SPARE_SHARE) + 10
    assert largest_micro_batch(NEED, batch_size, int(free)) == rows


def test_a_row_that_does_not_fit_is_refused_with_need_limit_and_remedy() -> None:
    words = (
        r"needs about 2.50 GiB with one row at a time, and 1.80 GiB can be had; lower max_length, choose adapter 'lora'"
    )
    with pytest.raises(NotEnoughMemory, match=words):
        largest_micro_batch(NEED, 8, 2 * 2**30)


# ---- what is free


def machine(folder: Path, available: int, own_group: str | None = None) -> Path:
    """A /proc of a machine with so many kibibytes available."""
    (folder / "self").mkdir(parents=True)
    (folder / "meminfo").write_text(f"MemTotal:       99999999 kB\nMemFree: 5 kB\nMemAvailable:   {available} kB\n")
    if own_group is not None:
        (folder / "self" / "cgroup").write_text(f"0::{own_group}\n")
    return folder


def limit(group: Path, limit: str, used: int, inactive: int = 0) -> None:
    group.mkdir(parents=True, exist_ok=True)
    (group / "memory.max").write_text(f"{limit}\n")
    (group / "memory.current").write_text(f"{used}\n")
    (group / "memory.stat").write_text(f"anon 1\nfile 2\ninactive_file {inactive}\nactive_file 3\n")


def test_without_a_limit_the_machine_is_the_limit(tmp_path: Path) -> None:
    processes = machine(tmp_path / "proc", 1_000, "/")
    assert free_memory(CPU, processes, tmp_path / "none") == 1_024_000
    limit(tmp_path / "groups", "max", 5)
    assert free_memory(CPU, processes, tmp_path / "groups") == 1_024_000
    bare = machine(tmp_path / "bare", 1_000)
    assert free_memory(CPU, bare, tmp_path / "groups") == 1_024_000


def test_a_containers_limit_counts_and_its_file_cache_is_free(tmp_path: Path) -> None:
    processes = machine(tmp_path / "proc", 1_000, "/")
    limit(tmp_path / "groups", "500000", 300_000, inactive=50_000)
    assert free_memory(CPU, processes, tmp_path / "groups") == 250_000
    limit(tmp_path / "groups", "5000000", 300_000)
    assert free_memory(CPU, processes, tmp_path / "groups") == 1_024_000, "more than the machine has"


def test_a_services_own_limit_counts_and_so_does_that_of_each_group_around_it(tmp_path: Path) -> None:
    processes = machine(tmp_path / "proc", 1_000, "/system.slice/vitrine.service")
    groups = tmp_path / "groups"
    limit(groups / "system.slice" / "vitrine.service", "400000", 100_000)
    assert free_memory(CPU, processes, groups) == 300_000
    limit(groups / "system.slice", "500000", 450_000)
    assert free_memory(CPU, processes, groups) == 50_000
    limit(groups / "system.slice" / "vitrine.service", "max", 100_000)
    limit(groups / "system.slice", "max", 450_000)
    assert free_memory(CPU, processes, groups) == 1_024_000


def test_this_machine_has_some_memory_free() -> None:
    assert 2**20 < free_memory(CPU) < 2**50

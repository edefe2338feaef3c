"""Lanes: the same gradients and scores as without them, the same every time, and each thread in the caller's modes."""

import random
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import training.evaluate
import training.lanes
import training.objectives
import training.trainer
from model.dropout import drop
from tests.parallel_run import CASES
from tests.short_runs import assert_equal, trainer_of, until, weights_of, with_dropout
from tests.small import few
from training.evaluate import evaluation_lanes, predict
from training.gradients import BatchLoss, Gradients
from training.lanes import FEWEST_TOKENS, Lanes, dealt_out, most_lanes
from training.memory import MemoryNeed, fitting_lanes
from training.parallel import ALONE
from training.surroundings import Surroundings, take_up

CPU = torch.device("cpu")
EXACT = 1e-12  # of float64


@pytest.fixture
def _two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def _short_rows(monkeypatch: pytest.MonkeyPatch, _two_threads: None) -> None:
    """Rows of a few tokens are dealt out too, to two lanes."""
    monkeypatch.setattr(training.lanes, "FEWEST_TOKENS", 2)


# ---- who takes which rows


@few
@given(st.lists(st.integers(1, 512), min_size=1, max_size=64), st.integers(1, 8))
def test_every_row_goes_to_one_lane_and_none_has_much_more_than_its_part(lengths: list[int], lanes: int) -> None:
    rows = [row * 10 for row in range(len(lengths))]
    dealt = dealt_out(rows, lengths, lanes)
    assert sorted(row for lane in dealt for row in lane) == rows
    assert all(dealt)
    assert len(dealt) <= max(1, min(lanes, sum(lengths) // FEWEST_TOKENS))
    assert dealt == dealt_out(rows, lengths, lanes)
    part = sum(lengths) / max(1, min(lanes, len(rows), sum(lengths) // FEWEST_TOKENS))
    assert all(sum(lengths[row // 10] for row in lane) <= part + max(lengths) for lane in dealt)


def test_neighbours_in_length_go_together_and_few_tokens_stay_as_they_are() -> None:
    assert dealt_out([3, 1, 2, 0], [50, 200, 60, 190], 2) == [[1], [0, 2, 3]]
    assert dealt_out([3, 1, 2, 0], [60, 62, 61, 63], 2) == [[3, 1, 2, 0]], "246 tokens are not worth two lanes"
    assert dealt_out([0, 1], [900, 900], 1) == [[0, 1]]
    assert dealt_out([7], [900], 4) == [[7]]


@pytest.mark.usefixtures("_two_threads")
def test_there_is_a_lane_for_each_core_of_a_cpu() -> None:
    assert most_lanes(CPU) == 2
    assert most_lanes(torch.device("cuda")) == 1


# ---- calls side by side


@pytest.mark.usefixtures("_two_threads")
def test_calls_run_side_by_side_each_on_its_part_of_the_cores() -> None:
    meeting = threading.Barrier(2, timeout=60)

    def meet() -> tuple[int, int]:
        meeting.wait()
        return threading.get_ident(), torch.get_num_threads()

    with Lanes(2) as lanes:
        (first, cores), (second, other_cores) = lanes.run([meet, meet])
        assert first == threading.get_ident() != second
        assert cores == other_cores == 1
        assert torch.get_num_threads() == 2
        assert lanes.run([meet, meet])[1][0] == second, "threads stay"
        assert lanes.run([torch.get_num_threads]) == [2], "a call alone has all cores"
        assert lanes.each(lambda item: item * item, range(100)) == [item * item for item in range(100)]
        assert lanes.each(len, []) == []
    assert second not in {thread.ident for thread in threading.enumerate()}


@pytest.mark.usefixtures("_two_threads")
def test_a_lane_has_the_callers_number_format_and_modes() -> None:
    weight = torch.ones(2, 2, requires_grad=True)

    def modes() -> tuple[torch.dtype, bool, bool]:
        product = weight @ torch.ones(2, 2)
        return product.dtype, product.requires_grad, product.is_inference()

    with Lanes(2) as lanes:
        assert lanes.run([modes, modes]) == [(torch.float32, True, False)] * 2
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert lanes.run([modes, modes]) == [(torch.bfloat16, True, False)] * 2
        with torch.inference_mode():
            assert lanes.run([modes, modes]) == [(torch.float32, False, True)] * 2
        with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
            assert lanes.run([modes, modes]) == [(torch.bfloat16, False, False)] * 2


@pytest.mark.parametrize("broken", [0, 1])
def test_an_error_is_raised_when_no_lane_runs_any_more(broken: int) -> None:
    done = threading.Event()

    def fail() -> None:
        raise RuntimeError("this lane broke")

    def take_long() -> None:
        done.wait(0.2)
        done.set()

    calls = [take_long, take_long]
    calls[broken] = fail
    with Lanes(2) as lanes:
        with pytest.raises(RuntimeError, match="this lane broke"):
            lanes.run(calls)
        assert done.is_set()
        assert lanes.run([lambda: 1, lambda: 2]) == [1, 2]


# ---- gradients


@pytest.mark.usefixtures("_short_rows")
@pytest.mark.parametrize("case", [case for case in CASES if case not in ("micro-batches", "stopped early")])
@pytest.mark.parametrize("micro_batch", [100, 4])
def test_lanes_add_up_to_the_gradient_of_the_whole_batch(case: str, micro_batch: int) -> None:
    objective = CASES[case][0]()
    trained = [parameter for parameter in objective.model.parameters() if parameter.requires_grad]
    rows = max(objective.steps(0), key=len)
    asked: list[int] = []
    lose = objective.loss

    def loss(rows: list[int], step: int) -> BatchLoss:
        asked.append(threading.get_ident())
        return lose(rows, step)

    def compute(lanes: int) -> tuple[float, int, list[Tensor]]:
        with Lanes(lanes) as side_by_side:
            gradients = Gradients(loss, trained, 0, ALONE, CPU, micro_batch, side_by_side, objective.length)
            mean, tokens = gradients.compute(rows, 2)
        return mean, tokens, [torch.zeros_like(one) if one.grad is None else one.grad.clone() for one in trained]

    alone, by_lanes = compute(1), compute(2)
    assert len(set(asked)) == 2
    assert by_lanes[0] == pytest.approx(alone[0], abs=EXACT)
    assert by_lanes[1] == alone[1]
    assert max(float(gradient.abs().max()) for gradient in alone[2]) > 1e-3
    assert max(float((a - b).abs().max()) for a, b in zip(alone[2], by_lanes[2], strict=True)) < EXACT


def test_a_parameter_that_only_one_lane_needs_has_its_gradient() -> None:
    """And one that none needs has none."""
    first, second, unused = (torch.nn.Parameter(torch.ones(3)) for _ in range(3))

    def loss(rows: list[int], step: int) -> BatchLoss:
        return BatchLoss((first if 0 in rows else second).sum() * 2, len(rows), 1)

    with Lanes(2) as lanes:
        trained = [first, second, unused]
        gradients = Gradients(loss, trained, 0, ALONE, CPU, 9, lanes, lambda _: FEWEST_TOKENS)
        assert gradients.compute([0, 1], 0) == (6.0, 2)
    assert first.grad is not None
    assert first.grad.tolist() == [1.0] * 3
    assert second.grad is not None
    assert second.grad.tolist() == [1.0] * 3
    assert unused.grad is None


@pytest.mark.usefixtures("_short_rows")
def test_a_run_of_lanes_with_dropout_is_the_same_to_the_bit_and_so_is_a_resumed_one(tmp_path: Path) -> None:
    """And it is not the run without them, so lanes there were."""
    whole = with_dropout()
    trainer = trainer_of(whole, tmp_path / "whole")
    list(trainer.run())
    assert trainer.surroundings is not None
    assert trainer.surroundings.lanes == 2
    again = with_dropout()
    list(trainer_of(again, tmp_path / "again").run())
    assert_equal(weights_of(again.model), weights_of(whole.model))
    cut = with_dropout()
    until(trainer_of(cut, tmp_path / "cut").run(), 9)
    torch.set_num_threads(1)
    resumed = with_dropout()
    trainer = trainer_of(resumed, tmp_path / "cut")
    list(trainer.run())
    assert_equal(weights_of(resumed.model), weights_of(whole.model))
    torch.set_num_threads(1)
    plain = with_dropout()
    list(trainer_of(plain, tmp_path / "plain").run())
    assert not torch.equal(plain.model.classifier.linear.weight, whole.model.classifier.linear.weight)  # type: ignore[union-attr]


def test_lanes_draw_other_numbers_than_each_other_and_than_in_the_next_step() -> None:
    seen: list[tuple[int, int, Tensor]] = []

    def loss(rows: list[int], step: int) -> BatchLoss:
        dropped = drop(weight * torch.ones(64), 0.5)
        seen.append((step, rows[0], dropped.detach().clone()))
        return BatchLoss(dropped.sum(), 1, 1)

    weight = torch.nn.Parameter(torch.ones(64))
    with Lanes(2) as lanes:
        gradients = Gradients(loss, [weight], 0, ALONE, CPU, 9, lanes, lambda _: FEWEST_TOKENS)
        for step in (0, 1, 0):
            gradients.compute([0, 1], step)
    drawn = {(step, row): found for step, row, found in seen}
    assert len(drawn) == 4
    pairs = [(a, b) for a in drawn for b in drawn if a < b]
    assert not any(torch.equal(drawn[a], drawn[b]) for a, b in pairs)
    assert all(torch.equal(found, drawn[step, row]) for step, row, found in seen), "a step made again draws the same"


@pytest.mark.usefixtures("_short_rows")
def test_a_lane_short_of_memory_makes_the_step_again_with_fewer_rows(tmp_path: Path) -> None:
    """In float64 without dropout the same weights."""
    plain, scarce = CASES["classification"][0](), CASES["classification"][0]()
    lose = scarce.loss

    def narrow(rows: list[int], step: int) -> BatchLoss:
        if threading.current_thread() is not threading.main_thread() and len(rows) > 2:
            raise torch.OutOfMemoryError("full")
        return lose(rows, step)

    scarce.loss = narrow  # type: ignore[method-assign, assignment]
    list(trainer_of(plain, tmp_path / "plain").run())
    trainer = trainer_of(scarce, tmp_path / "scarce")
    list(trainer.run())
    assert trainer.surroundings is not None
    assert trainer.surroundings.micro_batch_size < 7
    ends = weights_of(plain.model), weights_of(scarce.model)
    assert max(float((ends[0][name] - ends[1][name]).abs().max()) for name in ends[0]) < 1e-9


# ---- memory and what is settled


def test_each_lane_has_a_gradient_and_what_a_pass_keeps_whatever_its_rows() -> None:
    need = MemoryNeed(present=0, training=1200, writing=0, fixed=50, per_row=2**28, passing=0, gradients=400)
    assert need.peak(4, lanes=3) - need.peak(4) == 2 * (50 + 400)
    assert fitting_lanes(need, 4, 3, free_bytes=2**31) == 3
    tight = int((need.peak(4, 3) - 1) / 0.9)
    assert fitting_lanes(need, 4, 3, free_bytes=tight) == 1


def test_a_resumed_run_has_the_lanes_of_before_or_says_why_not() -> None:
    old = Surroundings("float32", 2, 8, 1, "a CPU", lanes=2)
    assert take_up(old, old) == (old, [])
    used, changes = take_up(old, Surroundings("float32", 2, 8, 1, "a CPU", lanes=1))
    assert used.lanes == 1
    assert changes == ["lanes was 2, is 1"]


@pytest.mark.usefixtures("_short_rows")
def test_a_run_settled_before_there_were_lanes_goes_on_without_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as before:
        before.setattr(training.trainer, "most_lanes", lambda _: 1)
        cut = with_dropout()
        until(trainer_of(cut, tmp_path / "cut").run(), 9)
    file = tmp_path / "cut" / "surroundings.json"
    file.write_text(file.read_text(encoding="utf-8").replace(',\n "lanes": 1', ""), encoding="utf-8")
    assert "lanes" not in file.read_text(encoding="utf-8")
    trainer = trainer_of(with_dropout(), tmp_path / "cut")
    list(trainer.run())
    assert trainer.surroundings is not None
    assert trainer.surroundings.lanes == 1


# ---- evaluation


@pytest.mark.usefixtures("_two_threads")
def test_held_out_rows_have_the_same_numbers_on_one_lane_and_on_two(monkeypatch: pytest.MonkeyPatch) -> None:
    objective = CASES["classification"][0]()
    rows = objective.train.encodings  # type: ignore[attr-defined]
    monkeypatch.setattr(training.evaluate, "LANE_TOKENS", 16)
    threads: set[int] = set()
    classify = objective.model.classify
    meeting = threading.Barrier(2, timeout=60)

    def watched(batch: object) -> Tensor:
        if len(threads) < 2:
            threads.add(threading.get_ident())
            meeting.wait()
        return classify(batch)  # type: ignore[arg-type]

    monkeypatch.setattr(objective.model, "classify", watched)
    by_lanes = predict(objective.model, rows)
    assert len(threads) == 2
    monkeypatch.setattr(training.evaluate, "most_lanes", lambda _: 1)
    alone = predict(objective.model, rows)
    assert float((by_lanes - alone).abs().max()) < 1e-6
    assert float(alone.std()) > 1e-2


@pytest.mark.parametrize(
    "case",
    [*("tagging", "several labels", "regression"), *(case for case in CASES if case.endswith(("model", "decoder")))],
)
@pytest.mark.usefixtures("_two_threads")
def test_other_tasks_are_scored_alike(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    objective = CASES[case][0]()
    monkeypatch.setattr(training.evaluate, "LANE_TOKENS", 16)
    monkeypatch.setattr(training.objectives, "EVALUATION_BATCH_TOKENS", 32)
    by_lanes = objective.evaluate(ALONE).figures()
    monkeypatch.setattr(training.evaluate, "most_lanes", lambda _: 1)
    assert objective.evaluate(ALONE).figures() == pytest.approx(by_lanes, rel=1e-5, abs=1e-6)


def test_many_lanes_share_the_tokens_of_an_evaluation() -> None:
    sizes = {lanes: training.evaluate.evaluation_batch_tokens(CPU, lanes) for lanes in (1, 2, 4, 8)}
    assert sizes == {1: 1024, 2: 1024, 4: 1024, 8: 512}
    assert training.evaluate.evaluation_batch_tokens(torch.device("cuda"), 1) == 4096


@pytest.mark.usefixtures("_two_threads")
def test_rows_too_long_to_stand_side_by_side_are_scored_one_after_the_other() -> None:
    """So that an evaluation takes no more memory than it is said to."""
    sizes = {longest: evaluation_lanes(CPU, ALONE, 4096, longest) for longest in (0, 512, 2048, 2049, 9000)}
    assert sizes == {0: 2, 512: 2, 2048: 2, 2049: 1, 9000: 1}


@pytest.mark.usefixtures("_short_rows")
def test_a_run_that_goes_on_elsewhere_than_on_a_cpu_has_no_lanes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    until(trainer_of(with_dropout(), tmp_path / "cut").run(), 9)
    trainer = trainer_of(with_dropout(), tmp_path / "cut")
    real = trainer._settle

    def settle(need: MemoryNeed) -> Surroundings:
        with monkeypatch.context() as elsewhere:
            elsewhere.setattr(trainer, "device", torch.device("cuda"))
            elsewhere.setattr(training.trainer, "free_memory", lambda _: 2**40)
            elsewhere.setattr(training.trainer, "processor_name", lambda _: "a GPU")
            return real(need)

    monkeypatch.setattr(trainer, "_settle", settle)
    list(trainer.run())
    assert trainer.surroundings is not None
    assert trainer.surroundings.lanes == 1


def test_dealing_is_even_for_lengths_of_all_kinds() -> None:
    chance = random.Random(0)
    for lanes in (2, 3, 4):
        lengths = [chance.randint(5, 79) for _ in range(64)]
        parts = [sum(lengths[row] for row in lane) for lane in dealt_out(range(64), lengths, lanes)]
        assert max(parts) - min(parts) <= 79

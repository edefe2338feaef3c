"""Short runs in float64 without dropout, alone or as one of the processes that `torchrun` starts. Run by
`test_training_parallel.py`, which compares the weights they leave.

    python -m tests.parallel_run FOLDER [CASE ...] [--disturb what] [--step number]
"""

import argparse
import functools
import json
import os
import random
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from model.heads import TextModel
from model.lora import LoraConfig, make_trainable
from model.tokenizer import Encoding
from model.weights import write_tensors
from tests.small import random_model, small_config
from training.config import Optimisation, Recipe
from training.corpus import Corpus, PackedRows
from training.events import Noted, TrainingEvent
from training.finetune import freeze, make_objective
from training.labelled import NOT_LEARNED, Rows, TagTargets
from training.objectives import (
    CausalLanguageModel,
    ChooseLabels,
    MaskedLanguageModel,
    Regress,
    SequenceToSequence,
    TagWords,
    TextPairs,
)
from training.parallel import ALONE, World, join_world
from training.sharding import own_part
from training.trainer import Objective, Trainer

NUM_ROWS, BATCH_SIZE = 36, 7  # the last batch has one row: fewer than there are processes
CPU = torch.device("cpu")


def texts(count: int, seed: int) -> list[list[int]]:
    chance = random.Random(seed)
    return [[chance.randint(3, 39) for _ in range(chance.randint(1, 12))] for _ in range(count)]


def rows(kind: Callable[[Sequence[int]], Any], count: int = NUM_ROWS, seed: int = 0) -> Rows[Any]:
    """Random texts, with what `kind` makes of each as its target."""
    found = texts(count, seed)
    return Rows([Encoding.of_ids(ids) for ids in found], [kind(ids) for ids in found])


def tags(ids: Sequence[int]) -> TagTargets:
    """Most texts teach nothing, so that a process's share of a batch may have nothing to learn."""
    own = tuple(number % 3 for number in ids)
    learned = own if ids[0] < 12 else (NOT_LEARNED,) * len(ids)
    return TagTargets(learned, tuple(range(len(ids))), own)


def packed(seed: int, count: int) -> PackedRows:
    documents = texts(count, seed)
    ids = np.array([number for document in documents for number in document], dtype=np.uint32)
    bounds = np.cumsum([0, *map(len, documents)])
    return PackedRows(Corpus(ids, bounds, 0, ""), 16, 1, 2, 0, causal=False)


def model_for(architecture: str = "encoder", **fields: Any) -> TextModel:
    return random_model(small_config(architecture, dropout=0.0, **fields)).requires_grad_(True).double()


LABELS = {"labels": ("a", "b", "c"), "pooling": "first", "pooler": "tanh"}


def classify(model: TextModel | None = None, **fields: Any) -> Objective:
    model = model or model_for(task="classification", **LABELS)
    train, held_out = rows(lambda ids: min(2, sum(ids) % 5)), rows(lambda ids: sum(ids) % 3, 9, 1)
    recipe = Recipe(batch_size=BATCH_SIZE, num_epochs=9, **fields)
    return make_objective("classification", model, train, held_out, recipe)


def adapted() -> Objective:
    model = model_for(task="classification", **LABELS)
    make_trainable(model, LoraConfig(rank=3))
    return classify(model)


def frozen() -> Objective:
    model = model_for(task="classification", **LABELS)
    freeze(model, 1)
    return classify(model)


def short_of_memory() -> Objective:
    """In the last process no more than two rows pass at once."""
    objective = classify()
    if int(os.environ.get("RANK", "0")) == int(os.environ.get("WORLD_SIZE", "1")) - 1:
        objective.loss = functools.partial(_of_few_rows, objective.loss)  # type: ignore[method-assign]
    return objective


def _of_few_rows(loss: Callable[[Sequence[int], int], Any], rows: Sequence[int], step: int) -> Any:
    if len(rows) > 2:
        raise torch.OutOfMemoryError
    return loss(rows, step)


def several_labels() -> ChooseLabels:
    kind = lambda ids: tuple(float(number in ids) for number in (5, 6, 7))  # noqa: E731
    model = model_for(task="multi_label", labels=("a", "b", "c"))
    return ChooseLabels(model, rows(kind), rows(kind, 9, 1), BATCH_SIZE, 0)


def regress() -> Regress:
    kind = lambda ids: float(sum(ids))  # noqa: E731
    return Regress(model_for(task="regression"), rows(kind), rows(kind, 9, 1), BATCH_SIZE, 0)


def tag() -> TagWords:
    model = model_for(task="tagging", labels=("a", "b", "c"))
    return TagWords(model, rows(tags), rows(tags, 9, 1), BATCH_SIZE, 0)


def masked() -> MaskedLanguageModel:
    return MaskedLanguageModel(model_for(), packed(0, 60), packed(1, 20), BATCH_SIZE, 0, 0.3, 3, [0, 1, 2, 3])


def causal() -> CausalLanguageModel:
    return CausalLanguageModel(model_for("decoder", norm_first=True), packed(0, 60), packed(1, 20), BATCH_SIZE, 0)


def pairs() -> SequenceToSequence:
    data = TextPairs(texts(NUM_ROWS, 0), [list(reversed(ids)) for ids in texts(NUM_ROWS, 0)])
    return SequenceToSequence(model_for("encoder_decoder"), data, data, BATCH_SIZE, 0, 0.1)


COMMON: dict[str, Any] = {"num_epochs": 2, "learning_rate": 3e-3, "bfloat16": False, "evaluation_steps": 3}
CASES: dict[str, tuple[Callable[[], Objective], dict[str, Any]]] = {
    "classification": (classify, {"metric": "accuracy"}),
    "stopped early": (
        classify,
        {"metric": "accuracy", "patience": 1, "learning_rate": 1e-6, "num_epochs": 9, "checkpoint_seconds": 0.0},
    ),
    "micro-batches": (classify, {"micro_batch_size": 3}),
    "averaged": (classify, {"metric": "loss", "average_share": 0.4}),
    "out of memory": (short_of_memory, {}),
    "often saved": (classify, {"checkpoint_seconds": 0.0}),
    "class weights": (lambda: classify(class_weights="balanced"), {}),
    "LoRA": (adapted, {}),
    "a frozen layer": (frozen, {"layer_decay": 0.5}),
    "several labels": (several_labels, {}),
    "regression": (regress, {"metric": "loss"}),
    "tagging": (tag, {}),
    "masked language model": (masked, {"micro_batch_size": 4}),
    "causal language model": (causal, {}),
    "encoder-decoder": (pairs, {"schedule": "cosine"}),
}


def run(name: str, folder: Path, world: World, disturbance: str | None, at_step: int) -> None:
    make, fields = CASES[name]
    output = folder / name.replace(" ", "-")
    torch.manual_seed(0)
    objective = make()
    if disturbance == "kill" and world.rank == world.size - 1:
        state = output / "checkpoint" / "state.json"
        objective.loss = functools.partial(_deadly, objective.loss, at_step, state)  # type: ignore[method-assign]
    run_key = f"{name} {world.rank if disturbance == 'differ' else 0}"
    output.mkdir(parents=True, exist_ok=True)
    trainer = Trainer(objective, Optimisation(**(COMMON | fields)), output / "checkpoint", run_key, world)
    events: list[TrainingEvent] = []
    for event in trainer.run():
        events.append(event)
        if disturbance == "leave" and world.leads and trainer.position.step >= at_step:
            return
    parameters = list(objective.model.parameters())
    held = sum(own_part(one).numel() for one in parameters) / sum(one.numel() for one in parameters)
    model = trainer.placement.whole_model()
    if model is None:
        return
    write_tensors(output / "weights.safetensors", dict(model.named_parameters()))
    write_tensors(output / "gathered.safetensors", objective.tensors(ALONE))
    position = trainer.position
    facts: dict[str, Any] = {"step": position.step, "best_step": position.best_step, "history": position.history}
    facts |= {"held": held}  # share of the weights in this process
    facts |= {"events": [type(event).__name__ for event in events]}
    facts |= {"notes": [event.message for event in events if isinstance(event, Noted)]}
    (output / "facts.json").write_text(json.dumps(facts), encoding="utf-8")


def _deadly(
    loss: Callable[[Sequence[int], int], Any], at_step: int, state: Path, rows: Sequence[int], step: int
) -> Any:
    if step == at_step:
        while f'"step": {step}' not in (state.read_text(encoding="utf-8") if state.is_file() else ""):
            time.sleep(0.01)  # the first process writes it; torchrun would end that one amid its writing
        os.kill(os.getpid(), signal.SIGKILL)
    return loss(rows, step)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("cases", nargs="*", default=list(CASES))
    parser.add_argument("--disturb", choices=("kill", "leave", "differ"))
    parser.add_argument("--step", type=int, default=0)
    parser.add_argument("--shard", action="store_true")
    arguments = parser.parse_args()
    with join_world(CPU, arguments.shard) as world:
        for name in arguments.cases:
            run(name, arguments.folder, world, arguments.disturb, arguments.step)
    threads = [(thread / "comm").read_text().strip() for thread in Path("/proc/self/task").iterdir()]
    (arguments.folder / f"threads-{world.rank}.json").write_text(json.dumps(threads), encoding="utf-8")


if __name__ == "__main__":
    main()

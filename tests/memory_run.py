"""Short runs in processes of their own: what each was estimated to need, and what the kernel says that it took. Run by
`test_training_memory.py`."""

import multiprocessing
import random
import resource
import tempfile
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import torch

from model.heads import TextModel
from model.lora import LoraConfig, make_trainable
from model.tokenizer import Encoding
from tests.small import small_config
from training.config import Optimisation
from training.corpus import Corpus, PackedRows
from training.events import Noted, Started
from training.labelled import Rows
from training.objectives import (
    CausalLanguageModel,
    Classify,
    MaskedLanguageModel,
    Regress,
    SequenceToSequence,
    TextPairs,
)
from training.trainer import Objective, Trainer

SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload([__name__])
LABELS: dict[str, Any] = {"task": "classification", "labels": ("a", "b"), "pooling": "first", "pooler": "tanh"}


def model_of(
    width: int, num_layers: int, vocab_size: int = 2_000, architecture: str = "encoder", **fields: Any
) -> TextModel:
    shape = {
        "width": width,
        "num_layers": num_layers,
        "num_heads": max(1, width // 32),
        "feed_forward_width": 4 * width,
    }
    return TextModel(
        small_config(architecture, **shape, vocab_size=vocab_size, max_positions=512, **{"dropout": 0.1, **fields})
    )


def texts(count: int, shortest: int, longest: int, vocab_size: int) -> list[list[int]]:
    chance = random.Random(count)
    lengths = [longest, *(chance.randint(shortest, longest) for _ in range(count - 1))]
    return [chance.choices(range(5, vocab_size), k=length) for length in lengths]


def classify(
    model: TextModel, batch_size: int, longest: int, shortest: int | None = None, steps: int = 1, held_out: int = 32
) -> Objective:
    def rows(count: int) -> Rows[int]:
        found = texts(count, shortest or longest, longest, model.config.vocab_size)
        return Rows([Encoding.of_ids(ids) for ids in found], [index % 2 for index in range(count)])

    return Classify(model, rows(steps * batch_size), rows(held_out), batch_size, 0)


def adapted(model: TextModel) -> TextModel:
    make_trainable(model, LoraConfig())
    return model


def regress(model: TextModel, batch_size: int, longest: int) -> Objective:
    found = texts(batch_size, longest, longest, model.config.vocab_size)
    rows = Rows([Encoding.of_ids(ids) for ids in found], [float(index) for index in range(batch_size)])
    return Regress(model, rows, rows, batch_size, 0)


def packed(model: TextModel, count: int, row_tokens: int, causal: bool) -> PackedRows:
    ids = np.array(texts(count, row_tokens - 2, row_tokens - 2, model.config.vocab_size), dtype=np.uint32)
    bounds = np.arange(count + 1) * (row_tokens - 2)
    return PackedRows(Corpus(ids.ravel(), bounds, 0, ""), row_tokens, 1, 2, 0, causal)


def causal(model: TextModel, batch_size: int, row_tokens: int, held_out_rows: int = 64) -> Objective:
    train, held_out = (packed(model, count, row_tokens, True) for count in (batch_size, held_out_rows))
    return CausalLanguageModel(model, train, held_out, batch_size, 0)


def masked(model: TextModel, batch_size: int, row_tokens: int, held_out_rows: int = 64) -> Objective:
    train, held_out = (packed(model, count, row_tokens, False) for count in (batch_size, held_out_rows))
    return MaskedLanguageModel(model, train, held_out, batch_size, 0, 0.3, 3, [0, 1, 2, 3])


def pairs(model: TextModel, batch_size: int, longest: int) -> Objective:
    found = texts(batch_size, longest, longest, model.config.vocab_size)
    return SequenceToSequence(model, TextPairs(found, found), TextPairs(found, found), batch_size, 0, 0.1)


BFLOAT16 = {"bfloat16": True}  # slow where the CPU has none: fewer or shorter rows of what does not make the peak
CASES: dict[str, tuple[Callable[[], Objective], dict[str, Any]]] = {
    "long rows": (lambda: classify(model_of(128, 2, **LABELS), 16, 512), {}),
    "long rows in bfloat16": (lambda: classify(model_of(128, 2, **LABELS), 16, 512, steps=2, held_out=8), BFLOAT16),
    "many long rows": (lambda: classify(model_of(32, 2, **LABELS), 256, 512), {}),
    "many long rows in micro-batches": (
        lambda: classify(model_of(32, 2, **LABELS), 256, 512),
        {"micro_batch_size": 32},
    ),
    "rows of all lengths": (lambda: classify(model_of(128, 2, **LABELS), 32, 256, 4, 12, 200), {}),
    "a wide model": (lambda: classify(model_of(768, 4, 20_000, **LABELS), 4, 64), {}),
    "a wide model in bfloat16": (lambda: classify(model_of(768, 4, 20_000, **LABELS), 4, 16, held_out=4), BFLOAT16),
    "LoRA": (lambda: classify(adapted(model_of(256, 4, **LABELS)), 16, 128), {}),
    "LoRA in bfloat16": (lambda: classify(adapted(model_of(256, 4, **LABELS)), 16, 128, held_out=8), BFLOAT16),
    "regression": (lambda: regress(model_of(128, 2, task="regression"), 96, 128), {}),
    "causal": (lambda: causal(model_of(64, 2, 30_000, "decoder"), 8, 128), {}),
    "causal in bfloat16": (lambda: causal(model_of(64, 2, 30_000, "decoder"), 8, 128, 8), BFLOAT16),
    "causal by few rows": (lambda: causal(model_of(64, 2, 30_000, "decoder"), 2, 64), {}),
    "masked": (lambda: masked(model_of(64, 2, 30_000), 32, 128), {}),
    "masked in bfloat16": (lambda: masked(model_of(64, 2, 30_000), 32, 128, 8), BFLOAT16),
    "encoder-decoder": (lambda: pairs(model_of(64, 2, 8_000, "encoder_decoder"), 64, 64), {}),
}


def run(case: str, spare_bytes: int | None = None, threads: int = 1) -> dict[str, Any]:
    """The facts of one run in a process of its own, of a lane for each thread; with `spare_bytes`, one that is refused
    memory beyond what it has when it starts and so much more."""
    ours, its = SERVER.Pipe()
    child = SERVER.Process(target=_run, args=(case, spare_bytes, threads, its))
    child.start()
    its.close()
    try:
        facts: dict[str, Any] = ours.recv()
    except EOFError:
        raise AssertionError(f"{case} ended without a word") from None
    finally:
        child.join(60)
    return facts


def _run(case: str, spare_bytes: int | None, threads: int, answer: Connection) -> None:
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    make, fields = CASES[case]
    objective = make()
    facts: dict[str, Any] = {"notes": []}
    with tempfile.TemporaryDirectory() as folder:
        optimisation = Optimisation(1, 1e-3, **({"bfloat16": False, "metric": "loss"} | fields))
        trainer = Trainer(objective, optimisation, Path(folder) / "checkpoint", case)
        for event in trainer.run():
            if isinstance(event, Started):
                facts |= {"estimated": event.memory_bytes, "at_start": _status("VmRSS")}
                Path("/proc/self/clear_refs").write_text("5")  # forgets the peak so far: that of loading, of imports
                if spare_bytes is not None:
                    limit = _status("VmSize") + spare_bytes
                    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
            if isinstance(event, Noted):
                facts["notes"].append(event.message)
        assert trainer.surroundings is not None
        facts |= {"lanes": trainer.surroundings.lanes}
        facts |= {"peak": _status("VmHWM"), "finished": trainer.finished, "step": trainer.position.step}
    answer.send(facts)


def _status(name: str) -> int:
    """Bytes, by the kernel's account."""
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(fields[name].split()[0]) * 1024

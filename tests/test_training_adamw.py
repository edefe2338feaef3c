"""AdamW without torch's compiler: torch's numbers, and no import of it in a whole run."""

import copy
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from tests.conftest import ROOT, write_jsonl
from tests.small import save_small_encoder
from training.adamw import AdamW
from training.optim import LARGE_VOCABULARY

WORDS = ["red", "green", "cat", "dog"]


def test_it_takes_the_steps_of_torchs_own() -> None:
    torch.manual_seed(0)
    ours = nn.Sequential(nn.Linear(8, 16), nn.LayerNorm(16), nn.Linear(16, 4))
    theirs = copy.deepcopy(ours)
    optimizers = []
    for kind, model in ((AdamW, ours), (torch.optim.AdamW, theirs)):
        groups = [{"params": list(model[0].parameters()), "lr": 1e-2}, {"params": list(model[2].parameters())}]
        optimizers.append(kind(groups, lr=1e-3, weight_decay=0.1, fused=True))
        optimizers[-1].add_param_group({"params": list(model[1].parameters()), "weight_decay": 0.0})
    for step in range(6):
        if step == 3:  # as after an interruption
            optimizers[0].load_state_dict(copy.deepcopy(optimizers[0].state_dict()))
        rows = torch.randn(5, 8)
        for model, optimizer in zip((ours, theirs), optimizers, strict=True):
            model(rows).square().sum().backward()
            optimizer.step()
            optimizer.zero_grad()
            assert all(one.grad is None for one in model.parameters())
        for name, value in theirs.state_dict().items():
            assert torch.equal(ours.state_dict()[name], value), (step, name)
    states = [optimizer.state_dict()["state"] for optimizer in optimizers]
    assert states[0].keys() == states[1].keys()
    assert all(
        torch.equal(states[0][one][field], value) for one in states[1] for field, value in states[1][one].items()
    )


@pytest.mark.parametrize("vocabulary", [None, LARGE_VOCABULARY], ids=["small", "large"])
def test_a_run_never_loads_the_compiler(tmp_path: Path, vocabulary: int | None) -> None:
    base = save_small_encoder(tmp_path / "base", WORDS, *([] if vocabulary is None else [vocabulary]))
    rows = [{"text": f"{one} {two}", "label": one} for one in WORDS for two in WORDS]
    data = write_jsonl(tmp_path / "rows.jsonl", rows)
    code = f"""
import sys
from pathlib import Path
import torch
from training.config import Recipe
from training.finetune import finetune, load_data
recipe = Recipe(num_epochs=1, batch_size=4, max_length=8, validation_share=0.3)
events = list(finetune(Path({str(base)!r}), load_data(Path({str(data)!r}), None, recipe), recipe, Path({str(tmp_path)!r}), torch.device("cpu")))
print(len(events) > 2, [name for name in ("torch._dynamo", "sympy") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=240)
    assert done.stdout == "True []\n", done.stdout + done.stderr

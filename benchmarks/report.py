"""What every benchmark does: parse its options, train our model unless that is done, state where it ran and with what
versions, write the result. Used by the `bench_*` scripts."""

import argparse
import os
import platform
import statistics
import subprocess
import textwrap
import time
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from model.capability import has_bfloat16
from training.events import Evaluated, Progress, TrainingEvent
from training.recipes import RECIPES
from training.results import MANIFEST_FILE, read_manifest

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"


def parser_of(description: str | None) -> argparse.ArgumentParser:
    """A parser with the state folder; a script's docstring is its help."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", type=Path, default=Path(".vitrine"), help="the state folder (default: .vitrine)")
    return parser


def trained(name: str, home: Path) -> tuple[Path, dict[str, Any]]:
    """The folder and manifest of a model of ours, which is trained first unless `vitrine pretrain` has done so."""
    output = home / "pretraining" / name
    if not (output / MANIFEST_FILE).is_file():
        output.mkdir(parents=True, exist_ok=True)
        follow(RECIPES[name].run(home / "cache", output, torch.device("cpu")), "training")
    return output, read_manifest(output)


def took(manifest: Mapping[str, Any]) -> str:
    """How long a run trained, and on what."""
    threads = manifest["surroundings"]["threads"]
    return f"{manifest['seconds'] / 60:.1f} minutes on {threads} thread{'s' * (threads > 1)}"


def environment(packages: Sequence[str] = ("torch", "tokenizers", "scikit-learn")) -> str:
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True)
    dirty = subprocess.run(["git", "status", "--porcelain"], cwd=ROOT, capture_output=True, text=True).stdout.strip()
    processor = next(
        (line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line),
        platform.machine(),
    )
    versions = ", ".join(f"{name} {version(name)}" for name in packages)
    return (
        f"{time.strftime('%Y-%m-%d')}, commit {commit.stdout.strip() or 'unknown'}{' with changes' if dirty else ''}, "
        f"{os.cpu_count()} cores ({processor}), Python {platform.python_version()}, {versions}"
    )


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def mean_and_spread(values: Sequence[float]) -> str:
    spread = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{statistics.mean(values):.3f} ± {spread:.3f}"


def follow(events: Iterable[TrainingEvent], name: str) -> Evaluated:
    """Runs a training to its end with a bar -> its last scores."""
    last: Evaluated | None = None
    with tqdm(unit="step", desc=name) as bar:
        for event in events:
            if isinstance(event, Progress):
                bar.total = event.total_steps
                bar.set_postfix_str(f"loss {event.train_loss:.3f}, {event.tokens_per_second:,.0f} tokens/s")
                bar.update(event.step - bar.n)
            elif isinstance(event, Evaluated):
                last = event
    assert last is not None
    return last


def write(name: str, text: str) -> None:
    RESULTS.mkdir(parents=True, exist_ok=True)
    text = "\n\n".join(_wrapped(paragraph) for paragraph in text.strip().split("\n\n"))
    (RESULTS / f"{name}.md").write_text(text + "\n", encoding="utf-8")
    print(text)


def by_hardware(name: str) -> str:
    """The result's name: what a CPU with bfloat16 shows is not replaced by one without."""
    return name if has_bfloat16(torch.device("cpu")) else f"{name}_without_bfloat16"


def _wrapped(paragraph: str) -> str:
    """Running text in lines of 120; tables, lists, headings and commands as they are."""
    if paragraph.startswith(("|", "-", "#", "    ")):
        return paragraph
    return textwrap.fill(" ".join(paragraph.split()), 120)

"""The comparison of fine-tuning: from the runs' figures to a result file. The runs themselves take an hour."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from benchmarks import bench_finetune
from benchmarks.bench_finetune import Case, Cores


def a_run(program: Sequence[str | Path], options: Sequence[str | Path], cores: Cores) -> dict[str, Any]:
    """What a program of either side prints, of a run that gets better and better."""
    ours = "benchmarks.finetune_once" in program
    evaluations = [[step, step / 10, 0.7 + step / 1000] for step in (20, 40, 60, 80, 100)]
    return {
        "seconds": 10.0 if ours else 15.0,
        "seconds_afterwards": 2.5,
        "steps": [0.1 * step for step in range(1, 101)],
        "progress": [[step, 0.05 * step] for step in range(1, 101)],
        "evaluations": evaluations if ours else evaluations[:2],
        "right": [1, 1, 1, 0] if ours else [1, 1, 0, 0],
        "confidence": [0.75, 0.75, 0.75, 0.75],
        "peak_bytes": 2**30,
        "versions": {"transformers": "5"},
    } | ({"recipe": {"num_epochs": 2, "seed": 0}} if ours else {})


def test_a_comparison_ends_in_a_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def few(home: Path, folder: Path) -> Case:
        files = {name: folder / f"{name}.jsonl" for name in ("train", "validation", "test")}
        for path in files.values():
            path.write_text('{"text": "a", "label": "b"}\n' * 7, encoding="utf-8")
        return Case("Seven rows", folder, folder, files, bench_finetune.SAME)

    written: dict[str, str] = {}
    monkeypatch.setattr(bench_finetune, "movies", few)
    monkeypatch.setattr(bench_finetune, "run", a_run)
    monkeypatch.setattr(bench_finetune, "write", written.__setitem__)
    monkeypatch.setattr("sys.argv", ["bench", "--home", str(tmp_path), "--only", "movies", "--peer-python", "python"])
    bench_finetune.main()
    (name,) = written
    assert name in ("finetune_movies", "finetune_movies_float32")
    text = written[name]
    assert "7 training rows" in text
    assert "1.50 times as fast" in text
    assert "+25.00 points" in text
    assert "| 0.250 (0.250 to 0.250) |" in text, "theirs says 75% and is right in 50%"
    assert "| 0.000 (0.000 to 0.000) |" in text
    assert "8.0, 8.0, 8.0" in text, "three in a row from 0.74, at 4, 6 and 8 s"
    assert "written its report and the model: 2.5 (2.5 to 2.5)" in text
    assert json.dumps(bench_finetune.SEEDS)[1:-1] in text

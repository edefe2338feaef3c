"""The encoder's forward pass in process, against the runtimes people serve encoders with, on the same sentences.

    make bench-inference

Each contestant is a process of its own that has loaded its model; they make passes in turn, one at a time. What this
CPU has no hardware for (bfloat16) is left out.
"""

import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from benchmarks.peers_environment import peer_python
from benchmarks.report import ROOT, by_hardware, environment, parser_of, table, write
from benchmarks.serving import some
from model.capability import has_bfloat16, has_int8
from training.catalogue import fetch_minilm, movie_sentiment

SENTENCES, ROUNDS = 2_048, 9
MFLOP_A_TOKEN = 21.3  # of the linears of MiniLM-L6
PEERS = (
    ("transformers", "float32"), ("transformers", "bfloat16"), ("onnxruntime", "float32"), ("onnxruntime", "int8"),
    ("openvino", "float32"), ("openvino", "bfloat16"), ("ctranslate2", "float32"), ("ctranslate2", "int8"),
)  # fmt: skip
OURS = ("float32", "bfloat16", "int8")
PACKAGES = (
    "torch==2.13.0", "transformers==5.23.0", "safetensors", "onnx", "onnxscript", "onnxruntime", "openvino",
    "ctranslate2",
)  # fmt: skip


@dataclass
class Contestant:
    """One runtime in one number format, in a process that waits for orders."""

    name: str
    dtype: str
    process: "subprocess.Popen[str]"
    tokens: int
    version: str
    rates: list[float] = field(default_factory=list)  # tokens/s, pass by pass

    def tell(self, order: str) -> str:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(order + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline().strip()
        if not answer:
            raise SystemExit(f"{self.name} {self.dtype} ended with {self.process.wait()}")
        return answer

    def run(self) -> None:
        self.rates.append(self.tokens / float(self.tell("pass")))

    def vectors(self, folder: Path) -> "np.ndarray":
        path = folder / f"{self.name}-{self.dtype}.npy"
        self.tell(f"vectors {path}")
        return np.load(path)


@contextlib.contextmanager
def started(name: str, dtype: str, command: list[str | Path]) -> Iterator[Contestant]:
    told = dict(os.environ) | {"OMP_WAIT_POLICY": "PASSIVE"}
    pipe = subprocess.PIPE
    process = subprocess.Popen(
        command, cwd=ROOT, env=told, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise SystemExit(f"{name} {dtype} could not be started: {' '.join(map(str, command))}")
        yield Contestant(name, dtype, process, **json.loads(line))
    finally:
        process.kill()
        process.wait()


def gemm_peak(dtype: torch.dtype) -> float:
    """GFLOP/s of torch's matrix product, of the best of some shapes an encoder has."""
    best = 0.0
    for rows, inner, columns in ((2048, 384, 1536), (2048, 1024, 1024), (4096, 1536, 384)):
        left, right = torch.randn(rows, inner).to(dtype), torch.randn(inner, columns).to(dtype)
        for _ in range(10):
            began = time.perf_counter()
            for _ in range(5):
                left @ right
            best = max(best, 5 * 2 * rows * inner * columns / (time.perf_counter() - began) / 1e9)
    return best


def main() -> None:
    given = parser_of(__doc__).parse_args()
    cache = given.home / "cache"
    base = fetch_minilm(cache)
    cpu = torch.device("cpu")
    bfloat16 = has_bfloat16(cpu)
    able = {"float32": True, "bfloat16": bfloat16, "int8": has_int8(cpu)}
    python = peer_python(given.home, "runtimes", PACKAGES)
    work = given.home.absolute() / "peers" / "runtimes" / "models"
    work.mkdir(exist_ok=True)
    with contextlib.ExitStack() as stack, tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        texts = folder / "texts.json"
        sentences = [row["text"] for row in movie_sentiment(cache)["train"]]
        texts.write_text(json.dumps(some(sentences, SENTENCES)), encoding="utf-8")
        shared: list[str | Path] = ["--base", base.absolute(), "--texts", texts]
        contestants = []
        for dtype in filter(able.__getitem__, OURS):
            ours: list[str | Path] = [sys.executable, "-m", "benchmarks.encode_ours", "--dtype", dtype, *shared]
            contestants.append(stack.enter_context(started("ours", dtype, ours)))
        for runtime, dtype in PEERS:
            if bfloat16 or dtype != "bfloat16":
                script = ROOT / "benchmarks" / "peers" / "encode.py"
                command = [python, script, "--runtime", runtime, "--dtype", dtype, *shared, "--work", work]
                contestants.append(stack.enter_context(started(runtime, dtype, command)))
        truth = next(one for one in contestants if (one.name, one.dtype) == ("transformers", "float32"))
        exact = truth.vectors(folder)
        parity = [float((one.vectors(folder) * exact).sum(axis=1).min()) for one in contestants]
        peaks: dict[str, list[float]] = {"float32": [], **({"bfloat16": []} if bfloat16 else {})}
        for _ in tqdm(range(ROUNDS), unit="round"):
            for one in contestants:
                one.run()
            for dtype, measured in peaks.items():  # in each round: a virtual machine's speed changes
                measured.append(gemm_peak(getattr(torch, dtype)))
    write(by_hardware("inference"), result(contestants, parity, peaks))


def result(contestants: list[Contestant], parity: list[float], peaks: dict[str, list[float]]) -> str:
    rows = []
    for one, cosine in zip(contestants, parity, strict=True):
        measured = zip(one.rates, peaks.get(one.dtype, ()), strict=False)  # of int8 there is none
        shares = [rate * MFLOP_A_TOKEN / 1e3 / peak for rate, peak in measured]
        share = f"{statistics.median(shares):.0%}" if shares else ""
        figures = f"{statistics.median(one.rates):,.0f} ({min(one.rates):,.0f} to {max(one.rates):,.0f})"
        rows.append([one.name, one.dtype, figures, share, f"{cosine:.4f}"])
    ours = [one for one in contestants if one.name == "ours"]
    others = [one for one in contestants if one.name != "ours"]
    lines = [
        f"- Ours in {own.dtype} against {peer.name} in {peer.dtype}: {ratio(own, peer)}."
        for own in ours
        for peer in others
    ]
    own_peak = ", ".join(f"{dtype} {statistics.median(found):.0f} GFLOP/s" for dtype, found in peaks.items())
    without = "" if "bfloat16" in peaks else " This CPU has no bfloat16 in hardware, so it is left out on all sides."
    about = f"""{SENTENCES:,} movie sentences, {contestants[0].tokens:,} real tokens, all-MiniLM-L6-v2, length-sorted
    (peers in batches of 32, ours in batches of 2,048 tokens without padding), mean-pooled; {ROUNDS} rounds in turn
    after a warm-up. tokens/s: median (least to most). Peak: torch's best matrix product in the same round, median
    {own_peak}; the linears take {MFLOP_A_TOKEN} MFLOP a token. Cosine: the worst sentence's, to transformers in
    float32.{without}"""
    versions = ", ".join(sorted({one.version for one in others}))
    header = ["runtime", "number format", "tokens/s", "of the peak", "cosine"]
    parts = ["# The forward pass in process", f"{environment(('torch', 'tokenizers'))}; {versions}.", about]
    return "\n\n".join([*parts, table(header, rows), "\n".join(lines), "Command: `make bench-inference`."])


def ratio(own: Contestant, peer: Contestant) -> str:
    ratios = sorted(a / b for a, b in zip(own.rates, peer.rates, strict=True))
    return f"{statistics.median(ratios):.2f} times ({ratios[0]:.2f} to {ratios[-1]:.2f})"


if __name__ == "__main__":
    main()

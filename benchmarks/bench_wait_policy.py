"""Fine-tuning beside one busy process, with OpenMP threads that spin (the default) and that sleep.

Runs the same short tune in turn, spin then sleep, while another process keeps a core busy, and prints a Markdown
table of tokens a second: python benchmarks/bench_wait_policy.py --data ROWS.jsonl --pairs 5
"""

import argparse
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

POLICIES = {"spin": {}, "sleep": {"OMP_WAIT_POLICY": "PASSIVE"}}


def tokens_per_second(data: Path, environment: dict[str, str]) -> float:
    """One epoch over the file, at the priority of a job worker."""
    with tempfile.TemporaryDirectory() as output:
        command = ["nice", "-n", "5", sys.executable, "-m", "service", "finetune"]
        command += ["--data", str(data), "--output", output, "--epochs", "1"]
        clean = {name: value for name, value in os.environ.items() if not name.startswith("OMP_")}
        done = subprocess.run(command, env=clean | environment, capture_output=True, text=True, check=True)
    return float(re.findall(r"([\d,]+) tokens/s", done.stderr)[-1].replace(",", ""))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--pairs", type=int, default=5)
    arguments = parser.parse_args()
    rates: dict[str, list[float]] = {name: [] for name in POLICIES}
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as busy:
        try:
            for _ in range(arguments.pairs):
                for name, environment in POLICIES.items():
                    rates[name].append(tokens_per_second(arguments.data, environment))
        finally:
            busy.kill()
    print(
        f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}, torch {version('torch')}\n"
    )
    print("| OpenMP threads | tokens/s: minimum | median | maximum |\n|---|---|---|---|")
    for name, values in rates.items():
        print(f"| {name} | {min(values):,.0f} | {statistics.median(values):,.0f} | {max(values):,.0f} |")
    ratios = [sleep / spin for spin, sleep in zip(rates["spin"], rates["sleep"], strict=True)]
    print(
        f"\nsleep / spin, pair by pair: {min(ratios):.1f} to {max(ratios):.1f}, median {statistics.median(ratios):.1f}"
    )


if __name__ == "__main__":
    main()

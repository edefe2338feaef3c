"""What a service on one core and on two can take before it gets slow: the figures that docs/en/sizing.md reckons with.

    make bench-capacity

Requests of one movie sentence come at random moments (Poisson), as from many users who do not wait for each other. Who
asks runs on the cores that are left, or beside the service where none is.
"""

import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from tqdm import tqdm

from benchmarks.bench_inference import MFLOP_A_TOKEN
from benchmarks.bench_overload import Client, Seen, bodies_of, prepare, resident, told
from benchmarks.report import ROOT, environment, parser_of, table, write
from benchmarks.serving import bento, some
from model.capability import has_bfloat16, has_int8
from model.folders import load_tokenizer
from training.catalogue import fetch_minilm, movie_sentiment

SENTENCES = 2_048
BOUND_SECONDS = 0.25  # that p99 must keep
CORES = (1, 2)
STEPS = 5  # of the search for the highest load
SHARES = (0.5, 0.8, 1.0)  # of that load, each measured anew
EASIER, TIMES_EASIER = 0.9, 3  # when the load that was found does not keep the bound a second time
CLIENTS = 32  # who ask again as soon as they are answered: the most that is answered, however late
ALL_SECONDS = 500.0  # of stretches that are not tried again; the whole stays below 15 minutes
GEMM = "import torch; from benchmarks.bench_inference import gemm_peak; print(gemm_peak(torch.float32))"


@dataclass(frozen=True)
class Workload:
    bodies: Sequence[str]
    tokens: float  # of a request, on average


@dataclass
class Capacity:
    """Of one service."""

    cores: int
    dtype: str
    most: Seen  # whoever asks again at once
    levels: dict[float, Seen]  # by the share of the highest load
    idle_bytes: int
    busy_bytes: int

    @property
    def highest(self) -> Seen:
        return self.levels[1.0]


def keeps_bound(seen: Seen) -> bool:
    return seen.statuses.keys() == {200} and seen.quantile(0.99) <= BOUND_SECONDS


async def tried(client: Client, rate: float, seconds: float) -> Seen:
    """A stretch at this load; another where the first does not keep the bound, as one stall of the machine makes 1 of
    100 answers late."""
    seen = await client.open(rate, seconds)
    return seen if keeps_bound(seen) else await client.open(rate, seconds)


async def measured(url: str, work: Workload, cores: int, dtype: str, seconds: float) -> Capacity:
    client = Client(url, work.bodies)
    idle_bytes = resident(url)
    await client.closed(CLIENTS, seconds / 3)  # warm-up
    most = await client.closed(CLIENTS, seconds / 2)
    low, high = 0.0, most.rate
    for _ in range(STEPS):
        rate = (low + high) / 2
        if keeps_bound(await tried(client, rate, seconds)):
            low = rate
        else:
            high = rate
    rate = low or high
    highest = await tried(client, rate, seconds)
    for _ in range(TIMES_EASIER):
        if keeps_bound(highest):
            break
        rate *= EASIER
        highest = await tried(client, rate, seconds)
    levels = {share: await client.open(share * rate, seconds) for share in SHARES if share < 1.0}
    return Capacity(cores, dtype, most, levels | {1.0: highest}, idle_bytes, resident(url))


def on_cores(cores: int) -> tuple[list[int], list[int]]:
    """-> those of the service, and those of who asks."""
    every = sorted(os.sched_getaffinity(0))
    return every[:cores], every[cores:] or every


def gemm_peak_of(cores: Sequence[int]) -> float:
    """GFLOP/s of float32 matrix products on these cores."""
    command = ["taskset", "--cpu-list", ",".join(map(str, cores)), sys.executable, "-c", GEMM]
    return float(subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout)


def formats() -> list[str]:
    cpu = torch.device("cpu")
    able = {"float32": True, "bfloat16": has_bfloat16(cpu), "int8": has_int8(cpu)}
    return [name for name, is_able in able.items() if is_able]


def result(found: Sequence[Capacity], peaks: dict[int, float], work: Workload, seconds: float) -> str:
    highest, latency = [], []
    for one in found:
        tokens = one.highest.rate * work.tokens
        share = f"{tokens * MFLOP_A_TOKEN / 1e3 / peaks[one.cores]:.0%}" if one.dtype == "float32" else ""
        memory = [f"{count / 2**20:,.0f}" for count in (one.idle_bytes, one.busy_bytes)]
        rates = [f"{one.highest.rate:.1f}", f"{tokens:,.0f}", share, f"{one.most.rate:.1f}"]
        highest.append([one.cores, one.dtype, *rates, *memory])
        for level in SHARES:
            seen = one.levels[level]
            times = [f"{1e3 * seen.quantile(quantile):.0f}" for quantile in (0.5, 0.99)]
            generator = f"{seen.generator_share * (os.cpu_count() or 1):.0%}"
            latency.append(
                [one.cores, one.dtype, f"{level:.0%}", f"{seen.rate:.1f}", *times, told(seen.statuses), generator]
            )
    about = f"""all-MiniLM-L6-v2, vectors (base64) of one movie sentence a request, {work.tokens:.1f} tokens on average,
    at random moments. The service has the cores by `taskset`; who asks has those that are left, or the same where none
    is. Highest load: requests a second at which 99 of 100 are answered within {1e3 * BOUND_SECONDS:.0f} ms and none is
    refused, found by halving in {STEPS} stretches of {seconds:g} s and measured again; a load is too high when two
    stretches of it say so. Most: {CLIENTS} clients who ask
    again at once, however late they are answered. Of the peak: the linears' {MFLOP_A_TOKEN} MFLOP a token against
    torch's best float32 matrix product on these cores,
    {", ".join(f"{peak:.0f} GFLOP/s on {cores}" for cores, peak in peaks.items())}."""
    about_highest = ["requests/s", "tokens/s", "of the peak", "most, requests/s", "idle, MiB", "busy, MiB"]
    about_latency = ["load", "requests/s", "p50, ms", "p99, ms", "answers", "asking takes, of a core"]
    return "\n\n".join(
        [
            "# Capacity",
            f"{environment(('torch', 'tokenizers', 'bentoml', 'fastapi', 'uvicorn'))}.",
            about,
            "## Highest load",
            table(["cores", "number format", *about_highest], highest),
            "## Latency at shares of it",
            table(["cores", "number format", *about_latency], latency),
            "Command: `make bench-capacity`.",
        ]
    )


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--seconds", type=float, help="of each stretch, as a trial: shown and not kept")
    given = parser.parse_args()
    services = [(cores, dtype) for cores in CORES if cores <= len(os.sched_getaffinity(0)) for dtype in formats()]
    seconds = given.seconds or ALL_SECONDS / len(services) / (STEPS + len(SHARES) + 2)
    base = fetch_minilm(given.home / "cache")
    sentences = some([row["text"] for row in movie_sentiment(given.home / "cache")["train"]], SENTENCES)
    tokens = statistics.mean(len(encoding.ids) for encoding in load_tokenizer(base).encode(sentences, 512))
    work = Workload(bodies_of(sentences, 1, SENTENCES), tokens)
    every = os.sched_getaffinity(0)
    found, peaks = [], {}
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "home"
        prepare(home, given.home)
        for cores, dtype in tqdm(services, unit="service"):
            service_cores, asking_cores = on_cores(cores)
            if cores not in peaks:
                peaks[cores] = gemm_peak_of(service_cores)
            with bento(home, "service.main:Vitrine", service_cores, VITRINE_DTYPE=dtype) as url:
                os.sched_setaffinity(0, asking_cores)
                found.append(asyncio.run(measured(url, work, cores, dtype, seconds)))
                os.sched_setaffinity(0, every)
    text = result(found, peaks, work, round(seconds, 1))
    if given.seconds:
        print(text)
    else:
        write("capacity", text)


if __name__ == "__main__":
    main()

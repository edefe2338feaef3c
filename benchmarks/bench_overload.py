"""Ten times what the service can do, and training beside it: what is refused, what is answered, how late.

    make bench-overload

Requests of 64 sentences, so that the one who asks takes little of the cores that answer.
"""

import asyncio
import json
import math
import os
import random
import resource
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psutil

from benchmarks.report import environment, parser_of, table, write
from benchmarks.serving import SEED, bento, some
from model.folders import load_tokenizer
from service.model_store import ModelStore
from training.catalogue import fetch_minilm, movie_sentiment, write_splits

MODEL, MANY, BODIES = "minilm-l6", 64, 50
OVER, ROUNDS = 10, 3  # times the capacity
QUEUE_TOKENS = 32_768  # of the service while it is overloaded: some seconds of work


Sentences = tuple[Sequence[str], float]  # and their mean number of tokens


@dataclass
class Seen:
    """What the clients saw in one stretch."""

    seconds: float
    statuses: Counter[int] = field(default_factory=Counter)
    accepted_seconds: list[float] = field(default_factory=list)
    without_retry_after: int = 0
    generator_share: float = 0.0  # of all cores

    @property
    def goodput(self) -> float:
        """Sentences answered a second."""
        return self.rate * MANY

    @property
    def rate(self) -> float:
        """Requests answered a second."""
        return self.statuses[200] / self.seconds if self.seconds else 0.0  # none was answered

    def quantile(self, share: float) -> float:
        ordered = sorted(self.accepted_seconds)
        return ordered[min(len(ordered) - 1, math.ceil(share * len(ordered)) - 1)] if ordered else math.nan


class Client:
    """Asks for vectors with these bodies, in turn."""

    def __init__(self, url: str, bodies: Sequence[str]) -> None:
        self._bodies = bodies
        self._count = 0
        # the server ends connections that are idle for 5 s; one that is used at that moment would fail
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=100, keepalive_expiry=2.0)
        self._http = httpx.AsyncClient(base_url=url, limits=limits, timeout=120)

    async def ask(self, seen: Seen) -> None:
        self._count += 1
        body = self._bodies[self._count % len(self._bodies)]
        began = time.monotonic()
        answer = await self._http.post("/v1/embeddings", content=body, headers={"content-type": "application/json"})
        seen.statuses[answer.status_code] += 1
        if answer.status_code == 200:
            seen.accepted_seconds.append(time.monotonic() - began)
        elif "retry-after" not in answer.headers:
            seen.without_retry_after += 1

    async def closed(self, clients: int, seconds: float) -> Seen:
        """So many that ask again as soon as they are answered."""
        seen = Seen(seconds)
        end = time.monotonic() + seconds
        before = _cpu()

        async def again() -> None:
            while time.monotonic() < end:
                await self.ask(seen)

        began = time.monotonic()
        await asyncio.gather(*(again() for _ in range(clients)))
        seen.seconds = time.monotonic() - began
        return _shared(seen, before)

    async def open(self, a_second: float, seconds: float) -> Seen:
        """Requests that come at random moments (Poisson), whether the ones before are answered or not."""
        seen = Seen(seconds)
        chance = random.Random(SEED)
        tasks = []
        before, began = _cpu(), time.monotonic()
        at = began
        while (at := at + chance.expovariate(a_second)) < began + seconds:
            await asyncio.sleep(max(0.0, at - time.monotonic()))
            tasks.append(asyncio.create_task(self.ask(seen)))
        await asyncio.sleep(max(0.0, began + seconds - time.monotonic()))
        answered = seen.statuses[200]
        seen = _shared(seen, before)
        await asyncio.gather(*tasks)
        seen.seconds = seconds * seen.statuses[200] / max(1, answered)  # those that end late are of the same rate
        return seen


def bodies_of(sentences: Sequence[str], texts: int, count: int) -> list[str]:
    """Requests for vectors of so many sentences each."""
    chance = random.Random(SEED)
    return [
        json.dumps({"model": MODEL, "input": chance.sample(list(sentences), texts), "encoding_format": "base64"})
        for _ in range(count)
    ]


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _shared(seen: Seen, before: float) -> Seen:
    seen.generator_share = (_cpu() - before) / seen.seconds / (os.cpu_count() or 1)
    return seen


def told(statuses: Counter[int]) -> str:
    return ", ".join(f"{count:,} x {status}" for status, count in sorted(statuses.items()))


def resident(url: str) -> int:
    """Bytes of the processes that serve this URL's port."""
    port = int(url.rsplit(":", 1)[1])
    total = 0
    for process in psutil.process_iter(["cmdline", "memory_info"]):
        line = process.info["cmdline"] or []
        if "--port" in line and str(port) in line:
            family = [process, *process.children(recursive=True)]
            return sum(one.memory_info().rss for one in family)
    return total


async def overload(url: str, sentences: Sentences, seconds: float) -> list[str]:
    texts, tokens_a_sentence = sentences
    client = Client(url, bodies_of(texts, MANY, BODIES))
    await client.closed(4, seconds / 3)  # warm-up
    peak = await client.closed(4, seconds)
    before = resident(url)
    calm, over = [], []
    for _ in range(ROUNDS):
        calm.append(await client.closed(4, seconds))
        over.append(await client.open(OVER * peak.rate, seconds))
    after = resident(url)
    rows = [
        [
            name,
            f"{statistics.median(one.goodput for one in ones):.0f}",
            told(sum((one.statuses for one in ones), Counter())),
            *(f"{statistics.median(one.quantile(share) for one in ones):.2f}" for share in (0.5, 0.99)),
            f"{statistics.median(one.generator_share for one in ones):.0%}",
        ]
        for name, ones in (("four clients", calm), (f"{OVER} times the capacity", over))
    ]
    bound = QUEUE_TOKENS / (statistics.median(one.goodput for one in over) * tokens_a_sentence)
    shares = sorted(much.goodput / little.goodput for little, much in zip(calm, over, strict=True))
    lines = [
        f"- Goodput under overload: {statistics.median(shares):.2f} of the peak ({shares[0]:.2f} to {shares[-1]:.2f}).",
        f"- The queue holds {QUEUE_TOKENS:,} tokens, {bound:.1f} s of work at this goodput; p99 of what was accepted: "
        f"{statistics.median(one.quantile(0.99) for one in over):.1f} s.",
        f"- Refusals without Retry-After: {sum(one.without_retry_after for one in over)}.",
        f"- Resident memory of the service: {before / 2**20:,.0f} MiB before, {after / 2**20:,.0f} MiB after.",
    ]
    header = ["load", "sentences/s", "answers", "p50, s", "p99, s", "generator's share of the cores"]
    about = f"{ROUNDS} rounds, in turn; medians."
    return ["## Overload", about, table(header, rows), "\n".join(lines)]


async def beside_training(url: str, sentences: Sentences, data: Path, seconds: float) -> list[str]:
    """Half the load it can take, alone and while it trains."""
    client = Client(url, bodies_of(sentences[0], MANY, BODIES))
    await client.closed(4, seconds / 3)
    peak = await client.closed(4, seconds)
    half = 0.5 * peak.rate
    pairs = []
    async with httpx.AsyncClient(base_url=url, timeout=60) as http:
        for _ in range(ROUNDS):
            calm = await client.open(half, seconds)
            with data.open("rb") as file:
                sent = await http.post("/v1/files", files={"file": file}, data={"purpose": "fine-tune"})
            wanted = {"training_file": sent.json()["id"], "model": MODEL}
            job = (await http.post("/v1/fine_tuning/jobs", json=wanted)).json()["id"]
            while not (await http.get(f"/v1/fine_tuning/jobs/{job}")).json().get("trained_tokens"):
                await asyncio.sleep(0.5)
            busy = await client.open(half, seconds)
            state = (await http.get(f"/v1/fine_tuning/jobs/{job}")).json()["status"]
            if state != "running":
                raise SystemExit(f"the job was {state} before the measurement ended; take a longer one")
            await http.post(f"/v1/fine_tuning/jobs/{job}/cancel")
            while (await http.get(f"/v1/fine_tuning/jobs/{job}")).json()["status"] == "running":
                await asyncio.sleep(0.5)
            pairs.append((calm, busy))
    rows = [
        [name, *(f"{statistics.median(one.quantile(share) for one in ones):.3f}" for share in (0.5, 0.99))]
        for name, ones in (("alone", [calm for calm, _ in pairs]), ("while a job trains", [busy for _, busy in pairs]))
    ]
    ratios = sorted(busy.quantile(0.99) / calm.quantile(0.99) for calm, busy in pairs)
    lines = [f"- p99 while a job trains: {statistics.median(ratios):.2f} times ({ratios[0]:.2f} to {ratios[-1]:.2f})."]
    return [
        "## Serving while training, half the load it can take",
        table(["", "p50, s", "p99, s"], rows),
        "\n".join(lines),
    ]


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--seconds", type=float, default=30.0, help="of each stretch")
    parser.add_argument("--only", choices=("overload", "training"), help="one half, shown and not kept")
    given = parser.parse_args()
    sections = []
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "home"
        prepare(home, given.home)
        texts = some([row["text"] for row in movie_sentiment(given.home / "cache")["train"]], 2_048)
        encodings = load_tokenizer(fetch_minilm(given.home / "cache")).encode(texts, 512)
        sentences = texts, statistics.mean(len(encoding.ids) for encoding in encodings)
        files = write_splits("movie-sentiment", given.home / "cache", Path(folder))
        train = next(path for path in files if ".train." in path.name)
        if given.only != "training":
            with bento(home, "service.main:Vitrine", VITRINE_MAX_QUEUE_TOKENS=str(QUEUE_TOKENS)) as url:
                sections += asyncio.run(overload(url, sentences, given.seconds))
        if given.only != "overload":
            with bento(home, "service.main:Vitrine", VITRINE_RUN_WORKER="true") as url:
                sections += asyncio.run(beside_training(url, sentences, train, given.seconds))
    about = f"""all-MiniLM-L6-v2, vectors of {MANY} movie sentences a request (base64), stretches of
    {given.seconds:g} s. The one who asks runs on the same cores."""
    packages = ("torch", "tokenizers", "bentoml", "fastapi", "uvicorn")
    head = ["# Overload", f"{environment(packages)}.", about]
    text = "\n\n".join([*head, *sections, "Command: `make bench-overload`."])
    if given.only:
        print(text)
    else:
        write("overload", text)


def prepare(home: Path, source: Path) -> None:
    """A state folder of its own with the default model: jobs are queued in it."""
    base = fetch_minilm(source / "cache")
    ModelStore(home / "bentoml").publish(base, MODEL, f"{MODEL}:1", None, None)


if __name__ == "__main__":
    main()

"""The service over HTTP: how much of the forward pass's speed is left, beside other servers of the same model, and what
a request costs that computes nothing.

    make bench-http

wrk asks from the same two cores; its share of them is told. Servers take turns. Response caches: there are none.
"""

import contextlib
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from benchmarks.bench_inference import Contestant as Runtime
from benchmarks.bench_inference import started
from benchmarks.encode_ours import loaded_model
from benchmarks.peers_environment import peer_python
from benchmarks.report import ROOT, by_hardware, environment, parser_of, table, write
from benchmarks.services.echo import BODY
from benchmarks.serving import CONNECTIONS, Load, bento, free_port, server, some, wrk
from model.capability import has_bfloat16
from model.threads import all_threads
from service.engine.cores import compute
from training.catalogue import fetch_minilm, movie_sentiment

ROUNDS, SECONDS, WARM_SECONDS = 9, 6.0, 3.0
LONG_SECONDS = 20.0  # of a round whose requests take seconds: those under way at its end count for nothing
SENTENCES, INSIDE = 2_048, 512  # over HTTP, and in process a pass
MANY, MANY_CONNECTIONS = 64, 4  # sentences of a request, where there are many, and how many ask for so many
LONGEST_WORDS = 380  # of a long text: about 512 tokens
MODEL = "minilm-l6"
LITSERVE = ("torch==2.13.0", "transformers==5.23.0", "safetensors", "litserve")
INFINITY = ("torch==2.13.0", "infinity-emb[torch,server,optimum]")


@dataclass
class Contestant:
    """A server with the bodies to ask it."""

    name: str
    url: str
    bodies: Sequence[object]
    loads: list[Load] = field(default_factory=list)

    def ask(self, seconds: float, connections: int) -> Load:
        return wrk(self.url, self.bodies, seconds, connections)


def in_turn(
    contestants: Sequence[Contestant],
    connections: int = CONNECTIONS,
    rounds: int = ROUNDS,
    seconds: float = SECONDS,
    beside: Callable[[], object] = lambda: None,
) -> None:
    """Rounds in which each is measured once, after a warm-up; `beside` measures what has no server, once a round."""
    for one in contestants:
        one.ask(WARM_SECONDS, connections)
    for _ in tqdm(range(rounds), unit="round"):
        for one in contestants:
            one.loads.append(one.ask(seconds, connections))
        beside()


def row(one: Contestant) -> list[object]:
    rates = [load.requests_per_second for load in one.loads]
    figures = f"{statistics.median(rates):,.1f} ({min(rates):,.1f} to {max(rates):,.1f})"
    p50, p99 = (statistics.median(getattr(load, name) for load in one.loads) for name in ("p50_ms", "p99_ms"))
    return [one.name, figures, f"{p50:.1f}", f"{p99:.1f}", sum(load.failures for load in one.loads)]


HEADER = ("server", "requests/s", "p50, ms", "p99, ms", "failures")


def ratio(one: Contestant, other: Contestant) -> str:
    pairs = zip(one.loads, other.loads, strict=True)
    ratios = sorted(a.requests_per_second / b.requests_per_second for a, b in pairs)
    return f"{statistics.median(ratios):.2f} times ({ratios[0]:.2f} to {ratios[-1]:.2f})"


def echo_section(home: Path) -> str:
    """A route that computes nothing."""
    port = free_port()
    plain = [sys.executable, "-m", "uvicorn", "benchmarks.services.echo_plain:app", "--port", str(port)]
    plain += ["--log-level", "warning", "--no-access-log"]
    with (
        bento(home, "benchmarks.services.echo_ours:Vitrine") as ours,
        bento(home, "benchmarks.services.echo_mounted:Mounted") as mounted,
        server(plain, port, "/readyz", {}) as bare,
    ):
        named = (("ours, in BentoML", ours), ("mounted in BentoML", mounted), ("FastAPI alone, uvicorn", bare))
        contestants = [Contestant(name, f"{url}/echo", [BODY]) for name, url in named]
        in_turn(contestants)
    own, default, alone = contestants
    lines = [
        f"- Ours against the default mount: {ratio(own, default)}.",
        f"- Ours against FastAPI alone: {ratio(own, alone)}.",
    ]
    about = f"One JSON body of {len(json.dumps(BODY))} bytes there and back, {CONNECTIONS} connections."
    return "\n\n".join(
        ["## A route that computes nothing", about, table(HEADER, map(row, contestants)), "\n".join(lines)]
    )


@contextlib.contextmanager
def embedders(home: Path, base: Path, peers: bool) -> Iterator[list[tuple[str, str, Callable[[Any], object]]]]:
    """The servers of the model: name, URL, how to ask for one text or several."""
    dtype = dtype_here()

    def body(text: object) -> object:
        return {"model": MODEL, "input": text}

    with contextlib.ExitStack() as stack:
        found: list[tuple[str, str, Callable[[Any], object]]] = []
        for own in (dtype, "int8"):
            ours = stack.enter_context(bento(home, "service.main:Vitrine", VITRINE_DTYPE=own))
            found.append((f"ours, {own}", f"{ours}/v1/embeddings", body))
        if peers:
            port = free_port()
            python = peer_python(home, "litserve", LITSERVE)
            script = ROOT / "benchmarks" / "peers" / "serve_litserve.py"
            command = [python, script, "--base", base.absolute(), "--dtype", dtype, "--port", str(port)]
            url = stack.enter_context(server(command, port, "/health", {}))
            found.append((f"LitServe and transformers, {dtype}", f"{url}/predict", lambda text: {"input": text}))
            for name, command in infinity_commands(home, base, dtype).items():
                port = free_port()
                command += ["--port", str(port), "--host", "127.0.0.1", "--device", "cpu", "--served-model-name", MODEL]
                url = stack.enter_context(
                    server(command, port, "/health", {"DO_NOT_TRACK": "1", "HF_HUB_OFFLINE": "1"})
                )
                found.append((name, f"{url}/embeddings", body))
        yield found


def infinity_commands(home: Path, base: Path, dtype: str) -> dict[str, list[str | Path]]:
    """Its servers by name: torch in the model's best format here, and ONNX Runtime in int8."""
    python = peer_python(home, "infinity", INFINITY)
    torch_engine: list[str | Path] = [python.with_name("infinity_emb"), "v2", "--model-id", base.absolute()]
    torch_engine += ["--dtype", dtype, "--engine", "torch", "--no-bettertransformer"]
    quantized = home.absolute() / "peers" / "minilm-l6-onnx-int8"
    if not (quantized / "model_quantized.onnx").is_file():
        script = ROOT / "benchmarks" / "peers" / "quantize_onnx.py"
        subprocess.run([python, script, base, quantized], check=True, env={**os.environ, "HF_HUB_OFFLINE": "1"})
    # Its version of optimum finds a model by its name in the folder alone, not by a path.
    onnx_engine: list[str | Path] = [
        "env",
        f"--chdir={quantized}",
        python.with_name("infinity_emb"),
        "v2",
        "--model-id",
        ".",
    ]
    onnx_engine += ["--engine", "optimum", "--pooling-method", "mean"]
    return {f"infinity (torch), {dtype}": torch_engine, "infinity (ONNX Runtime), int8": onnx_engine}


def model_sections(home: Path, base: Path, sentences: Sequence[str], peers: bool) -> list[str]:
    longer = [" ".join(sentences[16 * n : 16 * n + 1 + n % 16]) for n in range(len(sentences) // 16)]
    mixed = [" ".join(text.split()[:LONGEST_WORDS]) for text in [*sentences[: len(longer)], *longer]]
    many = [list(sentences[start : start + MANY]) for start in range(0, len(sentences), MANY)]
    with embedders(home, base, peers) as servers, in_process(base, sentences[:INSIDE], dtype_here()) as inside:
        single = [Contestant(name, url, list(map(body, sentences))) for name, url, body in servers]
        before = cpu_seconds()
        in_turn(single, beside=inside.run)
        asked = len(single) * (WARM_SECONDS + ROUNDS * SECONDS)
        wrk_share = (cpu_seconds() - before) / asked / (os.cpu_count() or 1)
        one_by_one = [Contestant(name, url, list(map(body, sentences))) for name, url, body in servers]
        bare = Bare(base, sentences)
        in_turn(one_by_one, connections=1, rounds=3, beside=bare.run)
        sixty_four = [
            Contestant(name, url, list(map(body, many))) for name, url, body in servers if "LitServe" not in name
        ]
        in_turn(sixty_four, connections=MANY_CONNECTIONS, rounds=3, seconds=LONG_SECONDS)
        lengths = [Contestant(name, url, list(map(body, mixed))) for name, url, body in servers]
        in_turn(lengths, rounds=3, seconds=LONG_SECONDS)
    own = [load.requests_per_second for load in single[0].loads]
    rates = [rate / inside.tokens * INSIDE for rate in inside.rates]  # sentences a second
    shares = sorted(over_http / alone for over_http, alone in zip(own, rates, strict=True))
    lines = [
        *against(single),
        f"- Of the rate in process ({statistics.median(rates):,.0f} sentences/s, length-sorted): "
        f"{statistics.median(shares):.0%} ({shares[0]:.0%} to {shares[-1]:.0%}); wrk took {wrk_share:.1%} of the cores",
    ]
    bare_line = f"- The bare forward pass of one sentence: {statistics.median(bare.times) * 1e3:.1f} ms."
    parts = [
        (f"## One sentence a request, {CONNECTIONS} connections", single, lines),
        ("## One sentence a request, one connection", one_by_one, [bare_line]),
        (f"## {MANY} sentences a request, {MANY_CONNECTIONS} connections", sixty_four, against(sixty_four)),
        (f"## Lengths up to 512 tokens, {CONNECTIONS} connections", lengths, against(lengths)),
    ]
    return ["\n\n".join([title, table(HEADER, map(row, ones)), "\n".join(said)]) for title, ones, said in parts]


def against(contestants: Sequence[Contestant]) -> list[str]:
    """Each of ours beside each of the others."""
    own = [one for one in contestants if one.name.startswith("ours")]
    peers = [one for one in contestants if one not in own]
    return [f"- {one.name.capitalize()}, against {peer.name}: {ratio(one, peer)}." for one in own for peer in peers]


def cpu_seconds() -> float:
    """Of wrk, which is the only child that has ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def dtype_here() -> str:
    return "bfloat16" if has_bfloat16(torch.device("cpu")) else "float32"


@contextlib.contextmanager
def in_process(base: Path, sentences: Sequence[str], dtype: str) -> Iterator[Runtime]:
    """The same model without HTTP."""
    with tempfile.TemporaryDirectory() as folder:
        texts = Path(folder) / "texts.json"
        texts.write_text(json.dumps(sentences), encoding="utf-8")
        command = [sys.executable, "-m", "benchmarks.encode_ours", "--dtype", dtype, "--base", base.absolute()]
        with started("ours", dtype, [*command, "--texts", texts]) as one:
            yield one


class Bare:
    """Forward passes of one sentence each."""

    def __init__(self, base: Path, sentences: Sequence[str]) -> None:
        self._loaded = loaded_model(base, dtype_here())
        self._encodings = self._loaded.tokenizer.encode(sentences[:200], 512)
        self.times: list[float] = []

    def run(self) -> None:
        for encoding in self._encodings:
            began = time.perf_counter()
            compute([self._loaded], "embed", [encoding], all_threads())
            self.times.append(time.perf_counter() - began)


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--only", choices=("echo", "model"), help="one half, shown and not kept")
    parser.add_argument("--without-peers", action="store_true", help="ours alone, shown and not kept")
    given = parser.parse_args()
    base = fetch_minilm(given.home / "cache")
    sentences = some([item["text"] for item in movie_sentiment(given.home / "cache")["train"]], SENTENCES)
    sections = [] if given.only == "model" else [echo_section(given.home)]
    if given.only != "echo":
        sections += model_sections(given.home, base, sentences, not given.without_peers)
    about = f"""all-MiniLM-L6-v2; movie sentences, one after another. {ROUNDS} rounds of {SECONDS:g} s in turn (3 where
    one connection asks, 3 of {LONG_SECONDS:g} s where requests are long), after a warm-up; median (least to most). wrk
    on the same cores."""
    packages = ("torch", "tokenizers", "bentoml", "fastapi", "uvicorn")
    text = "\n\n".join(["# Over HTTP", f"{environment(packages)}.", about, *sections, "Command: `make bench-http`."])
    if given.only or given.without_peers:
        print(text)
    else:
        write(by_hardware("http"), text)


if __name__ == "__main__":
    main()

"""What traces cost: requests a second without them, with a tenth of the requests sampled, and with all; and what their
places in the code cost while they are off.

    make bench-traces        # three minutes, on a machine that does nothing else

The services take turns. wrk and a collector that reads and forgets share their cores. Tokenizing computes next to
nothing, so that the cost shows; embedding is what a service is there for.
"""

import contextlib
import statistics
import threading
import time
import timeit
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tqdm import tqdm

from benchmarks.report import environment, parser_of, table, write
from benchmarks.serving import CONNECTIONS, Load, bento, some, wrk
from service.engine.spans import Part, current_trace
from training.catalogue import fetch_minilm, movie_sentiment

ROUNDS, SECONDS, WARM_SECONDS = 3, 4.0, 2.0
SENTENCES = 256
MODEL = "minilm-l6"
PATHS = ("/v1/tokenize", "/v1/embeddings")
ON = {"VITRINE_TRACES": "otlp", "OTEL_TRACES_SAMPLER": "parentbased_traceidratio"}
CALLS = 100_000


@contextlib.contextmanager
def sink() -> Iterator[tuple[str, list[int]]]:
    """A collector that forgets -> its URL, and the sizes of what it was sent."""
    sizes: list[int] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            sizes.append(len(self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *arguments: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", sizes
    finally:
        server.shutdown()
        server.server_close()


def microseconds_while_off() -> float:
    """Of one request: it passes two parts and looks three times for its trace."""

    def request() -> None:
        with Part("model"), Part("tokenize", texts=1):
            current_trace()
        current_trace()
        current_trace()

    return min(timeit.repeat(request, timer=time.process_time, number=CALLS, repeat=5)) / CALLS * 1e6


def main() -> None:
    given = parser_of(__doc__).parse_args()
    fetch_minilm(given.home / "cache")
    sentences = some([item["text"] for item in movie_sentiment(given.home / "cache")["train"]], SENTENCES)
    bodies = [{"model": MODEL, "input": sentence} for sentence in sentences]
    with sink() as (collector, sizes), contextlib.ExitStack() as stack:
        wanted = {"off": {}, "a tenth": {**ON, "OTEL_TRACES_SAMPLER_ARG": "0.1"}, "all": ON}
        urls = {
            name: stack.enter_context(
                bento(given.home, "service.main:Vitrine", OTEL_EXPORTER_OTLP_ENDPOINT=collector, **settings)
            )
            for name, settings in wanted.items()
        }
        loads: dict[tuple[str, str], list[Load]] = {(name, path): [] for name in urls for path in PATHS}
        for name, path in loads:
            wrk(urls[name] + path, bodies, WARM_SECONDS)
        for _ in tqdm(range(ROUNDS), unit="round"):
            for (name, path), measured in loads.items():
                measured.append(wrk(urls[name] + path, bodies, SECONDS))
    rows = [[path, name, *_figures(measured, loads["off", path])] for (name, path), measured in loads.items()]
    header = ("route", "sampled", "requests/s", "of those without", "p50, ms", "p99, ms", "failures")
    about = f"""all-MiniLM-L6-v2, one movie sentence a request, {CONNECTIONS} connections, one API process. {ROUNDS}
    rounds of {SECONDS:g} s in turn after a warm-up; median (least to most). wrk and the collector on the same cores;
    the latter was sent {sum(sizes) / 1e6:.0f} MB. While traces are off, their places in the code take
    {microseconds_while_off():.1f} microseconds of a core a request."""
    sections = ["# What traces cost", f"{environment(('torch', 'fastapi', 'opentelemetry-sdk'))}.", about]
    write("traces", "\n\n".join([*sections, table(header, rows), "Command: `make bench-traces`."]))


def _figures(measured: list[Load], without: list[Load]) -> list[object]:
    rates = [load.requests_per_second for load in measured]
    share = statistics.median(rates) / statistics.median(load.requests_per_second for load in without)
    p50, p99 = (statistics.median(getattr(load, name) for load in measured) for name in ("p50_ms", "p99_ms"))
    shown = f"{statistics.median(rates):,.0f} ({min(rates):,.0f} to {max(rates):,.0f})"
    return [shown, f"{share:.0%}", f"{p50:.1f}", f"{p99:.1f}", sum(load.failures for load in measured)]


if __name__ == "__main__":
    main()

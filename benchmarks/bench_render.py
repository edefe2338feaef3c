"""How long pictures of attention take: the grid of 6 layers x 12 heads beside matplotlib, and the other views.

    make bench-render

all-MiniLM-L6-v2 on a text of so many tokens; the forward pass that computes the weights is timed beside. Ours and
matplotlib take turns.
"""

import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from benchmarks.encode_ours import loaded_model
from benchmarks.peers_environment import peer_python
from benchmarks.report import ROOT, environment, parser_of, table, write
from model.explain.attention import raw_attention
from service.pictures.heatmap import Picture
from service.pictures.views import MAX_ROWS, View, view_png, view_svg
from training.catalogue import fetch_minilm

BARS = {32: 10, 128: 60}  # milliseconds that the grid may take, by tokens
ROUNDS, OURS_A_ROUND, OTHERS = 7, 9, 3  # OTHERS: pictures of each other view
MATPLOTLIB = ("matplotlib==3.11.2", "numpy")
WORDS = "a deeply moving film though the second half drags and the dialogue is at times too long "


@dataclass
class Times:
    """Seconds."""

    seconds: list[float] = field(default_factory=list)

    def add(self, draw: Callable[[], object], times: int = OURS_A_ROUND) -> None:
        for _ in range(times):
            start = time.perf_counter()
            draw()
            self.seconds.append(time.perf_counter() - start)

    @property
    def p50(self) -> float:
        return 1_000 * statistics.median(self.seconds)

    @property
    def shown(self) -> str:
        """Milliseconds: the median, and the middle half."""
        low, _, high = (1_000 * value for value in statistics.quantiles(self.seconds, n=4))
        return f"{self.p50:,.1f} ({low:,.1f} to {high:,.1f})"


@contextmanager
def matplotlib(home: Path) -> Iterator[Callable[[Path], float]]:
    """A process that draws a file of weights -> the seconds it took."""
    python = peer_python(home, "matplotlib", MATPLOTLIB)
    script = ROOT / "benchmarks" / "peers" / "draw_matplotlib.py"
    with subprocess.Popen([python, script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        stdin, stdout = process.stdin, process.stdout

        def draw(weights: Path) -> float:
            stdin.write(f"{weights}\n")
            stdin.flush()
            return float(stdout.readline())

        yield draw
        stdin.close()


def picture_of(view: View, grid: Picture) -> Picture:
    """What the view is asked for: heads show one layer."""
    if view != "heads":
        return grid
    return Picture(grid.weights[:1], grid.labels, [0], grid.heads, grid.title, grid.note, grid.meaning)


def measured(tokens: int, home: Path, theirs: Callable[[Path], float]) -> dict[str, Times]:
    loaded = loaded_model(fetch_minilm(home / "cache"), "float32")
    (encoding,) = loaded.tokenizer.encode([WORDS * (tokens // 8)], tokens)
    weights = raw_attention(loaded.model, encoding).numpy().astype(np.float32)  # [L, H, T, T]
    assert weights.shape[-1] == tokens
    grid = Picture(weights, encoding.tokens, range(6), range(12), "minilm-l6", "row: looks", "attention weight")
    times = {name: Times() for name in ("forward", "grid", "matplotlib", "grid as SVG", "heads", "flow")}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "weights.npy"
        np.save(file, weights)
        theirs(file), view_png("heatmap", grid, None)
        for one in tqdm(range(ROUNDS), desc=f"{tokens} tokens"):
            times["forward"].add(lambda: raw_attention(loaded.model, encoding))
            times["grid"].add(lambda: view_png("heatmap", grid, None))
            times["matplotlib"].seconds.append(theirs(file))
            if one >= OTHERS:
                continue
            times["grid as SVG"].add(lambda: view_svg("heatmap", grid, None), 1)
            times["heads"].add(lambda: view_png("heads", picture_of("heads", grid), None), 1)
            if tokens <= MAX_ROWS["flow"]:
                times["flow"].add(lambda: view_png("flow", grid, None), 1)
    return {name: one for name, one in times.items() if one.seconds}


def main() -> None:
    home, load = parser_of(__doc__).parse_args().home, os.getloadavg()[0]
    torch.set_grad_enabled(False)
    with matplotlib(home) as theirs:
        results = {tokens: measured(tokens, home, theirs) for tokens in BARS}
    names = {
        "forward": "forward pass with the weights of all heads",
        "grid": "grid of 6 x 12 heads, PNG",
        "matplotlib": "the same by matplotlib",
        "grid as SVG": "grid, SVG",
        "heads": "head view of 12 heads in one layer, PNG",
        "flow": "flow through 6 layers, PNG",
    }
    rows = [
        [words, *(results[tokens][name].shown if name in results[tokens] else "refused" for tokens in BARS)]
        for name, words in names.items()
    ]
    kept = [
        f"- {tokens} tokens: {result['grid'].p50:.1f} ms for the grid (bar: {BARS[tokens]} ms), matplotlib "
        f"{result['matplotlib'].p50 / result['grid'].p50:,.0f} times that."
        for tokens, result in results.items()
    ]
    write(
        "render",
        f"# Pictures of attention\n\nLoad of the machine before: {load:.1f} on {os.cpu_count()} cores (above 1: others "
        f"used them too, and every time is longer). {environment(('pillow', 'numpy', 'torch'))}, {MATPLOTLIB[0]}.\n\n"
        f"{table(['milliseconds: median (middle half)', *(f'{tokens} tokens' for tokens in BARS)], rows)}\n\n"
        + "\n".join(kept)
        + "\n\nMeasured with `make bench-render`: in one process each, in turns, "
        f"{ROUNDS * OURS_A_ROUND} grids, {ROUNDS} by matplotlib, {OTHERS} of each other view. "
        "A head takes 96 x 96 pixels at 32 tokens "
        "and 128 x 128 at 128, with labels and a legend; matplotlib draws axes of about 80 x 80 pixels with `imshow`, "
        "the same labels and no legend. BertViz has no path to a file of pixels.",
    )


if __name__ == "__main__":
    main()

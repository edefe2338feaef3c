"""The grid of heads by matplotlib, one picture each time it is told to. Runs in a virtual environment of its own;
`bench_render.py` makes that and calls this.

Reads lines: a file of weights [L, H, T, T] -> the seconds of one PNG of it, as `imshow` in L x H axes.
"""

import io
import sys
import time

import matplotlib
import numpy as np

matplotlib.use("Agg")
from matplotlib import pyplot


def drawn(weights):
    layers, heads = weights.shape[:2]
    figure, axes = pyplot.subplots(layers, heads, figsize=(heads, layers + 0.6), squeeze=False)
    for layer in range(layers):
        for head in range(heads):
            axis = axes[layer, head]
            axis.imshow(weights[layer, head], vmin=0, vmax=1, cmap="viridis")
            axis.set_xticks([])
            axis.set_yticks([])
            if layer == 0:
                axis.set_title(f"head {head}", fontsize=8)
            if head == 0:
                axis.set_ylabel(f"layer {layer}", fontsize=8)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100)
    pyplot.close(figure)
    return buffer.getvalue()


for line in sys.stdin:
    weights = np.load(line.strip())
    start = time.perf_counter()
    drawn(weights)
    print(time.perf_counter() - start, flush=True)

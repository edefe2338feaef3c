"""A job followed in the terminal: a progress bar, the loss as a curve, and what is said. Used by `remote_cli.py`."""

import sys
from collections.abc import Sequence
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from service.remote import Remote

SHOWN_SCORES = 4
CURVE_ROWS, CURVE_COLUMNS = 8, 60
EIGHTHS = " ▁▂▃▄▅▆▇█"


def watch_job(remote: Remote, job_id: str, console: Console | None = None) -> dict[str, Any]:
    """Shows a job until it has ended -> the job. Without a terminal each event is a line."""
    console = console or Console(file=sys.stdout)
    job = remote.get(f"/v1/fine_tuning/jobs/{job_id}")
    if not console.is_terminal:
        for event in remote.events(job_id):
            console.print(event["message"], markup=False, highlight=False, soft_wrap=True)
        return remote.get(f"/v1/fine_tuning/jobs/{job_id}")
    board = Board()
    with Live(board.picture(job["status"]), console=console, refresh_per_second=8) as live:
        for event in remote.events(job_id):
            board.take(event)
            if event["type"] == "message" or "train_loss" not in event["data"]:
                live.console.print(event["message"], markup=False, highlight=False, soft_wrap=True)
            live.update(board.picture())
    return remote.get(f"/v1/fine_tuning/jobs/{job_id}")


class Board:
    """What is known of a job from its events."""

    def __init__(self) -> None:
        self.losses: list[tuple[int, float]] = []  # step, training loss
        self.scores: list[tuple[int, float]] = []  # step, held-out accuracy, or loss where there is none
        self._bar = Progress(
            TextColumn("{task.description}"), BarColumn(bar_width=40), MofNCompleteColumn(), TimeRemainingColumn(),
            TextColumn("{task.fields[said]}"),
        )  # fmt: skip
        self._task = self._bar.add_task("steps", total=None, said="")

    def take(self, event: dict[str, Any]) -> None:
        data = event.get("data") or {}
        if "train_loss" in data:
            self.losses.append((int(data["step"]), float(data["train_loss"])))
            said = f"loss {data['train_loss']:.4f}  {data['tokens_per_second']:,.0f} tokens/s"
            self._bar.update(self._task, completed=data["step"], total=data["total_steps"], said=said)
        elif event.get("type") == "metrics":
            value = data.get("valid_accuracy", data.get("valid_loss"))
            if value is not None:
                self.scores.append((int(data["step"]), float(value)))

    def picture(self, state: str = "") -> Group:
        parts: list[Any] = [self._bar]
        if len(self.losses) > 1:
            parts.append(Text("\n".join(curve([loss for _, loss in self.losses]))))
        elif state:
            parts.append(Text(state))
        if self.scores:
            parts.append(
                Text(
                    "held out  " + "  ".join(f"step {step}: {value:.4f}" for step, value in self.scores[-SHOWN_SCORES:])
                )
            )
        return Group(*parts)


def curve(values: Sequence[float], rows: int = CURVE_ROWS, columns: int = CURVE_COLUMNS) -> list[str]:
    """Values from left to right as columns of blocks, the largest full; the mean of several where there is no room for
    each. The first and last line name the largest and the least."""
    count = min(columns, len(values))
    shown = []
    for column in range(count):
        start, end = column * len(values) // count, (column + 1) * len(values) // count
        part = values[start:end]
        shown.append(sum(part) / len(part))
    top, bottom = max(shown), min(shown)
    span = (top - bottom) or 1.0
    heights = [1 + round((value - bottom) / span * (8 * rows - 1)) for value in shown]  # in eighths of a row
    lines = []
    for row in reversed(range(rows)):
        cells = "".join(EIGHTHS[max(0, min(8, height - 8 * row))] for height in heights)
        name = f"{top:9.4f} " if row == rows - 1 else f"{bottom:9.4f} " if row == 0 else " " * 10
        lines.append(name + cells)
    return lines

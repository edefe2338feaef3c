"""What the same run could do otherwise on another machine: number format, threads, rows at once. Settled once, stored
beside the run, and taken up again by a resumed run, whose weights are then the same to the bit. Used by
`trainer.py`."""

import json
import os
import platform
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch


@dataclass(frozen=True)
class Surroundings:
    """Identity of a resumed run is promised where all of these are the same."""

    dtype: str  # "bfloat16" or "float32"
    threads: int
    micro_batch_size: int
    processes: int
    processor: str
    sharded: bool = False  # whether the processes hold parts of the weights instead of the whole
    torch: str = torch.__version__
    lanes: int = 1  # that take rows through the model side by side, see `lanes.py`


def processor_name(device: torch.device) -> str:
    """The CPU's or GPU's model name."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").is_file() else []
    fields = dict(line.split(":", 1) for line in lines if ":" in line)
    named = {name.strip(): value.strip() for name, value in fields.items()}
    return " ".join(named[name] for name in ("model name", "cpu family", "model") if name in named) or (
        platform.processor() or platform.machine()
    )


def store(path: Path, run_key: str, surroundings: Surroundings) -> None:
    temporary = path.with_name(f".{path.name}.tmp")
    with open(temporary, "w", encoding="utf-8") as file:
        json.dump({"run_key": run_key, **asdict(surroundings)}, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def stored(path: Path, run_key: str) -> Surroundings | None:
    """Those of this very run, when it has been started before. A damaged file is as good as none."""
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
        return Surroundings(**fields) if fields.pop("run_key") == run_key else None
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None


def take_up(old: Surroundings, now: Surroundings) -> tuple[Surroundings, list[str]]:
    """What a resumed run uses: the settings of before, but never more rows at once, nor lanes, than fit now; and what
    differs all the same, in words for the user."""
    given = {"processor": "processor", "torch": "torch", "processes": "processes", "sharded": "sharded weights"}
    least = {"micro_batch_size": "rows at once", "lanes": "lanes"}
    fitting = {name: min(getattr(old, name), getattr(now, name)) for name in least}
    used = replace(old, **{name: getattr(now, name) for name in given}, **fitting)
    changes = [
        f"{words} was {getattr(old, name)}, is {getattr(used, name)}"
        for name, words in (given | least).items()
        if getattr(old, name) != getattr(used, name)
    ]
    return used, changes

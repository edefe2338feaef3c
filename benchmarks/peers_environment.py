"""Virtual environments that have the peers and nothing of ours. Used by the benchmarks that compare."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path


def peer_python(home: Path, name: str, packages: Sequence[str]) -> Path:
    """The interpreter of the environment `name`, made when it is missing, in the state folder."""
    folder = home.absolute() / "peers" / name
    python = folder / "bin" / "python"
    done = folder / "done"
    if not done.is_file():
        print(f"installing the peers {', '.join(packages)} ...", flush=True)
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        quiet = ("--quiet", "--disable-pip-version-check")
        subprocess.run([python, "-m", "pip", "install", *quiet, *packages], check=True)
        done.touch()
    return python

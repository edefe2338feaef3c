"""Virtual environments that have the peers and nothing of ours. Used by the benchmarks that compare."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path


def peer_python(home: Path, name: str, packages: Sequence[str]) -> Path:
    """The interpreter of the environment `name`, in the state folder: made when it is missing, or has other
    packages."""
    folder = home.absolute() / "peers" / name
    python = folder / "bin" / "python"
    done = folder / "done"
    wanted = "\n".join(packages)
    if not done.is_file() or done.read_text(encoding="utf-8") != wanted:
        print(f"installing the peers {', '.join(packages)} ...", flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
        quiet = ("--quiet", "--disable-pip-version-check")
        subprocess.run([python, "-m", "pip", "install", *quiet, *packages], check=True)
        done.write_text(wanted, encoding="utf-8")
    return python

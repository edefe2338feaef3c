"""The hand that takes the Dockerfile's steps understands what stands in it, and does what an engine would do."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.by_hand.build import Builder, Image, Step
from tests.by_hand.container import Container
from tests.by_hand.dockerfile import Instruction, exec_form, pairs, read_instructions, read_stages, replace_variables
from tests.by_hand.host import Passed
from tests.by_hand.ignored import Ignored, copy_context

ROOT = Path(__file__).parents[1]
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
PROGRAMS = ("sh", "cat", "chown", "id", "ls", "mkdir", "sleep", "touch")
SMALL = """
ARG BASE=nothing
FROM ${BASE} AS First
ARG WORD=unsaid
ENV GREETING="good day" PLACE=/srv
WORKDIR $PLACE/app
COPY plain.txt folder ./
COPY --chown=71:72 folder theirs
# a remark
RUN echo "$WORD, $GREETING" > said \\
    # amid a step
    && ls -n theirs > owners

FROM $BASE
COPY --from=first /srv/app/said /kept/
RUN --mount=type=bind,from=first,source=/srv,target=/lent cat /lent/app/owners > /kept/owners && mkdir /state && chown 7001 /state
COPY passwd /etc/passwd
USER keeper
WORKDIR /state
VOLUME /state
HEALTHCHECK --interval=5s CMD ["sh", "-c", "cat /state/up"]
CMD ["sh", "-c", "trap 'exit 3' TERM; id > up; touch /no; sleep 60 & wait"]
"""


def can_mount() -> bool:
    if os.geteuid() != 0 or not all(map(shutil.which, ("unshare", "nsenter", "ip"))):
        return False
    script = "mkdir -p $0/a $0/b $0/w $0/m && mount -t overlay -o lowerdir=$0/a,upperdir=$0/b,workdir=$0/w none $0/m"
    folder = Path("/tmp") / f"can-mount-{os.getpid()}"
    try:
        return subprocess.run(["unshare", "--mount", "sh", "-c", script, folder], capture_output=True).returncode == 0
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def small_root(tmp_path: Path) -> Path:
    """A few programs of this machine with the libraries they need."""
    root = tmp_path / "base"
    for program in PROGRAMS:
        path = shutil.which(program)
        assert path
        listed = subprocess.run(["ldd", path], capture_output=True, text=True, check=True).stdout
        for file in [path, *(word for word in listed.split() if word.startswith("/"))]:
            (root / file.lstrip("/")).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, root / file.lstrip("/"))
    (root / "bin").mkdir(exist_ok=True)
    if not (root / "bin/sh").exists():
        shutil.copy(str(shutil.which("sh")), root / "bin/sh")
    (root / "etc").mkdir()
    return root


@pytest.fixture
def context(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    (folder / "folder").mkdir(parents=True)
    (folder / "plain.txt").write_text("plain")
    (folder / "folder/inner.txt").write_text("inner")
    (folder / "secret.txt").write_text("not sent")
    (folder / "passwd").write_text("root:x:0:0::/root:/bin/sh\nkeeper:x:7001:7002::/home/keeper:/bin/sh\n")
    (folder / ".dockerignore").write_text("secret*\n")
    return folder


def test_each_instruction_of_our_dockerfile_is_understood() -> None:
    stages = read_stages(DOCKERFILE, {"BASE": "debian:12-slim"})
    assert [(stage.name, stage.base) for stage in stages] == [
        ("page", "node:24-slim"),
        ("packages", "debian:12-slim"),
        ("wheel", "packages"),
        ("3", "debian:12-slim"),
    ]
    names = {stage.name for stage in stages}
    for instruction in (one for stage in stages for one in stage.instructions):
        assert instruction.flags == () or {name for name, _ in instruction.flags} <= {
            "from",
            "mount",
            "interval",
            "timeout",
            "start-period",
            "retries",
        }
        assert instruction.flag("from") in {None, *names}
    last = {one.name: one for one in stages[-1].instructions}
    assert exec_form(last["HEALTHCHECK"].value.removeprefix("CMD ")), "no shell is needed to ask"
    assert exec_form(last["CMD"].value)


def test_without_build_arguments_the_base_is_the_one_for_gpus() -> None:
    assert {stage.base for stage in read_stages(DOCKERFILE, {})} == {
        "node:24-slim", "packages", "nvidia/cuda:12.8.1-base-ubuntu24.04",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("FROM a\nRUN <<EOF\necho\nEOF", "line 2: a here-document"),
        ("FROM a\nMAINTAINER me", "line 2: MAINTAINER is not understood"),
        ("RUN true", "line 1: RUN before the first FROM"),
        ("FROM a\nRUN true \\", "line 2: the instruction goes on"),
    ],
)
def test_what_is_not_understood_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_stages(text, {})


def test_lines_go_on_past_remarks_and_flags_are_taken_off() -> None:
    (found,) = read_instructions(
        "# head\nRUN --mount=type=bind,from=a,target=/b --network=none one \\\n  # why\n  && two\n"
    )
    assert found == Instruction(
        "RUN", "one   && two", (("mount", "type=bind,from=a,target=/b"), ("network", "none")), 2
    )


def test_variables_have_defaults_and_replacements() -> None:
    assert replace_variables("$A-${B}-${C:-else}-${A:+set}-${C:+set}", {"A": "1", "B": "2"}) == "1-2-else-set-"
    assert list(pairs('A=1 B="two words" C=')) == [("A", "1"), ("B", "two words"), ("C", "")]
    assert list(pairs("OLD the form")) == [("OLD", "the form")]


def test_our_context_has_the_sources_and_neither_state_nor_environment() -> None:
    ignored = Ignored((ROOT / ".dockerignore").read_text(encoding="utf-8"))
    for path in (
        ".git",
        ".venv",
        ".vitrine",
        "tests",
        "model/__pycache__",
        "service/ui/node_modules",
        "service/ui/static",
    ):
        assert path in ignored, path
        assert f"{path}/deeper/file" in ignored, path
    for path in (
        "model/layers.py",
        "service/ui/src/app.tsx",
        "pyproject.toml",
        "constraints.txt",
        "LICENSE",
        "README.md",
    ):
        assert path not in ignored, path


def test_a_later_rule_brings_a_file_back(context: Path, tmp_path: Path) -> None:
    (context / ".hidden").write_text("x")
    sent = copy_context(context, tmp_path / "sent", Ignored("*.txt\n!plain.txt\n.*\n"))
    assert {path.name for path in (tmp_path / "sent").rglob("*") if path.is_file()} == {
        "plain.txt",
        "inner.txt",
        "passwd",
    }
    assert sent == sum(path.stat().st_size for path in (tmp_path / "sent").rglob("*") if path.is_file())


@pytest.mark.skipif(not can_mount(), reason="needs root and the right to mount")
def test_a_small_image_is_built_started_asked_and_stopped(small_root: Path, context: Path, tmp_path: Path) -> None:
    arguments = {"BASE": "small", "WORD": "hello"}
    steps: list[Step] = []
    builder = Builder(tmp_path / "work", context, {"small": [small_root]}, arguments, steps.append, lent_nothing)
    image = builder.build(read_stages(SMALL, arguments))
    assert [len(one.layers) for one in builder.images.values()] == [5, 5], "a layer each: RUN, COPY, WORKDIR"
    first = builder.images["first"]
    assert content(first, "srv/app/said") == content(image, "kept/said") == "hello, good day\n"
    assert content(first, "srv/app/plain.txt") == "plain"
    assert content(first, "srv/app/inner.txt") == "inner", "of a folder what lies in it"
    assert " 71 72 " in content(image, "kept/owners")
    assert not any((layer / "secret.txt").exists() for one in builder.images.values() for layer in one.layers)
    assert not any((layer / "lent").exists() for layer in image.layers), "what was lent left no trace"
    assert builder.ids(image) == (7001, 7002)

    container = Container(builder, image, tmp_path / "run/one")
    try:
        container.wait_healthy(60)
        assert container.inside("id", "-u").stdout == "7001\n"
        assert (
            "uid=7001(keeper) gid=7002"
            in container.inside("cat", "up").stdout + container.inside("cat", "/state/up").stdout
        )
        assert container.inside("touch", "/srv").returncode != 0
        assert container.inside("touch", "/tmp/yes", "/state/yes").returncode == 0
        assert "Read-only" in container.log.read_text(), "the root"
        assert container.memory_bytes() > 0
        assert container.stop(30)[0] == 3
    finally:
        container.end()
    mounts = Path("/proc/self/mounts").read_text()
    assert str(tmp_path) not in mounts


def lent_nothing(folder: Path, release: str) -> Passed:
    return Passed()


def content(image: Image, file: str) -> str:
    return next(layer / file for layer in reversed(image.layers) if (layer / file).exists()).read_text()

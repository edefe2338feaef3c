"""A root of layers in namespaces of its own: everything mounted there is gone when its first process ends.

The parent (`Room`) starts this file under `unshare`; there it mounts, changes root and user, and becomes the command,
which is process 1 as in a container.
"""

import contextlib
import ctypes
import json
import os
import shutil
import subprocess
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
NO_NEW_PRIVILEGES, DROP_FROM_BOUNDS, LAST_CAPABILITY = 38, 24, 40  # of prctl(2)


@dataclass
class Plan:
    """What is mounted where, and who runs what. Layers and sources are paths here, targets paths in the root."""

    layers: list[str]  # the lowest first
    upper: str  # takes what is written
    root: str  # an empty folder, where it is mounted
    views: list[tuple[list[str], str, str]] = field(default_factory=list)  # (layers, folder in them, target or "")
    binds: list[tuple[str, str, bool]] = field(default_factory=list)  # (source, target, read-only)
    memory: list[str] = field(default_factory=list)  # targets that are memory
    copied: list[str] = field(default_factory=list)  # of the first view, put to `copy_to` before the command
    copy_to: str = ""
    owner: str = "0:0"  # of what is copied
    command: list[str] = field(default_factory=list)
    variables: dict[str, str] = field(default_factory=dict)
    folder: str = "/"
    user: int = 0
    group: int = 0
    step: bool = True  # the mount points go when the command has ended; else the command is process 1
    read_only: bool = False
    own_network: bool = False  # loopback alone
    locked: bool = False  # no capability, no way to one: cap_drop ALL and no-new-privileges


def start(plan: Plan, **popen: object) -> "subprocess.Popen[str]":
    network = ["--net"] if plan.own_network else []
    spaces = ["unshare", "--mount", "--pid", "--ipc", "--uts", "--fork", "--kill-child", *network]
    command = [*spaces, sys.executable, __file__, json.dumps(asdict(plan))]
    return subprocess.Popen(command, text=True, **popen)  # type: ignore[call-overload, no-any-return]


def run(plan: Plan) -> str:
    """The output of the command; an error with its end where it fails."""
    process = start(plan, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
    said, _ = process.communicate()
    if process.returncode:
        raise RuntimeError(f"{plan.command}: exit status {process.returncode}\n{said[-4000:]}")
    return said


def mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True)


def mount_layers(layers: list[str], target: str, upper: str = "") -> None:
    """To look at without `upper`, where a single layer is no overlay."""
    lower = ":".join(reversed(layers))
    if upper:
        Path(f"{upper}.work").mkdir(exist_ok=True)
        mount("-t", "overlay", "overlay", "-o", f"lowerdir={lower},upperdir={upper},workdir={upper}.work", target)
    elif len(layers) > 1:
        mount("-t", "overlay", "overlay", "-o", f"lowerdir={lower}", target)
    else:
        mount("--bind", layers[0], target)


class Places:
    """Mount points that the root lacked; what is left of them is taken away when the command has ended."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.made: list[Path] = []

    def at(self, target: str, folder: bool) -> str:
        place = self.root / target.lstrip("/")
        missing = [one for one in [place, *place.parents] if one.is_relative_to(self.root) and not one.exists()]
        for one in reversed(missing):
            one.mkdir() if folder or one != place else one.touch()
        self.made += reversed(missing)
        return str(place)

    def forget(self) -> None:
        for place in reversed(self.made):
            with contextlib.suppress(OSError):  # the command put something beside it
                place.rmdir() if place.is_dir() else place.unlink()


def prepare(plan: Plan) -> tuple[Places, list[str]]:
    """Mounts everything; the second value: what to unmount, the last mounted last."""
    root = Path(plan.root)
    mount("--make-rprivate", "/")
    mount_layers(plan.layers, plan.root, plan.upper)
    places, mounted = Places(root), []

    def put(target: str, folder: bool, *arguments: str, source: str = "none") -> None:
        place = places.at(target, folder)
        mount(*arguments, source, place)
        mounted.append(place)

    put("/proc", True, "-t", "proc")
    put("/sys", True, "-t", "sysfs", "-o", "ro")
    put("/dev", True, "-t", "tmpfs", "-o", "mode=755,size=64k")
    for name in DEVICES:
        place = root / "dev" / name
        place.touch()
        mount("--bind", f"/dev/{name}", str(place))
        mounted.append(str(place))
    (root / "dev/fd").symlink_to("/proc/self/fd")
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        (root / "dev" / name).symlink_to(f"/proc/self/fd/{number}")
    (root / "dev/shm").mkdir()
    mount("-t", "tmpfs", "-o", "mode=1777", "none", str(root / "dev/shm"))
    mounted.append(str(root / "dev/shm"))
    for target in plan.memory:
        put(target, True, "-t", "tmpfs", "-o", "mode=1777")
    for number, (layers, inside, target) in enumerate(plan.views):
        view = Path(f"{plan.root}.view{number}")
        view.mkdir(exist_ok=True)
        mount_layers(layers, str(view))
        if target:
            put(target, True, "--bind", source=str(view / inside.lstrip("/")))
    for source, target, read_only in plan.binds:
        put(target, Path(source).is_dir(), "--bind", source=source)
        if read_only:
            mount("-o", "remount,ro,bind", mounted[-1])
    if plan.read_only:
        mount("-o", "remount,ro,bind", plan.root)
    return places, mounted


def become(plan: Plan) -> None:
    """Change root and user, then be the command."""
    if plan.own_network:
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    os.chroot(plan.root)
    os.chdir(plan.folder)
    if plan.locked:
        system = ctypes.CDLL(None, use_errno=True)
        for capability in range(LAST_CAPABILITY + 1):
            system.prctl(DROP_FROM_BOUNDS, capability, 0, 0, 0)
        system.prctl(NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    os.setgroups([])
    os.setgid(plan.group)
    os.setuid(plan.user)
    variables = {"PATH": PATH, "HOME": "/root", **plan.variables}
    os.environ.clear()  # execvp looks along the PATH of the root, not along ours
    os.environ.update(variables)
    os.execvpe(plan.command[0], plan.command, variables)


def copy(plan: Plan) -> None:
    """As COPY: of a folder what lies in it; a target that ends in a slash is a folder."""
    view, aside = Path(f"{plan.root}.view0"), Path(f"{plan.upper}.copied")
    target = Path(plan.root, plan.copy_to.lstrip("/"))
    if not target.parent.resolve().is_relative_to(Path(plan.root).resolve()):
        raise ValueError(f"{plan.copy_to} leads out of the root")
    found = [path for pattern in plan.copied for path in sorted(view.glob(pattern)) or [view / pattern]]
    into = plan.copy_to.endswith("/") or len(found) > 1 or target.is_dir()
    for source in found:
        folder = target if source.is_dir() or into else target.parent
        folder.mkdir(parents=True, exist_ok=True)
        place = target if source.is_dir() or not into else target / source.name
        _copy_as(plan.owner, source, place, aside)


def _copy_as(owner: str, source: Path, place: Path, aside: Path) -> None:
    """Of nobody's but the new owner: of root at once, of another by a copy that is given away first."""
    keep = ["cp", "-dR", "--preserve=mode,timestamps,links"]
    given = source
    if owner != "0:0":
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir()
        given = aside / "given"
        subprocess.run([*keep, str(source), str(given)], check=True)
        subprocess.run(["chown", "--recursive", "--no-dereference", owner, str(given)], check=True)
        keep = ["cp", "-a"]
    subprocess.run([*keep, f"{given}/." if given.is_dir() else str(given), str(place)], check=True)
    shutil.rmtree(aside, ignore_errors=True)


def main() -> None:
    plan = Plan(**json.loads(sys.argv[1]))
    places, mounted = prepare(plan)
    if plan.copied:
        copy(plan)
    if not plan.step:
        become(plan)
    status = 0
    if plan.command:
        child = os.fork()
        if child == 0:
            become(plan)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    for place in reversed(mounted):
        subprocess.run(["umount", "--lazy", place], check=True)
    places.forget()
    sys.exit(status)


if __name__ == "__main__":
    main()

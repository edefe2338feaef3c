"""An image as it would run: its user, no rights, a read-only root, its volumes, loopback alone. Called by checks.py."""

import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.by_hand import room
from tests.by_hand.build import Builder, Image


class Container:
    """Its process 1 is the image's command; its network has nothing but itself, so its port meets no other's."""

    def __init__(
        self,
        builder: Builder,
        image: Image,
        folder: Path,
        command: Sequence[str] = (),
        variables: Mapping[str, str] | None = None,
        *,
        own_network: bool = True,
        binds: Sequence[tuple[str, str, bool]] = (),
    ) -> None:
        self.folder = folder
        self.user, self.group = builder.ids(image)
        self.variables = {"HOME": self._home(builder, image), **image.variables, **(variables or {})}
        self.image = image
        (folder / "upper").mkdir(parents=True, exist_ok=True)
        (folder / "root").mkdir(exist_ok=True)
        self.log = folder / "log"
        plan = room.Plan(
            [str(layer) for layer in image.layers],
            str(folder / "upper"),
            str(folder / "root"),
            binds=[*binds, *((str(self._volume(image, target)), target, False) for target in image.volumes)],
            memory=["/tmp"],
            command=[*image.entrypoint, *(command or image.command)],
            variables=self.variables,
            folder=image.folder,
            user=self.user,
            group=self.group,
            step=False,
            read_only=True,
            own_network=own_network,
            locked=True,
        )
        self.began = time.monotonic()
        with open(self.log, "ab") as log:
            self.outer = room.start(plan, stdout=log, stderr=log, stdin=subprocess.DEVNULL)

    @staticmethod
    def _home(builder: Builder, image: Image) -> str:
        row = builder._row(image, "etc/passwd", image.user.partition(":")[0])
        return row[5] if row else "/"

    def _volume(self, image: Image, target: str) -> Path:
        """A new volume takes owner, rights and content of its place in the image."""
        volume = self.folder.parent / f"volume{target.replace('/', '-')}"
        if not volume.exists():
            inside = [layer / target.lstrip("/") for layer in image.layers if (layer / target.lstrip("/")).is_dir()]
            for layer in inside:
                subprocess.run(["cp", "-a", "-T", str(layer), str(volume)], check=True)
            volume.mkdir(exist_ok=True)
        return volume

    @property
    def process(self) -> int:
        """The number here of what is process 1 there."""
        found = Path(f"/proc/{self.outer.pid}/task/{self.outer.pid}/children").read_text().split()
        return int(found[0])

    def inside(self, *command: str, timeout: float = 120) -> "subprocess.CompletedProcess[str]":
        """As `docker exec`: in its namespaces, as its user."""
        enter = ["nsenter", "--target", str(self.process), "--mount", "--pid", "--net", "--ipc", "--root"]
        rights = [f"--setgid={self.group}", f"--setuid={self.user}"]
        variables = {"PATH": room.PATH, **self.variables}
        return subprocess.run(
            [*enter, *rights, *command], env=variables, capture_output=True, text=True, timeout=timeout, check=False
        )

    def healthy(self) -> bool:
        """What HEALTHCHECK says."""
        return self.inside(*self.image.health).returncode == 0

    def wait_healthy(self, seconds: float) -> float:
        """Seconds from the start to the first success."""
        while time.monotonic() - self.began < seconds:
            if self.outer.poll() is not None:
                raise RuntimeError(f"ended with {self.outer.returncode}:\n{self.log.read_text()[-4000:]}")
            if Path(f"/proc/{self.outer.pid}").exists() and self._started() and self.healthy():
                return time.monotonic() - self.began
            time.sleep(0.5)
        raise TimeoutError(f"not healthy within {seconds} s:\n{self.log.read_text()[-4000:]}")

    def _started(self) -> bool:
        """Process 1 has become the command: before that the root around it is still ours."""
        try:
            return Path(f"/proc/{self.process}/root").readlink() == self.folder / "root"
        except (OSError, IndexError):
            return False

    def memory_bytes(self) -> int:
        """Of all its processes, what they share counted once."""
        space = Path(f"/proc/{self.process}/ns/pid").readlink()
        total = 0
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                if (entry / "ns/pid").readlink() == space:
                    lines = (entry / "smaps_rollup").read_text().splitlines()
                    total += next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) * 1024
            except (OSError, StopIteration):
                continue
        return total

    def signal(self, name: str) -> None:
        subprocess.run(["kill", "-s", name, str(self.process)], check=True)

    def stop(self, seconds: float = 60) -> tuple[int, float]:
        """SIGTERM, as `docker stop`: exit status, and how long it took."""
        began = time.monotonic()
        self.signal("TERM")
        status = self.outer.wait(seconds)
        return status, time.monotonic() - began

    def end(self) -> None:
        if self.outer.poll() is None:
            self.outer.kill()  # --kill-child takes process 1 along, and that all others
            self.outer.wait()

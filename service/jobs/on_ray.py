"""The command that a Ray cluster runs for a job: one process a GPU, or one a node, on as many nodes as are alive and
wanted, each started by torchrun. Ends well when all of them have; when a node dies, so do the others.
"""

import argparse
import os
import socket
import subprocess
import sys
import time
from typing import Any

from service.settings import Settings

WAIT_SECONDS = 120.0  # for nodes that are busy with others
LOOK_SECONDS = 2.0


def add_commands(commands: Any, _: Settings) -> None:
    """`vitrine on-ray`; called by the cluster, not by people."""
    parser = commands.add_parser("on-ray", help="train a job on the Ray cluster that runs this command")
    parser.add_argument("job")
    parser.add_argument("--worker", required=True, help="whose lease the job is on")
    parser.add_argument("--nodes", type=int, default=1)
    parser.add_argument("--gpus", type=int, default=0, help="of each node")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """Raises RuntimeError when a node is lost or a process fails."""
    import ray
    from ray.exceptions import RayError
    from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

    ray.init(address="auto", logging_level="ERROR")
    share = {"CPU": 1.0} | ({"GPU": float(arguments.gpus)} if arguments.gpus else {})
    group, count = _room_for(arguments.nodes, share)
    remote = ray.remote(num_cpus=1, num_gpus=arguments.gpus, max_restarts=0)(Node)
    nodes = [
        remote.options(
            scheduling_strategy=PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=index)
        ).remote()
        for index in range(count)
    ]
    print(f"{arguments.job}: {count} of {_nodes_alive()} nodes", flush=True)
    try:
        host, port = ray.get(nodes[0].address.remote())
        runs = [
            node.run.remote(arguments.job, arguments.worker, count, index, max(1, arguments.gpus), host, port)
            for index, node in enumerate(nodes)
        ]
        while runs:  # whichever ends first: one that fails ends all
            done, runs = ray.wait(runs)
            for code, log in ray.get(done):
                if code:
                    raise RuntimeError(f"a process of {arguments.job} ended with exit status {code}:\n{log}")
    except RayError as error:
        raise RuntimeError(f"a node of {arguments.job} is lost: {type(error).__name__}") from error
    finally:
        for node in nodes:
            ray.kill(node)


def _nodes_alive() -> int:
    import ray

    return sum(bool(node["Alive"] and node["Resources"].get("CPU")) for node in ray.nodes())


def _room_for(wanted: int, share: dict[str, float]) -> tuple[Any, int]:
    """-> a placement group with this share of each of so many nodes, and how many those are. The cluster takes a while
    to see that a node is dead: the job does not wait for one that dies meanwhile. Raises RuntimeError."""
    from ray.util.placement_group import placement_group, remove_placement_group

    deadline = time.monotonic() + WAIT_SECONDS
    while True:
        count = max(1, min(wanted, _nodes_alive()))
        group = placement_group([share] * count, strategy="STRICT_SPREAD")
        while not group.wait(LOOK_SECONDS):
            if time.monotonic() > deadline:
                raise RuntimeError(f"the cluster had no room on {count} nodes within {WAIT_SECONDS:.0f} s")
            if _nodes_alive() < count:
                break
        else:
            return group, count
        remove_placement_group(group)


class Node:
    """An actor on one node: starts its processes and waits for them."""

    def address(self) -> tuple[str, int]:
        """Where the processes meet, if this is the first node."""
        import ray.util

        host = ray.util.get_node_ip_address()
        with socket.socket() as probe:
            probe.bind((host, 0))
            return host, int(probe.getsockname()[1])

    def run(
        self, job: str, worker: str, nodes: int, rank: int, processes: int, host: str, port: int
    ) -> tuple[int, str]:
        """-> the exit status, and the last words. The processes end when this actor does: see `member.py`."""
        import ray

        name = ray.get_runtime_context().get_node_id()[:12]
        command = [sys.executable, "-m", "torch.distributed.run", "--nnodes", str(nodes), "--node-rank", str(rank)]
        command += ["--nproc-per-node", str(processes), "--master-addr", host, "--master-port", str(port)]
        command += ["-m", "service.jobs.member", job, "--worker", worker, "--place", name]
        environment = os.environ | {"PYTHONUNBUFFERED": "1"}
        with subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as process:
            assert process.stdout is not None
            lines: list[str] = []
            for line in process.stdout:
                print(line, end="", flush=True)
                lines = [*lines, line][-40:]
            return process.wait(), "".join(lines)

"""One process of a job that trains on a cluster, started by torchrun on a node. All of them read the job and its files;
the first acts in the name of the worker that holds the lease, and is alone in writing.
"""

import argparse
import logging
import os
import sys
import threading

import torch

from service.jobs.worker import Worker
from service.settings import read_settings
from training.parallel import join_world, own_device


def main() -> None:
    """Ends when its standard input closes: the node's actor holds the other end."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s member %(levelname)s %(message)s")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("job")
    parser.add_argument("--worker", required=True)
    parser.add_argument("--place", required=True, help="a name that no other node has: copies of files lie under it")
    given = parser.parse_args()
    threading.Thread(target=_exit_with_parent, daemon=True).start()
    settings = read_settings()
    if not settings.artefacts:
        raise SystemExit("VITRINE_ARTEFACTS and VITRINE_DATABASE must be set on the nodes of the cluster")
    torch.set_num_threads(settings.training_threads or os.cpu_count() or 1)
    settings = settings.model_copy(update={"home": settings.home / "nodes" / given.place})
    device = own_device()
    with join_world(device) as world:
        Worker(settings, given.worker, device).take_part(given.job, world)


def _exit_with_parent() -> None:
    while sys.stdin.buffer.read(1):
        pass
    os._exit(1)


if __name__ == "__main__":
    main()

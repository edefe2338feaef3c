"""The job worker's process. Started by `supervisor.py` beside a service, or by hand with `vitrine worker` on any host
that shares the state folder, where it loads everything at once.

Beside a service it is light as long as there is nothing to train or to look into: torch and what trains with it are
loaded when the first work is there, and let go after some time without any, by starting anew in the same process.
"""

import contextlib
import logging
import os
import signal
import sys
import threading
from typing import Any

from sqlalchemy.exc import SQLAlchemyError

from service.collector import loading
from service.database import Database
from service.jobs.errands import POLL_SECONDS, Errands
from service.jobs.store import JobStore
from service.logs import configure_logs
from service.settings import Settings, read_settings
from service.traces import Traces

BESIDE = "--beside-service"
NICENESS = 15  # live requests come first on a shared machine
IDLE_SECONDS = 600.0  # without work, before the memory is given back
log = logging.getLogger("vitrine.worker")


def add_commands(commands: Any, _: Settings) -> None:
    """`vitrine worker`."""
    alone = commands.add_parser("worker", help="run a job worker alone, on a host that shares the state folder")
    alone.set_defaults(run=lambda _: main())


def main(beside: bool = False) -> None:
    """Runs until SIGTERM. `beside` a service on this host, also until its standard input closes, and then at once: the
    supervisor holds the other end, so it can't be orphaned."""
    leaving = threading.Event()

    def leave(which: int, _: object) -> None:
        leaving.set()
        if which == signal.SIGINT:
            signal.signal(which, signal.SIG_DFL)  # a second one does not wait

    for which in (signal.SIGTERM, signal.SIGINT):  # first of all: one that is told to end while it starts ends well
        signal.signal(which, leave)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s worker %(levelname)s %(message)s")
    settings = read_settings()
    configure_logs(settings.log_format)
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, max(NICENESS, os.getpriority(os.PRIO_PROCESS, 0)))
    if beside:
        threading.Thread(target=_exit_with_parent, daemon=True).start()
    traces = Traces.of(settings, "worker")
    database = Database(settings.database_url)
    with Errands(settings, database).running():
        if beside:
            wait_for_work(JobStore(database), settings.lease_seconds, leaving)
        if not leaving.is_set():
            _work(settings, beside, leaving, traces)
    database.close()
    if not leaving.is_set():
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def wait_for_work(store: JobStore, lease_seconds: float, leaving: threading.Event) -> None:
    """Until there is some, or the process must leave."""
    while not leaving.is_set():
        try:
            if store.has_work(lease_seconds):
                return
        except SQLAlchemyError:  # a full disk, a restart: the next turn tries again
            log.exception("the store did not answer")
        leaving.wait(POLL_SECONDS)


def _work(settings: Settings, beside: bool, leaving: threading.Event, traces: Traces | None) -> None:
    """Until the process must leave; beside a service, also until there has been no work for long."""
    with loading():
        import torch

        from service.jobs.worker import Worker

    configure_logs(settings.log_format)  # what was loaded now may have set up logs of its own
    torch.set_num_threads(settings.training_threads or os.cpu_count() or 1)
    if traces is not None:
        traces.start()
    Worker(settings, beside=beside, leaving=leaving, traces=traces).run(IDLE_SECONDS if beside else None)
    if traces is not None:
        traces.stop()


def _exit_with_parent() -> None:
    while os.read(sys.stdin.fileno(), 1):  # not through `sys.stdin`, whose lock the end of the process wants
        pass
    os._exit(0)  # at once: the lease and the last checkpoint make this safe


if __name__ == "__main__":
    main(beside=BESIDE in sys.argv)

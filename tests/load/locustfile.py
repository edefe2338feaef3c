"""A load test of a running service: `make load SCENARIO=steady`, or ramp, spike, soak, mixed.

Asks this machine alone, unless it is told `--other-host`. Ends with an error when a request failed, or none was made.
"""

import ipaddress
import logging
import sys
import time
from typing import Any
from urllib.parse import urlsplit

import httpx
from locust import LoadTestShape, events

from tests.load.scenarios import SCENARIOS, users_at
from tests.load.users import ENDED, FILE_NAME, JOBS, SUFFIX, Asker, Reader, Tuner

__all__ = ["Load", "Reader", "Tuner"]  # what locust looks for
DEFAULT_SECONDS = 30.0
AMID_SECONDS = 10  # in which a worker ends what it was publishing when its job was cancelled


class Load(LoadTestShape):
    """The users of the scenario, from `--users` and `--run-time`."""

    use_common_options = True

    def tick(self) -> tuple[int, float, list[type[Asker]]] | None:
        assert self.runner is not None
        options = self.runner.environment.parsed_options
        scenario = SCENARIOS[options.scenario]
        readers = users_at(scenario, self.get_run_time() / (options.run_time or DEFAULT_SECONDS), options.num_users)
        if readers is None:
            return None
        classes: list[type[Asker]] = [Reader, Tuner] if scenario.tunes else [Reader]
        return readers + len(classes) - 1, max(4.0, readers / 2), classes


@events.init_command_line_parser.add_listener
def add_options(parser: Any) -> None:
    parser.add_argument("--scenario", choices=sorted(SCENARIOS), default="steady", help="how the load changes")
    parser.add_argument("--other-host", action="store_true", help="allow a --host that is not this machine")


@events.init.add_listener
def begin(environment: Any, **_: Any) -> None:
    logging.getLogger("httpx").setLevel(logging.WARNING)
    options = environment.parsed_options
    Asker.may_be_refused = SCENARIOS[options.scenario].may_be_refused
    if not options.other_host and not is_this_machine(environment.host or ""):
        sys.exit(f"{environment.host!r} is not this machine; a load test of another needs --other-host and its consent")


def is_this_machine(url: str) -> bool:
    name = urlsplit(url).hostname or ""
    try:
        return name == "localhost" or ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


@events.test_start.add_listener
def start(environment: Any, **_: Any) -> None:
    clear(environment.host)


@events.quitting.add_listener
def finish(environment: Any, **_: Any) -> None:
    if environment.stats.total.num_requests == 0:
        print("no request was made", file=sys.stderr)
        environment.process_exit_code = 1
    if SCENARIOS[environment.parsed_options.scenario].tunes:
        clear(environment.host)


def clear(host: str) -> None:
    """Cancels jobs and deletes models and files that load tests made, in this run or in one that was cut off."""
    with httpx.Client(timeout=60, headers=Asker.headers()) as session:
        jobs = session.get(f"{host}{JOBS}", params={f"metadata[{SUFFIX}]": "yes", "limit": 100}).json()["data"]
        still_open = [job["id"] for job in jobs if job["status"] not in ENDED]
        for job in still_open:
            session.post(f"{host}{JOBS}/{job}/cancel")
        delete_models(session, host)
        for _ in range(AMID_SECONDS if still_open else 0):
            time.sleep(1.0)
            delete_models(session, host)
        for file in session.get(f"{host}/v1/files", params={"purpose": "fine-tune"}).json()["data"]:
            if file["filename"] == FILE_NAME:
                session.delete(f"{host}/v1/files/{file['id']}")


def delete_models(session: httpx.Client, host: str) -> None:
    for model in session.get(f"{host}/v1/models").json()["data"]:
        if f":{SUFFIX}:" in model["id"]:
            session.delete(f"{host}/v1/models/{model['id']}")

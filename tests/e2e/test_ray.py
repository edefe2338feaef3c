"""Jobs on a real Ray cluster of two nodes, and the death of one of them; see `ray_run.py`."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch

from model.capability import has_bfloat16
from tests.conftest import ROOT

AS_ROOT = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
APART = ["unshare", *AS_ROOT, "--net", "--pid", "--fork", "--kill-child", "--mount-proc"]


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory, postgresql: Callable[[], str]) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("ray")
    folder.chmod(0o755)
    apart = APART if subprocess.run([*APART, "true"], capture_output=True).returncode == 0 else []  # in a container
    command = [*apart, sys.executable, "-m", "tests.ray_run", str(folder), postgresql()]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=1_300)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-6000:]
    facts: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return facts


@pytest.mark.slow
@pytest.mark.timeout(1_500)
def test_a_job_is_spread_over_the_nodes_of_a_cluster(seen: dict[str, Any]) -> None:
    calm, _ = seen["jobs"]
    assert calm["status"] == "succeeded", calm["messages"]
    assert calm["attempts"] == 1
    assert any("Submitted to the Ray cluster" in message for message in calm["messages"])
    assert calm["accuracy"] > 0.9, calm["accuracy"]
    assert len(calm["keys"]) == len(set(calm["keys"]))


@pytest.mark.slow
def test_a_job_goes_on_when_a_node_dies(seen: dict[str, Any]) -> None:
    _, disturbed = seen["jobs"]
    assert disturbed["status"] == "succeeded", disturbed["messages"]
    assert any("gone without a result (Ray: FAILED)" in message for message in disturbed["messages"])
    assert any("processes was 2, is 1" in message for message in disturbed["messages"]), (
        "on one node, from a checkpoint"
    )
    assert sum("succeeded" in key for key in disturbed["keys"]) == 1
    assert len(disturbed["keys"]) == len(set(disturbed["keys"]))
    rounding = 0.2 if has_bfloat16(torch.device("cpu")) else 1e-3
    assert seen["difference"] < rounding, (
        "the steps of two processes are those of one but for rounding; test_training_parallel.py has it exactly"
    )


@pytest.mark.slow
def test_rays_word_alone_makes_no_success(seen: dict[str, Any]) -> None:
    """The processes of this job did nothing at all, and ended well."""
    assert seen["nothing_done"]["status"] == "queued"
    assert any("gone without a result (Ray: SUCCEEDED)" in message for message in seen["nothing_done"]["messages"])

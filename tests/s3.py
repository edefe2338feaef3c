"""A real S3 server on loopback, and an empty bucket of it that every process finds through its environment."""

from collections.abc import Iterator

import boto3
import pytest
from moto.server import ThreadedMotoServer

from service.ids import new_id
from tests.conftest import free_port

ATTEMPTS = "2"  # of each call; the server may answer 500 for what is deleted while it is sent, and then 404


@pytest.fixture(scope="module")
def s3() -> Iterator[ThreadedMotoServer]:
    """Its data outlives a stop of the server."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=free_port(), verbose=False)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def bucket(s3: ThreadedMotoServer, monkeypatch: pytest.MonkeyPatch) -> str:
    """-> the URL of a folder in it."""
    host, port = s3.get_host_and_port()
    settings = {"ENDPOINT_URL": f"http://{host}:{port}", "ACCESS_KEY_ID": "a", "SECRET_ACCESS_KEY": "b"}
    for name, value in (settings | {"DEFAULT_REGION": "us-east-1", "MAX_ATTEMPTS": ATTEMPTS}).items():
        monkeypatch.setenv(f"AWS_{name}", value)
    name = new_id("bucket").replace("_", "-")
    boto3.client("s3").create_bucket(Bucket=name)
    return f"s3://{name}/vitrine"

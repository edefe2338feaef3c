"""What schemathesis is told of our service beside its OpenAPI document: loaded by it, see `schemathesis.toml`.

VITRINE_SEEN: the file to write each operation's statuses to, a line for each call
VITRINE_RECEIVER: an address of this machine that takes webhooks
"""

import os
from typing import Any
from urllib.parse import urlsplit

import schemathesis
from schemathesis import Case, CheckContext, GenerationMode, HookContext, Response

SEEN = os.environ["VITRINE_SEEN"]
RECEIVER = os.environ["VITRINE_RECEIVER"]
SCHEMA_CODES = ("missing_required_parameter", "unknown_parameter", "invalid_type", "invalid_json")


@schemathesis.hook
def map_body(context: HookContext, body: Any) -> Any:
    """No request may leave this machine: a webhook's address that could be called is ours."""
    if isinstance(body, dict) and isinstance(url := body.get("url"), str) and _callable(url):
        return body | {"url": RECEIVER}
    return body


def _callable(url: str) -> bool:
    try:
        return bool(urlsplit(url).hostname)
    except ValueError:
        return False


@schemathesis.hook
def after_call(context: HookContext, case: Case, response: Response) -> None:
    with open(SEEN, "a") as seen:
        seen.write(f"{case.operation.definition.raw['operationId']} {response.status_code}\n")


@schemathesis.check
def the_schema_tells_all(ctx: CheckContext, response: Response, case: Case) -> None:
    """What the document allows is not refused as of the wrong shape."""
    positive = case.meta is not None and case.meta.generation.mode == GenerationMode.POSITIVE
    if positive and response.status_code == 400:
        error = response.json()["error"]
        assert error["code"] not in SCHEMA_CODES, error["message"]

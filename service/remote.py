"""A service over HTTP, as the command line uses it: answers as dictionaries, errors in the service's own words."""

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx

from service.errors import ServiceError

DEFAULT_URL = "http://localhost:3000"
RETRY_SECONDS = 1.0  # before a cut stream is taken up again
MAX_RETRIES = 30  # in a row
STOPPING = 503  # the next life of the service goes on


class RemoteError(ServiceError):
    """The service refused, or does not answer."""


class Remote:
    """One service. The key comes from VITRINE_API_KEY, the address from VITRINE_URL, unless given."""

    def __init__(self, url: str | None = None, key: str | None = None) -> None:
        self.url = (url or os.environ.get("VITRINE_URL") or DEFAULT_URL).rstrip("/")
        secret = key or os.environ.get("VITRINE_API_KEY")
        headers = {"authorization": f"Bearer {secret}"} if secret else {}
        self._client = httpx.Client(base_url=self.url, headers=headers, timeout=httpx.Timeout(60.0, read=600.0))

    def get(self, path: str, **query: Any) -> dict[str, Any]:
        return self._ask("GET", path, params={name: value for name, value in query.items() if value is not None})

    def text(self, path: str) -> str:
        return self._answer("GET", path).text

    def post(self, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        return self._ask("POST", path, json=body) if body is not None else self._ask("POST", path)

    def delete(self, path: str) -> dict[str, Any]:
        return self._ask("DELETE", path)

    def upload(self, path: Path, purpose: str = "fine-tune") -> dict[str, Any]:
        with open(path, "rb") as file:
            return self._ask("POST", "/v1/files", files={"file": (path.name, file)}, data={"purpose": purpose})

    def pages(self, path: str, **query: Any) -> Iterator[dict[str, Any]]:
        """The items of all pages."""
        after = None
        while True:
            page = self.get(path, after=after, **query)
            yield from page["data"]
            if not page.get("has_more") or not page["data"]:
                return
            after = page["data"][-1]["id"]

    def events(self, job_id: str) -> Iterator[dict[str, Any]]:
        """What happens to a job, as it happens, until it has ended. A cut connection is taken up where it broke."""
        last, failures = None, 0
        while True:
            before = last
            headers = {"accept": "text/event-stream"} | ({"last-event-id": last} if last else {})
            try:
                with self._client.stream("GET", f"/v1/fine_tuning/jobs/{job_id}/events", headers=headers) as answer:
                    if answer.status_code == 204:
                        return
                    if answer.status_code == STOPPING:
                        answer.raise_for_status()
                    if answer.status_code != 200:
                        answer.read()
                        raise _refused(answer)
                    for line in answer.iter_lines():
                        if line.startswith("data: "):
                            event: dict[str, Any] = json.loads(line.removeprefix("data: "))
                            last, failures = event["id"], 0
                            yield event
            except httpx.HTTPError as error:
                failures += 1
                if failures > MAX_RETRIES:
                    raise self._silent(error) from error
            if last == before:  # cut, or a service that stops: else it would be asked without a pause
                time.sleep(RETRY_SECONDS)

    def _ask(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        found: dict[str, Any] = self._answer(method, path, **options).json()
        return found

    def _answer(self, method: str, path: str, **options: Any) -> httpx.Response:
        try:
            answer = self._client.request(method, path, **options)
        except httpx.HTTPError as error:
            raise self._silent(error) from error
        if not answer.is_success:
            raise _refused(answer)
        return answer

    def _silent(self, error: httpx.HTTPError) -> RemoteError:
        what = f"{self.url} does not answer ({type(error).__name__})"
        return RemoteError(f"{what}; start it, or name another by --url or VITRINE_URL")


def _refused(answer: httpx.Response) -> RemoteError:
    try:
        message = str(answer.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        message = answer.text[:300]
    if answer.status_code == 401:
        message += " (set VITRINE_API_KEY)"
    return RemoteError(f"{answer.status_code}: {message}")

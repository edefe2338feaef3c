"""What a caller sees, run within the container's network: `python visit.py PORT KEY DEADLINE_SECONDS`; prints JSON."""

import json
import sys
import time
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

TEXT = "A wonderful, moving film."


def ask(port: str, path: str, key: str = "", body: dict[str, Any] | None = None) -> tuple[int, Any]:
    headers = {"content-type": "application/json", **({"authorization": f"Bearer {key}"} if key else {})}
    data = None if body is None else json.dumps(body).encode()
    try:
        with urlopen(Request(f"http://127.0.0.1:{port}{path}", data, headers), timeout=120) as answer:
            content = answer.read()
            status, kind = answer.status, answer.headers["content-type"]
    except HTTPError as refused:
        content, status, kind = refused.read(), refused.code, refused.headers["content-type"]
    return status, json.loads(content) if "json" in (kind or "") else content.decode(errors="replace")


def main(port: str, key: str, deadline_seconds: str) -> None:
    began = time.monotonic()
    seen: dict[str, Any] = {
        path: ask(port, path)[0] for path in ("/livez", "/readyz", "/", "/docs", "/metrics", "/v1/models")
    }
    seen["models"] = [model["id"] for model in ask(port, "/v1/models", key)[1]["data"]]
    status, vectors = ask(port, "/v1/embeddings", key, {"model": "minilm-l6", "input": TEXT})
    seen["embedding"] = len(vectors["data"][0]["embedding"]) if status == 200 else vectors
    jobs: list[dict[str, Any]] = []
    while time.monotonic() - began < float(deadline_seconds):
        jobs = ask(port, "/v1/fine_tuning/jobs", key)[1]["data"]
        if not jobs or all(job["status"] in ("succeeded", "failed", "cancelled") for job in jobs):
            break
        time.sleep(1)
    seen["jobs"] = [job["status"] for job in jobs]
    seen["seconds"] = round(time.monotonic() - began)
    tuned = [job["fine_tuned_model"] for job in jobs if job["fine_tuned_model"]]
    if tuned:
        seen["classify"] = ask(port, "/v1/classify", key, {"model": tuned[0], "input": TEXT})
    print(json.dumps(seen))


if __name__ == "__main__":
    main(*sys.argv[1:4])

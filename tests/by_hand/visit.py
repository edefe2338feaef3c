"""What a caller sees, run within the container's network: `python visit.py PORT KEY DEADLINE_SECONDS`; prints JSON.

Python alone, since it runs wherever the container does. The rows it tunes on are few, so that it ends soon; a job of the
first start waits meanwhile.
"""

import itertools
import json
import sys
import time
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

PAGES = ("/livez", "/readyz", "/", "/docs", "/metrics", "/v1/models")
SAID = {
    "positive": ("wonderful", "moving", "funny", "clever", "brilliant", "warm"),
    "negative": ("dull", "tedious", "clumsy", "lifeless", "awful", "stale"),
}
SEEN = ("film", "story", "cast", "script", "ending", "music", "first half", "second half")
FORMS = ("The {seen} is {said}.", "What a {said} {seen}!", "I found the {seen} {said} from start to end.")
TEXT = "A truly wonderful piece of cinema."
BOUNDARY = "----vitrine-by-hand"


class Caller:
    def __init__(self, port: str, key: str) -> None:
        self.address = f"http://127.0.0.1:{port}"
        self.key = {"authorization": f"Bearer {key}"} if key else {}

    def ask(
        self, path: str, body: bytes | None = None, kind: str = "application/json", key: bool = True
    ) -> tuple[int, Any]:
        headers = {"content-type": kind, **(self.key if key else {})}
        try:
            with urlopen(Request(self.address + path, body, headers), timeout=120) as answer:
                content, status, kind = answer.read(), answer.status, answer.headers["content-type"]
        except HTTPError as refused:
            content, status, kind = refused.read(), refused.code, refused.headers["content-type"]
        return status, json.loads(content) if "json" in (kind or "") else content.decode(errors="replace")

    def post(self, path: str, **fields: Any) -> Any:
        status, answer = self.ask(path, json.dumps(fields).encode())
        if status != 200:
            raise RuntimeError(f"{path}: {status} {answer}")
        return answer

    def upload(self, rows: list[dict[str, str]]) -> str:
        """The id of the file."""
        head = 'Content-Disposition: form-data; name="{}"{}\r\n\r\n'
        parts = [
            head.format("purpose", "") + "fine-tune",
            head.format("file", '; filename="rows.jsonl"') + "\n".join(map(json.dumps, rows)),
        ]
        body = "".join(f"--{BOUNDARY}\r\n{part}\r\n" for part in parts) + f"--{BOUNDARY}--\r\n"
        status, file = self.ask("/v1/files", body.encode(), f"multipart/form-data; boundary={BOUNDARY}")
        if status != 200:
            raise RuntimeError(f"/v1/files: {status} {file}")
        return str(file["id"])


def rows() -> list[dict[str, str]]:
    cases = [(label, said) for label, words in SAID.items() for said in words]
    return [
        {"text": form.format(seen=seen, said=said), "label": label}
        for (label, said), seen, form in itertools.product(cases, SEEN, FORMS)
    ]


def main(port: str, key: str, deadline_seconds: str) -> None:
    caller = Caller(port, key)
    seen: dict[str, Any] = {path: caller.ask(path, key=False)[0] for path in PAGES}
    seen["embedding"] = len(caller.post("/v1/embeddings", model="minilm-l6", input=TEXT)["data"][0]["embedding"])
    seen["earlier"] = [job["status"] for job in caller.ask("/v1/fine_tuning/jobs")[1]["data"]]
    began = time.monotonic()
    job = caller.post("/v1/fine_tuning/jobs", model="minilm-l6", training_file=caller.upload(rows()), suffix="by-hand")
    while job["status"] not in ("succeeded", "failed", "cancelled"):
        if time.monotonic() - began > float(deadline_seconds):
            break
        time.sleep(1)
        job = caller.ask(f"/v1/fine_tuning/jobs/{job['id']}")[1]
    seen["job"] = {"status": job["status"], "seconds": round(time.monotonic() - began), "error": job["error"]}
    if job["status"] == "succeeded":
        seen["classify"] = caller.post("/v1/classify", model=job["fine_tuned_model"], input=TEXT)["data"]
    print(json.dumps(seen))


if __name__ == "__main__":
    main(*sys.argv[1:4])

"""Who makes the load: readers who ask models for answers and look inside them, and one who tunes a model meanwhile.

Every request goes by its route's template, so that the report has a line a route. A 429 is counted as a refusal, apart
from the answers, and waited out as long as it says; where the scenario does not expect any, it is a failure.
"""

import json
import os
import random
from typing import Any

import gevent
from locust import HttpUser, between, task

from tests.load.texts import passage, sentence, training_file

BASE = "minilm-l6"
JOBS = "/v1/fine_tuning/jobs"
SUFFIX, FILE_NAME = "load-test", "load-test.jsonl"
ENDED = ("succeeded", "failed", "cancelled")
REFUSED = "refused, asked to wait"
TRIES = 4  # until a user gives up
PATIENCE_SECONDS = 120.0


class Asker(HttpUser):
    """Knows how to ask, and to come again later."""

    abstract = True
    may_be_refused = False  # set by the scenario

    @staticmethod
    def headers() -> dict[str, str]:
        key = os.environ.get("VITRINE_API_KEY")
        return {"authorization": f"Bearer {key}"} if key else {}

    def on_start(self) -> None:
        self.client.headers.update(self.headers())

    def ask(self, method: str, path: str, name: str = "", **options: Any) -> Any:
        """The answer if it is a good one, after being refused some times; `name` is the route's template."""
        name = name or path
        options.setdefault("timeout", PATIENCE_SECONDS)
        for _ in range(TRIES):
            with self.client.request(method, path, name=name, catch_response=True, **options) as answer:
                if answer.status_code != 429:
                    return answer if 200 <= answer.status_code < 300 else None  # 0: nobody answers
                wait = answer.headers.get("retry-after", "")
                if not wait.isdigit():
                    answer.failure(f"429 with Retry-After {wait!r}, no number of seconds")
                    return None
                if not self.may_be_refused:
                    answer.failure("429: more than the service can take")
                else:
                    answer.request_meta["name"] = f"{name} {REFUSED}"
                    answer.success()
            gevent.sleep(int(wait))
        return None


class Reader(Asker):
    """One person or program at work."""

    wait_time = between(0.1, 0.6)
    classifier: str | None = None

    def on_start(self) -> None:
        super().on_start()
        self.list_models()

    @task(1)
    def list_models(self) -> None:
        """Classifies with the newest classifier from now on."""
        answer = self.ask("GET", "/v1/models")
        if answer is not None:
            tuned = [model for model in answer.json()["data"] if model["task"] == "classification"]
            self.classifier = max(tuned, key=lambda model: model["created"])["id"] if tuned else None

    @task(8)
    def classify(self) -> None:
        if self.classifier is None:
            self.embed()
        else:
            self.ask("POST", "/v1/classify", json={"model": self.classifier, "input": passage()})

    @task(4)
    def embed(self) -> None:
        texts = [passage() for _ in range(random.choice((1, 1, 2, 8)))]
        self.ask("POST", "/v1/embeddings", json={"model": BASE, "input": texts})

    @task(2)
    def tokenize(self) -> None:
        self.ask("POST", "/v1/tokenize", json={"model": BASE, "input": passage()})

    @task(2)
    def attention(self) -> None:
        query = {"model": BASE, "input": sentence(), "layers": "5"}
        form = random.choice(("image/png", "application/json"))
        self.ask("GET", "/v1/attention", params=query, headers={"accept": form})

    @task(1)
    def explain(self) -> None:
        if self.classifier is not None:
            self.ask("POST", "/v1/explain", json={"model": self.classifier, "input": sentence()})

    @task(1)
    def watch_jobs(self) -> None:
        listed = self.ask("GET", JOBS, params={"limit": 5})
        if listed is not None and listed.json()["data"]:
            job = listed.json()["data"][0]["id"]
            self.ask("GET", f"{JOBS}/{job}", f"{JOBS}/{{job_id}}")
            self.ask("GET", f"{JOBS}/{job}/events", f"{JOBS}/{{job_id}}/events")


class Tuner(Asker):
    """Tunes one model after another and follows each job to its end; what is made goes away at the end."""

    fixed_count = 1
    wait_time = between(1.0, 2.0)

    @task
    def tune(self) -> None:
        file = {"file": (FILE_NAME, training_file())}
        uploaded = self.ask("POST", "/v1/files", files=file, data={"purpose": "fine-tune"})
        if uploaded is None:
            return
        wanted = {
            "model": BASE, "training_file": uploaded.json()["id"], "suffix": SUFFIX, "adapter": "lora",
            "training_method": "fine_tune", "hyperparameters": {"n_epochs": 1, "batch_size": 16},
            "metadata": {SUFFIX: "yes"},
        }  # fmt: skip
        made = self.ask("POST", JOBS, json=wanted)
        if made is not None:
            self.follow(made.json()["id"])

    def follow(self, job: str) -> None:
        """By its events as they happen; then asks once how it ended."""
        name, accept = f"{JOBS}/{{job_id}}/events", {"accept": "text/event-stream"}
        events = self.client.get(
            f"{JOBS}/{job}/events", name=name, headers=accept, stream=True, timeout=PATIENCE_SECONDS
        )
        for _ in events.iter_lines():
            pass
        name = f"{JOBS}/{{job_id}}"
        with self.client.get(f"{JOBS}/{job}", name=name, catch_response=True) as answer:
            if answer.status_code == 200 and answer.json()["status"] != "succeeded":
                answer.failure(f"the job is {answer.json()['status']}: {json.dumps(answer.json()['error'])}")

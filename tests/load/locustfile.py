"""Load as users make it: mostly classify and embed, some attention, and people who watch jobs. See `make load`."""

import random

from locust import HttpUser, between, task

SENTENCES = [
    "A gorgeous, witty, seductive movie.",
    "The plot is thin and the jokes fall flat, but the actors save it.",
    "I have never been so bored in a cinema.",
    "Beautifully shot, and it knows exactly when to stop.",
    "Two hours that feel like four.",
    "这部电影非常好看。",
    "Good.",
    "An uneven but always interesting film that asks more questions than it answers, and is the better for it.",
]
BASE = "minilm-l6"


class Reader(HttpUser):
    """One person or program at work."""

    wait_time = between(0.0, 0.1)

    def on_start(self) -> None:
        """Classifies with the newest classifier; without one, embeds instead."""
        models = self.client.get("/v1/models").json()["data"]
        self.classifier = next((model["id"] for model in models if model["task"] == "classification"), None)

    @task(6)
    def classify(self) -> None:
        if self.classifier is None:
            self.embed()
        else:
            body = {"model": self.classifier, "input": random.choice(SENTENCES)}
            self.client.post("/v1/classify", json=body)

    @task(3)
    def embed(self) -> None:
        texts = random.sample(SENTENCES, random.randint(1, 4))
        self.client.post("/v1/embeddings", json={"model": BASE, "input": texts})

    @task(1)
    def attention(self) -> None:
        link = "/v1/attention"
        query = {"model": BASE, "input": random.choice(SENTENCES), "layers": "5"}
        self.client.get(link, params=query, headers={"accept": "image/png"}, name=link)

    @task(1)
    def watch_jobs(self) -> None:
        jobs = self.client.get("/v1/fine_tuning/jobs?limit=5").json()["data"]
        if jobs:
            job_id = jobs[0]["id"]
            self.client.get(f"/v1/fine_tuning/jobs/{job_id}/events", name="/v1/fine_tuning/jobs/{job_id}/events")

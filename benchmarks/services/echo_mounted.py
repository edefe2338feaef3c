"""The same route in a FastAPI application that is mounted in BentoML as its documentation shows."""

import bentoml
from fastapi import FastAPI

from benchmarks.services.echo import echo

app = FastAPI()
app.post("/echo")(echo)


@bentoml.service(name="mounted")
@bentoml.asgi_app(app, path="/")
class Mounted:
    pass

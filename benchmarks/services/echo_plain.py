"""The same route in FastAPI alone, run by uvicorn."""

from fastapi import FastAPI

from benchmarks.services.echo import echo

app = FastAPI()
app.post("/echo")(echo)


@app.get("/readyz")
async def ready() -> str:
    return "ready"

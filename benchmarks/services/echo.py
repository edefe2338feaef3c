"""The echo that the services here answer: a body of the size of a classification, checked on its way in and out."""

from pydantic import BaseModel


class Echo(BaseModel):
    model: str
    input: str
    numbers: list[float]


BODY = {"model": "echo", "input": "It is a film that one can look at. " * 3, "numbers": [0.25, 0.75]}


async def echo(body: Echo) -> Echo:
    return body

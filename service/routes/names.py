"""Parameters that many routes have, with what the OpenAPI document says of them."""

from typing import Annotated

from fastapi import Path, Query

FileId = Annotated[str, Path(description="a file's id", examples=["file-4f1c0a9b2d3e5f60718293a4"])]
JobId = Annotated[str, Path(description="a job's id", examples=["ftjob-4f1c0a9b2d3e5f60718293a4"])]
BatchId = Annotated[str, Path(description="a batch's id", examples=["batch-4f1c0a9b2d3e5f60718293a4"])]
EndpointId = Annotated[str, Path(description="a webhook endpoint's id", examples=["we-4f1c0a9b2d3e5f60718293a4"])]
ModelId = Annotated[str, Path(description="a model's id; to read, an alias too", examples=["minilm-l6"])]
Alias = Annotated[str, Path(description="a name that stands for a model", examples=["movie-sentiment"])]
Limit = Annotated[int, Query(ge=1, le=100, description="items of a page")]
LongLimit = Annotated[int, Query(ge=1, le=1000, description="items of a page")]
After = Annotated[str | None, Query(description="the id of the last item of the page before")]

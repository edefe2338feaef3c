"""What bodies may hold: numbers as JSON Schema has them, and nothing that is no number."""

import json

import pytest
from pydantic import ValidationError

from service.schemas.inference import ClassifyRequest, EmbeddingsRequest


def test_a_number_without_a_fraction_is_an_integer_however_it_is_written() -> None:
    body = json.loads('{"model": "m", "input": "x", "top_k": 2.0}')
    assert ClassifyRequest.model_validate(body).top_k == 2
    ids = json.loads('{"model": "m", "input": [101.0, 7592, 102.0]}')
    assert EmbeddingsRequest.model_validate(ids).input == [101, 7592, 102]


@pytest.mark.parametrize("number", ["2.5", '"2"', "true", "1e400", "-1e400"])
def test_what_is_no_integer_is_refused(number: str) -> None:
    with pytest.raises(ValidationError):
        ClassifyRequest.model_validate(json.loads(f'{{"model": "m", "input": "x", "top_k": {number}}}'))

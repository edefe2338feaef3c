"""Number formats by model: what the settings say, what `/v1/models` shows, what the registry loads."""

import asyncio
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from model.capability import has_bfloat16, has_int8
from model.lora import RoutedLinear
from model.quantized import QuantizedLinear
from model.tokenizer import Tokenizer, train_wordpiece
from service.engine.runner import LoadedModel, run
from service.formats import Formats
from service.metrics import Metrics
from service.model_store import ModelStore
from service.registry import Registry
from service.settings import Settings
from tests.house import made_house
from tests.small import random_model, small_config
from tests.test_service_registry import adapter_folder, folder_of

CPU = torch.device("cpu")
needs_int8 = pytest.mark.skipif(not has_int8(CPU), reason="needs AVX2")
TEXT = "the film was fine"


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_wordpiece([TEXT], 60)


def test_the_default_is_never_int8() -> None:
    formats = Formats.of(Settings(), CPU)
    assert formats == Formats("bfloat16" if has_bfloat16(CPU) else "float32")


@needs_int8
def test_a_model_s_own_format_stands_before_the_default() -> None:
    formats = Formats.of(Settings(dtype="float32", dtypes="fast=int8,ft:x:y:z:1=bfloat16"), CPU)
    encoder, decoder = small_config("encoder"), small_config("decoder")
    assert formats.of_model("fast", encoder) == "int8"
    assert formats.of_model("ft:x:y:z:1", encoder) == "bfloat16"
    assert formats.of_model("other", encoder) == "float32"
    assert formats.of_model("fast", decoder) == "float32", "int8 is for encoders"


@pytest.mark.parametrize("wrong", ["fast", "fast=", "fast=int4", "=int8", "fast=int8,", "fast=int8;slow=float32"])
def test_a_wrong_list_stops_the_start(wrong: str) -> None:
    with pytest.raises(ValidationError, match="dtypes"):
        Settings(dtypes=wrong)


@pytest.mark.parametrize("fields", [{"dtype": "int8"}, {"dtypes": "one=int8"}])
def test_int8_where_there_is_none_is_refused(fields: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="int8 needs a CPU with AVX2, and models run on cuda here"):
        Formats.of(Settings(**fields), torch.device("cuda"))  # type: ignore[arg-type]


@needs_int8
def test_an_int8_base_and_the_adapters_over_it(tokenizer: Tokenizer, tmp_path: Path) -> None:
    """As a job leaves them: published while the service runs, in its format from the first request on."""
    store = ModelStore(tmp_path / "bentoml")
    config = small_config("encoder", vocab_size=tokenizer.vocab_size, task="embeddings", width=32)
    base = random_model(config, 1)
    store.publish(folder_of(base, tokenizer, tmp_path / "base"), "base", "base:1", None, None)
    store.publish(adapter_folder(base, "base", 1, tmp_path / "over"), "over", "over:1", "base", None)

    async def load(formats: Formats) -> tuple[Registry, LoadedModel]:
        models = Registry(store, Metrics(), CPU, formats, 8)
        return models, await models.get("over")

    answers = []
    for formats in (Formats("float32"), Formats("float32", {"base": "int8", "over": "bfloat16"}), Formats("int8")):
        models, over = asyncio.run(load(formats))
        shown = {card.id: models.dtype_of(card) for card in store.cards()}
        assert shown == {"base": over.dtype, "over": over.dtype}
        routed = [module for module in over.model.modules() if isinstance(module, RoutedLinear)]
        wanted = nn.Linear if over.dtype == "float32" else QuantizedLinear
        assert {type(module.base) for module in routed} == {wanted}
        answers.append(run([over], "classify", tokenizer.encode([TEXT], 32))[0])
    assert answers[1] == pytest.approx(answers[2], abs=1e-6)
    assert answers[1] == pytest.approx(answers[0], abs=0.05)
    assert answers[1] != pytest.approx(answers[0], abs=1e-6)


@needs_int8
def test_models_show_the_format_each_is_served_in(tmp_path: Path) -> None:
    with made_house(tmp_path, "cpu", dtype="float32", dtypes="tiny=int8") as house:
        listed = house.ask("GET", "/v1/models", house.ann).json()["data"]
        assert {model["id"]: model["dtype"] for model in listed} == {
            "tiny": "int8", **{f"ft:tiny:vitrine:mood:{number}": "float32" for number in (1, 2, 3)}
        }  # fmt: skip
        vectors = house.ask("POST", "/v1/embeddings", house.ann, json={"model": "tiny", "input": ["red cat", "dog"]})
        assert vectors.status_code == 200

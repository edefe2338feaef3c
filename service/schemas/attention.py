"""Schemas of `routes/attention.py`: what a model looks at."""

from typing import Literal

from pydantic import BaseModel, Field, StrictStr

from model.explain.attention import AttentionMethod
from model.explain.two_texts import DecoderPart
from model.explain.units import Merge, Special
from service.pictures.views import FOCUS, VIEWS, View
from service.schemas.base import ModelName, Request, Truncate, Usage, examples
from service.schemas.inference import Texts

NUMBERS = "'all', a list of numbers, or numbers and ranges such as '0-3,5'"

METHODS = (
    "raw: attention probabilities; rollout: how much of each input token is in each token after a layer, all heads "
    "together (Abnar and Zuidema 2020); value_norm: the length of the vector each weight carries (Kobayashi et al. "
    "2020), whose rows do not sum to 1"
)

SPECIALS = (
    "of tokens such as [CLS]: keep; hide: their rows and columns left out; renormalise: left out, and each row divided "
    "by what is left of it"
)

MERGES = (
    "what a row and a column stand for: token; word: as the tokenizer splits text, columns summed, rows averaged; "
    "character: a token's column spread evenly over its characters, its row repeated"
)


DECODERS = (
    "of an encoder-decoder, whose input is the pair of the text read and the text written: whether a written token's "
    "row shows the source tokens it looks at (cross) or the written ones (self); a source token's row is the encoder's"
)


class AttentionChoice(Request):
    """What of a text's attention is wanted."""

    layers: list[int] | StrictStr = Field(default="all", description=NUMBERS)
    heads: list[int] | StrictStr = Field(default="all", description=NUMBERS)
    method: AttentionMethod = Field(default="raw", description=METHODS)
    special: Special = Field(default="keep", description=SPECIALS)
    merge: Merge = Field(default="token", description=MERGES)
    decoder: DecoderPart = Field(default="cross", description=DECODERS)
    truncate: Truncate = False


class AttentionOptions(AttentionChoice):
    """What a link can say too."""

    model: ModelName
    view: View = Field(default="heatmap", description=VIEWS)
    focus: int | None = Field(default=None, ge=0, description=FOCUS)


class AttentionRequest(AttentionOptions):
    model_config = examples(
        {"model": "minilm-l6", "input": "A good film", "layers": "0-1", "heads": "all"},
        {
            "model": "minilm-l6",
            "input": [["A good film", "It is worth seeing"]],
            "layers": [0],
            "heads": [0],
            "special": "hide",
        },
    )

    input: Texts = Field(
        description="a text, a pair as a list of two strings, or a list of texts and pairs; pictures show one"
    )
    batch: bool = Field(default=False, description="a list of two strings is two texts, not one pair")


class AttentionUnit(BaseModel):
    """A row and a column of the matrices."""

    text: str
    start: int = Field(description="in characters of its text; 0 and 0 for a special token")
    end: int
    segment: int = Field(description="which text of a pair: 0 or 1")
    special: bool
    tokens: list[int] = Field(description="the tokens it is made of, by their places; characters may share one")


class AttentionHeader(BaseModel):
    """What the numbers are: JSON has it beside them, the binary form before them."""

    object: Literal["attention"] = "attention"
    index: int = Field(default=0, description="of the text among those of the request")
    model: str
    method: AttentionMethod
    special_tokens: Special
    merge: Merge
    rows_sum_to_one: bool = Field(description="false where special tokens are hidden, and of method value_norm")
    tokens: list[str]
    ids: list[int]
    offsets: list[tuple[int, int]]
    special: list[bool]
    units: list[AttentionUnit] = Field(description="what the rows and columns stand for")
    layers: list[int]
    heads: list[int | Literal["all"]] = Field(description='["all"] where the method makes one of them')
    shape: tuple[int, int, int, int] = Field(description="layers, heads, units that look, units looked at")
    removed_mass: list[list[float]] = Field(
        description="by layer and head: the share of a row that lay on special tokens and was left out, mean over rows"
    )
    truncated: bool


class AttentionResponse(AttentionHeader):
    weights: list[list[list[list[float]]]] = Field(description="rounded to 4 digits")


class AttentionList(BaseModel):
    """The answer to a list of texts."""

    object: Literal["list"] = "list"
    model: str
    data: list[AttentionResponse]
    usage: Usage

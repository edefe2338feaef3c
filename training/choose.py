"""Chooses what the user leaves open ("auto") from the data and the base, and says why. Called by the command line and
the job worker; the rules come from the runs in DECISIONS.md.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model.folders import load_config, load_tokenizer
from model.tokenizer import CHUNK_TEXTS, Text, Tokenizer
from training.config import Recipe
from training.few_shot import BATCH_SIZE, few_shot_fields, few_shot_steps
from training.finetune import Data
from training.optim import usual_learning_rate

FEW_SHOT_ROWS = 64  # of the commonest class; from here on plain fine-tuning has enough
FEW_ROWS = 1_000  # below this a batch is halved, so that an epoch still has enough steps
WANTED_STEPS = 500  # of a run, within the bounds on epochs
MIN_EPOCHS, MAX_EPOCHS = 2, 10
LARGEST_IMBALANCE = 10.0  # rows of the commonest class for each of the rarest, before classes are balanced
EVALUATION_SHARE = 0.1  # of the training time, that scores on held-out rows may take
LORA_RATE = 1e-3
LAYER_DECAY = 0.9
AVERAGE_SHARE = 0.1  # of the steps


@dataclass(frozen=True)
class Choice:
    """One value that was chosen, and why."""

    name: str
    value: object
    reason: str

    def __str__(self) -> str:
        return f"{self.name} {self.value}: {self.reason}"


@dataclass(frozen=True)
class Chosen:
    """A complete recipe, and what was not the user's choice in it."""

    recipe: Recipe
    choices: tuple[Choice, ...]


def choose_recipe(wanted: Mapping[str, Any], data: Data, base: Path, multiplier: float = 1.0) -> Chosen:
    """A recipe with the fields of `wanted` as they are and the others chosen; the learning rate is the chosen one times
    `multiplier`. A pure function of its arguments, so that an interrupted run chooses the same. Raises ValueError with
    value, limit and remedy."""
    found: dict[str, Choice] = {}

    def choose(name: str, value: object, reason: str) -> Any:
        if name in wanted:
            return wanted[name]
        if name in found:  # by an earlier, more special rule
            return found[name].value
        found[name] = Choice(name, value, reason)
        return value

    rows, width = len(data.train.rows), load_config(base).width
    if "max_length" not in wanted:  # every row is read for it
        choose("max_length", *_max_length(data, base))
    method = wanted.get("method", "fine_tune")
    if method == "few_shot":
        _refuse_few_shot(data, base)
    if _is_few_shot(wanted, data, base):
        method = choose("method", *_method(data))
        if method == "few_shot":
            fields = few_shot_fields(rows, width, wanted.get("batch_size", BATCH_SIZE), wanted.get("num_epochs"))
            if "patience" in wanted:  # a run that is judged once could not end early
                del fields["evaluation_steps"]
            for name, value in fields.items():
                scaled = _rounded(value * multiplier) if name == "learning_rate" else value
                choose(name, scaled, "what suits few rows")
    batch_size = choose("batch_size", *_batch_size(rows))
    steps_an_epoch = few_shot_steps(rows, batch_size) if method == "few_shot" else -(-rows // batch_size)
    choose("num_epochs", *_num_epochs(steps_an_epoch))
    adapter = choose("adapter", "full", "the whole model learns more than an adapter, and a model of this kind fits")
    if adapter != "lora" and "lora_rank" in wanted:
        raise ValueError(
            f"lora_rank is {wanted['lora_rank']}, but the adapter is {adapter!r}; choose adapter 'lora', or none"
        )
    if adapter == "lora":
        choose("learning_rate", _rounded(LORA_RATE * multiplier), "an adapter starts at zero and needs a higher rate")
    else:
        reason = f"for a base of width {width}, whose lower layers learn slower (layer_decay); wider ones want less"
        choose("learning_rate", _rounded(usual_learning_rate(width) * multiplier), reason)
        choose("layer_decay", LAYER_DECAY, "lower layers hold what the base knows of the language, and change less")
        if method == "fine_tune":
            choose("dropout", 0.0, "without it fewer steps reach as far, and the best weights are kept")
            choose("average_share", AVERAGE_SHARE, "the mean of the last weights swings less; it is scored and kept")
    if data.task == "classification":
        choose("class_weights", *_class_weights(data))
    choose("evaluation_steps", *_evaluation_steps(data, steps_an_epoch))
    chosen: dict[str, Any] = {choice.name: choice.value for choice in found.values()}
    return Chosen(Recipe(**(chosen | dict(wanted))), tuple(found.values()))


def _rounded(rate: float) -> float:
    """To six digits, for the reader: 2e-4 times 1.5 is 0.00030000000000000003."""
    return float(f"{rate:.6g}")


def _refuse_few_shot(data: Data, base: Path) -> None:
    """Raises ValueError where the method that the user wants can't be had. Together with an adapter the recipe does."""
    if data.task != "classification":
        raise ValueError(f"method is 'few_shot', which learns one label a text; these rows are for {data.task!r}")
    if (architecture := load_config(base).architecture) != "encoder":
        raise ValueError(
            f"method is 'few_shot', which starts from an encoder's vectors; {base.name!r} is a {architecture}"
        )


def _is_few_shot(wanted: Mapping[str, Any], data: Data, base: Path) -> bool:
    """Whether the few-shot method can be had: it classifies texts by an encoder's vectors, and tunes the whole."""
    fits = data.task == "classification" and load_config(base).architecture == "encoder"
    return fits and wanted.get("adapter", "full") == "full"


def _method(data: Data) -> tuple[str, str]:
    """By the commonest class."""
    label, most = Counter(data.train.labels).most_common(1)[0]
    if most <= FEW_SHOT_ROWS:
        return "few_shot", f"no label has more than {most} rows, and {FEW_SHOT_ROWS} are few"
    return "fine_tune", f"{label!r} has {most:,} rows, more than the {FEW_SHOT_ROWS} that are few"


def _max_length(data: Data, base: Path) -> tuple[int, str]:
    limit = load_config(base).max_positions
    tokenizer = load_tokenizer(base)
    longest = max(_longest(tokenizer, part.inputs, limit) for part in (data.train, data.validation))
    if longest > limit:
        return limit, f"the most this base reads; the longest row has {longest:,} tokens"
    return max(longest, 8), "the longest row; batches hold rows of like length, so short rows do not pay for it"


def _longest(tokenizer: Tokenizer, texts: Sequence[Text], limit: int) -> int:
    """In tokens; a part at a time, since what the tokenizer tells of a row takes some forty times its text."""
    parts = (texts[start : start + CHUNK_TEXTS] for start in range(0, len(texts), CHUNK_TEXTS))
    return max((encoding.full_length for part in parts for encoding in tokenizer.encode(part, limit)), default=0)


def _batch_size(rows: int) -> tuple[int, str]:
    if rows < FEW_ROWS:
        return 16, f"{rows:,} rows are few; smaller batches make more steps of them"
    return 32, f"usual for {rows:,} rows"


def _num_epochs(steps_an_epoch: int) -> tuple[int, str]:
    epochs = min(MAX_EPOCHS, max(MIN_EPOCHS, round(WANTED_STEPS / steps_an_epoch)))
    wanted = f"about {WANTED_STEPS} steps wanted, {MIN_EPOCHS} to {MAX_EPOCHS} epochs"
    return epochs, f"{steps_an_epoch} steps an epoch, {wanted}"


def _class_weights(data: Data) -> tuple[str, str]:
    counts = Counter(data.train.labels)
    (common, most), (rare, least) = counts.most_common(1)[0], counts.most_common()[-1]
    if most / least > LARGEST_IMBALANCE:
        numbers = f"{common!r} has {most:,} rows, {rare!r} {least:,}"
        return "balanced", f"{numbers}; unweighted, the rare ones would be ignored"
    return "none", f"no class has more than {LARGEST_IMBALANCE:.0f} times the rows of another"


def _evaluation_steps(data: Data, steps_an_epoch: int) -> tuple[int, str]:
    """A row costs a third to score of what it costs to learn from."""
    share = len(data.validation.rows) / (3 * len(data.train.rows))
    an_epoch = max(1, int(EVALUATION_SHARE / share))
    an_epoch = min(an_epoch, 4, steps_an_epoch)
    steps = -(-steps_an_epoch // an_epoch)
    return steps, f"{an_epoch} an epoch, about {an_epoch * share:.0%} of the time; the best weights are kept"

"""What a run is asked to do: frozen recipes, shared by the command line, the job worker and the benchmarks."""

from dataclasses import dataclass, fields
from typing import Literal

from model.config import Pooler, Pooling

MAX_EPOCHS = 50
MAX_BATCH_SIZE = 256
Schedule = Literal["linear", "cosine", "constant"]
AdapterKind = Literal["full", "lora"]
Method = Literal["fine_tune", "few_shot"]
ClassWeights = Literal["none", "balanced"] | tuple[tuple[str, float], ...]  # or a weight for each label


@dataclass(frozen=True)
class Optimisation:
    """How weights are changed, whatever is learned. Raises ValueError with value, limit and remedy."""

    num_epochs: int
    learning_rate: float  # peak, reached after the warm-up
    warmup_share: float = 0.1  # of all steps
    schedule: Schedule = "linear"  # how the learning rate falls after the warm-up
    layer_decay: float = 1.0  # each layer learns this much slower than the one above it
    weight_decay: float = 0.01
    second_moment_decay: float = 0.999  # Adam's beta 2
    max_gradient_norm: float = 1.0
    average_share: float = 0.0  # of all steps: the weights' mean over so many is scored and kept; 0: the last weights
    seed: int = 0
    micro_batch_size: int | None = None  # rows at once; None: as many of the batch as memory holds
    bfloat16: bool | None = None  # None: where the processor has it
    evaluation_steps: int | None = None  # steps between evaluations; None: an epoch
    first_evaluation: int = 1  # the step from which on held-out rows are scored; the last step always is
    metric: str | None = None  # the weights that were best by it are kept; None: the last
    patience: int | None = None  # evaluations without a better metric that end the run; None: it runs to its end
    checkpoint_steps: int = 1_000  # steps between resumable checkpoints, at most
    checkpoint_seconds: float = 30.0  # likewise

    def __post_init__(self) -> None:
        if self.num_epochs < 1:
            raise ValueError(f"n_epochs is {self.num_epochs}; choose at least 1")
        if not 0.0 < self.learning_rate <= 1.0:
            raise ValueError(f"learning_rate is {self.learning_rate}; choose a value above 0 and at most 1")
        if not 0.0 < self.layer_decay <= 1.0:
            raise ValueError(f"layer_decay is {self.layer_decay}; choose a value above 0 and at most 1")
        if not -(2**63) <= self.seed < 2**63:  # what torch takes
            raise ValueError(f"seed is {self.seed}; choose from -2^63 to 2^63 - 1")
        if not 0.0 <= self.average_share <= 1.0:
            raise ValueError(f"average_share is {self.average_share}; choose from 0 to 1")
        for name in ("micro_batch_size", "evaluation_steps", "first_evaluation", "patience"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}; choose at least 1")
        if self.patience is not None and self.metric is None:
            raise ValueError(f"patience is {self.patience} without a metric; say which metric is to rise")


@dataclass(frozen=True)
class Recipe:
    """Hyperparameters of one fine-tuning run; `choose.py` sets those the user leaves open. Raises ValueError with
    value, limit and remedy."""

    method: Method = "fine_tune"  # "few_shot" starts from what the base's vectors tell of the labels, see few_shot.py
    num_epochs: int = 3
    batch_size: int = 32  # rows
    learning_rate: float = 5e-5  # peak, reached after the warm-up
    warmup_share: float = 0.1  # of all steps
    schedule: Schedule = "linear"  # how the learning rate falls after the warm-up
    layer_decay: float = 1.0  # each layer learns this much slower than the one above it
    frozen_layers: int = 0  # from the bottom, the embeddings among them, that stay as they are; 0: none
    dropout: float | None = None  # while training; None: the base's
    weight_decay: float = 0.01
    max_gradient_norm: float = 1.0
    average_share: float = 0.0  # of all steps: the weights' mean over so many is scored and kept; 0: the last weights
    max_length: int = 128  # tokens a row, special tokens included; longer rows are cut
    seed: int = 0
    validation_share: float = 0.1  # of the training rows, when no validation data is given
    class_weights: ClassWeights = "none"  # "balanced" gives every class the same say, however many rows it has
    micro_batch_size: int | None = None  # rows at once; None: as many of the batch as memory holds
    bfloat16: bool | None = None  # None: where the processor has it
    evaluation_steps: int | None = None  # steps between evaluations; None: an epoch
    first_evaluation: int = 1  # the step from which on held-out rows are scored; the last step always is
    metric: str | None = None  # the weights that were best by it are kept; None: the task's usual one
    patience: int | None = None  # evaluations without a better metric that end the run; None: it runs to its end
    checkpoint_steps: int = 1_000  # steps between resumable checkpoints; there is one every half a minute anyway
    pooling: Pooling | None = None  # None: as Hugging Face's classifier of the same layout does
    pooler: Pooler | None = None
    adapter: AdapterKind = "full"  # "lora" trains low-rank adapters and the head, the base stays as it is
    lora_rank: int = 8
    lora_alpha: float = 16.0

    def __post_init__(self) -> None:
        if not 1 <= self.num_epochs <= MAX_EPOCHS:
            raise ValueError(f"n_epochs is {self.num_epochs}; choose from 1 to {MAX_EPOCHS}")
        if not 1 <= self.batch_size <= MAX_BATCH_SIZE:
            raise ValueError(f"batch_size is {self.batch_size}; choose from 1 to {MAX_BATCH_SIZE}")
        if not 0.0 < self.validation_share < 1.0:
            raise ValueError(f"validation_share is {self.validation_share}; choose a value between 0 and 1")
        if self.dropout is not None and not 0.0 <= self.dropout < 1.0:
            raise ValueError(f"dropout is {self.dropout}; choose at least 0 and less than 1")
        if self.max_length < 4:
            raise ValueError(f"max_length is {self.max_length}; at least 4 tokens are needed")
        if not 1 <= self.lora_rank <= 256:
            raise ValueError(f"lora_rank is {self.lora_rank}; choose from 1 to 256")
        if isinstance(self.class_weights, tuple):
            for label, weight in self.class_weights:
                if not 0.0 < weight <= 1_000.0:
                    raise ValueError(
                        f"class_weights has {weight} for {label!r}; choose a value above 0 and at most 1,000"
                    )
        if self.method == "few_shot" and self.adapter == "lora":
            raise ValueError("method is 'few_shot', which tunes the whole model; leave adapter at 'full'")
        if self.frozen_layers < 0:
            raise ValueError(f"frozen_layers is {self.frozen_layers}; choose 0 or more")
        _ = self.optimisation_for("loss")  # checks the rest

    def optimisation_for(self, metric: str) -> Optimisation:
        """How the weights are changed; `metric` is the task's usual one, which judges the run when no other is
        wanted."""
        shared = {field.name for field in fields(Optimisation)} & {field.name for field in fields(self)}
        return Optimisation(**({name: getattr(self, name) for name in shared} | {"metric": self.metric or metric}))


@dataclass(frozen=True)
class PretrainRecipe:
    """Hyperparameters of one pre-training run: packed rows of real text, no labels."""

    num_epochs: int = 3
    batch_rows: int = 32
    row_tokens: int = 128  # packed documents lie in rows of this length; longer documents are cut into pieces
    learning_rate: float = 1e-3
    warmup_share: float = 0.05
    weight_decay: float = 0.05
    second_moment_decay: float = 0.98
    dropout: float = 0.0  # while pre-training: few epochs leave little to overfit, and it costs a fifth of the time
    mask_share: float = 0.3  # of the tokens, for a masked language model (Wettig et al. 2023: 15% is too little)
    seed: int = 0
    checkpoint_steps: int = 1_000
    bfloat16: bool | None = None

    def __post_init__(self) -> None:
        if self.row_tokens < 8 or self.batch_rows < 1:
            raise ValueError(
                f"row_tokens is {self.row_tokens} and batch_rows {self.batch_rows}; at least 8 and 1 are needed"
            )
        if not 0.0 < self.mask_share < 1.0:
            raise ValueError(f"mask_share is {self.mask_share}; choose a value between 0 and 1")
        _ = self.optimisation

    @property
    def optimisation(self) -> Optimisation:
        return Optimisation(
            num_epochs=self.num_epochs,
            learning_rate=self.learning_rate,
            warmup_share=self.warmup_share,
            schedule="cosine",
            weight_decay=self.weight_decay,
            second_moment_decay=self.second_moment_decay,
            seed=self.seed,
            checkpoint_steps=self.checkpoint_steps,
            bfloat16=self.bfloat16,
        )

"""What a fine-tuning run is asked to do: one frozen recipe, shared by the command line and the job worker."""

from dataclasses import dataclass

MAX_EPOCHS = 50
MAX_BATCH_SIZE = 256


@dataclass(frozen=True)
class Recipe:
    """Hyperparameters of one run. Raises ValueError with value, limit and remedy."""

    num_epochs: int = 3
    batch_size: int = 32  # rows
    learning_rate: float = 5e-5  # peak, reached after the warm-up
    warmup_share: float = 0.1  # of all steps
    weight_decay: float = 0.01
    max_gradient_norm: float = 1.0
    max_length: int = 128  # tokens a row, special tokens included; longer rows are cut
    seed: int = 0
    validation_share: float = 0.1  # of the training rows, when no validation data is given
    checkpoint_steps: int = 50  # steps between resumable checkpoints
    bfloat16: bool | None = None  # None: where the processor has it

    def __post_init__(self) -> None:
        if not 1 <= self.num_epochs <= MAX_EPOCHS:
            raise ValueError(f"n_epochs is {self.num_epochs}; choose from 1 to {MAX_EPOCHS}")
        if not 1 <= self.batch_size <= MAX_BATCH_SIZE:
            raise ValueError(f"batch_size is {self.batch_size}; choose from 1 to {MAX_BATCH_SIZE}")
        if not 0.0 < self.learning_rate <= 1.0:
            raise ValueError(f"learning_rate is {self.learning_rate}; choose a value above 0 and at most 1")
        if not 0.0 < self.validation_share < 1.0:
            raise ValueError(f"validation_share is {self.validation_share}; choose a value between 0 and 1")
        if self.max_length < 4:
            raise ValueError(f"max_length is {self.max_length}; at least 4 tokens are needed")

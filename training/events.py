"""What a run tells those who watch it. Yielded by the trainer; the command line prints them, the job worker stores
them, tests assert on them."""

from dataclasses import dataclass

from training.evaluate import Scores


@dataclass(frozen=True)
class Started:
    step: int  # 0, or the step a checkpoint continued from
    total_steps: int
    num_train: int
    num_validation: int
    dtype: str
    micro_batch_size: int  # rows that pass through the model at once; a step's gradients are added up
    padding_share: float  # of the tokens the model computes in the first epoch
    memory_bytes: int  # estimated peak, see `memory.py`


@dataclass(frozen=True)
class Progress:
    step: int
    total_steps: int
    epoch: float
    train_loss: float  # mean since the last progress event
    learning_rate: float
    tokens_per_second: float  # real tokens, padding not counted
    tokens_seen: int
    gradient_norm: float  # of the last step, before clipping


@dataclass(frozen=True)
class Evaluated:
    step: int
    evaluation: Scores
    best: bool = True  # whether this is the best so far, by the metric the run is judged by


@dataclass(frozen=True)
class Noted:
    """Something the user should know before the run goes on."""

    message: str


@dataclass(frozen=True)
class Finishing:
    """What is done next of the work after the last step."""

    what: str


TrainingEvent = Started | Progress | Evaluated | Noted | Finishing

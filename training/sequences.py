"""Training of an encoder-decoder on pairs of texts. Called by `recipes.py`."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import torch

from model.config import TransformerConfig
from model.heads import TextModel
from model.tokenizer import Tokenizer
from model.weights import save_model
from training.config import Optimisation
from training.events import TrainingEvent
from training.finetune import run_key_of
from training.objectives import SequenceToSequence, TextPairs
from training.parallel import ALONE, World
from training.results import refuse_other_run, write_folder, write_manifest
from training.sharding import Placement
from training.trainer import Trainer


@dataclass(frozen=True)
class SequenceRecipe:
    """Hyperparameters of one sequence-to-sequence run."""

    num_epochs: int = 3
    batch_size: int = 32  # pairs
    learning_rate: float = 1e-3
    warmup_share: float = 0.1
    label_smoothing: float = 0.1  # section 5.4 of the paper
    seed: int = 0
    checkpoint_steps: int = 1_000

    @property
    def optimisation(self) -> Optimisation:
        return Optimisation(
            num_epochs=self.num_epochs,
            learning_rate=self.learning_rate,
            warmup_share=self.warmup_share,
            schedule="cosine",
            second_moment_decay=0.98,  # section 5.3
            seed=self.seed,
            checkpoint_steps=self.checkpoint_steps,
        )


def load_pairs(sources: Sequence[str], targets: Sequence[str], tokenizer: Tokenizer, max_positions: int) -> TextPairs:
    """Pairs of texts as token ids. Raises ValueError for a pair that is longer than the model can hold."""
    encoded = [
        [encoding.ids for encoding in tokenizer.encode_ids(texts, 2**30, special_tokens=False)]
        for texts in (list(sources), list(targets))
    ]
    for index, (source, target) in enumerate(zip(*encoded, strict=True)):
        if max(len(source), len(target) + 1) > max_positions:
            raise ValueError(
                f"pair {index} has {len(source)} and {len(target)} tokens, more than {max_positions}; split it"
            )
    return TextPairs(*encoded)


def train_sequences(
    config: TransformerConfig,
    tokenizer: Tokenizer,
    train: TextPairs,
    validation: TextPairs,
    recipe: SequenceRecipe,
    output: Path,
    device: torch.device,
    world: World = ALONE,
    replaces: bool = True,
) -> Iterator[TrainingEvent]:
    """Trains a model of this shape from random weights and leaves it in `output/model`; the manifest comes last. Raises
    ValueError when `output` holds another run, unless this one `replaces` it.

    An interrupted run continues from its last checkpoint when called again with the same arguments.
    """
    torch.manual_seed(recipe.seed)
    model = TextModel(config)
    placement = Placement(model, device, world)
    objective = SequenceToSequence(model, train, validation, recipe.batch_size, recipe.seed, recipe.label_smoothing)
    digest = hashlib.sha256(json.dumps([train.sources, train.targets]).encode()).hexdigest()
    description = {"recipe": asdict(recipe), "config": config.to_dict(), "train": digest}
    run_key = run_key_of(description)
    if world.leads and not replaces:
        refuse_other_run(output, run_key)
    trainer = Trainer(objective, recipe.optimisation, output / "checkpoint", run_key, world, placement)
    yield from trainer.run()
    trained = placement.whole_model()
    if trained is None:
        return
    write_folder(output / "model", partial(save_model, trained.eval(), tokenizer))
    write_manifest(output, trainer, description)

"""From running text to a pre-trained model: tokenizer, packed corpus, masked or causal language model.

Called by the command line and the benchmarks. Every part is found again when an interrupted run is called again.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from model.config import TransformerConfig
from model.folders import load_tokenizer
from model.heads import TextModel
from model.tokenizer import CLS, END_OF_TEXT, MASK, PAD, SEP, UNKNOWN, Tokenizer
from model.weights import save_model
from training.config import PretrainRecipe
from training.corpus import Corpus, PackedRows, build_corpus, open_corpus
from training.events import TrainingEvent
from training.finetune import run_key_of
from training.objectives import CausalLanguageModel, MaskedLanguageModel
from training.parallel import ALONE, World
from training.results import refuse_other_run, write_folder, write_manifest
from training.sharding import Placement
from training.trainer import Trainer

Texts = Callable[[], Iterable[str]]  # asked for a fresh stream each time it is read


@dataclass(frozen=True)
class Corpora:
    """Tokenized training and validation text."""

    tokenizer: Tokenizer
    train: Corpus
    validation: Corpus


def prepare(
    train: Texts,
    validation: Texts,
    make_tokenizer: Callable[[Texts], Tokenizer],
    tokenizer_kind: str,
    output: Path,
    replaces: bool = True,
) -> Corpora:
    """Trains the tokenizer and streams both texts to token files in `output`; found again when nothing has changed:
    neither text, nor `tokenizer_kind`, which says how the tokenizer is trained. Of several processes the first calls it
    before the others, which then find its files. Raises ValueError when `output` holds a run on other ones, unless this
    one `replaces` it."""
    folder = output / "corpus"
    done = folder / "done"
    fingerprint = f"{tokenizer_kind} {_digest(train())} {_digest(validation())}"
    found = done.read_text(encoding="utf-8") if done.is_file() else None
    if found != fingerprint:
        if found is not None and not replaces:
            refuse_other_run(output)
        done.unlink(missing_ok=True)
        folder.mkdir(parents=True, exist_ok=True)
        tokenizer = make_tokenizer(train)
        tokenizer.save(folder)
        build_corpus(train(), tokenizer, folder / "train")
        build_corpus(validation(), tokenizer, folder / "validation")
        done.write_text(fingerprint, encoding="utf-8")
    return Corpora(load_tokenizer(folder), open_corpus(folder / "train"), open_corpus(folder / "validation"))


def _digest(texts: Iterable[str]) -> str:
    digest = hashlib.sha256()
    for text in texts:
        digest.update(text.encode() + b"\0")
    return digest.hexdigest()


def packed_rows(corpus: Corpus, tokenizer: Tokenizer, config: TransformerConfig, row_tokens: int) -> PackedRows:
    """The corpus as rows of packed documents, wrapped as the model's task wants it."""
    causal = config.task == "causal_lm"
    edges = (END_OF_TEXT, END_OF_TEXT) if causal else (CLS, SEP)
    prefix, suffix = (tokenizer.id_of(token) for token in edges)
    if prefix is None or suffix is None:
        raise ValueError(f"the tokenizer lacks {edges}; train one for task {config.task!r}")
    return PackedRows(corpus, row_tokens, prefix, suffix, config.pad_id, causal, config.max_positions)


def pretrain(
    config: TransformerConfig,
    corpora: Corpora,
    recipe: PretrainRecipe,
    output: Path,
    device: torch.device,
    world: World = ALONE,
    replaces: bool = True,
) -> Iterator[TrainingEvent]:
    """Trains a model of this shape from random weights and leaves it in `output/model`; the manifest comes last. Raises
    ValueError when `output` holds another run, unless this one `replaces` it.

    An interrupted run continues from its last checkpoint when called again with the same arguments.
    """
    if recipe.row_tokens > config.max_positions:
        raise ValueError(
            f"row_tokens is {recipe.row_tokens}, more than the model's {config.max_positions} positions; lower it"
        )
    tokenizer = corpora.tokenizer
    torch.manual_seed(recipe.seed)
    model = TextModel(replace(config, dropout=recipe.dropout))
    placement = Placement(model, device, world)
    train, validation = (
        packed_rows(corpus, tokenizer, config, recipe.row_tokens) for corpus in (corpora.train, corpora.validation)
    )
    objective: MaskedLanguageModel | CausalLanguageModel
    if config.task == "masked_lm":
        special = [number for token in (PAD, UNKNOWN, CLS, SEP, MASK) if (number := tokenizer.id_of(token)) is not None]
        mask_id = tokenizer.id_of(MASK)
        assert mask_id is not None
        objective = MaskedLanguageModel(
            model, train, validation, recipe.batch_rows, recipe.seed, recipe.mask_share, mask_id, special
        )
    else:
        objective = CausalLanguageModel(model, train, validation, recipe.batch_rows, recipe.seed)
    description: dict[str, Any] = {"recipe": asdict(recipe), "config": config.to_dict()}
    description |= {"train": corpora.train.sha256, "validation": corpora.validation.sha256}
    run_key = run_key_of(description)
    if world.leads and not replaces:
        refuse_other_run(output, run_key)
    trainer = Trainer(objective, recipe.optimisation, output / "checkpoint", run_key, world, placement)
    yield from trainer.run()
    trained = placement.whole_model()
    if trained is None:
        return
    finished = TextModel(config)
    finished.load_state_dict(trained.state_dict())
    write_folder(output / "model", partial(save_model, finished.eval(), tokenizer))
    facts = {"train_tokens": corpora.train.num_tokens, "train_documents": len(corpora.train)}
    write_manifest(output, trainer, description, **facts)

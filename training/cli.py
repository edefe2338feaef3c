"""The training commands of `vitrine`: pre-train, fine-tune in this process with a progress bar, or in the
processes that `torchrun` starts; then the first of them alone speaks, and alone writes."""

import argparse
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from model.config import PRESETS, TransformerConfig
from model.folders import is_model_folder
from model.tokenizer import END_OF_TEXT, Tokenizer, train_byte_bpe, train_wordpiece
from training.choose import choose_recipe
from training.config import PretrainRecipe, Recipe
from training.corpus import Documents
from training.events import Evaluated, Noted, Progress, Started, TrainingEvent
from training.finetune import USUAL_METRIC, finetune, load_data
from training.parallel import ALONE, World, join_world, own_device
from training.pretrain import Texts, prepare, pretrain
from training.recipes import RECIPES
from training.tables import SOURCE_HELP, find_source

SHARD_HELP = (
    "in several processes (torchrun): each holds a part of every weight, for models that do not fit one device (FSDP)"
)
DEFAULT_VOCABULARY = 8_000
MAX_VOCABULARY = 1_000_000  # the largest that anyone publishes have a quarter of it
RECIPE_OPTIONS = {  # of `pretrain`, by the field of the recipe each sets, with what it means
    "epochs": ("num_epochs", "times the text is read"),
    "batch_rows": ("batch_rows", "rows a step"),
    "row_tokens": ("row_tokens", "tokens a row; longer documents are cut into pieces"),
    "learning_rate": ("learning_rate", "the highest, after the warm-up"),
    "seed": ("seed", "of the weights, the order and what is hidden"),
}
TUNING_OPTIONS: dict[str, tuple[str, Any, str]] = {  # of `finetune`: field of the recipe, kind of value, meaning
    "method": ("method", ("fine_tune", "few_shot"), "for up to 64 rows a label there is a way of its own"),
    "epochs": ("num_epochs", int, "times every row is learned from"),
    "batch-size": ("batch_size", int, "rows a step"),
    "learning-rate": ("learning_rate", float, "the highest, after the warm-up"),
    "max-length": ("max_length", int, "tokens a row; longer rows are cut"),
    "dropout": ("dropout", float, "share of the values that is set to zero while training"),
    "adapter": ("adapter", ("full", "lora"), "train the whole model, or low-rank adapters and the head"),
    "lora-rank": ("lora_rank", int, "width of the adapters"),
    "class-weights": ("class_weights", ("none", "balanced"), "whether every class gets the same say"),
    "metric": ("metric", str, "held-out figure that decides which weights are kept"),
    "patience": ("patience", int, "evaluations without a better figure that end the run"),
    "average-share": ("average_share", float, "share of the steps over which weights are averaged, to be kept"),
    "evaluation-steps": ("evaluation_steps", int, "steps between evaluations"),
    "first-evaluation": ("first_evaluation", int, "step from which on held-out rows are scored"),
}
OWN_TEXT_OPTIONS = ("validation", "task", "preset", "vocabulary", *RECIPE_OPTIONS)


@dataclass(frozen=True)
class Store:
    """What these commands need of the model store; the service's command line gives it."""

    publish: Callable[[str, Path], str]  # a finished model's name and folder -> what to tell the user
    find_base: Callable[[str], Path]  # a model's id, or a folder
    bases: Callable[[], Mapping[str, Path]]  # every base in the store, by id
    check_name: Callable[[str], None]  # raises ValueError for a name that no model can be published under


def add_commands(commands: "argparse._SubParsersAction[argparse.ArgumentParser]", home: Path, store: Store) -> None:
    """Adds `pretrain` and `finetune` to the command line."""
    tune = commands.add_parser("finetune", help="fine-tune a base model on a labelled file, in this process")
    tune.add_argument("--data", required=True, help=SOURCE_HELP)
    tune.add_argument("--validation", help="validation rows, named the same way; a tenth of the data when absent")
    tune.add_argument("--task", choices=sorted(USUAL_METRIC), help="what to learn (default: told by the columns)")
    tune.add_argument(
        "--base", default="minilm-l6", help="a model's id in the store, or a model folder (default: minilm-l6)"
    )
    tune.add_argument("--output", type=Path, required=True, help="folder for the tuned model")
    for option, (name, kind, meaning) in TUNING_OPTIONS.items():
        choices = kind if isinstance(kind, tuple) else None
        cast = str if isinstance(kind, tuple) else kind
        tune.add_argument(f"--{option}", dest=name, type=cast, choices=choices, help=f"{meaning} (default: chosen)")
    tune.add_argument("--seed", type=int, default=Recipe.seed)
    tune.add_argument("--shard", action="store_true", help=SHARD_HELP)
    tune.set_defaults(run=lambda arguments: run_finetune(arguments, store))

    names = ", ".join(f"{named.name} ({named.summary})" for named in RECIPES.values())
    pre = commands.add_parser("pretrain", help="train a Transformer on running text, from random weights")
    pre.add_argument("name", nargs="?", choices=sorted(RECIPES), help=f"a model of this project: {names}")
    pre.add_argument("--data", type=Path, help="your own text: .txt with a document a line, or .jsonl with 'text'")
    pre.add_argument("--validation", type=Path, help="held-out text of the same kind; needed with --data")
    pre.add_argument("--task", choices=("masked_lm", "causal_lm"), help="what to learn (default: masked_lm)")
    pre.add_argument("--preset", choices=sorted(PRESETS), help="shape of the model (default: a small one of its task)")
    pre.add_argument("--vocabulary", type=int, help=f"tokens of the tokenizer (default: {DEFAULT_VOCABULARY})")
    for option, (name, meaning) in RECIPE_OPTIONS.items():
        default = getattr(PretrainRecipe, name)
        pre.add_argument(f"--{option.replace('_', '-')}", type=type(default), help=f"{meaning} (default: {default})")
    pre.add_argument("--output", type=Path, help="folder for the run (default: in the state folder)")
    pre.add_argument("--publish", metavar="NAME", help="put the model into the store under this name")
    pre.add_argument("--shard", action="store_true", help=SHARD_HELP)
    pre.set_defaults(run=lambda arguments: run_pretrain(arguments, home, store))


def run_finetune(arguments: argparse.Namespace, store: Store) -> None:
    with join_world(own_device(), arguments.shard) as world:
        _finetune(arguments, store, world)


def _finetune(arguments: argparse.Namespace, store: Store, world: World) -> None:
    say = print if world.leads else _say_nothing
    wanted = {name: value for name, _, _ in TUNING_OPTIONS.values() if (value := getattr(arguments, name)) is not None}
    wanted |= {"seed": arguments.seed}
    if world.shards:
        wanted = {"method": "fine_tune", **wanted}  # the other reads the whole model
    base = world.from_leader(lambda: store.find_base(arguments.base))
    if (arguments.output / "model").resolve() == base.resolve():
        raise ValueError(
            f"--output {arguments.output} would put the tuned model in the place of its base; name another folder"
        )
    name = base.resolve().name if is_model_folder(Path(arguments.base)) else arguments.base
    with world.leader_first():  # a data set's name is a download
        training = find_source(arguments.data)
        validation = find_source(arguments.validation) if arguments.validation else None
    data = load_data(training, validation, Recipe(**wanted), arguments.task)
    say(f"task: {data.task}")
    for warning in data.warnings:
        say(f"warning: {warning}")
    chosen = choose_recipe(wanted, data, base)
    for choice in chosen.choices:
        say(f"chosen: {choice}")
    arguments.output.mkdir(parents=True, exist_ok=True)
    bases = store.bases() if world.leads else {}
    events = finetune(base, data, chosen.recipe, arguments.output, own_device(), name, bases, world, replaces=False)
    show_all(events, world)
    tuned = arguments.output / "model"
    say(f"tuned model: {tuned}; to serve it: vitrine models import {tuned} --name NAME")


def _say_nothing(message: str) -> None:
    pass


def run_pretrain(arguments: argparse.Namespace, home: Path, store: Store) -> None:
    with join_world(own_device(), arguments.shard) as world:
        _pretrain(arguments, home, store, world)


def _pretrain(arguments: argparse.Namespace, home: Path, store: Store, world: World) -> None:
    """A model of ours by name, or one of the user's own text."""
    if (arguments.name is None) == (arguments.data is None):
        raise ValueError("name a model of this project, or give your own text with --data and --validation")
    if arguments.name is not None and (
        given := [name for name in OWN_TEXT_OPTIONS if getattr(arguments, name) is not None]
    ):
        options = ", ".join(f"--{name.replace('_', '-')}" for name in given)
        raise ValueError(f"{arguments.name} is trained as its recipe says; leave out {options}, or train on --data")
    name = arguments.name if arguments.publish is None else arguments.publish
    if name is not None:
        store.check_name(name)
    output = arguments.output or home / "pretraining" / (name or arguments.data.stem)
    output.mkdir(parents=True, exist_ok=True)
    if arguments.name is not None:
        replaces = arguments.output is None and arguments.publish is None  # what lies in the folder of its name
        show_all(RECIPES[arguments.name].run(home / "cache", output, own_device(), world, replaces), world)
    else:
        _pretrain_on_own_text(arguments, output, world)
    if world.leads:
        print(f"pre-trained model: {output / 'model'}")
        if name is not None:
            print(store.publish(name, output / "model"))


def _pretrain_on_own_text(arguments: argparse.Namespace, output: Path, world: World) -> None:
    if arguments.validation is None:
        raise ValueError("--validation is missing; hold out some documents of the text in a second file")
    given = {name: getattr(arguments, option) for option, (name, _) in RECIPE_OPTIONS.items()}
    recipe = PretrainRecipe(**{name: value for name, value in given.items() if value is not None})
    task = arguments.task or "masked_lm"
    vocabulary = DEFAULT_VOCABULARY if arguments.vocabulary is None else arguments.vocabulary

    if not 1 <= vocabulary <= MAX_VOCABULARY:
        raise ValueError(f"vocabulary is {vocabulary}; choose from 1 to {MAX_VOCABULARY:,} tokens")

    def make_tokenizer(texts: Texts) -> Tokenizer:
        train = train_wordpiece if task == "masked_lm" else train_byte_bpe
        trained = train(texts(), vocabulary)
        if trained.vocab_size > vocabulary and arguments.vocabulary is not None:
            least = f"the characters of this text and the special tokens alone make {trained.vocab_size}"
            raise ValueError(f"vocabulary is {vocabulary}; {least}, choose at least that")
        return trained

    with world.leader_first():
        corpora = prepare(
            lambda: Documents(arguments.data),
            lambda: Documents(arguments.validation),
            make_tokenizer,
            f"{task} {vocabulary}",
            output,
            replaces=False,
        )
    config = own_config(task, arguments.preset, corpora.tokenizer, recipe.row_tokens, corpora.train.longest)
    if world.leads:
        most = f"the longest document has {corpora.train.longest:,}, a row {recipe.row_tokens:,}"
        print(f"the model will read texts of up to {config.max_positions:,} tokens ({most})")
    show_all(pretrain(config, corpora, recipe, output, own_device(), world, replaces=False), world)


def own_config(
    task: str, preset: str | None, tokenizer: Tokenizer, row_tokens: int, longest_document: int
) -> TransformerConfig:
    """A preset's shape, or a small one, with this tokenizer's vocabulary and no more positions than the longest
    document reaches, or a row: those beyond would stay as they were drawn, and longer texts be read by them."""
    end = tokenizer.id_of(END_OF_TEXT)
    small = {"width": 256, "num_layers": 4, "num_heads": 4, "feed_forward_width": 1024, "dropout": 0.1}
    shape = small if preset is None else _shape_of(PRESETS[preset])
    longest = max(row_tokens, min(int(shape.get("max_positions", 512)), longest_document + 2))  # with special tokens
    common: dict[str, object] = {**shape, "vocab_size": tokenizer.vocab_size, "task": task, "max_positions": longest}
    if task == "masked_lm":
        bert = {"num_segments": 2, "norm_epsilon": 1e-12, "norm_embeddings": True}
        return TransformerConfig.from_dict({**bert, **common, "architecture": "encoder"})
    gpt = {"activation": "gelu_tanh", "norm_first": True, "bos_id": end, "eos_id": end}
    return TransformerConfig.from_dict({**common, **gpt, "architecture": "decoder"})


def _shape_of(preset: TransformerConfig) -> dict[str, float]:
    names = ("width", "num_layers", "num_heads", "feed_forward_width", "max_positions", "dropout")
    return {name: getattr(preset, name) for name in names}


def show_all(events: Iterable[TrainingEvent], world: World = ALONE) -> None:
    """A run on the terminal, with its progress bar; of several processes the first shows it."""
    with tqdm(unit="step", disable=not world.leads) as bar:
        try:
            for event in events:
                if world.leads:
                    show(event, bar)
        except KeyboardInterrupt:
            if world.leads:
                bar.write("interrupted; the same command again continues from the last checkpoint")
            raise


def show(event: TrainingEvent, bar: "tqdm[None]") -> None:
    """One event on the terminal."""
    if isinstance(event, Noted):
        bar.write(f"note: {event.message}")
    elif isinstance(event, Started):
        bar.write(f"{event.num_train} training rows, {event.num_validation} validation rows, {event.dtype}")
        if event.step:
            bar.write(f"continuing from step {event.step}")
        bar.reset(total=event.total_steps)
        bar.initial = bar.n = bar.last_print_n = event.step  # the pace is that of this process alone
        bar.refresh()
    elif isinstance(event, Progress):
        bar.set_postfix_str(f"loss {event.train_loss:.3f}, {event.tokens_per_second:,.0f} tokens/s")
        bar.update(event.step - bar.n)
    elif isinstance(event, Evaluated):
        bar.write(f"step {event.step}: {event.evaluation.summary()}")
    else:
        bar.write(event.what)

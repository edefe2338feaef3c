"""Which explanation tells what a tuned classifier really uses: every attribution of 200 held-out texts, beside raw
attention, rollout and chance; English and Chinese.

    python -m benchmarks.bench_explain --home .vitrine

Models are tuned first unless the state folder has them. To know why a method leads, all are judged once more by another
token in the place of those that are taken away.
"""

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

from benchmarks.report import environment, follow, parser_of, table, trained, write
from model.explain.comparison import Judged, compare
from model.explain.faithfulness import PERCENTS, Trial
from model.explain.masking import replacement_id
from model.explain.methods import all_methods
from model.heads import TextModel
from model.tokenizer import Encoding, Tokenizer
from model.weights import load_model
from service.explain_cli import drawn, measure
from service.report.attributions import note
from service.report.attributions import table as methods_table
from training.catalogue import fetch_minilm, write_splits
from training.choose import choose_recipe
from training.config import Recipe
from training.data import load_examples
from training.evaluation.attributions import attribution_report
from training.evaluation.ratio import interval, mean_of
from training.finetune import finetune, load_data
from training.results import MANIFEST_FILE

CPU = torch.device("cpu")
EPOCHS = 2
MAX_LENGTH = 128
SEED = 0
OURS = "decomposition"
REJUDGED = (OURS, "gradient_weighted", "integrated_gradients", "occlusion")
READING = """Who wins where: the decomposition is first in comprehensiveness on both sets, far above gradient-weighted
attention, but level with integrated gradients and, on the movie sentences, with occlusion. In sufficiency it
is clearly first on the movie sentences and level with integrated gradients on the reviews. It takes one
backward pass; the other two take four to eleven times as long.

Why it is not clearly first: the two beside it are made for the very measure. Occlusion asks what one token's
loss does, by the mask it is judged by, and leads while few tokens go (1 to 10% of a movie sentence, 1% of a
review); as more go together it falls behind. Integrated gradients start at the text of masks that the measure
moves towards. Judged by the unknown token instead, on fewer texts, the decomposition of a movie sentence is
0.026 and 0.036 ahead of them, of a review level with integrated gradients; the intervals overlap. How biases
are shared is not the reason (DECISIONS.md).

Raw attention is above chance by 0.05 to 0.08 and near random in two texts of three: a picture of what is
looked at, not an explanation. Gradient times input is near chance on movie sentences: a gradient before a
LayerNorm is at right angles to what goes in, so that what a token's own vector scores is only the negative of
what its position and segment do."""
Texts = Sequence[dict[str, Judged]]


@dataclass(frozen=True)
class Subject:
    """A tuned model and its held-out texts."""

    name: str
    model: TextModel
    tokenizer: Tokenizer
    test: Path

    @classmethod
    def of(cls, name: str, data_name: str, base: Path, home: Path) -> "Subject":
        folder = home / "explain"
        train, validation, test = write_splits(data_name, home / "cache", folder)
        output = folder / name.lower().replace(" ", "-")
        if not (output / MANIFEST_FILE).is_file():
            output.mkdir(exist_ok=True)
            data = load_data(train, validation, Recipe())
            recipe = choose_recipe({"num_epochs": EPOCHS, "max_length": MAX_LENGTH}, data, base).recipe
            follow(finetune(base, data, recipe, output, CPU), name)
        model, tokenizer = load_model(output / "model")
        return cls(name, model.requires_grad_(False), tokenizer, test)


def movies(home: Path) -> Subject:
    return Subject.of("Movie sentences", "movie-sentiment", fetch_minilm(home / "cache"), home)


def chinese(home: Path) -> Subject:
    encoder, _ = trained("chinese-encoder", home)
    return Subject.of("Chinese reviews", "chinese-reviews", encoder / "model", home)


def differences(texts: Texts) -> str:
    """Ours less each other method, on the same texts."""
    rows = []
    for name in texts[0]:
        if name == OURS:
            continue
        cells = [name.replace("_", " ")]
        for measure_name in ("comprehensiveness", "sufficiency"):
            pairs = [[getattr(text[each].faithfulness, measure_name).aopc for each in (OURS, name)] for text in texts]
            cells.append(_mean([ours - theirs for ours, theirs in pairs]))
        rows.append(cells)
    return table(("decomposition less", "comprehensiveness", "sufficiency"), rows)


def by_share(texts: Texts) -> str:
    """Mean comprehensiveness at each share of the tokens."""
    rows = []
    for name in texts[0]:
        losses = [text[name].faithfulness.comprehensiveness.at for text in texts]
        rows.append([name.replace("_", " "), *(f"{fmean(column):.3f}" for column in zip(*losses, strict=True))])
    return table(("tokens taken away", *(f"{percent}%" for percent in PERCENTS)), rows)


def rejudged(subject: Subject, encodings: Sequence[Encoding], trial: Trial) -> str:
    """The same attributions, judged by the unknown token in the place of what is taken away."""
    other = subject.tokenizer.unknown_id
    assert other is not None, "both tokenizers have one"
    known = all_methods(replacement_id(subject.tokenizer, subject.model.config), SEED)
    methods = {name: known[name] for name in REJUDGED}
    texts = list(compare(subject.model, encodings, methods, other, trial))
    return methods_table(attribution_report(texts, trial, subject.name, subject.test.name))


def _mean(values: Sequence[float]) -> str:
    ends = interval(mean_of(values))
    assert ends is not None
    return f"{fmean(values):+.4f} ({ends[0]:+.4f} to {ends[1]:+.4f})"


def section(subject: Subject, arguments: argparse.Namespace) -> str:
    where = environment(("torch", "tokenizers", "scipy"))
    trial = Trial(arguments.num_random, SEED, beam_width=0)
    encodings = drawn(load_examples(subject.test), subject.tokenizer, arguments.rows, SEED, MAX_LENGTH)
    began = time.perf_counter()
    texts = measure(subject.model, subject.tokenizer, encodings, tuple(all_methods(0)), trial)
    minutes = (time.perf_counter() - began) / 60
    report: dict[str, Any] = attribution_report(texts, trial, subject.name, subject.test.name)
    config, tokens = subject.model.config, fmean(len(encoding.ids) for encoding in encodings)
    return f"""## {subject.name}

{where}; threads: {torch.get_num_threads()}. {config.num_layers} layers of width {config.width}, read by
{config.pooling} pooling; {tokens:.0f} tokens a text; judged in {minutes:.0f} minutes beside other work. {note(report)}

{methods_table(report)}

On the same texts, the decomposition less each other method (comprehensiveness: above zero it is better; sufficiency:
below zero it is better):

{differences(texts)}

Comprehensiveness by the share of tokens that is taken away:

{by_share(texts)}

Judged by the unknown token, where the table above and the methods themselves take the mask (a quarter of the texts):

{rejudged(subject, encodings[: max(2, len(encodings) // 4)], trial)}"""


def main() -> None:
    subjects = {"movies": movies, "chinese": chinese}
    parser = parser_of(__doc__)
    parser.add_argument("--rows", type=int, default=200, help="held-out texts of each data set")
    parser.add_argument("--num-random", type=int, default=10, help="random rankings a text")
    parser.add_argument("--only", choices=tuple(subjects), help="one of the two; of the other the last figures stay")
    arguments = parser.parse_args()
    for name, subject in subjects.items():
        if arguments.only in (None, name):
            found = section(subject(arguments.home), arguments)
            (arguments.home / "explain" / f"{name}.md").write_text(found, encoding="utf-8")
    write_result(arguments.home, tuple(subjects), arguments.rows)


def write_result(home: Path, names: Sequence[str], rows: int) -> None:
    files = [home / "explain" / f"{name}.md" for name in names]
    body = "\n\n".join(file.read_text(encoding="utf-8") for file in files if file.is_file())
    write(
        "explain",
        f"""# Which explanation tells what the model uses

Why: to know which of our attributions to show first, and how far each is from chance. Command:

    make bench-explain

Models tuned for {EPOCHS} epochs, float32, {rows} held-out texts each. The answer explained is the label that
the model gives, by its logit. Raw attention is what the pooled token pays (under mean pooling the mean of what all
pay), the mean over heads and layers; rollout is that of the last layer.

{READING}

{body}
""",
    )


if __name__ == "__main__":
    main()

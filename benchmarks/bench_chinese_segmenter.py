"""The encoder-decoder on Chinese word segmentation as translation, against dictionaries of the same training words.

    python -m benchmarks.bench_chinese_segmenter --home .vitrine

Trains first, unless `vitrine pretrain chinese-segmenter` has done so.
"""

import time
from itertools import accumulate

from tqdm import tqdm

from benchmarks.report import environment, parser_of, table, took, trained, write
from model.generation import BeamSearch, Sampling, Writing, write_all
from model.weights import load_model
from training.baselines import DictionarySegmenter, word_f1
from training.catalogue import chinese_segmentation
from training.recipes import SEGMENTER_CHARACTERS, pieces

BEAM_WIDTH = 4


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--beam-sentences", type=int, default=300, help="a beam search is slow; so many sentences")
    arguments = parser.parse_args()
    output, manifest = trained("chinese-segmenter", arguments.home)
    model, tokenizer = load_model(output / "model")
    splits = chinese_segmentation(arguments.home / "cache")
    sources, gold = list(splits["test"]["source"]), [target.split() for target in splits["test"]["target"]]
    parts = [["".join(part) for part in pieces(source, SEGMENTER_CHARACTERS)] for source in sources]
    flat = [part for sentence in parts for part in sentence]
    prompts = [encoding.ids for encoding in tokenizer.encode(flat, 2**30, special_tokens=False)]
    longest = model.config.max_positions
    ends = list(accumulate(map(len, parts)))

    def joined(written: list[list[str]]) -> list[list[str]]:
        """Words of the pieces -> words of the sentences."""
        return [
            [word for words in written[end - len(own) : end] for word in words]
            for end, own in zip(ends, parts, strict=True)
        ]

    started = time.time()
    writings = [Writing(prompt, Sampling(min(longest, 2 * len(prompt) + 8), temperature=0.0)) for prompt in prompts]
    with tqdm(total=len(writings), unit="piece", desc="greedy") as bar:
        write_all(model, writings, on_step=lambda done: bar.update(done - bar.n))
    greedy = joined([tokenizer.decode(writing.ids).split() for writing in writings])
    greedy_seconds = time.time() - started

    some = range(0, len(sources), max(1, len(sources) // arguments.beam_sentences))
    beams = []
    for index in tqdm(some, unit="sentence", desc="beam"):
        words: list[str] = []
        for prompt in prompts[ends[index] - len(parts[index]) : ends[index]]:
            search = BeamSearch(model, prompt, BEAM_WIDTH, min(longest, 2 * len(prompt) + 8))
            while search.finish_reason is None:
                search.step()
            words += tokenizer.decode(search.ids).split()
        beams.append(words)

    dictionary = DictionarySegmenter([target.split() for target in splits["train"]["target"]])
    rows = []
    matched = [dictionary.maximum_matching(source) for source in sources]
    viterbi = [dictionary.viterbi(source) for source in sources]
    for name, predicted in (
        ("encoder-decoder, greedy", greedy),
        ("dictionary, most probable words (Viterbi)", viterbi),
        ("dictionary, maximum matching", matched),
    ):
        rows.append(_row(name, gold, predicted, sources))
    subset = [gold[index] for index in some]
    few = [sources[index] for index in some]
    some_rows = [
        _row(f"encoder-decoder, beam of {BEAM_WIDTH}", subset, beams, few),
        _row("encoder-decoder, greedy", subset, [greedy[index] for index in some], few),
        _row("dictionary, most probable words (Viterbi)", subset, [viterbi[index] for index in some], few),
    ]
    header = ("", "precision", "recall", "word F1", "sentences right", "characters kept")
    write(
        "chinese_segmenter",
        f"""# Word segmentation by the encoder-decoder

Why: the original paper's architecture, trained and served here, on a task where its every part is needed: the decoder
copies the sentence through cross-attention and decides where words end.

{environment()}. Command:

    make bench-chinese-segmenter

The model ({manifest["config"]["num_layers"]} + {manifest["config"]["num_layers"]} layers, width {
            manifest["config"]["width"]
        }) was trained on {len(splits["train"]):,} news sentences, {manifest["recipe"]["num_epochs"]} epochs, in {
            took(manifest)
        }. Word F1 by
place on {len(sources):,} test sentences from other articles; a word that lost or gained a character is wrong, and so
are those that it shifts. Training and test sentences are cut after punctuation into pieces of at most {
            SEGMENTER_CHARACTERS
        } characters, which
are written one by one and joined.

{table(header, rows)}

A beam search on every {max(1, len(sources) // arguments.beam_sentences)}th sentence ({len(few)}):

{table(header, some_rows)}

"Characters kept" is the share of sentences whose characters, spaces aside, came out as they went in. Greedy decoding
took {greedy_seconds:.0f} s for all sentences ({len(sources) / greedy_seconds:.0f} a second).
""",
    )


def _row(name: str, gold: list[list[str]], predicted: list[list[str]], sources: list[str]) -> list[str]:
    scores = word_f1(gold, predicted)
    right = sum(a == b for a, b in zip(gold, predicted, strict=True)) / len(gold)
    kept = sum("".join(words) == "".join(source.split()) for words, source in zip(predicted, sources, strict=True))
    figures = (scores.precision, scores.recall, scores.f1, right, kept / len(gold))
    return [name, *(f"{figure:.3f}" for figure in figures)]


if __name__ == "__main__":
    main()

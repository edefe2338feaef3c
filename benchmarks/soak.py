"""An hour of load with a hundred swaps of the model behind an alias: does memory stay where it is, does anything fail?

    make soak [SOAK_MINUTES=60]

Whole models and adapters take turns behind one alias, more of them than stay in memory, so that each swap loads one and
drops one.
"""

import asyncio
import itertools
import random
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import httpx
import torch
from tqdm import tqdm

from benchmarks.bench_adapters import LABELS, random_adapter
from benchmarks.bench_overload import resident, told
from benchmarks.report import environment, parser_of, write
from benchmarks.serving import SEED, bento, some
from model.heads import TextModel
from model.lora import save_adapter
from model.weights import load_model, save_model
from service.model_store import ModelStore
from training.catalogue import fetch_minilm, movie_sentiment

MODEL, ALIAS, OWNER = "minilm-l6", "live", "local"
WHOLE, ADAPTERS, RESIDENT = 3, 3, 3  # tuned models of each kind, and how many stay in memory beside the default one
SWAPS, CLIENTS, SAMPLES = 100, 4, 200
WARM_SHARE = 0.2  # of the time, before memory is expected to be flat


def prepare(home: Path, base: Path) -> list[str]:
    """The state folder with the default model and tuned ones of random heads -> the ids of those."""
    store = ModelStore(home / "bentoml")
    store.publish(base, MODEL, f"{MODEL}:1", None, None)
    body, tokenizer = load_model(base)
    names = []
    for number in range(WHOLE):
        torch.manual_seed(number)
        model = TextModel(body.config.with_task("classification", LABELS, pooling="mean", pooler="none"))
        model.stack.load_state_dict(body.stack.state_dict())
        folder = home / "made" / f"whole-{number}"
        save_model(model, tokenizer, folder)
        names.append(f"ft:{MODEL}:whole-{number}")
        store.publish(folder, names[-1], f"whole-{number}:1", MODEL, None, OWNER)
    for number in range(ADAPTERS):
        folder = home / "made" / f"adapter-{number}"
        save_adapter(random_adapter(body, number), MODEL, folder)
        names.append(f"ft:{MODEL}:adapter-{number}")
        store.publish(folder, names[-1], f"adapter-{number}:1", MODEL, None, OWNER)
    random.Random(SEED).shuffle(names)
    return names


async def soak(
    url: str, names: Sequence[str], sentences: Sequence[str], seconds: float
) -> tuple[Counter[int], list[int]]:
    """-> answers by status, and the resident bytes of the service at regular moments."""
    answers: Counter[int] = Counter()
    memory: list[int] = []
    end = time.monotonic() + seconds
    async with httpx.AsyncClient(base_url=url, timeout=120) as http:

        async def swap(name: str) -> None:
            answer = await http.post(f"/v1/models/{name}/promote", json={"alias": ALIAS})
            answers[answer.status_code] += 1

        async def ask(seed: int) -> None:
            chance = random.Random(seed)
            while time.monotonic() < end:
                texts = chance.sample(list(sentences), chance.choice((1, 1, 1, 8, 32)))
                route, model = chance.choice((("classify", ALIAS), ("classify", ALIAS), ("embeddings", MODEL)))
                answer = await http.post(f"/v1/{route}", json={"model": model, "input": texts})
                answers[answer.status_code] += 1

        async def swap_on() -> None:
            for number, name in enumerate(itertools.islice(itertools.cycle(names), 1, SWAPS + 1), start=1):
                due = end - seconds * (1 - number / (SWAPS + 1))
                await asyncio.sleep(max(0.0, due - time.monotonic()))
                await swap(name)

        async def sample() -> None:
            with tqdm(total=SAMPLES, unit="sample") as bar:
                while time.monotonic() < end:
                    memory.append(await asyncio.to_thread(resident, url))
                    bar.update()
                    bar.set_postfix_str(f"{memory[-1] / 2**20:,.0f} MiB, {answers}")
                    await asyncio.sleep(seconds / SAMPLES)

        await swap(names[0])
        await asyncio.gather(swap_on(), sample(), *(ask(seed) for seed in range(CLIENTS)))
    return answers, memory


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--minutes", type=float, default=60.0)
    given = parser.parse_args()
    base = fetch_minilm(given.home / "cache")
    sentences = some([row["text"] for row in movie_sentiment(given.home / "cache")["train"]], 2_048)
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        names = prepare(home, base)
        with bento(home, "service.main:Vitrine", VITRINE_MAX_RESIDENT_MODELS=str(RESIDENT + 1)) as url:
            answers, memory = asyncio.run(soak(url, names, sentences, given.minutes * 60))
    warm = memory[int(WARM_SHARE * len(memory)) :]
    fifth = max(1, len(warm) // 5)
    first, last = statistics.median(warm[:fifth]), statistics.median(warm[-fifth:])
    about = f"""{given.minutes:g} minutes, {CLIENTS} clients without a pause (one to 32 movie sentences, two in three to
    the alias), {SWAPS} swaps of the model behind the alias among {WHOLE} whole models and {ADAPTERS} adapters over
    all-MiniLM-L6-v2, of which {RESIDENT} stay in memory beside it."""
    lines = [
        f"- Answers: {told(answers)}.",
        f"- Resident memory of the service after the first {WARM_SHARE:.0%}: {min(warm) / 2**20:,.0f} to "
        f"{max(warm) / 2**20:,.0f} MiB; the median of the last fifth is {last / first - 1:+.1%} of the first fifth's.",
    ]
    head = ["# Soak", f"{environment(('torch', 'tokenizers', 'bentoml'))}.", about]
    write("soak", "\n\n".join([*head, "\n".join(lines), "Command: `make soak`."]))


if __name__ == "__main__":
    main()

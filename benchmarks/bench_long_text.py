"""Does a text of megabytes keep others waiting? Small requests alone, and beside one whose text is to be cut.

make bench-long-text
"""

import asyncio
import statistics
import time

import httpx
from tqdm import tqdm

from benchmarks.report import environment, parser_of, table, write
from benchmarks.serving import bento

MODEL = "minilm-l6"
ROUNDS, PAUSE_SECONDS, ALONE_SECONDS = 5, 0.02, 2.0
WORDS = "the film was not as good as the book it came from, "
CHARACTERS = 7_000_000  # near the largest body


async def small_requests(http: httpx.AsyncClient, until: asyncio.Event) -> list[float]:
    """The seconds that each takes, one after another, until the event."""
    found: list[float] = []
    while not until.is_set():
        found.append(await seconds(http, {"model": MODEL, "input": "a good film"}))
        await asyncio.sleep(PAUSE_SECONDS)
    return found


async def seconds(http: httpx.AsyncClient, body: object) -> float:
    began = time.perf_counter()
    answer = await http.post("/v1/embeddings", json=body)
    answer.raise_for_status()
    return time.perf_counter() - began


async def rounds(url: str, text: str) -> list[tuple[list[float], list[float], float]]:
    """-> seconds of small requests alone, of those beside the long one, and of the long one; once a round."""
    found = []
    async with httpx.AsyncClient(base_url=url, timeout=180) as http:
        for _ in tqdm(range(ROUNDS + 1), unit="round"):
            over = asyncio.Event()
            asking = asyncio.create_task(small_requests(http, over))
            await asyncio.sleep(ALONE_SECONDS)
            over.set()
            alone, over = await asking, asyncio.Event()
            asking = asyncio.create_task(small_requests(http, over))
            long = await seconds(http, {"model": MODEL, "input": text, "truncate": True})
            over.set()
            found.append((alone, await asking, long))
    return found[1:]  # the first warms up


def main() -> None:
    given = parser_of(__doc__).parse_args()
    text = (WORDS * (CHARACTERS // len(WORDS) + 1))[:CHARACTERS]
    with bento(given.home, "service.main:Vitrine") as url:
        found = asyncio.run(rounds(url, text))

    def row(name: str, medians: list[float], longest: list[float]) -> list[object]:
        return [name, f"{1e3 * statistics.median(medians):.0f}", f"{1e3 * max(longest):.0f}"]

    rows = [
        row("small, alone", *zip(*((statistics.median(alone), max(alone)) for alone, _, _ in found), strict=True)),
        row("small, beside", *zip(*((statistics.median(beside), max(beside)) for _, beside, _ in found), strict=True)),
        row("the long one", [long for _, _, long in found], [long for _, _, long in found]),
    ]
    about = f"""all-MiniLM-L6-v2, vectors, {ROUNDS} rounds. The long request is a text of {CHARACTERS:,} characters,
    of which the first 512 tokens are kept. The one who asks runs on the same cores, and makes the long body there."""
    head = ["# A text of megabytes", f"{environment(('torch', 'tokenizers', 'bentoml'))}.", about]
    times = table(("request", "median, ms", "longest, ms"), rows)
    write("long_text", "\n\n".join([*head, times, "Command: `make bench-long-text`."]))


if __name__ == "__main__":
    main()

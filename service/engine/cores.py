"""A batch on all the cores of a CPU: each takes texts of its own. Owned by the engine's device thread.

Cores that share one product wait for each other after every operation, hundreds of times in a forward pass, and to wake
one that sleeps may take longer than the operation (DECISIONS.md). Texts do not depend on each other, so cores that have
texts of their own wait once.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any

from model.threads import all_threads, threads
from model.tokenizer import Encoding
from service.engine.runner import LoadedModel, Operation, run

FEW_TOKENS = 32  # not worth a core of their own
UNEVEN = 1.5  # times the mean, that the largest share may have; above it the others would wait too long for it
TOKENS_A_THREAD = {"int8": 256}  # of one share, by number format: fewer are faster on one thread than on another more
FEWEST_TOKENS_A_THREAD = 48


class Cores:
    """Runs batches as `runner.run` does; on a GPU that alone."""

    def __init__(self) -> None:
        self._count = all_threads()
        self._others = ThreadPoolExecutor(max(1, self._count - 1), thread_name_prefix="vitrine-core")

    def stop(self) -> None:
        self._others.shutdown()

    def run(self, models: Sequence[LoadedModel], operation: Operation, encodings: Sequence[Encoding]) -> list[Any]:
        """One result a text, in order. Raises what the model raised, when all cores are done."""
        if models[0].bank.device.type != "cpu":
            return run(models, operation, encodings)
        lengths = [len(encoding.ids) for encoding in encodings]
        shares = shares_of(lengths, [loaded.slot for loaded in models], self._count)
        a_thread = TOKENS_A_THREAD.get(models[0].dtype, FEWEST_TOKENS_A_THREAD)

        def compute(share: Sequence[int]) -> list[Any]:
            wanted = 1 + sum(lengths[text] for text in share) // a_thread
            with threads(min(wanted, self._count // len(shares))):
                return run([models[text] for text in share], operation, [encodings[text] for text in share])

        others = [self._others.submit(compute, share) for share in shares[1:]]
        try:
            computed = [compute(shares[0])]
        finally:
            wait(others)
        computed += [other.result() for other in others]
        results: list[Any] = [None] * len(encodings)
        for share, answers in zip(shares, computed, strict=True):
            for text, answer in zip(share, answers, strict=True):
                results[text] = answer
        return results


def shares_of(lengths: Sequence[int], groups: Sequence[int], cores: int) -> list[list[int]]:
    """Which texts each core takes, at most as many shares as cores and about equally many tokens in each; texts of one
    group and of one length stay together, as `unpad` wants them. One share, for all cores together, where a text is so
    long that the others would wait for it, or there is too little to share."""
    total = sum(lengths)
    count = min(cores, len(lengths), max(1, total // FEW_TOKENS))
    shares: list[list[int]] = [[] for _ in range(count)]
    tokens = [0] * count
    before = 0
    for text in sorted(range(len(lengths)), key=lambda text: (groups[text], lengths[text])):
        share = min(count - 1, int((before + lengths[text] / 2) * count / total)) if total else 0
        shares[share].append(text)
        tokens[share] += lengths[text]
        before += lengths[text]
    if max(tokens) * count > UNEVEN * total:
        return [list(range(len(lengths)))]
    return [share for share in shares if share]

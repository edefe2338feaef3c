"""Wall time of a run. Used by `trainer.py`."""

import time


class Clock:
    """In all, since the last checkpoint, and of the steps since the last progress event."""

    def __init__(self, seconds_before: float) -> None:
        now = time.perf_counter()
        self._began, self._saved = now - seconds_before, now
        self.restart()

    def restart(self) -> None:
        self._since, self._tokens = time.perf_counter(), 0

    def count(self, tokens: int) -> None:
        self._tokens += tokens

    def rate(self) -> float:
        """Tokens a second since the last call."""
        rate = self._tokens / (time.perf_counter() - self._since)
        self.restart()
        return rate

    def total(self) -> float:
        return time.perf_counter() - self._began

    def unsaved(self) -> float:
        return time.perf_counter() - self._saved

    def saved(self) -> None:
        self._saved = time.perf_counter()
        self.restart()

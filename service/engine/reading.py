"""Text to token ids beside the event loop: one thread takes all texts that wait at once, so that a thread's wake-up is
paid once for many requests. Owned by `engine.py`; it works while the device does.
"""

import asyncio
import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from model.tokenizer import Encoding, Tokenizer
from service.engine.replies import Reply, deliver, settle
from service.errors import Busy, Unavailable

Text = str | tuple[str, str]


@dataclass(frozen=True)
class _Wanted:
    tokenizer: Tokenizer
    texts: Sequence[Text]
    max_length: int
    masks: bool
    characters: int
    loop: asyncio.AbstractEventLoop
    reply: "asyncio.Future[list[Encoding]]"

    @property
    def kind(self) -> tuple[int, int, bool]:
        """Those of one kind can be read together."""
        return id(self.tokenizer), self.max_length, self.masks

    def answered(self, answer: "list[Encoding] | Exception") -> Reply:
        return self.loop, settle, (self.reply, answer)


class Reader:
    """Tokenizes for all requests of a process."""

    def __init__(self, max_characters: int) -> None:
        self._max_characters = max_characters
        self._characters = 0  # waiting now
        self._waiting: deque[_Wanted] = deque()
        self._wake = threading.Condition()
        self._stopping = False
        self._thread = threading.Thread(target=self._loop, name="vitrine-reader", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Refuses what waits, ends the thread."""
        with self._wake:
            self._stopping = True
            self._wake.notify_all()
        self._thread.join(timeout=30)

    async def encode(
        self, tokenizer: Tokenizer, texts: Sequence[Text], max_length: int, masks: bool = False
    ) -> list[Encoding]:
        """As `Tokenizer.encode`. Raises Busy when too much text waits."""
        loop = asyncio.get_running_loop()
        characters = sum(len(text) if isinstance(text, str) else len(text[0]) + len(text[1]) for text in texts)
        wanted = _Wanted(tokenizer, texts, max_length, masks, characters, loop, loop.create_future())
        with self._wake:
            if self._stopping:
                raise Unavailable("the service is stopping; try again in a moment", retry_after_seconds=5)
            if self._waiting and self._characters + characters > self._max_characters:
                raise Busy(
                    f"{characters} characters do not fit beside the {self._characters} waiting to be tokenized; the "
                    f"limit is {self._max_characters}; send fewer or try again later",
                    retry_after_seconds=1,
                )
            self._waiting.append(wanted)
            self._characters += characters
            self._wake.notify()
        return await wanted.reply

    def _loop(self) -> None:
        while True:
            with self._wake:
                while not (self._stopping or self._waiting):
                    self._wake.wait()
                taken = [wanted for wanted in self._waiting if not wanted.reply.cancelled()]
                self._waiting.clear()
                self._characters = 0
                stopping = self._stopping
            if stopping:
                refusal = Unavailable("the service is stopping; try again in a moment", retry_after_seconds=5)
                deliver(wanted.answered(refusal) for wanted in taken)
                return
            by_kind: dict[tuple[int, int, bool], list[_Wanted]] = {}
            for wanted in taken:
                by_kind.setdefault(wanted.kind, []).append(wanted)
            for group in by_kind.values():
                deliver(wanted.answered(answer) for wanted, answer in zip(group, _read(group), strict=True))


def _read(group: Sequence[_Wanted]) -> list[list[Encoding] | Exception]:
    """An answer to each; the error of a text that can't be read goes to the request it came in."""
    first = group[0]
    try:
        texts = [text for wanted in group for text in wanted.texts]
        encodings = iter(first.tokenizer.encode(texts, first.max_length, masks=first.masks))
        return [[next(encodings) for _ in wanted.texts] for wanted in group]
    except Exception as error:
        return [error] if len(group) == 1 else [answer for wanted in group for answer in _read([wanted])]

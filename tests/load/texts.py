"""What the users of a load test read and write: opinions in English and Chinese, of one sentence or of several."""

import itertools
import json
import random

SUBJECTS = (
    "The film", "This little drama", "The second half", "Her new comedy", "The restored print", "His long-awaited debut",
    "The hotel", "The phone", "这部电影", "这家酒店", "这本书", "新款手机", "整个故事", "前台的服务",
)  # fmt: skip
VERDICTS = {
    "positive": (
        "is a delight from the first minute to the last.", "knows exactly when to stop.", "made me laugh out loud twice.",
        "is worth every penny, and I would come back tomorrow.", "surprises at each turn without ever cheating.",
        "非常好，下次还会再来。", "让人感动，值得推荐给朋友。", "比想象中好得多，物有所值。",
    ),
    "negative": (
        "is thin, loud and far too long.", "falls apart as soon as you think about it.", "put half of the row to sleep.",
        "never works the way the description promised.", "is a waste of two hours and of a good cast.",
        "让人失望，再也不会来了。", "又长又无聊，看到一半就睡着了。", "质量很差，用了两天就坏了。",
    ),
}  # fmt: skip


def _is_chinese(text: str) -> bool:
    return not text.isascii()


ROWS = [
    {"text": f"{subject}{'' if _is_chinese(subject) else ' '}{verdict}", "label": label}
    for label, verdicts in VERDICTS.items()
    for subject, verdict in itertools.product(SUBJECTS, verdicts)
    if _is_chinese(subject) == _is_chinese(verdict)
]


def sentence() -> str:
    return random.choice(ROWS)["text"]


def passage() -> str:
    """One to six sentences, mostly one."""
    return " ".join(sentence() for _ in range(random.choice((1, 1, 1, 1, 2, 3, 6))))


def training_file() -> bytes:
    """All opinions with their labels, as JSONL, in an order of their own."""
    rows = random.sample(ROWS, len(ROWS))
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()

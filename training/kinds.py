"""What the rows of a file are for, told by their columns, and whether each row is fit for it. Called by `data.py`."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from training.faults import Fault, count_of, name_lines
from training.tables import Fields

DataTask = Literal["classification", "multi_label", "regression", "tagging", "language_model"]
Kind = Literal["classification", "multi_label", "regression", "tagging", "language_model", "chat"]

MAX_SCORE = 1e15  # squares of larger numbers leave no digits in float32
MAX_TEXT_CHARACTERS = 1_000_000  # a text beyond this is a broken file, not a long document
MAX_LABEL_CHARACTERS = 1_000  # beyond, the column holds something else than labels
LONE_SURROGATE = re.compile("[\ud800-\udfff]")  # JSON can write it ("\\ud800"), UTF-8 can not
CONTROL = re.compile("[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f]")  # but white space
GARBLED = re.compile(CONTROL.pattern[:-1] + "\ufffd]")  # U+FFFD stands where bytes could not be decoded
COLUMNS: dict[Kind, str] = {
    "classification": "'text' and 'label'",
    "multi_label": "'text' and 'labels'",
    "regression": "'text' and 'score'",
    "tagging": "'tokens' and 'tags'",
    "language_model": "'text' alone",
    "chat": "'messages'",
}
ROLES = ("system", "developer", "user", "assistant")


@dataclass(frozen=True)
class Checked:
    """The fit rows of a table, all of one task: columns as `data.py` stores them."""

    task: DataTask
    rows: list[dict[str, Any]]
    lines: list[int]
    warnings: list[Fault]


def kind_of(fields: Fields) -> Kind | None:
    """Of one row, by its columns; None when they say nothing. A label comes before a score: it is the commoner wish."""
    if "messages" in fields:
        return "chat"
    if "tokens" in fields or "tags" in fields:
        return "tagging"
    if "label" in fields:
        return "classification"
    if "labels" in fields:
        return "multi_label"
    if "score" in fields:
        return "regression"
    return "language_model" if "text" in fields else None


def check_rows(table: Sequence[tuple[int, Fields]], task: DataTask | None, faults: list[Fault]) -> Checked:
    """Every row against the task, or against the kind most labelled rows have. Faults are added, never raised."""
    kinds = [kind_of(fields) for _, fields in table]
    common = Counter(kind for kind in kinds if kind not in (None, "language_model")).most_common(1)
    kind: Kind = common[0][0] if common and common[0][0] else "classification"
    if not common and "language_model" in kinds:
        kind = "language_model"
    if task is not None and task != _task_of(kind):
        if not _can_serve(table, task):
            wanted = COLUMNS[task]
            message = (
                f"task {task!r} needs {wanted}; the rows of this file are for {_task_of(kind)!r} ({COLUMNS[kind]})"
            )
            faults.append(Fault(0, message))
            return Checked(task, [], [], [])
        kind = task
    rows, lines, notes = [], [], Notes()
    for (line, fields), own in zip(table, kinds, strict=True):
        stranger = task is None and own not in (None, "language_model", kind)
        if stranger and own is not None:
            message = f"the row has {COLUMNS[own]}, other rows of the file {COLUMNS[kind]}; keep one kind a file"
            faults.append(Fault(line, message))
            continue
        row = check_row(kind, line, fields, faults, notes)
        if row is not None:
            rows.append(row)
            lines.append(line)
    return Checked(_task_of(kind), rows, lines, notes.warnings(kind))


def _task_of(kind: Kind) -> DataTask:
    return "classification" if kind == "chat" else kind


def _can_serve(table: Sequence[tuple[int, Fields]], task: DataTask) -> bool:
    """Whether some row has the columns of a task that was asked for. A number in 'label' may serve as a score."""
    needed = {
        "classification": {"text", "label"},
        "multi_label": {"text", "labels"},
        "regression": {"text"},
        "tagging": {"tokens", "tags"},
        "language_model": {"text"},
    }[task]
    either = {"score", "label"} if task == "regression" else set()
    return any(needed <= fields.keys() and (not either or either & fields.keys()) for _, fields in table)


class Notes:
    """What rows have beyond what is used, to be said once a file."""

    def __init__(self) -> None:
        self.unused: dict[str, list[int]] = {}
        self.left_out: list[int] = []  # lines of chats with more than user messages before the answer
        self.garbled: list[int] = []  # lines of texts with control characters or U+FFFD

    def warnings(self, kind: Kind) -> list[Fault]:
        found = []
        for name, lines in self.unused.items():
            other = kind_of({name: None, "text": None})
            remedy = f"; task={other!r} would use it" if other in ("regression", "multi_label", "tagging") else ""
            found.append(Fault(0, f"column {name!r} is not used for {_task_of(kind)} ({_rows(lines)}){remedy}"))
        if self.left_out:
            where = f"{_rows(self.left_out)}: {name_lines(self.left_out)}"
            found.append(Fault(0, f"system messages and earlier answers of chats are left out of the text ({where})"))
        if self.garbled:
            where = f"{_rows(self.garbled)}: {name_lines(self.garbled)}"
            found.append(Fault(0, f"control characters or U+FFFD in texts; were they decoded wrongly? ({where})"))
        return found


def _rows(lines: Sequence[int]) -> str:
    return count_of(len(lines), "row")


def check_row(kind: Kind, line: int, fields: Fields, faults: list[Fault], notes: Notes) -> dict[str, Any] | None:
    """One row as it is trained on; None, with its faults noted, when it cannot be."""
    found = len(faults)
    if kind == "chat":
        used, row = {"messages"}, _check_chat(line, fields.get("messages"), faults, notes)
    elif kind == "tagging":
        used, row = {"tokens", "tags"}, _check_words(line, fields, faults)
    else:
        row = _check_text(line, fields, faults)
        used = {"text", "text_pair"}
        if kind == "classification":
            used |= {"label"}
            row["label"] = _check_label(line, fields.get("label"), faults)
        elif kind == "multi_label":
            used |= {"labels"}
            row["labels"] = list(dict.fromkeys(_check_strings(line, "labels", fields.get("labels"), faults)))
        elif kind == "regression":
            name = "score" if "score" in fields else "label"
            used |= {name}
            row["score"] = _check_score(line, name, fields.get(name), faults)
    if any(GARBLED.search(text) for text in (row.get("text"), row.get("text_pair")) if isinstance(text, str)):
        notes.garbled.append(line)
    for name in fields:
        if name not in used and not str(name).startswith("__"):  # pandas writes its index as __index_level_0__
            notes.unused.setdefault(str(name), []).append(line)
    return row if len(faults) == found else None


def _check_text(line: int, fields: Fields, faults: list[Fault]) -> dict[str, Any]:
    text, pair = fields.get("text"), fields.get("text_pair")
    pair = "" if pair is None else pair  # null is how JSON and tables say that there is none
    for name, value in (("text", text), ("text_pair", pair)):
        if name == "text" and value is None:
            faults.append(Fault(line, f"no 'text'; the row has {sorted(map(str, fields))[:10]}"))
        elif not isinstance(value, str):
            faults.append(Fault(line, f"'{name}' is a {type(value).__name__}; it must be a string"))
        elif LONE_SURROGATE.search(value):
            faults.append(Fault(line, f"'{name}' has half of a surrogate pair, which is no character; remove it"))
        elif "\x00" in value:
            faults.append(Fault(line, f"'{name}' has U+0000 at character {value.index(chr(0)) + 1}; remove it"))
        elif len(value) > MAX_TEXT_CHARACTERS:
            faults.append(Fault(line, f"'{name}' has {len(value)} characters; the limit is {MAX_TEXT_CHARACTERS}"))
        elif is_blank(value) and (name == "text" or value):
            faults.append(Fault(line, f"'{name}' is empty; remove the row or fill it"))
    return {"text": text, "text_pair": pair}


def is_blank(text: str) -> bool:
    """Whether nothing in it can be seen: white space, control characters, marks without width. A tokenizer reads
    nothing there."""
    return not any(character.isprintable() and not character.isspace() for character in text)


def _check_label(line: int, label: Any, faults: list[Fault]) -> str:
    if label is None or label == "":
        faults.append(Fault(line, "no 'label'; every row needs one"))
    elif isinstance(label, float):
        faults.append(Fault(line, "'label' is a float; use a string or a whole number, or task 'regression'"))
    elif isinstance(label, bool) or not isinstance(label, str | int):
        faults.append(Fault(line, f"'label' is a {type(label).__name__}; use a string or a whole number"))
    elif fault := _name_fault(str(label)):
        faults.append(Fault(line, f"'label' {fault}"))
    elif is_blank(str(label)):
        faults.append(Fault(line, "'label' is empty; every row needs one"))
    return str(label)


def _name_fault(label: str) -> str | None:
    """Why a string can't name a class."""
    if LONE_SURROGATE.search(label):
        return "has half of a surrogate pair, which is no character; remove it"
    if control := CONTROL.search(label):
        return f"has the control character U+{ord(control[0]):04X} at character {control.start() + 1}; remove it"
    if len(label) > MAX_LABEL_CHARACTERS:
        return f"has {len(label)} characters; the limit is {MAX_LABEL_CHARACTERS}"
    return None


def _check_score(line: int, name: str, score: Any, faults: list[Fault]) -> float:
    """A finite number; when 'label' serves as the score it may be written as a string."""
    if isinstance(score, str) and name == "label":
        try:
            score = float(score)
        except ValueError:
            faults.append(Fault(line, f"'label' is {score[:40]!r}; as a score it must be a number"))
            return 0.0
    if score is None:
        faults.append(Fault(line, "no 'score'; every row needs one"))
    elif isinstance(score, bool) or not isinstance(score, int | float):
        faults.append(Fault(line, f"'{name}' is a {type(score).__name__}; it must be a number"))
    elif not abs(score) <= MAX_SCORE:  # NaN too
        faults.append(Fault(line, f"'{name}' is {score!s:.20}; it must be a finite number of at most {MAX_SCORE:g}"))
    else:
        return float(score)
    return 0.0


def _check_strings(line: int, name: str, values: Any, faults: list[Fault]) -> list[str]:
    """A list of non-empty strings; labels and tags may be whole numbers."""
    if values is None:
        faults.append(Fault(line, f"no '{name}'; every row needs a list"))
        return []
    if not isinstance(values, list):
        faults.append(Fault(line, f"'{name}' is a {type(values).__name__}; it must be a list of strings"))
        return []
    for position, value in enumerate(values):
        whole = name != "tokens" and isinstance(value, int) and not isinstance(value, bool)
        if not isinstance(value, str) and not whole:
            message = f"'{name}' has a {type(value).__name__} at place {position}; it must be a string"
        elif fault := _name_fault(str(value)):
            message = f"'{name}', place {position}, {fault}"
        elif is_blank(str(value)):
            message = f"'{name}' has an empty string at place {position}; remove it or fill it"
        else:
            continue
        faults.append(Fault(line, message))
        return []
    return list(map(str, values))


def _check_words(line: int, fields: Fields, faults: list[Fault]) -> dict[str, Any]:
    found = len(faults)
    tokens = _check_strings(line, "tokens", fields.get("tokens"), faults)
    tags = _check_strings(line, "tags", fields.get("tags"), faults)
    if len(faults) == found:
        if not tokens:
            faults.append(Fault(line, "'tokens' is empty; remove the row or fill it"))
        elif len(tokens) != len(tags):
            faults.append(Fault(line, f"{len(tokens)} tokens and {len(tags)} tags; each token needs one tag"))
        elif sum(map(len, tokens)) > MAX_TEXT_CHARACTERS:
            faults.append(Fault(line, f"'tokens' has more than {MAX_TEXT_CHARACTERS} characters, the limit; split it"))
    return {"tokens": tokens, "tags": tags}


def _check_chat(line: int, messages: Any, faults: list[Fault], notes: Notes) -> dict[str, Any]:
    """OpenAI's chat row: the last answer is the label, what the user said is the text."""
    if not isinstance(messages, list) or not messages:
        faults.append(Fault(line, "'messages' must be a list of objects with 'role' and 'content'"))
        return {}
    for position, message in enumerate(messages):
        content = message.get("content") if isinstance(message, dict) else None
        if not isinstance(message, dict) or message.get("role") not in ROLES or not isinstance(content, str):
            faults.append(Fault(line, f"message {position} needs a 'role' of {list(ROLES)} and a string 'content'"))
            return {}
    if messages[-1]["role"] != "assistant":
        faults.append(Fault(line, "the last message is not the assistant's; its content is the label"))
        return {}
    said = [message["content"] for message in messages[:-1] if message["role"] == "user"]
    if len(said) < len(messages) - 1:
        notes.left_out.append(line)
    row = _check_text(line, {"text": "\n".join(said) if said else None}, faults)
    return row | {"label": _check_label(line, messages[-1]["content"].strip(), faults)}

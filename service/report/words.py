"""Words that more than one kind of report uses."""

TASKS = {
    "classification": "one label a text",
    "multi_label": "any number of labels a text",
    "regression": "a number a text",
    "tagging": "a tag a word",
    "language_model": "running text, without labels",
}


def name_task(task: str) -> str:
    """A task and what it means."""
    return f"{task.replace('_', ' ')}: {TASKS[task]}"


def count_of(number: int, noun: str) -> str:
    """`1 row`, `2,400 rows`."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")

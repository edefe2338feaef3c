"""What a data report says in words, for the page and the picture alike."""

from service.report.chart import compact
from service.report.data.charts import Report
from service.report.words import count_of, name_task

TOO_MANY_UNKNOWN = 0.05  # of the tokens: the share from which fine-tuning warns


def headline(report: Report) -> str:
    return f"What is in {report['name']}"


def subtitle(report: Report) -> str:
    beside = f", with {report['validation_name']} for validation" if report["validation_name"] else ""
    base = f"measured with the tokenizer of {report['model']}, rows cut at {report['max_length']} tokens"
    return f"{name_task(report['task'])}{beside} · {base}"


def facts_of(report: Report) -> list[tuple[str, str, str]]:
    """(name, value, what it means) of the figures to look at first."""
    facts = [("rows", f"{report['rows']['kept']:,}", "rows that can be trained on")]
    if not report.get("tokens"):
        return facts
    tokens, vocabulary = report["tokens"], report["vocabulary"]
    if report.get("labels"):
        noun = "tags" if report["task"] == "tagging" else "labels"
        facts.append((noun, f"{len(report['labels']):,}", f"different {noun}"))
    facts += [
        ("tokens", compact(tokens["total"]), "pieces of text the model reads, special ones included"),
        ("tokens / character", f"{vocabulary['tokens_per_character']:.2f}", "fewer is cheaper: the vocabulary fits"),
        (
            "unknown tokens",
            f"{vocabulary['unknown_rate']:.1%}",
            "text the vocabulary can't write; the model can't see it",
        ),
        (
            "vocabulary used",
            f"{vocabulary['used_share']:.1%}",
            f"{vocabulary['used']:,} of {vocabulary['size']:,} tokens occur",
        ),
    ]
    return facts


def verdict(report: Report) -> tuple[str, str]:
    """(kind, sentence): whether a job would start, and what to look at."""
    if report["num_faults"]:
        return (
            "bad",
            f"{count_of(report['num_faults'], 'fault')}: a fine-tuning job refuses this file until all are mended.",
        )
    if report["task"] == "language_model":
        return "bad", "No labels: fine-tuning refuses this file; use it with vitrine pretrain."
    unknown = report["vocabulary"]["unknown_rate"]
    if unknown > TOO_MANY_UNKNOWN:
        return (
            "warn",
            f"{unknown:.0%} of the tokens are unknown to {report['model']}: choose a base that knows this language.",
        )
    if report["num_warnings"]:
        return "warn", f"Ready to train, with {count_of(report['num_warnings'], 'warning')} to read first."
    return "good", "Ready to train: no faults, no warnings."

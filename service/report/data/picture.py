"""A data report as one PNG. Called by the files route and the command line."""

from collections.abc import Iterator

from service.report.canvas import Role
from service.report.chart import WIDTH
from service.report.data.charts import Report, charts_of
from service.report.data.words import facts_of, headline, subtitle
from service.report.sheet import draw_sheet, wrap

SHOWN_MESSAGES = 6


def report_png(report: Report) -> bytes:
    remarks = list(_messages(report))
    charts = charts_of(report)
    return draw_sheet(
        headline(report), subtitle(report), facts_of(report), charts, remarks, "Faults and warnings" if remarks else ""
    )


def _messages(report: Report) -> Iterator[tuple[Role, str]]:
    """Lines of text: the first faults, then the first warnings, each wrapped."""
    roles: dict[str, Role] = {"fault": "alert", "warning": "ink"}
    for kind, role in roles.items():
        for item in report[f"{kind}s"][:SHOWN_MESSAGES]:
            where = f"line {item['line']}: " if item["line"] else ""
            lines = wrap(f"{where}{item['message']}", WIDTH - 14, 12)
            yield role, f"• {lines[0]}"
            yield from ((role, f"   {line}") for line in lines[1:3])
        if (rest := report[f"num_{kind}s"] - SHOWN_MESSAGES) > 0:
            yield role, f"   and {rest} more {kind}s"

"""An evaluation as one PNG. Called by the command line."""

from collections.abc import Iterator

from service.report.canvas import Role, shorten
from service.report.chart import WIDTH
from service.report.evaluation.charts import charts_of
from service.report.evaluation.words import Report, facts_of, headline, subtitle, verdict
from service.report.sheet import draw_sheet

SHOWN_ROWS = 8


def evaluation_png(report: Report) -> bytes:
    remarks = list(_remarks(report))
    return draw_sheet(
        headline(report), subtitle(report), facts_of(report), charts_of(report), remarks, verdict(report)[1]
    )


def _remarks(report: Report) -> Iterator[tuple[Role, str]]:
    """The first rows to look at, a line each."""
    for item in report["mistakes"]["worst"][:SHOWN_ROWS]:
        said = f"line {item['line']}, true {item['true']}, predicted {item['predicted']}: "
        yield "ink", shorten(f"• wrong, {said}{item['text']}", WIDTH, 12)
    for item in report["mislabelled"]["worst"][:SHOWN_ROWS] if report.get("mislabelled") else ():
        yield "ink", shorten(f"• doubtful label, line {item['line']}, {item['given']}: {item['text']}", WIDTH, 12)

"""Formulas of the pages as MathML, which browsers draw by themselves: no script, no fonts to fetch.

A Markdown extension for the site's build. It takes what `pymdownx.arithmatex` found between `$...$` and `$$...$$`.
"""

import html
import re
from typing import Any

import latex2mathml.converter
from markdown import Markdown
from markdown.extensions import Extension
from markdown.postprocessors import Postprocessor

FORMULA = re.compile(r'<(?P<tag>span|div) class="arithmatex">\\[(\[](?P<tex>.*?)\\[)\]]</(?P=tag)>', re.DOTALL)


class Formulas(Extension):
    def extendMarkdown(self, md: Markdown) -> None:
        md.postprocessors.register(_ToMathML(md), "formulas", 0)  # after the stashed HTML is back in its place


class _ToMathML(Postprocessor):
    def run(self, text: str) -> str:
        return FORMULA.sub(_to_mathml, text)


def _to_mathml(found: re.Match[str]) -> str:
    display = "block" if found["tag"] == "div" else "inline"
    tex = html.unescape(found["tex"]).strip()
    mathml = latex2mathml.converter.convert(tex, display=display)
    return f'<{found["tag"]} class="formula" title="{html.escape(tex)}">{mathml}</{found["tag"]}>'


def makeExtension(**options: Any) -> Formulas:  # the name that Markdown looks for
    return Formulas(**options)

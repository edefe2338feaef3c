"""The style sheet of the report page, and the policy that names it by its hash: nothing else may run or load."""

import base64
import hashlib
from collections.abc import Iterable

from service.report.canvas import DARK, LIGHT, Role
from service.report.typeface import FAMILY


def _variables(palette: dict[Role, str]) -> str:
    return " ".join(f"--{role}: {value};" for role, value in palette.items())


FAMILIES = f'"{FAMILY}", system-ui, sans-serif'  # first: Chromium keeps the blanks it drew before a later one came
STYLE = (
    f":root {{ color-scheme: light dark; --family: {FAMILIES}; {_variables(LIGHT)} }}\n"
    f"@media (prefers-color-scheme: dark) {{ :root {{ {_variables(DARK)} }} }}\n"
    + "".join(f".f-{role} {{ fill: var(--{role}); }} .s-{role} {{ stroke: var(--{role}); }}\n" for role in LIGHT)
    + """
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 15px/1.6 var(--family); }
main { max-width: 60rem; margin: 0 auto; padding: 2.2rem 1.4rem 4rem; }
h1 { font-size: 1.7rem; line-height: 1.25; margin: 0 0 .3rem; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 2.6rem 0 .2rem; }
p { margin: .2rem 0 .8rem; }
.hint, .meta { color: var(--faint); font-size: .9rem; }
.verdict { border-left: 4px solid var(--good); background: var(--panel); padding: .6rem .9rem; border-radius: 4px;
  margin: 1.1rem 0; }
.verdict.warn { border-color: var(--second); } .verdict.bad { border-color: var(--alert); }
.facts { display: grid; grid-template-columns: repeat(auto-fit, minmax(8.5rem, 1fr)); gap: .7rem; margin: 1rem 0;
  padding: 0; }
.facts div { background: var(--panel); border-radius: 6px; padding: .65rem .8rem; }
.facts dt { color: var(--faint); font-size: .8rem; white-space: nowrap; }
.facts dd { margin: 0; font-size: 1.3rem; font-weight: 600; }
.facts small { display: block; font-weight: 400; font-size: .74rem; line-height: 1.35; color: var(--faint); }
figure { margin: 0; overflow-x: auto; }
svg { width: 100%; min-width: 36rem; height: auto; display: block; font-family: var(--family); }
ul.messages { list-style: none; padding: 0; margin: .4rem 0; }
ul.messages li { border-left: 3px solid var(--second); background: var(--panel); padding: .4rem .8rem; margin: .35rem 0;
  border-radius: 4px; font-size: .92rem; overflow-wrap: anywhere; }
ul.messages li.fault { border-color: var(--alert); }
table { border-collapse: collapse; width: 100%; font-size: .9rem; margin: .4rem 0; }
th, td { text-align: left; padding: .32rem .6rem .32rem 0; border-bottom: 1px solid var(--line); vertical-align: top;
  overflow-wrap: anywhere; }
th { color: var(--faint); font-weight: 500; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.sample { border: 1px solid var(--line); border-radius: 8px; padding: .8rem 1rem 1rem; margin: .9rem 0; }
.sample h3 { margin: 0; font-size: .98rem; }
.steps { display: grid; grid-template-columns: 6.5rem 1fr; gap: .45rem .9rem; margin: .6rem 0 0; }
.steps dt { color: var(--faint); font-size: .86rem; }
.steps dd { margin: 0; overflow-wrap: anywhere; }
.chips { display: flex; flex-wrap: wrap; gap: 4px; }
.chip { background: var(--panel); border: 1px solid var(--line); border-radius: 4px; padding: 0 .38rem;
  font-size: .86rem; text-align: center; line-height: 1.35; }
.chip small { display: block; color: var(--faint); font-size: .68rem; font-variant-numeric: tabular-nums; }
.chip b { display: block; color: var(--bar); font-size: .68rem; font-weight: 600; min-height: .9rem; }
.chip.special { color: var(--faint); border-style: dashed; }
.chip.unknown { color: var(--alert); border-color: var(--alert); }
ul.rows { list-style: none; padding: 0; margin: .4rem 0; }
ul.rows li { border-top: 1px solid var(--line); padding: .5rem 0; overflow-wrap: anywhere; white-space: pre-line; }
ul.rows p { display: flex; flex-wrap: wrap; gap: .1rem 1.1rem; margin: .15rem 0 0; font-size: .86rem; }
ul.rows i { font-style: normal; color: var(--faint); }
code { font-family: ui-monospace, "DejaVu Sans Mono", Menlo, monospace; font-size: .82rem; }
.ids { color: var(--faint); }
.label { background: var(--bar); color: var(--paper); border-radius: 4px; padding: .05rem .5rem; font-size: .88rem; }
details { margin: .5rem 0; } summary { cursor: pointer; color: var(--faint); }
"""
)


def policy_of(styles: Iterable[str]) -> str:
    """A Content-Security-Policy under which these style sheets apply, fonts within them load, and nothing else does."""
    hashes = (base64.b64encode(hashlib.sha256(style.encode()).digest()).decode("ascii") for style in styles)
    allowed = " ".join(f"'sha256-{digest}'" for digest in hashes)
    return f"default-src 'none'; style-src {allowed}; font-src data:; base-uri 'none'; form-action 'none'"

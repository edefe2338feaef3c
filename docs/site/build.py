"""Builds the documents as a static site, English and Chinese side by side: `make docs`.

Each language is a site of its own (own search, own words of the theme), made from docs/LANGUAGE and the pictures that
both share. A broken link or anchor, a formula that cannot be read or a page outside the navigation fails the build.
"""

import argparse
import html
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from urllib.parse import unquote, urlsplit

SITE = Path(__file__).parent
DOCS = SITE.parent
LANGUAGES = {"en": "English", "zh": "中文"}
PICTURES = ("diagrams", "page", "pictures")
# Pages name a picture by its place in the repository; within the site of one language it lies one folder nearer.
PICTURE_LINK = re.compile(rf"\.\./((?:\.\./)*(?:{'|'.join(PICTURES)})/)")
COLOUR = re.compile(r"\x1b\[[0-9;]*m")
LINK = re.compile(r'<(?:a|img|script|link)\b[^>]*?\s(?:href|src)="?([^"\s>]+)')
START = """<!doctype html><meta charset="utf-8"><title>Vitrine</title>
<script>location.replace(navigator.language.startsWith("zh") ? "zh/" : "en/")</script>
<p><a href="en/">English</a> <a href="zh/" lang="zh">中文</a></p>
"""


def navigation(language: str) -> list[tuple[str, list[str]]]:
    """-> sections with their pages, in order; raises when pages and navigation.toml do not agree."""
    folder = DOCS / language
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*.md")}
    sections, placed = [], set[str]()
    for section in tomllib.loads((SITE / "navigation.toml").read_text(encoding="utf-8"))["section"]:
        pages: list[str] = []
        for pattern in section["pages"]:
            matching = sorted(path.relative_to(folder).as_posix() for path in folder.glob(pattern))
            if not matching and "*" not in pattern:
                raise SystemExit(f"navigation.toml names {pattern}, which docs/{language} lacks")
            pages += [page for page in matching if page not in placed]
            placed.update(matching)
        if pages:
            sections.append((section[language], pages))
    if found - placed:
        raise SystemExit(f"not in navigation.toml: {', '.join(sorted(found - placed))} of docs/{language}")
    return sections


def configuration(language: str) -> str:
    """The TOML of one language's site."""
    alternates = ", ".join(
        f'{{name = "{name}", lang = "{code}", link = "/{code}/"}}' for code, name in LANGUAGES.items()
    )
    listed = ", ".join(f'{{"{name}" = [{", ".join(map(_quoted, pages))}]}}' for name, pages in navigation(language))
    common = (SITE / "common.toml").read_text(encoding="utf-8")
    theme = f'[project.theme]\nlanguage = "{language}"\ncustom_dir = {_quoted(SITE / "overrides")}'
    return "\n".join(
        [
            "[project]",
            'docs_dir = "pages"',
            'site_dir = "site"',
            'extra_css = ["site.css"]',
            f"nav = [{listed}]",
            common.replace("[project.theme]", theme),
            "[project.extra]",
            f"alternate = [{alternates}]",
            "generator = false",
        ]
    )


def build(output: Path, languages: list[str]) -> None:
    shutil.rmtree(output, ignore_errors=True)
    output.mkdir(parents=True)
    for language in languages:
        stage = output.parent / "docs-sources" / language
        shutil.rmtree(stage, ignore_errors=True)
        _stage(language, stage / "pages")
        (stage / "zensical.toml").write_text(configuration(language), encoding="utf-8")
        environment = os.environ | {"PYTHONPATH": os.fspath(SITE), "NO_COLOR": "1"}
        command = [sys.executable, "-m", "zensical", "build", "--strict", "--clean"]
        done = subprocess.run(command, cwd=stage, env=environment, capture_output=True, text=True, timeout=120)
        if done.returncode:
            said = COLOUR.sub("", done.stdout + done.stderr.partition("Traceback")[0])
            raise SystemExit(f"docs/{language}:\n{said}")
        shutil.move(stage / "site", output / language)
    (output / "index.html").write_text(START, encoding="utf-8")
    if missing := broken_links(output):
        raise SystemExit("links to what is not there:\n" + "\n".join(missing))


def broken_links(output: Path) -> list[str]:
    """The site tool checks links between pages; this one those to pictures and other files as well."""
    broken = []
    for page in output.rglob("*.html"):
        for link in LINK.findall(page.read_text(encoding="utf-8")):
            path = unquote(urlsplit(html.unescape(link)).path)
            target = output / path.lstrip("/") if path.startswith("/") else page.parent / path
            if page.name != "404.html" and urlsplit(link).scheme == "" and not target.exists():
                broken.append(f"{page.relative_to(output)}: {link}")
    return broken


def _stage(language: str, pages: Path) -> None:
    shutil.copytree(DOCS / language, pages)
    for folder in PICTURES:
        shutil.copytree(DOCS / folder, pages / folder)
    shutil.copy(SITE / "site.css", pages / "site.css")
    for path in pages.rglob("*.md"):
        path.write_text(PICTURE_LINK.sub(r"\1", path.read_text(encoding="utf-8")), encoding="utf-8")


def _quoted(value: object) -> str:
    return f'"{value}"'


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=DOCS.parent / "build" / "site")
    build(parser.parse_args().output.absolute(), list(LANGUAGES))

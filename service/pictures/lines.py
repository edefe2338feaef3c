"""Captions and notes in lines of at most a width. Used by the views."""

import unicodedata

from service.pictures.fonts import clusters, text_width


def wrapped(text: str, room: float, size: int) -> list[str]:
    """Broken at spaces and beside Chinese or Japanese characters, and within a word that alone is wider."""
    lines = [""]
    for word in _words(text):
        if text_width((lines[-1] + word).rstrip(), size) <= room:
            lines[-1] += word
            continue
        if lines[-1].strip():
            lines.append("")
        for part in clusters(word):
            if text_width((lines[-1] + part).rstrip(), size) > room:
                lines.append("")
            lines[-1] += part
    return [line.strip() for line in lines]


def fitted(text: str, room: float, size: int) -> str:
    """As one line: what is wider ends with … where there is no more room."""
    if text_width(text, size) <= room:
        return text
    return wrapped(text, room - text_width("…", size), size)[0] + "…"


def _words(text: str) -> list[str]:
    """Each with the space after it."""
    words = [""]
    for character in text:
        wide = unicodedata.east_asian_width(character) in ("W", "F")
        if words[-1] and (wide or words[-1][-1].isspace()) and not character.isspace():
            words.append("")
        words[-1] += character
    return words

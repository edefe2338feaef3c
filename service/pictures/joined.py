"""Arabic letters in the forms they take beside each other, for a Pillow that cannot shape (without libfribidi).

The forms and the letters they stand for are Unicode's own table. Called by `fonts.py`.
"""

import unicodedata
from functools import lru_cache

JOINER = "\u200d"
Forms = dict[str, str]  # isolated, initial, medial, final -> character


@lru_cache(maxsize=1)
def _forms() -> dict[str, Forms]:
    """The forms of each letter, from the block Arabic Presentation Forms-B and A."""
    forms: dict[str, Forms] = {}
    for code in (*range(0xFE80, 0xFEF5), *range(0xFB50, 0xFBB2), *range(0xFBD3, 0xFC00)):
        kind, *letters = unicodedata.decomposition(chr(code)).split()[:3] or [""]
        if len(letters) == 1:
            forms.setdefault(chr(int(letters[0], 16)), {}).setdefault(kind.strip("<>"), chr(code))
    return forms


def joined_letters(text: str) -> str:
    """In logical order still; a joiner at an end makes the letter beside it join."""
    forms = _forms()
    shown = []
    for index, character in enumerate(text):
        own = forms.get(character, {})
        before = _beside(text[:index][::-1])
        after = _beside(text[index + 1 :])
        joins_before = "final" in own and (before == JOINER or "initial" in forms.get(before, {}))
        joins_after = "initial" in own and (after == JOINER or "final" in forms.get(after, {}))
        kind = ("medial" if joins_after else "final") if joins_before else ("initial" if joins_after else "isolated")
        shown.append(own.get(kind, character))
    return "".join(shown).replace(JOINER, "")


def _beside(text: str) -> str:
    """The first character that is no mark upon another."""
    return next((character for character in text if not unicodedata.combining(character)), "")

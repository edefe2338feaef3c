"""Numbers of layers and heads, as a request names them. Used by the routes that look inside a model."""

import re

from service.errors import InvalidRequest


def within(wanted: list[int] | str, count: int, name: str) -> list[int]:
    """Distinct numbers below `count`, in order."""
    if wanted == "all":
        return list(range(count))
    numbers = _numbers(wanted, name) if isinstance(wanted, str) else wanted
    if not numbers:
        raise InvalidRequest(f"{name} is an empty list; name at least one or send 'all'", name)
    if outside := [number for number in numbers if not 0 <= number < count]:
        raise InvalidRequest(f"{name} {outside[0]} does not exist; this model has {name} 0 to {count - 1}", name)
    return sorted(set(numbers))


def _numbers(given: str, name: str) -> list[int]:
    """ "0-3,5" -> 0, 1, 2, 3, 5."""
    numbers: list[int] = []
    for part in given[:400].split(","):
        found = re.fullmatch(r"\s*(-?\d{1,4})(?:-(\d{1,4}))?\s*", part)
        if found is None:
            raise InvalidRequest(f"{name} is {given[:40]!r}; send 'all' or numbers and ranges such as 0-3,5", name)
        first, last = int(found[1]), int(found[2] or found[1])
        if last < first:
            raise InvalidRequest(f"{name} has the range {part[:20]!r}, whose end comes first; turn it round", name)
        numbers += range(first, last + 1)
    return numbers

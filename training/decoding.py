"""The bytes of an upload as text, or why they are none, line by line. Called by `tables.py`."""

import codecs
from dataclasses import dataclass

from training.faults import Fault

FORMS = {  # files that are no text, by their first bytes
    b"\x1f\x8b": "compressed by gzip",
    b"BZh": "compressed by bzip2",
    b"PK\x03\x04": "a ZIP archive or an Excel workbook",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook",
}
HEAD_BYTES = 65_536  # looked at to tell text from other files
ZERO_SHARE = 0.1  # of a file's bytes, beyond which it is no UTF-8 text
COMMON_SHARE = 0.9  # of a text's characters in GB2312, to take it for Chinese


@dataclass(frozen=True)
class Text:
    """A file's characters, and the lines (from 1) whose bytes made none; each of these has its fault."""

    text: str
    unreadable: frozenset[int]


def decode(raw: bytes, faults: list[Fault]) -> Text | None:
    """Text in UTF-8, with a fault for every line that is not; None, with one fault, for a file of another form."""
    if fault := _form_fault(raw):
        faults.append(Fault(0, fault))
        return None
    while raw.startswith(codecs.BOM_UTF8):  # files that were joined may begin with several
        raw = raw.removeprefix(codecs.BOM_UTF8)
    whole = _in(raw, "utf-8")
    if whole is not None and "\x00" not in whole:
        return Text(whole, frozenset())
    return Text(raw.decode("utf-8", errors="replace"), _unreadable_lines(raw, faults))


def _form_fault(raw: bytes) -> str | None:
    """Why no line of a file can be read as text; None when lines can be."""
    remedy = "upload JSONL or CSV text in UTF-8, or Parquet"
    for magic, form in FORMS.items():
        if raw.startswith(magic):
            return f"the file is {form}; {remedy}"
    if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "the file is UTF-16; save it as UTF-8"
    head = raw[:HEAD_BYTES]
    for encoding, high_bytes in (("utf-16-le", head[1::2]), ("utf-16-be", head[::2])):
        if high_bytes.count(0) > ZERO_SHARE * len(high_bytes):
            text = _in(raw, encoding)
            if text is not None and "\x00" not in text:
                return "the file looks like UTF-16 without a byte order mark; save it as UTF-8"
    if head.count(0) > ZERO_SHARE * len(head) or (b"\x00" in head and _in(raw, "utf-8") is None):
        return f"the file is binary; {remedy}"
    return None


def _in(raw: bytes, encoding: str) -> str | None:
    try:
        return raw.decode(encoding)
    except UnicodeDecodeError:
        return None


def _unreadable_lines(raw: bytes, faults: list[Fault]) -> frozenset[int]:
    """Lines that are not UTF-8 or hold a zero byte, each with a fault that names the byte."""
    zeros: set[int] = set()
    foreign: dict[int, tuple[bytes, int]] = {}  # the line and the place of its first wrong byte
    for number, line in enumerate(raw.split(b"\n"), start=1):
        try:
            line.decode("utf-8")
        except UnicodeDecodeError as error:
            foreign[number] = (line, error.start)
            continue
        if (place := line.find(0)) >= 0:
            zeros.add(number)
            faults.append(Fault(number, f"byte 0x00 is no text, at byte {place + 1} of the line; remove it"))
    chinese = _looks_like_gb18030(b"\n".join(line for line, _ in foreign.values()))
    remedy = "the file looks like GB18030 (GBK), save it as UTF-8" if chinese else "save the file as UTF-8"
    for number, (line, place) in foreign.items():
        where = f"byte {line[place]:#04x} is not UTF-8, at byte {place + 1} of the line"
        faults.append(Fault(number, f"{where}; {remedy}"))
    return frozenset(zeros | foreign.keys())


def _looks_like_gb18030(raw: bytes) -> bool:
    """Whether these bytes make sense in China's older encodings: they are nearly all common characters."""
    foreign = "".join(character for character in _in(raw, "gb18030") or "" if not character.isascii())
    common = len(foreign.encode("gb2312", errors="ignore")) // 2
    return common > COMMON_SHARE * len(foreign)

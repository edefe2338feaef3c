"""Texts and units for the tests of pictures: one sample of each kind of script."""

import io
import re
from xml.etree import ElementTree

import numpy as np
import numpy.typing as npt
from PIL import Image

from model.explain.units import Unit

SAMPLES = {
    "English": "A good film, café naïve ‘quoted’ — 50 % €9", "Greek": "Ελληνικά", "Cyrillic": "Фильм",
    "Vietnamese": "Tiếng Việt", "Chinese": "这部电影漂亮，漢字龍。", "Japanese": "ひらがなカタカナ日本語", "Korean": "영화한국어",
    "Arabic": "كان الفيلم رائعا؟", "Hebrew": "הסרט היה טוב", "Hindi": "फ़िल्म अच्छी थी", "Thai": "หนังดีมาก", "Bengali": "চলচ্চিত্র",
    "Tamil": "திரைப்படம்", "Georgian": "ფილმი", "Armenian": "ֆիլմ", "Ethiopic": "ፊልም", "Khmer": "ខ្មែរ", "Burmese": "ရုပ်ရှင်",
    "emoji": "😀👍🏽❤️👩‍👩‍👧🇫🇷🎬☺", "symbols": "→←␣¶±∑√∞≤©™♥★☃✓", "bytes": "##ing ▁the Ġgood",
}  # fmt: skip
SVG = "{http://www.w3.org/2000/svg}"


def units_of_text(text: str, segment: int = 0) -> list[Unit]:
    """Words and single signs, between [CLS] and [SEP]."""
    found = [("[CLS]", 0, 0), *((one.group(), *one.span()) for one in re.finditer(r"[^\W\u4e00-\u9fff]+|\S", text))]
    return [
        Unit(shown, start, end, segment, end == 0, (place,))
        for place, (shown, start, end) in enumerate([*found, ("[SEP]", 0, 0)])
    ]


def pixels_of(png: bytes) -> npt.NDArray[np.uint8]:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))


def words_of(svg: bytes) -> list[str]:
    """The texts of a picture. Fails where it is not well-formed, or where it has more than shapes and words."""
    root = ElementTree.fromstring(svg)
    kinds = {element.tag.removeprefix(SVG) for element in root.iter()}
    assert kinds <= {"svg", "title", "g", "rect", "circle", "path", "polyline", "image", "text", "style"}
    for style in root.iter(f"{SVG}style"):
        assert re.fullmatch(
            r"(@font-face\{font-family:'[\w ]+';src:url\(data:font/woff;base64,[\w+/=]+\)\})+", style.text or ""
        )
    for element in root.iter():
        assert not [name for name in element.attrib if name.startswith("on")]
        assert element.attrib.get("href", "data:image/png;base64,").startswith("data:image/png;base64,")
    return [element.text or "" for element in root.iter(f"{SVG}text")]

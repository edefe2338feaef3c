"""Pictures whose numbers our own code computes: tokens and ids, one attention head, masks, positions."""

import torch
from torch import Tensor

from docs.drawing.canvas import Canvas, Language
from model.attention import scaled_dot_product_attention
from model.batch import Batch, pack, pad
from model.positions import sinusoidal_table
from model.tokenizer import Encoding, train_wordpiece

TEXTS = {
    "en": ("The film was GOOD!", "Not for me."),
    "zh": ("这部电影很好看！", "不太喜欢。"),
}


def text_to_batch(language: Language) -> Canvas:
    """Raw text, normalised, tokens, ids, a padded batch: by a tokenizer trained on the two texts."""
    english = language == "en"
    first, second = TEXTS[language]
    tokenizer = train_wordpiece([first, second] * 3, 60)
    encodings = tokenizer.encode([first, second], 16)
    batch = pad(encodings, 0)
    canvas = Canvas(860, 405, "From text to a batch" if english else "从文本到批次")
    names = (
        ("raw text", "normalised", "tokens", "ids", "batch")
        if english
        else ("原始文本", "规范化", "词元", "编号", "批次")
    )
    steps = (48, 108, 168, 228, 300)
    for name, y in zip(names, steps, strict=True):
        canvas.text(92, y, name, 14, "end", "faint")
    canvas.box(110, 30, 710, 36, first)
    canvas.box(110, 90, 710, 36, tokenizer.normalise(first).strip())
    wide = 710 / batch.ids.size(1)
    for column, (token, number) in enumerate(zip(encodings[0].tokens, encodings[0].ids, strict=True)):
        colour = "amber" if encodings[0].special[column] else "blue"
        canvas.box(110 + column * wide + 3, 150, wide - 6, 36, token, colour, 13, "mono")
        canvas.box(110 + column * wide + 3, 210, wide - 6, 36, str(number), colour, 13, "mono")
    for upper in (66, 126, 186):
        canvas.arrow((465, upper + 2), (465, upper + 22))
    for row in range(2):
        for column, number in enumerate(batch.ids[row].tolist()):
            real = bool(batch.real[row, column])
            place = (110 + column * wide + 3, 282 + row * 42)
            canvas.box(*place, wide - 6, 36, str(number), "green" if real else "box", 13, "mono", not real)
    note = (
        "dashed: padding, id 0; the mask hides it; the second row is another text"
        if english
        else "虚线：填充，编号 0，由掩码遮住；第二行是另一条文本"
    )
    canvas.text(465, 384, note, 13, kind="faint")
    return canvas


def attention(language: Language) -> Canvas:
    """The numbers of docs/en/concepts/attention.md."""
    english = language == "en"
    query = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])[None, None]
    key = torch.tensor([[1.0, 0.0], [0.0, 2.0], [1.0, 1.0]])[None, None]
    value = torch.tensor([[1.0, 0.0], [0.0, 1.0], [2.0, 2.0]])[None, None]
    mixed, probabilities = scaled_dot_product_attention(query, key, value)
    scores = query @ key.transpose(-2, -1)
    canvas = Canvas(900, 340, "One head, step by step" if english else "一个注意力头，逐步计算")
    _matrices(canvas, 48, {"Q": query, "K": key, "V": value})
    words = ("every query with every key", "softmax, row by row", "mean of the values") if english else (
        "每个查询乘每个键", "逐行 softmax", "值的加权平均"
    )  # fmt: skip
    left = 30.0
    parts = [
        ("QKᵀ", scores, False),
        ("QKᵀ / √2", scores / 2**0.5, False),
        ("P", probabilities, True),
        ("P V", mixed, False),
    ]
    for index, (name, tensor, shade) in enumerate(parts):
        right, middle = canvas.matrix(left, 200, tensor[0, 0].tolist(), name, shade)
        if index < 3:
            canvas.arrow((right + 6, middle), (right + 44, middle))
        left = right + 50
    canvas.text(108, 318, words[0], 13, kind="faint")
    canvas.text(528, 318, words[1], 13, kind="faint")
    canvas.text(724, 318, words[2], 13, kind="faint")
    canvas.text(600, 75, "softmax(QKᵀ / √d) V", 20)
    rows = (
        "a row: a token; Q asks, K answers, V is passed on"
        if english
        else "每行一个词元：Q 提问，K 应答，V 是传递的内容"
    )
    canvas.text(600, 115, rows, 14, kind="faint")
    return canvas


def _matrices(canvas: Canvas, y: float, parts: dict[str, Tensor]) -> None:
    left = 30.0
    for name, tensor in parts.items():
        right, _ = canvas.matrix(left, y, tensor[0, 0].tolist(), name)
        left = right + 24


def masks(language: Language) -> Canvas:
    """Masks of real batches: padding, causal, packed, packed and causal."""
    english = language == "en"
    canvas = Canvas(880, 320, "Masks" if english else "掩码")
    rows = [Encoding.of_ids([7, 8, 9, 10]), Encoding.of_ids([11, 12, 13, 14, 15, 16])]
    padded = pad(rows, 0)
    packed, _ = pack([Encoding.of_ids([7, 8, 9]), Encoding.of_ids([10, 11])], 0, 6)
    names = (
        ("padding (4 of 6 tokens)", "causal", "packed (3 + 2 tokens)", "packed and causal")
        if english
        else ("填充(6 个位置中 4 个)", "因果", "打包(3 + 2 个词元)", "打包且因果")
    )
    causal = Batch(padded.ids[1:], padded.segments[1:], padded.positions[1:], padded.documents[1:])
    found = (
        padded.attention_mask(),
        causal.attention_mask(causal=True),
        packed.attention_mask(),
        packed.attention_mask(causal=True),
    )
    for index, (name, mask) in enumerate(zip(names, found, strict=True)):
        assert mask is not None
        allowed = mask[0, 0].expand(6, 6)
        left = 30 + index * 212
        canvas.text(left + 90, 32, name, 14, kind="bold")
        for row in range(6):
            for column in range(6):
                canvas.cell(
                    left + column * 30,
                    60 + row * 30,
                    30,
                    float(allowed[row, column]),
                    "1" if allowed[row, column] else "",
                )
    note = (
        "row: the token that looks; column: the token it may look at; 1 = may"
        if english
        else "行：看的词元；列：被看的词元；1 = 允许"
    )
    canvas.text(440, 272, note, 14, kind="faint")
    note = "blank scores become −∞, and exp(−∞) = 0" if english else "空白处的分数变为 −∞,而 exp(−∞) = 0"
    canvas.text(440, 296, note, 14, kind="faint")
    return canvas


def positions(language: Language) -> Canvas:
    """Columns of the sinusoidal table, and the products of its rows by distance."""
    english = language == "en"
    table = sinusoidal_table(100, 64)
    canvas = Canvas(880, 400, "Position waves" if english else "位置的波")
    names = ("column", "products by distance", "position") if english else ("列", "内积随距离变化", "位置")
    for index, column in enumerate((0, 8, 16, 24, 32)):
        middle = 50 + index * 66
        canvas.arrow((100, middle), (510, middle), head=False)
        canvas.curve([(100 + 4.1 * place, middle - 24 * float(table[place, column])) for place in range(100)])
        canvas.text(90, middle, f"{names[0]} {column}", 13, "end", "faint")
    canvas.text(305, 372, f"{names[2]} 0 … 99", 13, kind="faint")
    products = table @ table[50]
    canvas.text(710, 40, names[1], 14, kind="bold")
    canvas.arrow((560, 330), (860, 330), head=False)
    canvas.curve([(560 + 3 * place, 330 - 8 * float(products[place])) for place in range(100)], "hot")
    for height in (0, 16, 32):
        canvas.text(552, 330 - 8 * height, str(height), 12, "end", "faint")
    canvas.text(710, 350, "−50 … 0 … +49", 13, kind="faint")
    note = "depends on the distance alone" if english else "只取决于距离"
    canvas.text(710, 372, note, 13, kind="faint")
    return canvas

"""Pictures of how parts are joined: heads, layers, stacks, LoRA, the way of a request and of a job."""

from docs.drawing.canvas import Canvas, Language


def multi_head(language: Language) -> Canvas:
    english = language == "en"
    canvas = Canvas(820, 340, "Multi-head attention" if english else "多头注意力")
    canvas.box(30, 130, 90, 60, "X\n[T, D]", "blue")
    for head in range(3):
        y = 30 + head * 95
        canvas.arrow((120, 160), (165, y + 30))
        canvas.box(170, y, 130, 60, f"Q{_low(head)}  K{_low(head)}  V{_low(head)}\n[T, K]", "box")
        canvas.arrow((300, y + 30), (345, y + 30))
        canvas.box(350, y, 130, 60, f"{'head' if english else '头'} {head + 1}\n[T, K]", "green")
        canvas.arrow((480, y + 30), (535, 160))
    canvas.box(540, 110, 100, 100, f"{'concat' if english else '拼接'}\n[T, 3K]\n= [T, D]", "amber")
    canvas.arrow((640, 160), (675, 160))
    canvas.box(680, 130, 110, 60, "× Wᴼ\n[T, D]", "blue")
    note = (
        "each head: softmax(QKᵀ / √K) V in its own space of width K = D / H; the sum of what they write is the output"
        if english
        else "每个头在宽度 K = D / H 的子空间里计算 softmax(QKᵀ / √K) V;各头写入之和就是输出"
    )
    canvas.text(410, 318, note, 13, kind="faint")
    return canvas


def _low(number: int) -> str:
    return "₁₂₃"[number]


def blocks(language: Language) -> Canvas:
    """Post-LN beside pre-LN."""
    english = language == "en"
    canvas = Canvas(820, 515, "Post-LN and pre-LN")
    attention, feed = ("attention", "feed-forward") if english else ("注意力", "前馈网络")
    norm = "LayerNorm" if english else "层归一化"
    notes: dict[bool, dict[Language, tuple[str, ...]]] = {
        False: {"en": ("each skip passes through a LayerNorm",), "zh": ("每条跳连都要穿过一个层归一化",)},
        True: {
            "en": ("nothing lies on the skip path;", "one more LayerNorm follows the stack"),
            "zh": ("跳连路径上没有任何运算；", "整个堆栈之后再加一个层归一化"),
        },
    }
    for left, name, first in ((40, "post-LN (BERT)", False), (440, "pre-LN (GPT-2)", True)):
        canvas.text(left + 170, 30, name, 16, kind="bold")
        x, bottom = left + 170, 440
        canvas.text(x, bottom + 10, "x", 16)
        order = [attention, norm, feed, norm] if not first else [norm, attention, norm, feed]
        y = bottom - 8.0
        for half in range(2):
            start = y
            for inner in range(2):
                words = order[half * 2 + inner]
                is_norm = words == norm
                if not first and inner == 1:  # the sum comes before the norm
                    y = _sum(canvas, x, y, start)
                canvas.arrow((x, y), (x, y - 22))
                canvas.box(
                    x - 75, y - 62, 150, 40, words, "amber" if is_norm else ("blue" if words == attention else "green")
                )
                y -= 62
            if first:
                y = _sum(canvas, x, y, start)
        canvas.arrow((x, y), (x, y - 20))
        note = notes[first][language]
        for line, words in enumerate(note):
            canvas.text(x, 472 + line * 18, words, 13, kind="faint")
    return canvas


def _sum(canvas: Canvas, x: float, y: float, start: float) -> float:
    """The skip connection from `start` to a plus above `y` -> where the way goes on."""
    canvas.arrow((x, y), (x, y - 18))
    canvas.box(x - 13, y - 44, 26, 26, "+", "rose", 18)
    canvas.arrow((x, start - 6), (x + 100, start - 6), (x + 100, y - 31), (x + 14, y - 31))
    return y - 44


def stacks(language: Language) -> Canvas:
    english = language == "en"
    canvas = Canvas(880, 430, "Encoder, decoder, encoder-decoder" if english else "编码器、解码器、编码器-解码器")
    self_attention = "self-attention\n(both sides)" if english else "自注意力\n(两侧)"
    causal = "self-attention\n(causal)" if english else "自注意力\n(因果)"
    cross = "cross-attention" if english else "交叉注意力"
    feed = "feed-forward" if english else "前馈网络"
    embed = "embeddings" if english else "嵌入"
    names = ("encoder", "decoder", "encoder-decoder") if english else ("编码器", "解码器", "编码器-解码器")
    for x, title, parts, reads, gives in (
        (
            20,
            names[0],
            [embed, self_attention, feed],
            "text" if english else "文本",
            "vectors, classes, tags" if english else "向量、类别、标签",
        ),
        (
            230,
            names[1],
            [embed, causal, feed],
            "text so far" if english else "已写的文本",
            "next token" if english else "下一个词元",
        ),
        (450, "", [embed, self_attention, feed], "source" if english else "源文本", ""),
        (
            670,
            "",
            [embed, causal, cross, feed],
            "target so far" if english else "已写的目标",
            "next token" if english else "下一个词元",
        ),
    ):
        if title:
            canvas.text(x + 75, 28, title, 16, kind="bold")
        canvas.text(x + 75, 415, reads, 13, kind="faint")
        y = 400
        canvas.arrow((x + 75, 402), (x + 75, 384))
        for index, words in enumerate(parts):
            tall = 46
            y = 384 - tall - index * 74
            colour = (
                "box" if words == embed else ("amber" if words == cross else ("green" if words == feed else "blue"))
            )
            canvas.box(x, y, 150, tall, words, colour)
            top = 62 if index == len(parts) - 1 else y - 28
            canvas.arrow((x + 75, y), (x + 75, max(top, y - 28)))
        first = 384 - 46 - 74 * (len(parts) - 1)
        canvas.text(x + 158, first + 20, "× L", 13, "start", "faint")
        if gives:
            canvas.text(x + 75, first - 40, gives, 13, kind="faint")
    canvas.text(635, 28, names[2], 16, kind="bold")
    encoder_top = 384 - 46 - 148
    canvas.arrow((525, encoder_top - 28), (525, encoder_top - 40), (648, encoder_top - 40), (648, 213), (668, 213))
    canvas.text(586, encoder_top - 54, "memory" if english else "编码结果", 13, kind="faint")
    return canvas


def lora(language: Language) -> Canvas:
    english = language == "en"
    canvas = Canvas(760, 330, "LoRA")
    canvas.box(30, 130, 70, 60, "x\n[D]", "box")
    canvas.arrow((100, 145), (180, 90))
    canvas.arrow((100, 175), (180, 235))
    canvas.box(185, 30, 250, 120, "W\n[D, D]\n" + ("frozen" if english else "冻结"), "blue", 15)
    canvas.box(185, 205, 110, 60, "A\n[r, D]", "green")
    canvas.arrow((295, 235), (322, 235))
    canvas.box(325, 205, 110, 60, "B\n[D, r]", "green")
    canvas.arrow((435, 235), (480, 235))
    canvas.box(485, 215, 70, 40, "× α/r", "amber")
    canvas.arrow((435, 90), (600, 90), (600, 142))
    canvas.arrow((555, 235), (600, 235), (600, 176))
    canvas.box(585, 144, 30, 30, "+", "rose", 18)
    canvas.arrow((615, 159), (660, 159))
    canvas.box(665, 130, 70, 60, "y\n[D]", "box")
    lines = (
        (
            "A starts random, B at zero: the first answer is the base's own",
            "2rD trained numbers instead of D²; afterwards W + (α/r) BA is one matrix",
        )
        if english
        else (
            "A 随机初始化，B 从零开始：最初的回答就是基座自己的回答",
            "训练 2rD 个数，而不是 D² 个；之后可合并为 W + (α/r) BA",
        )
    )
    for index, line in enumerate(lines):
        canvas.text(380, 290 + index * 22, line, 13, kind="faint")
    return canvas


def request(language: Language) -> Canvas:
    english = language == "en"
    canvas = Canvas(900, 260, "The way of a request" if english else "一个请求的路径")
    steps = (
        [
            ("routes", "checks, limits,\nwhose key"),
            ("reading", "text to tokens"),
            ("queue", "bounded in tokens;\nowners in turn"),
            ("runner", "a batch within\nthe token budget"),
            ("model", "one forward pass"),
            ("reply", "scores, usage,\ntimes"),
        ]
        if english
        else [
            ("routes", "校验、限额、\n密钥归属"),
            ("reading", "文本变词元"),
            ("queue", "按词元数有界；\n各用户轮流"),
            ("runner", "按词元预算\n组成批次"),
            ("model", "一次前向传播"),
            ("reply", "得分、用量、\n耗时"),
        ]
    )
    _chain(canvas, steps, 60)
    canvas.arrow((377, 140), (377, 190))
    full = "full: 429 with Retry-After" if english else "队列已满：429 与 Retry-After"
    canvas.text(377, 205, full, 13, kind="hot")
    late = "too late: 504" if english else "超时：504"
    canvas.arrow((523, 140), (523, 190))
    canvas.text(560, 205, late, 13, kind="hot")
    canvas.arrow((85, 140), (85, 190))
    canvas.text(85, 205, "400, 401, 404, 413" if english else "400、401、404、413", 13, kind="hot")
    note = (
        "each core takes batches of its own; the event loop never computes"
        if english
        else "每个核心各取各的批次；事件循环从不做计算"
    )
    canvas.text(450, 240, note, 13, kind="faint")
    return canvas


def job(language: Language) -> Canvas:
    english = language == "en"
    canvas = Canvas(900, 280, "The way of a job" if english else "一个任务的路径")
    steps = (
        [
            ("file", "all faults together,\nwith line numbers"),
            ("job", "stored, then\n“queued”"),
            ("worker", "holds a lease,\nown process"),
            ("trainer", "steps, events,\ncheckpoints"),
            ("model store", "manifest last,\nthen renamed"),
            ("live", "warmed up,\nthen swapped in"),
        ]
        if english
        else [
            ("file", "一次列出全部错误，\n附行号"),
            ("job", "写入存储，\n状态 queued"),
            ("worker", "持有租约，\n独立进程"),
            ("trainer", "步骤、事件、\n检查点"),
            ("model store", "清单最后写入，\n再改名"),
            ("live", "预热后\n切换上线"),
        ]
    )
    _chain(canvas, steps, 60)
    canvas.arrow((523, 140), (523, 190), (377, 190), (377, 143), dashed=True)
    killed = (
        "killed: the lease runs out, another worker goes on from the checkpoint"
        if english
        else "被杀死：租约到期，另一个工作进程从检查点继续"
    )
    canvas.text(450, 210, killed, 13, kind="hot")
    note = (
        "the result is, to the bit, that of a run that nobody disturbed (same processor)"
        if english
        else "同一处理器上，结果与未受干扰的运行逐位相同"
    )
    canvas.text(450, 252, note, 13, kind="faint")
    return canvas


def _chain(canvas: Canvas, steps: list[tuple[str, str]], y: float) -> None:
    for index, (name, words) in enumerate(steps):
        left = 23 + index * 146
        canvas.box(left, y, 124, 80, "", "blue" if index % 2 else "box")
        canvas.text(left + 62, y + 18, name, 14, kind="bold")
        for line, part in enumerate(words.split("\n")):
            canvas.text(left + 62, y + 42 + line * 18, part, 12, kind="faint")
        if index:
            canvas.arrow((left - 22, y + 40), (left - 2, y + 40))

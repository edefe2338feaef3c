import type { Both } from "../base/language";

interface StageWords {
  name: string;
  plain: string;
}

const en = {
  title: "Step through",
  lead: "Watch one text pass through the model, step by step, with the numbers that it really computes. Look inside shows where attention goes; here is how it comes about.",
  toLook: "Look inside this text",
  play: "Play",
  pause: "Pause",
  back: "Step back",
  next: "Next step",
  speed: "Speed",
  progress: "Step",
  of: (step: number, count: number) => `${step} of ${count}`,
  layer: "Layer",
  head: "Head",
  range: "Go through",
  ranges: { one: "this layer", all: "every layer" },
  keys: "Space plays, ← and → step, [ and ] change the head, { and } the layer, + and − the speed.",
  map: "The model's steps, from the text at the top to the answer at the bottom",
  input: "Input",
  layerOf: (layer: number, count: number) => `Layer ${layer} of 0–${count - 1}`,
  output: "Output",
  from: "Made from",
  result: "Result",
  shape: "Shape",
  least: "Smallest",
  most: "Largest",
  mean: "Mean",
  deviation: "Deviation",
  shownOf: (shown: number, all: number) => `the first ${shown} of ${all} numbers of each row`,
  inTable: (shown: number, all: number) => `The table has the first ${shown} of ${all} columns.`,
  heads: "All heads: choose one to zoom in",
  zoomed: (head: number) => `Head ${head}`,
  rows: { tokens: "tokens", heads: "heads", numbers: "numbers", labels: "labels" },
  value: (row: string, column: string, value: string) => `${row} · ${column}: ${value}`,
  column: (index: number) => `number ${index}`,
  lens: "What it would say after each layer",
  lensNote: "The logit lens: each layer's vectors read by the model's own last layer, as if no other followed.",
  embeddings: "text",
  noTrace: "An encoder-decoder can't be stepped through. Choose another model above.",
  noModel: "There is no model to step through yet.",
  stages: {
    token: {
      name: "Token",
      plain:
        "Each token's number is looked up in a table that training has filled: one row of numbers for each entry of the vocabulary. From here on the model sees only such rows.",
    },
    position: {
      name: "Position",
      plain: "Without these, the order of the words would be lost. Each place in the text has a row of its own.",
    },
    segment: {
      name: "Segment",
      plain: "Says which of two texts a token belongs to. With a single text they are all the same.",
    },
    embedding: {
      name: "Sum",
      plain: "What it is, where it stands and which text it belongs to are simply added, number by number.",
    },
    hidden: {
      name: "Hidden vectors",
      plain:
        "One vector for each token, with its size evened out by LayerNorm where the model does so. This is what goes on to the next layer.",
    },
    attention_input: {
      name: "Norm before attention",
      plain: "LayerNorm shifts and scales each token's numbers to a common size before attention reads them.",
    },
    query: {
      name: "Queries",
      plain: "Each token asks a question: its vector times a learned matrix. Each head has its own questions.",
    },
    key: { name: "Keys", plain: "Each token also offers a description of itself, which questions are compared with." },
    value: { name: "Values", plain: "And each token holds what it would hand over to those that look at it." },
    scores: {
      name: "Scores",
      plain:
        "Every question meets every description: the better they fit, the greater the number. Divided by the root of the head's width, so that they stay moderate.",
    },
    probabilities: {
      name: "Attention",
      plain: "Softmax turns each row of scores into shares that add up to 1: how one token divides its attention.",
    },
    mixed: {
      name: "Weighted sum",
      plain:
        "Each token takes the values of the others by those shares. This is where information moves between tokens.",
    },
    attended: {
      name: "Heads joined",
      plain: "What all heads have gathered is laid side by side and mixed by a learned matrix.",
    },
    attention_sum: {
      name: "Residual",
      plain: "The result is added to what came in: attention only changes the vectors, it does not replace them.",
    },
    attention_norm: {
      name: "LayerNorm",
      plain:
        "Each token's numbers are shifted and scaled to a common size, so that layers can follow one another without growing out of bounds.",
    },
    feed_forward_input: {
      name: "Norm before feed-forward",
      plain: "LayerNorm evens out each token's numbers before the feed-forward network reads them.",
    },
    expanded: {
      name: "Widened",
      plain:
        "Each token by itself: its vector times a matrix that makes it several times wider, room for many small detectors.",
    },
    activated: {
      name: "Activation",
      plain:
        "Negative numbers are held back, positive ones pass: a detector fires, or it does not. Without this, all layers would amount to one.",
    },
    contracted: { name: "Narrowed", plain: "What the detectors found is brought back to the vector's own width." },
    feed_forward_sum: { name: "Residual", plain: "Again added to what came in." },
    normalised: {
      name: "Last LayerNorm",
      plain: "The last layer's vectors, brought to a common size before they are read.",
    },
    text_vector: {
      name: "Text vector",
      plain: "One vector stands for the whole text: that of one token, or the mean of all.",
    },
    pooled: { name: "Pooler", plain: "One more learned matrix prepares that vector for the answer." },
    logits: { name: "Logits", plain: "One number for each label: how much speaks for it. Any size, not yet shares." },
    label_probabilities: {
      name: "Answer",
      plain: "Softmax (or a sigmoid for each label by itself) turns them into shares between 0 and 1: the answer.",
    },
  } as Record<string, StageWords>,
};

const zh: typeof en = {
  title: "逐步走",
  lead: "看一段文字一步一步穿过模型，每一步都是它真正算出的数。“看内部”显示注意力去了哪里；这里是它怎么算出来的。",
  toLook: "看这段文字的内部",
  play: "播放",
  pause: "暂停",
  back: "退一步",
  next: "下一步",
  speed: "速度",
  progress: "步骤",
  of: (step: number, count: number) => `${step} / ${count}`,
  layer: "层",
  head: "头",
  range: "走过",
  ranges: { one: "这一层", all: "每一层" },
  keys: "空格播放，← 和 → 逐步，[ 和 ] 换头，{ 和 } 换层，+ 和 − 调速。",
  map: "模型的各个步骤，从上方的文字到下方的答案",
  input: "输入",
  layerOf: (layer: number, count: number) => `第 ${layer} 层（共 0–${count - 1}）`,
  output: "输出",
  from: "来自",
  result: "结果",
  shape: "形状",
  least: "最小",
  most: "最大",
  mean: "平均",
  deviation: "标准差",
  shownOf: (shown: number, all: number) => `每行 ${all} 个数中的前 ${shown} 个`,
  inTable: (shown: number, all: number) => `表中是 ${all} 列中的前 ${shown} 列。`,
  heads: "所有头：选一个来放大",
  zoomed: (head: number) => `头 ${head}`,
  rows: { tokens: "词元", heads: "头", numbers: "数", labels: "标签" },
  value: (row: string, column: string, value: string) => `${row} · ${column}：${value}`,
  column: (index: number) => `第 ${index} 个数`,
  lens: "每一层之后它会说什么",
  lensNote: "Logit 透镜：用模型自己的最后一层去读每一层的向量，好像后面没有别的层。",
  embeddings: "文字",
  noTrace: "编码器—解码器无法逐步走。请在上面选择另一个模型。",
  noModel: "还没有可以逐步走的模型。",
  stages: {
    token: {
      name: "词元向量",
      plain: "用每个词元的编号去查一张训练得到的表：词表里每一项对应一行数。从这里起，模型只看到这样的数。",
    },
    position: { name: "位置向量", plain: "没有它，词序就丢了。文中每个位置都有自己的一行数。" },
    segment: { name: "段向量", plain: "说明词元属于两段文字中的哪一段。只有一段时全都相同。" },
    embedding: { name: "相加", plain: "它是什么、在哪里、属于哪一段，三者逐个数相加。" },
    hidden: { name: "隐藏向量", plain: "每个词元一个向量，需要时由 LayerNorm 调整到相近的大小。它会进入下一层。" },
    attention_input: {
      name: "注意力前的归一化",
      plain: "LayerNorm 在注意力读取之前，把每个词元的数平移、缩放到共同的大小。",
    },
    query: { name: "查询 Q", plain: "每个词元提出一个问题：它的向量乘以学到的矩阵。每个头有自己的问题。" },
    key: { name: "键 K", plain: "每个词元也给出对自己的描述，供问题来比对。" },
    value: { name: "值 V", plain: "每个词元还带着要交给看它的词元的内容。" },
    scores: { name: "得分", plain: "每个问题遇到每个描述：越相配，数越大。再除以头宽度的平方根，使数值适中。" },
    probabilities: { name: "注意力", plain: "Softmax 把每一行得分变成加起来为 1 的份额：一个词元如何分配注意力。" },
    mixed: { name: "加权求和", plain: "每个词元按这些份额取其他词元的值。信息就在这里在词元之间流动。" },
    attended: { name: "合并各头", plain: "把所有头收集到的并排放好，再用学到的矩阵混合。" },
    attention_sum: { name: "残差", plain: "结果加到输入上：注意力只是修改向量，而不是替换它。" },
    attention_norm: { name: "层归一化", plain: "每个词元的数被平移、缩放到共同的大小，于是层层相接也不会失控。" },
    feed_forward_input: { name: "前馈前的归一化", plain: "LayerNorm 在前馈网络读取之前，把每个词元的数调匀。" },
    expanded: { name: "变宽", plain: "每个词元各自进行：向量乘以矩阵，宽了几倍，容得下许多小探测器。" },
    activated: { name: "激活", plain: "负数被压住，正数通过：探测器响或不响。没有它，所有层加起来只相当于一层。" },
    contracted: { name: "变窄", plain: "把探测器的发现带回向量原来的宽度。" },
    feed_forward_sum: { name: "残差", plain: "再次加到输入上。" },
    normalised: { name: "最后的归一化", plain: "最后一层的向量，在被读取之前调到共同的大小。" },
    text_vector: { name: "文本向量", plain: "一个向量代表整段文字：某个词元的向量，或全部的平均。" },
    pooled: { name: "汇聚", plain: "再用一个学到的矩阵，为回答做准备。" },
    logits: { name: "Logits", plain: "每个标签一个数：支持它的有多少。大小不限，还不是份额。" },
    label_probabilities: {
      name: "答案",
      plain: "Softmax（或对每个标签单独用 sigmoid）把它们变成 0 到 1 之间的份额：这就是答案。",
    },
  } as Record<string, StageWords>,
};

export const stepWords: Both<typeof en> = { en, zh };

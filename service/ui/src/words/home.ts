import type { Both } from "../base/language";

const en = {
  title: "Run, tune and look inside Transformers",
  lead: "Follow the whole life of a model with your own eyes, from raw text to the arithmetic inside. All of it runs on this machine.",
  stages: {
    data: "What a model learns from, and how a text becomes numbers.",
    tune: "A base model learns your labels; watch it live.",
    evaluate: "How good it is, where it errs, whether to believe it.",
    look: "What each head looks at, and which words decide.",
    step: "The forward pass, played step by step with its real numbers.",
  },
  counts: {
    files: (n: number) => `${n} ${n === 1 ? "file" : "files"}`,
    running: (n: number) => (n ? `${n} running` : "no run at the moment"),
    done: (n: number) => `${n} ${n === 1 ? "run" : "runs"} ended`,
    models: (n: number) => `${n} ${n === 1 ? "model" : "models"}`,
  },
  try: "Try it at once",
  tryNote: "Type a text and see inside a model that is already here.",
  go: "Look inside",
};

const zh: typeof en = {
  title: "运行、微调、看透 Transformer",
  lead: "亲眼看完一个模型的一生：从原始文字到里面的算术。一切都在这台机器上运行。",
  stages: {
    data: "模型从什么学习，文字如何变成数。",
    tune: "底座模型学习你的标签；实时观看。",
    evaluate: "它有多好，错在哪里，该不该信。",
    look: "每个头在看什么，哪些词起决定作用。",
    step: "前向计算，用真实的数一步一步播放。",
  },
  counts: {
    files: (n: number) => `${n} 个文件`,
    running: (n: number) => (n ? `${n} 个在运行` : "现在没有运行"),
    done: (n: number) => `${n} 个已结束`,
    models: (n: number) => `${n} 个模型`,
  },
  try: "马上试试",
  tryNote: "输入一段文字，看这里已有的模型内部。",
  go: "看内部",
};

export const homeWords: Both<typeof en> = { en, zh };

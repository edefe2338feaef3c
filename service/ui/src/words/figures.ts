// What held-out figures are called, by their keys; and how one is said.

import type { Both } from "../base/language";
import { amount, headlineOf } from "../base/metric";

const en = {
  accuracy: "accuracy",
  word_accuracy: "word accuracy",
  macro_f1: "macro F1",
  micro_f1: "micro F1",
  macro_precision: "macro precision",
  macro_recall: "macro recall",
  weighted_f1: "weighted F1",
  matthews_correlation: "Matthews correlation",
  hamming_loss: "labels wrong (Hamming)",
  mean_absolute_error: "mean absolute error",
  median_absolute_error: "median absolute error",
  root_mean_squared_error: "root mean squared error",
  mean_error: "mean error (bias)",
  r2: "R²",
  correlation: "correlation (Pearson)",
  rank_correlation: "rank correlation (Spearman)",
  span_f1: "span F1",
  span_precision: "span precision",
  span_recall: "span recall",
  span_macro_f1: "span macro F1",
  log_loss: "log loss (nats)",
  brier: "Brier score",
  perplexity: "perplexity",
};

const zh: typeof en = {
  accuracy: "准确率",
  word_accuracy: "词准确率",
  macro_f1: "宏平均 F1",
  micro_f1: "微平均 F1",
  macro_precision: "宏平均精确率",
  macro_recall: "宏平均召回率",
  weighted_f1: "加权 F1",
  matthews_correlation: "马修斯相关系数",
  hamming_loss: "标签错误率（汉明）",
  mean_absolute_error: "平均绝对误差",
  median_absolute_error: "绝对误差中位数",
  root_mean_squared_error: "均方根误差",
  mean_error: "平均误差（偏差）",
  r2: "R²",
  correlation: "相关系数（皮尔逊）",
  rank_correlation: "秩相关系数（斯皮尔曼）",
  span_f1: "片段 F1",
  span_precision: "片段精确率",
  span_recall: "片段召回率",
  span_macro_f1: "片段宏平均 F1",
  log_loss: "对数损失（nats）",
  brier: "Brier 分数",
  perplexity: "困惑度",
};

export const figureWords: Both<typeof en> = { en, zh };

/** By its key, or by the title that an evaluation gives it. */
export function nameOfFigure(words: typeof en, name: string): string {
  const known: Record<string, string> = words;
  return known[name.toLowerCase().replaceAll(" ", "_")] ?? name.replaceAll("_", " ");
}

/** What a run or model is judged by first: "accuracy 91.2%". */
export function saidHeadline(words: typeof en, figures: Record<string, unknown> | null): string {
  const found = headlineOf(figures);
  return found ? `${nameOfFigure(words, found.metric.key)} ${amount(found.metric, found.value)}` : "–";
}

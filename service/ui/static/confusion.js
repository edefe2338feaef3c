// What a tuned model gets right and what it mixes up, on rows that it never trained on.

import { make } from "./dom.js";
import { count, percent } from "./format.js";

export function showMetrics(metrics) {
  return make("div", { class: "metrics" },
    make("dl", { class: "figures" }, ...figuresOf(metrics)),
    metrics.confusion_matrix ? confusionTable(metrics.confusion_matrix) : null);
}

// A model of numbers has errors, the others have shares of right answers.
function figuresOf(metrics) {
  const loss = figure("Loss", metrics.loss.toFixed(3), `on ${count(metrics.num_examples)} held-out rows`);
  if (metrics.mean_absolute_error !== undefined) {
    return [
      figure("Mean error", metrics.mean_absolute_error.toPrecision(3), `always naming the mean: ${metrics.mean_baseline.toPrecision(3)}`),
      figure("R²", metrics.r2.toFixed(3), "share of the variance explained"),
      figure("Correlation", metrics.correlation.toFixed(3), "of the predicted and the true number"),
      loss,
    ];
  }
  const gain = metrics.accuracy - metrics.majority_baseline;
  const spans = metrics.span_f1 === undefined ? [] : [figure("Span F1", percent(metrics.span_f1), "kind and both ends right")];
  return [
    figure("Accuracy", percent(metrics.accuracy), `${gain >= 0 ? "+" : "−"}${Math.abs(gain * 100).toFixed(1)} points over the baseline`),
    ...spans,
    figure("Macro F1", percent(metrics.macro_f1), "every label counts the same"),
    figure("Baseline", percent(metrics.majority_baseline), "always the commonest label"),
    loss,
  ];
}

function figure(name, value, remark) {
  return make("div", { class: "figure" }, make("dt", {}, name), make("dd", { class: "figure-value" }, value), make("dd", { class: "hint" }, remark));
}

function confusionTable({ labels, counts }) {
  const body = counts.map((row, truth) => {
    const total = row.reduce((sum, number) => sum + number, 0);
    return make("tr", {}, make("th", { scope: "row" }, labels[truth]), ...row.map((number, guess) => cell(number, total, labels, truth, guess)));
  });
  return make("div", { class: "confusion-block" },
    make("h3", { class: "panel-title" }, "Confusion matrix"),
    make("p", { class: "hint" }, "Row: the true label. Column: what the model said. The diagonal is right; darker is a larger share of the row."),
    make("div", { class: "table-scroll", tabindex: "0", role: "region", "aria-label": "Confusion matrix" },
      make("table", { class: "confusion" },
        make("thead", {}, make("tr", {}, make("th", { scope: "col" }, "true \\ said"), ...labels.map((label) => make("th", { scope: "col" }, label)))),
        make("tbody", {}, ...body))));
}

function cell(number, total, labels, truth, guess) {
  const share = total ? number / total : 0;
  const element = make("td", {
    class: share > 0.5 ? "confusion-strong" : null,
    title: `${count(number)} of ${count(total)} texts that are “${labels[truth]}” were called “${labels[guess]}”`,
  }, make("span", {}, count(number)), make("small", {}, percent(share, 0)));
  element.style.setProperty("--share", `${(share * 100).toFixed(1)}%`);
  return element;
}

// Step 3 of "Look inside": the label with a bar for each score, or the way to a classifier when there is none.

import { make } from "./dom.js";
import { percent } from "./format.js";
import { routeTo } from "./route.js";

export function showScores(place, result) {
  const bars = result.scores.map(({ label, score }, index) => {
    const bar = make("span", { class: "score-bar" });
    bar.style.width = `${Math.max(score * 100, 0.4)}%`;
    return make("li", { class: index === 0 ? "score score-best" : "score" },
      make("span", { class: "score-label" }, label),
      make("span", { class: "score-track", "aria-hidden": "true" }, bar),
      make("span", { class: "score-value" }, percent(score)));
  });
  place.replaceChildren(
    make("p", { class: "verdict" }, "The model says ", make("strong", {}, result.label), ", with a score of ", percent(result.score), "."),
    make("ul", { class: "scores", "aria-label": "Score of each label" }, ...bars),
    result.truncated ? make("p", { class: "hint" }, "The text was longer than the model reads; its end was cut off.") : "",
  );
}

export function showNoClassifier(place, model) {
  place.replaceChildren(make("div", { class: "notice notice-empty" },
    make("strong", {}, "This base model has no classifier yet"),
    make("p", {}, "It has learned what language looks like, but nobody has told it which labels you care about. Give it some examples and it learns to tell them apart."),
    make("a", { class: "button", href: routeTo("tune", { model: model.base_model ?? model.id }) }, "Tune this model")));
}

// One job in full: what it is, how it learns, what it reached, what happened.

import { lineChart } from "./chart.js";
import { showMetrics } from "./confusion.js";
import { make, notice } from "./dom.js";
import { clock, count, duration, percent } from "./format.js";
import { badge, isActive, jobName, progressBar } from "./job_status.js";
import { routeTo } from "./route.js";

const LOG_LINES = 200;

/** Fills `place`; the buttons call `act` with the job and what is to be done: cancel, pause or resume. */
export function showJob(place, job, log, act) {
  const logBox = place.querySelector(".log");
  const scrolled = logBox?.scrollTop ?? 0; // a redraw each second must not move what is being read
  const focused = place.contains(document.activeElement) ? document.activeElement.id : "";
  place.replaceChildren(...[
    heading(job, act),
    job.error ? notice("error", "The job failed", job.error.message) : null,
    progress(job),
    curves(place, job, log),
    job.metrics ? make("section", {}, make("h3", { class: "panel-title" }, "Result on held-out rows"), showMetrics(job.metrics)) : null,
    facts(job),
    events(log),
  ].filter(Boolean));
  place.querySelector(".log").scrollTop = scrolled;
  if (focused) document.getElementById(focused)?.focus({ preventScroll: true });
}

function heading(job, act) {
  const button = (action, name) =>
    make("button", { id: `job-${action}`, type: "button", class: "button", click: () => act(job, action) }, name);
  const ready = job.status === "succeeded" && job.fine_tuned_model;
  return make("div", { class: "detail-head" },
    make("div", { class: "detail-title" },
      make("h2", {}, jobName(job)),
      make("p", { class: "hint detail-id" }, job.fine_tuned_model ?? job.id)),
    badge(job),
    ready ? make("a", { id: "job-try", class: "button button-primary", href: routeTo("look", { model: job.fine_tuned_model }) }, "Try this model") : null,
    isActive(job) && job.status !== "paused" ? button("pause", "Pause") : null,
    job.status === "paused" ? button("resume", "Resume") : null,
    isActive(job) ? button("cancel", "Cancel") : null);
}

function progress(job) {
  const { step, total_steps: total, tokens_per_second: speed, epoch } = job.progress ?? {};
  if (!step && !isActive(job)) return null;
  const left = job.status === "running" && job.estimated_finish ? job.estimated_finish - Date.now() / 1000 : null;
  const parts = [
    step ? `step ${count(step)} of ${count(total)}` : { queued: "waits for its turn", paused: "paused" }[job.status] ?? "starting",
    epoch ? `epoch ${epoch.toFixed(2)}` : null,
    speed ? `${count(Math.round(speed))} tokens a second` : null,
    left !== null && left > 0 ? `about ${duration(left)} left` : null,
  ];
  return make("div", { class: "detail-progress" }, progressBar(job), make("p", { class: "hint" }, parts.filter(Boolean).join(" · ")));
}

function curves(place, job, log) {
  const { trainLoss, validLoss, validAccuracy, total } = log.curves();
  if (!trainLoss.length && !validLoss.length) {
    const text = isActive(job) ? "The curve appears with the first training steps." : "This job ended before its first training step.";
    return make("p", { class: "blank" }, text);
  }
  const width = Math.max(300, Math.min(760, place.clientWidth - 40));
  const shared = { xMax: Math.max(total, job.progress?.total_steps ?? 0), xName: "step", width };
  const accuracy = validAccuracy.length ? make("div", {},
    make("h3", { class: "panel-title" }, "Accuracy"),
    lineChart({ ...shared, height: 170, yRange: [0, 1], format: percent, formatTick: (share) => percent(share, 0), label: "Validation accuracy by step",
      series: [{ name: "validation accuracy", points: validAccuracy, mark: "square", color: 3 }] })) : null;
  return make("section", { class: "curves" },
    make("div", {},
      make("h3", { class: "panel-title" }, "Loss ", make("span", { class: "hint" }, "how wrong the model still is; lower is better")),
      lineChart({ ...shared, label: "Training and validation loss by step", series: [
        { name: "training loss", points: trainLoss, mark: "line", color: 1 },
        { name: "validation loss", points: validLoss, mark: "dot", color: 2 },
      ] })),
    accuracy);
}

function facts(job) {
  const { n_epochs: epochs, batch_size: batch, learning_rate: rate, training_method: method } = job.hyperparameters;
  const because = (name, value) => (job.reasons[name] ? `${value} (${job.reasons[name]})` : value);
  const rows = [
    ["Base model", job.model], ["Method", method && because("training_method", method.replace("_", "-"))],
    ["Epochs", because("n_epochs", epochs)], ["Batch size", because("batch_size", batch)],
    ["Learning rate", rate && because("learning_rate", rate)], ["Seed", job.seed],
    ["Training file", job.training_file], ["Validation file", job.validation_file ?? "split from the training file"],
    ["Tokens trained", job.trained_tokens ? count(job.trained_tokens) : null],
    ["Time taken", job.finished_at ? duration(job.finished_at - job.created_at) : null], ["Job", job.id],
  ];
  return make("section", {}, make("h3", { class: "panel-title" }, "Settings"),
    make("dl", { class: "facts" }, ...rows.filter(([, value]) => value !== null && value !== undefined)
      .map(([name, value]) => make("div", {}, make("dt", {}, name), make("dd", {}, String(value))))));
}

function events(log) {
  const lines = log.events;
  return make("section", {}, make("h3", { class: "panel-title" }, "Log ", make("span", { class: "hint" }, "newest first")),
    make("ol", { class: "log", tabindex: "0", id: "job-log", "aria-label": "Events, newest first" }, ...lines.slice(0, LOG_LINES).map((event) =>
      make("li", { class: `log-line log-${event.level}` }, make("time", {}, clock(event.created_at)),
        make("span", {}, event.level === "info" ? "" : `${event.level}: `, event.message)))),
    lines.length > LOG_LINES ? make("p", { class: "hint" }, `The newest ${LOG_LINES} of ${count(lines.length)} events.`) : null);
}

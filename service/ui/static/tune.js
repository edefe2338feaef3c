// The place "Tune": submit a fine-tuning job, watch it learn, try the result.
import * as api from "/ui/api.js";
import { chart } from "/ui/chart.js";
import { color } from "/ui/color.js";
import { element } from "/ui/dom.js";

const OPEN = ["validating_files", "queued", "running"];
const POLL_MILLISECONDS = 1000;

export async function show(place, parameters, go) {
  const models = (await api.models()).filter((model) => model.base_model === null);
  const list = element("div", { id: "jobs" });
  const detail = element("div", { id: "job" });
  place.replaceChildren(
    element("h1", {}, "Tune"),
    element("p", { class: "hint" }, "Teach a base model your labels. The job runs beside the service, survives a restart, and its model is live the moment it ends."),
    element("div", { class: "columns" }, element("div", {}, form(models, go), list), detail),
  );
  const seen = new Map(); // job id -> its events, so that a poll only fetches the newest page
  let chosen = parameters.get("job");
  let stopped = false;
  async function poll() {
    if (stopped || !place.isConnected || !list.isConnected) return;
    try {
      const jobs = await api.jobs();
      chosen ??= jobs[0]?.id;
      const job = jobs.find((item) => item.id === chosen) ?? jobs[0];
      list.replaceChildren(...jobs.map((item) => jobButton(item, item === job, () => { chosen = item.id; go("tune", { job: chosen }, { quiet: true }); poll(); })));
      if (!jobs.length) list.replaceChildren(element("p", { class: "hint" }, "No jobs yet. Submit one above."));
      detail.replaceChildren(job ? jobCard(job, await eventsOf(job, seen), go) : "");
    } catch (error) {
      detail.replaceChildren(element("p", { class: "error", role: "alert" }, error.message));
    }
  }
  const timer = setInterval(poll, POLL_MILLISECONDS);
  await poll();
  return () => { stopped = true; clearInterval(timer); };
}

async function eventsOf(job, seen) {
  const known = seen.get(job.id) ?? [];
  const ids = new Set(known.map((event) => event.id));
  const fresh = [];
  for (let after, more = true; more;) {
    const page = await api.events(job.id, after);
    const unknown = page.data.filter((event) => !ids.has(event.id));
    fresh.push(...unknown);
    more = page.has_more && unknown.length === page.data.length;
    after = page.data.at(-1)?.id;
  }
  const events = [...fresh, ...known];
  seen.set(job.id, events);
  return events;
}

function form(models, go) {
  const file = element("input", { type: "file", id: "file", accept: ".jsonl,.csv,.json,.txt" });
  const base = element("select", { id: "base" }, models.map((model) => element("option", { value: model.id }, model.id)));
  const epochs = element("input", { type: "number", id: "epochs", value: "1", min: "1", max: "50" });
  const suffix = element("input", { id: "suffix", placeholder: "my-labels", maxlength: "64" });
  const message = element("div", { role: "alert" });
  const submit = element("button", { class: "main", onclick: async () => {
    submit.disabled = true;
    try {
      if (!file.files.length) throw new Error("choose a file first: one {\"text\": ..., \"label\": ...} object a line, or CSV with text and label");
      const uploaded = await api.upload(file.files[0]);
      const job = await api.createJob({
        model: base.value, training_file: uploaded.id, suffix: suffix.value || null,
        hyperparameters: { n_epochs: Number(epochs.value) },
      });
      go("tune", { job: job.id });
    } catch (error) {
      message.replaceChildren(element("p", { class: "error" }, error.message));
    } finally {
      submit.disabled = false;
    }
  } }, "Start tuning");
  const field = (control, text) => element("div", { class: "grow" }, element("label", { for: control.id }, text), control);
  return element("section", { class: "card" }, element("h2", {}, "New job"),
    field(file, "Labelled rows, JSONL or CSV"),
    element("div", { class: "row" }, field(base, "Base model"), field(epochs, "Epochs"), field(suffix, "Name")),
    element("p", {}, submit), message);
}

function progressBar(job) {
  const fill = element("span");
  fill.style.width = `${job.status === "succeeded" ? 100 : job.progress ? (100 * job.progress.step) / job.progress.total_steps : 0}%`;
  return element("div", { class: "track thin" }, fill);
}

function jobButton(job, isChosen, onclick) {
  const name = job.metadata?.demo ? "demonstration: movie sentiment" : job.fine_tuned_model ?? job.id;
  return element("button", { class: `job ${isChosen ? "on" : ""}`, onclick },
    element("header", {}, element("span", {}, name), element("span", { class: `badge ${job.status}` }, job.status.replace("_", " "))),
    element("small", {}, `${job.model} · ${new Date(job.created_at * 1000).toLocaleString()}`), progressBar(job));
}

const fact = (value, name) => element("div", { class: "fact" }, element("b", {}, value), element("span", {}, name));

function jobCard(job, events, go) {
  const metrics = events.filter((event) => event.type === "metrics").map((event) => event.data).sort((one, other) => one.step - other.step);
  const points = (name) => metrics.filter((data) => name in data).map((data) => [data.step, data[name]]);
  const steps = job.progress?.total_steps ?? Math.max(1, ...metrics.map((data) => data.step));
  const card = element("section", { class: "card" },
    element("div", { class: "row" }, element("h2", { class: "grow" }, job.fine_tuned_model ?? job.id), element("span", { class: `badge ${job.status}` }, job.status.replace("_", " "))),
    progressBar(job));
  if (job.error) card.append(element("p", { class: "error" }, job.error.message));
  const facts = [fact(String(job.hyperparameters.n_epochs), "epochs"), fact(String(job.hyperparameters.batch_size), "rows a batch")];
  if (job.queue_position) facts.push(fact(String(job.queue_position), "place in the queue"));
  if (job.progress) facts.push(fact(`${job.progress.step} / ${job.progress.total_steps}`, "steps"));
  if (job.progress?.tokens_per_second && job.status === "running") facts.push(fact(Math.round(job.progress.tokens_per_second).toLocaleString(), "tokens a second"));
  if (job.metrics) {
    facts.push(fact(job.metrics.accuracy.toFixed(3), "validation accuracy"), fact(job.metrics.macro_f1.toFixed(3), "macro F1"), fact(job.metrics.majority_baseline.toFixed(3), "accuracy of always guessing the commonest label"));
  }
  card.append(element("div", { class: "facts" }, facts), element("div", { class: "charts" },
    chart("Loss", [{ name: "training", points: points("train_loss"), stroke: "var(--accent)" }, { name: "validation", points: points("valid_loss"), stroke: "var(--second)", dots: true }], steps),
    chart("Validation accuracy", [{ name: "accuracy", points: points("valid_accuracy"), stroke: "var(--second)", dots: true }], steps, [0, 1])));
  if (job.metrics) card.append(confusion(job.metrics.confusion_matrix));
  const buttons = element("p", { class: "row" });
  if (job.status === "succeeded") buttons.append(element("button", { class: "main", id: "try", onclick: () => go("look", { model: job.fine_tuned_model }) }, "Try this model"));
  if (OPEN.includes(job.status)) buttons.append(element("button", { onclick: (event) => { event.target.disabled = true; api.cancelJob(job.id).catch((error) => alert(error.message)); } }, "Cancel"));
  const log = element("ul", { class: "log" }, events.map((event) => element("li", { class: event.level === "error" ? "error-level" : event.level }, element("time", {}, new Date(event.created_at * 1000).toLocaleTimeString()), event.message)));
  card.append(buttons, element("h2", {}, "Events"), log);
  return card;
}

function confusion({ labels, counts }) {
  const cells = counts.map((row, truth) => element("tr", {}, element("th", {}, `is ${labels[truth]}`), row.map((count) => {
    const share = count / Math.max(1, row.reduce((sum, value) => sum + value, 0));
    const cell = element("td", { title: `${(100 * share).toFixed(1)}% of the row` }, String(count));
    cell.style.background = color(share);
    cell.style.color = share > 0.6 ? "#10202a" : "#fff";
    return cell;
  })));
  return element("div", { class: "scroll" }, element("p", { class: "hint" }, "Confusion matrix on the validation rows: what a row is, against what the model said."),
    element("table", { class: "confusion" }, element("tr", {}, element("th"), labels.map((label) => element("th", {}, `said ${label}`))), cells));
}

// How a job's state is named and drawn, shared by the list and the detail.

import { make } from "./dom.js";
import { shortModelName } from "./format.js";

const NAMES = {
  validating_files: "checking files", queued: "queued", running: "running", paused: "paused",
  succeeded: "succeeded", failed: "failed", cancelled: "cancelled",
};

export function isActive(job) {
  return ["validating_files", "queued", "running", "paused"].includes(job.status);
}

/** The name its owner chose, as far as the server tells it; a job that has not ended has no model id yet. */
export function jobName(job) {
  if (job.fine_tuned_model) return shortModelName(job.fine_tuned_model);
  return job.user_provided_suffix ?? job.model;
}

export function badge(job) {
  const waiting = job.status === "queued" && job.queue_position ? ` · place ${job.queue_position}` : "";
  return make("span", { class: `badge badge-${job.status}` }, (NAMES[job.status] ?? job.status) + waiting);
}

export function progressBar(job) {
  const { step = 0, total_steps: total = 0 } = job.progress ?? {};
  const share = job.status === "succeeded" ? 1 : total ? step / total : 0;
  const bar = make("span", { class: "progress-bar" });
  bar.style.width = `${share * 100}%`;
  return make("span", {
    class: `progress progress-${job.status}`, role: "progressbar", "aria-label": "Training progress",
    "aria-valuemin": "0", "aria-valuemax": "100", "aria-valuenow": Math.round(share * 100),
  }, bar);
}

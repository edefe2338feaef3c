// The events of jobs, kept by id: everything once, then only what is new. The server lists newest first.

import { api } from "./api.js";

const PAGE = 100;
const MOST_PAGES = 100; // a bound for a job that reports faster than we page

export class EventLog {
  constructor() {
    this.events = []; // newest first
    this.known = new Set();
    this.complete = false;
  }

  get size() {
    return this.events.length;
  }

  /** Pages back until it meets an event it knows or the beginning; says how many were new. */
  async refresh(jobId) {
    const fresh = [];
    let after = null;
    for (let page = 0; page < MOST_PAGES; page += 1) {
      const answer = await api.jobEvents(jobId, PAGE, after);
      const unknown = answer.data.filter((event) => !this.known.has(event.id));
      fresh.push(...unknown);
      const metKnown = this.complete && unknown.length < answer.data.length;
      if (!answer.has_more || metKnown || !answer.data.length) break;
      after = answer.data.at(-1).id;
    }
    // Kept only once all pages came: after a failed page the next call starts over, and no gap stays.
    const added = fresh.filter((event) => !this.known.has(event.id)); // another call may have come first
    for (const event of added) this.known.add(event.id);
    this.events = [...added, ...this.events];
    this.complete = true;
    if (added.length) this.drawn = null;
    return added.length;
  }

  /** The learning curves as lists of {x: step, y: value}. A resumed job repeats steps; the newest report counts. */
  curves() {
    this.drawn ??= this.readCurves();
    return this.drawn;
  }

  readCurves() {
    const series = { trainLoss: new Map(), validLoss: new Map(), validAccuracy: new Map() };
    let total = 0;
    for (const { type, data } of [...this.events].reverse()) {
      if (type !== "metrics" || !data) continue;
      total = Math.max(total, data.total_steps ?? 0, data.step ?? 0);
      if (Number.isFinite(data.train_loss)) series.trainLoss.set(data.step, data.train_loss);
      if (Number.isFinite(data.valid_loss)) series.validLoss.set(data.step, data.valid_loss);
      if (Number.isFinite(data.valid_accuracy)) series.validAccuracy.set(data.step, data.valid_accuracy);
    }
    const points = (values) => [...values].map(([x, y]) => ({ x, y })).sort((a, b) => a.x - b.x);
    return { total, trainLoss: points(series.trainLoss), validLoss: points(series.validLoss), validAccuracy: points(series.validAccuracy) };
  }
}

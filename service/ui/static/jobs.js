// The "Tune" view: asks the server for jobs and their events while it is shown, and draws the list and one job.

import { api } from "./api.js";
import { sparkline } from "./chart.js";
import { byId, make, notice } from "./dom.js";
import { EventLog } from "./events.js";
import { ago } from "./format.js";
import { showJob } from "./job_detail.js";
import { JobForm } from "./job_form.js";
import { badge, isActive, jobName, progressBar } from "./job_status.js";
import { routeTo } from "./route.js";

const FAST = 1000; // milliseconds between questions while a job is under way
const SLOW = 5000;

export class TuneView {
  constructor() {
    this.list = byId("job-list");
    this.detail = byId("job-detail");
    this.notice = byId("job-list-notice");
    this.form = new JobForm((job) => {
      location.hash = routeTo("tune", { job: job.id });
    });
    this.logs = new Map(); // job id -> EventLog
    this.finished = new Set(); // jobs whose events can't change any more and are all here
    this.jobs = [];
    this.drawn = new Map(); // place -> what it shows, so that an unchanged place is left alone
    // A redraw between press and release would swallow the click.
    for (const [name, pressed] of [["pointerdown", true], ["pointerup", false], ["pointercancel", false]]) {
      document.addEventListener(name, () => { this.pressed = pressed; }, true);
    }
    document.addEventListener("visibilitychange", () => {
      if (!document.hidden && this.shown) this.poll();
    });
  }

  async enter(route) {
    this.shown = true;
    this.selected = route.job ?? null;
    if (this.jobs.length) this.draw();
    await Promise.all([this.form.loadModels(route.model), this.poll()]);
    const stacked = matchMedia("(max-width: 900px)").matches; // there the chosen job lies below the list
    if (stacked && route.job) this.detail.scrollIntoView();
  }

  leave() {
    this.shown = false;
    clearTimeout(this.timer);
  }

  async poll() {
    clearTimeout(this.timer);
    const turn = Symbol("turn"); // a newer poll makes an older one stop
    this.turn = turn;
    let active = false;
    try {
      this.jobs = (await api.jobs()).data;
      const other = this.selected && !this.jobs.some((job) => job.id === this.selected);
      this.older = other ? await api.job(this.selected).catch((error) => (error.status === 404 ? null : Promise.reject(error))) : null;
      if (this.turn !== turn) return;
      this.draw();
      await this.refreshLogs(turn);
      active = this.jobs.some(isActive);
      this.notice.replaceChildren();
      if (this.form.failedToList) await this.form.loadModels();
    } catch (error) {
      if (this.turn === turn) this.showError(error);
    }
    if (this.turn === turn && this.shown && !document.hidden) this.timer = setTimeout(() => this.poll(), active ? FAST : SLOW);
  }

  /** The chosen job first: it is what the person looks at. */
  async refreshLogs(turn) {
    const chosen = this.chosen();
    const others = this.jobs.filter((job) => job.id !== chosen?.id);
    for (const job of [chosen, ...others]) {
      if (!job || this.finished.has(job.id)) continue;
      const fresh = await this.logOf(job).refresh(job.id);
      if (this.turn !== turn) return;
      if (!isActive(job)) this.finished.add(job.id);
      if (fresh) this.draw();
    }
  }

  logOf(job) {
    if (!this.logs.has(job.id)) this.logs.set(job.id, new EventLog());
    return this.logs.get(job.id);
  }

  chosen() {
    if (!this.selected) return this.jobs[0];
    return this.jobs.find((job) => job.id === this.selected) ?? this.older;
  }

  draw() {
    if (this.pressed) return; // the next poll draws
    const job = this.chosen();
    if (this.isNews(this.list, this.jobs.map((each) => [each, ago(each.created_at), this.logOf(each).size, each.id === job?.id]))) this.drawList(job);
    if (!this.isNews(this.detail, [job ?? this.selected, job && this.logOf(job).size])) return;
    if (job) showJob(this.detail, job, this.logOf(job), (chosen, action) => this.act(chosen, action));
    else if (this.selected) this.detail.replaceChildren(notice("error", "No such job", `${this.selected} is not on this server.`));
    else this.detail.replaceChildren(notice("empty", "Nothing tuned yet", "Upload a file of labelled texts to start your first job. Its learning curve appears here while it trains."));
  }

  isNews(place, content) {
    const signature = JSON.stringify(content);
    if (this.drawn.get(place) === signature) return false;
    this.drawn.set(place, signature);
    return true;
  }

  drawList(chosen) {
    const focused = this.list.contains(document.activeElement) ? document.activeElement.id : "";
    this.list.replaceChildren(...this.jobs.map((job) => make("li", {}, this.entry(job, job.id === chosen?.id))));
    if (focused) byId(focused)?.focus({ preventScroll: true });
    if (!this.jobs.length) this.list.replaceChildren(make("li", { class: "blank" }, "No jobs yet."));
  }

  entry(job, chosen) {
    const curves = this.logOf(job).curves();
    return make("a", { id: `entry-${job.id}`, class: "job-entry", href: routeTo("tune", { job: job.id }), "aria-current": chosen ? "true" : null },
      make("span", { class: "job-entry-name" }, jobName(job)),
      badge(job),
      make("span", { class: "hint job-entry-id" }, `${ago(job.created_at)} · ${job.id.slice(0, 14)}`),
      curves.trainLoss.length > 1 ? sparkline(curves) : make("span", { class: "sparkline" }),
      progressBar(job));
  }

  async act(job, action) {
    try {
      await api.actOnJob(job.id, action);
      await this.poll();
    } catch (error) {
      this.showError(error);
    }
  }

  showError(error) {
    this.notice.replaceChildren(notice("error", error.status === 0 ? "No connection" : "The jobs could not be read", error.message));
    this.drawn.delete(this.detail);
    if (!this.jobs.length) this.detail.replaceChildren(make("p", { class: "blank" }, "Jobs appear here once the service answers."));
  }
}

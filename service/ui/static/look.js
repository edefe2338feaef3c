// The "Look inside" view: one text through one model, step by step. It owns the form and the order of the requests.

import { api } from "./api.js";
import { AttentionPanel } from "./attention.js";
import { showNoClassifier, showScores } from "./classify.js";
import { byId, make, notice } from "./dom.js";
import { shortModelName } from "./format.js";
import { recordRoute } from "./route.js";
import { showTokens } from "./tokens.js";

const EXAMPLES = [
  "A quiet, unforgettable film.",
  "The plot is thin, but the actors are wonderful.",
  "The bank by the river raised its interest rates.",
  "这部电影太好看了",
];
const TYPING_PAUSE = 500; // milliseconds
const RETRY_HELPS = [0, 429, 500, 503, 504];
const LIVE_CHARACTERS = 300; // all heads of a longer text are megabytes: those wait for the button

export class LookView {
  constructor() {
    this.model = byId("look-model");
    this.text = byId("look-text");
    this.places = { tokens: byId("look-tokens"), label: byId("look-label"), notice: byId("look-notice"), busy: byId("look-busy") };
    this.attention = new AttentionPanel(byId("look-attention"), (layer, head) => {
      this.wanted = { layer, head };
      this.record();
    });
    this.models = [];
    this.wanted = { layer: 0, head: 0 };
    byId("look-examples").replaceChildren(...EXAMPLES.map((example) => make("button", {
      type: "button", class: "chip", click: () => this.take(example), lang: /[\u4e00-\u9fff]/.test(example) ? "zh" : null,
    }, example)));
    byId("look-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.run();
    });
    this.model.addEventListener("change", () => this.run());
    this.text.addEventListener("input", () => this.runSoon());
    this.text.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) this.run();
    });
  }

  /** Called when the route leads here. */
  async enter(route) {
    this.shown = true;
    this.wantedModel = route.model ?? this.wantedModel;
    const whole = (given, kept) => (/^\d{1,4}$/.test(given ?? "") ? Number(given) : kept);
    this.wanted = { layer: whole(route.layer, this.wanted.layer), head: whole(route.head, this.wanted.head) };
    if (route.text !== undefined) this.text.value = route.text;
    else if (!this.text.value) this.text.value = EXAMPLES[0];
    if (await this.loadModels(route.model)) await this.run();
  }

  leave() {
    this.shown = false; // what is still under way must not write this view's route over another's
    clearTimeout(this.timer);
    this.running?.abort();
  }

  async loadModels(wanted) {
    try {
      this.models = (await api.models()).data;
    } catch (error) {
      this.fail("The models could not be listed", error);
      return false;
    }
    const chosen = wanted || this.model.value;
    this.model.replaceChildren(...this.models.map((model) => make("option", { value: model.id, title: model.id }, nameOf(model))));
    if (!this.models.length) {
      this.places.notice.replaceChildren(notice("empty", "No model here yet", "Run “vitrine setup” on the server to fetch the base model, then reload this page."));
      return false;
    }
    if (this.models.some((model) => model.id === chosen)) this.model.value = chosen;
    else if (wanted) {
      this.model.selectedIndex = -1;
      this.clear();
      this.places.notice.replaceChildren(notice("error", "This link names a model that is not here", `${wanted} is not on this server. Choose another model above.`));
      return false;
    }
    return true;
  }

  take(text) {
    this.text.value = text;
    this.run();
  }

  runSoon() {
    clearTimeout(this.timer);
    if (this.text.value.length <= LIVE_CHARACTERS) this.timer = setTimeout(() => this.run(), TYPING_PAUSE);
  }

  async run() {
    if (!this.shown) return;
    clearTimeout(this.timer);
    this.running?.abort(); // an older answer must not overwrite a newer one
    const running = new AbortController();
    this.running = running;
    const model = this.models.find((candidate) => candidate.id === this.model.value);
    const text = this.text.value;
    if (!model) {
      await this.enter({ model: this.wantedModel });
      return;
    }
    this.wantedModel = model.id;
    this.record();
    if (!text.trim()) {
      this.showEmpty();
      return;
    }
    this.places.busy.textContent = "Reading…";
    try {
      const tokens = await api.tokenize(model.id, text, running.signal);
      this.places.notice.replaceChildren();
      showTokens(this.places.tokens, tokens.data[0], text);
      await Promise.all([this.runLabel(model, text, running.signal), this.runAttention(model, text, running.signal)]);
    } catch (error) {
      if (error.name !== "AbortError") this.fail("This text could not be read", error);
    }
    if (this.running === running) this.places.busy.textContent = "";
  }

  async runLabel(model, text, signal) {
    byId("look-label-caption").hidden = model.task !== "classification";
    if (model.task !== "classification") return showNoClassifier(this.places.label, model);
    try {
      return showScores(this.places.label, (await api.classify(model.id, text, signal)).data[0]);
    } catch (error) {
      if (error.name === "AbortError") throw error;
      return this.places.label.replaceChildren(notice("error", "No label", error.message));
    }
  }

  async runAttention(model, text, signal) {
    try {
      this.attention.show(await api.attention(model.id, text, signal), this.wanted, text);
      this.wanted = { layer: this.attention.layer, head: this.attention.head }; // a link may have named ones that are not here
      this.record();
    } catch (error) {
      if (error.name === "AbortError") throw error;
      this.attention.showError(error);
    }
  }

  showEmpty() {
    this.clear();
    this.places.notice.replaceChildren(notice("empty", "Nothing to read yet", "Write a few words above, or take an example."));
  }

  fail(title, error) {
    this.clear();
    const again = make("button", { type: "button", class: "button button-small", click: () => this.run() }, "Try again");
    const heading = error.status === 0 ? "No connection" : title;
    this.places.notice.replaceChildren(notice("error", heading, error.message, RETRY_HELPS.includes(error.status) ? again : null));
  }

  clear() {
    const blank = () => make("p", { class: "blank" }, "Appears here once the text is read.");
    this.places.busy.textContent = "";
    this.places.tokens.replaceChildren(blank());
    this.places.label.replaceChildren(blank());
    this.attention.clear();
    this.attention.message.replaceChildren(blank());
  }

  record() {
    recordRoute("look", { model: this.model.value, text: this.text.value, ...this.wanted });
  }
}

function nameOf(model) {
  if (model.task !== "classification") return `${model.id} (base model)`;
  const ending = model.id.startsWith("ft:") ? ` · ${model.id.split(":").at(-1)}` : ""; // two jobs may share a name
  return `${shortModelName(model.id)} (${(model.labels ?? []).join(", ").slice(0, 40)})${ending}`;
}

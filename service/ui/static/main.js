// Starts the page: which view the URL asks for, and the readiness light in the header.

import { api } from "./api.js";
import { byId } from "./dom.js";
import { TuneView } from "./jobs.js";
import { watchLogin } from "./login.js";
import { LookView } from "./look.js";
import { readRoute } from "./route.js";

const READY_SECONDS = 5;
const READINESS = { ready: "ready", loading: "loading model", down: "not reachable" };

// Before the views, whose canvases redraw on the same event.
document.fonts.addEventListener("loadingdone", () => document.documentElement.classList.add("cjk-font"));

const views = { look: new LookView(), tune: new TuneView() };

function follow() {
  const route = readRoute();
  for (const name of Object.keys(views)) {
    const shown = name === route.view;
    byId(`view-${name}`).hidden = !shown;
    if (shown) byId(`tab-${name}`).setAttribute("aria-current", "page");
    else byId(`tab-${name}`).removeAttribute("aria-current");
    if (!shown) views[name].leave?.();
  }
  document.title = route.view === "tune" ? "Tune · Vitrine" : "Look inside · Vitrine";
  views[route.view].enter(route);
}

async function watchReadiness() {
  const state = await api.isReady();
  byId("readiness").dataset.state = state;
  if (byId("readiness-text").textContent !== READINESS[state]) byId("readiness-text").textContent = READINESS[state];
  setTimeout(watchReadiness, (state === "ready" ? READY_SECONDS : 3) * 1000);
}

// A plain "#content" link would replace the route in the hash.
byId("skip-link").addEventListener("click", (event) => {
  event.preventDefault();
  byId("content").focus();
});
window.addEventListener("hashchange", follow);
watchLogin(follow);
follow();
watchReadiness();

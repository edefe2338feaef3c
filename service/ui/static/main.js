// Which place is shown follows from the URL's hash, so that every view can be shared and survives a refresh.
import { ready } from "/ui/api.js";
import { element } from "/ui/dom.js";
import * as look from "/ui/look.js";
import * as tune from "/ui/tune.js";

const PLACES = { look, tune };
const READY_MILLISECONDS = 5000;
let leave = null;

function go(name, parameters = {}, { quiet = false } = {}) {
  const hash = `#/${name}?${new URLSearchParams(parameters)}`;
  if (quiet) history.replaceState(null, "", hash);
  else if (location.hash === hash) route();
  else location.hash = hash;
}

async function route() {
  const [path, query] = location.hash.replace(/^#\//, "").split("?");
  const name = path in PLACES ? path : "look";
  leave?.();
  leave = null;
  for (const link of document.querySelectorAll("nav a")) link.classList.toggle("here", link.dataset.place === name);
  const place = document.getElementById("place");
  try {
    const stop = await PLACES[name].show(place, new URLSearchParams(query), go);
    leave = typeof stop === "function" ? stop : null;
  } catch (error) {
    place.replaceChildren(element("p", { class: "error", role: "alert" }, error.message));
  }
}

async function checkReady() {
  const dot = document.getElementById("ready");
  const up = await ready().catch(() => null);
  dot.className = `ready ${up ? "up" : up === null ? "down" : ""}`;
  dot.lastChild.textContent = up ? "ready" : up === null ? "not reachable" : "loading models";
}

window.addEventListener("hashchange", route);
route();
checkReady();
setInterval(checkReady, READY_MILLISECONDS);

// The state of the page lives in the URL's hash, so that a refresh or a shared link shows the same thing. A hash
// never reaches the server: a text in it stays out of access logs.

/** "#/look?model=a&text=b" -> {view: "look", model: "a", text: "b"} */
export function readRoute() {
  const [path, query = ""] = location.hash.replace(/^#\/?/, "").split("?", 2);
  return { ...Object.fromEntries(new URLSearchParams(query)), view: path === "tune" ? "tune" : "look" };
}

export function routeTo(view, values = {}) {
  const kept = Object.entries(values).filter(([, value]) => value !== null && value !== undefined && value !== "");
  const query = new URLSearchParams(kept).toString();
  return `#/${view}${query ? `?${query}` : ""}`;
}

/** Records small changes (a head, a letter) without a step of the Back button and without a hashchange event. */
export function recordRoute(view, values) {
  history.replaceState(null, "", routeTo(view, values));
}

// The HTTP calls of the page. Every failure becomes one ApiError with a message a person can act on: the server's
// own message when it sent its error envelope, otherwise what went wrong on the way.

export class ApiError extends Error {
  constructor(message, status, code = null) {
    super(message);
    this.status = status; // 0: no answer came at all
    this.code = code;
  }
}

export const api = {
  models: () => send("GET", "/v1/models"),
  tokenize: (model, input, signal) => send("POST", "/v1/tokenize", { model, input }, signal),
  classify: (model, input, signal) => send("POST", "/v1/classify", { model, input, truncate: true }, signal),
  attention: (model, input, signal) =>
    send("POST", "/v1/attention", { model, input, truncate: true, layers: "all", heads: "all" }, signal),
  attentionImage,
  uploadFile,
  jobs: () => send("GET", "/v1/fine_tuning/jobs?limit=20"),
  job: (id) => send("GET", `/v1/fine_tuning/jobs/${encodeURIComponent(id)}`),
  createJob: (body) => send("POST", "/v1/fine_tuning/jobs", body),
  /** `action`: cancel, pause or resume. */
  actOnJob: (id, action) => send("POST", `/v1/fine_tuning/jobs/${encodeURIComponent(id)}/${action}`),
  jobEvents,
  isReady,
  login,
  logout,
  whoami: () => send("GET", "/v1/whoami"),
};

function jobEvents(id, limit, after) {
  const query = new URLSearchParams(after ? { limit, after } : { limit });
  return send("GET", `/v1/fine_tuning/jobs/${encodeURIComponent(id)}/events?${query}`);
}

function uploadFile(file) {
  const form = new FormData();
  form.append("purpose", "fine-tune");
  form.append("file", file, file.name);
  return send("POST", "/v1/files", form);
}

/** A PNG blob of some heads. The browser's own image request would ask for other types, hence fetch. */
async function attentionImage(model, input, layer = null, head = null) {
  const query = new URLSearchParams({ model, input, truncate: "true" });
  if (layer !== null) query.set("layers", layer);
  if (head !== null) query.set("heads", head);
  const response = await answer(`/v1/attention?${query}`, { headers: { accept: "image/png" } });
  return response.blob();
}

/** Trades an API key for this browser's session; rejects a key that is not good. */
async function login(key) {
  await answer("/login", { method: "POST", body: JSON.stringify({ key }), headers: { "content-type": "application/json" } });
}

async function logout() {
  await answer("/logout", { method: "POST" });
}

/** "ready", "loading" (it answers, the model is not there yet) or "down". */
async function isReady() {
  try {
    const response = await fetch("/readyz", { cache: "no-store" });
    return response.ok ? "ready" : "loading";
  } catch {
    return "down";
  }
}

async function send(method, path, body = null, signal = null) {
  const options = { method, signal, headers: { accept: "application/json" } };
  if (body instanceof FormData) options.body = body;
  else if (body !== null) {
    options.body = JSON.stringify(body);
    options.headers["content-type"] = "application/json";
  }
  const response = await answer(path, options);
  return response.json();
}

async function answer(path, options) {
  let response;
  try {
    response = await fetch(path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError("The service does not answer. Check that it runs, then try again.", 0);
  }
  if (response.ok) return response;
  if (response.status === 401 && path !== "/login") document.dispatchEvent(new Event("login-needed"));
  const envelope = await response.json().catch(() => null);
  const detail = envelope?.error;
  throw new ApiError(detail?.message ?? `The service answered with status ${response.status}.`, response.status, detail?.code);
}

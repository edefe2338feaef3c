// The HTTP API as functions; an error answer becomes an Error with the server's own words.
async function call(path, options = {}) {
  let response;
  try {
    response = await fetch(path, options);
  } catch {
    throw new Error("the service does not answer; is it running?");
  }
  if (!response.ok) {
    const body = await response.json().catch(() => null);
    throw new Error(body?.error?.message ?? `the service answered ${response.status}`);
  }
  return response;
}

async function post(path, body) {
  const headers = { "content-type": "application/json", accept: "application/json" };
  return (await call(path, { method: "POST", headers, body: JSON.stringify(body) })).json();
}

const get = async (path) => (await call(path)).json();
const jobsPath = "/v1/fine_tuning/jobs";

export const models = async () => (await get("/v1/models")).data;
export const tokenize = async (model, input) => (await post("/v1/tokenize", { model, input, truncate: true })).data[0];
export const classify = async (model, input) => (await post("/v1/classify", { model, input, truncate: true })).data[0];
export const attention = (model, input) => post("/v1/attention", { model, input, truncate: true });
export const jobs = async () => (await get(`${jobsPath}?limit=50`)).data;
export const cancelJob = (id) => post(`${jobsPath}/${id}/cancel`, {});
export const createJob = (body) => post(jobsPath, body);
export const events = (id, after) => get(`${jobsPath}/${id}/events?limit=200${after ? `&after=${after}` : ""}`);
export const ready = async () => (await fetch("/readyz")).ok;

export async function upload(file) {
  const form = new FormData();
  form.append("purpose", "fine-tune");
  form.append("file", file);
  return (await call("/v1/files", { method: "POST", body: form })).json();
}

export async function attentionPicture(model, input, layer, head) {
  const query = new URLSearchParams({ model, input, truncate: "true", layers: layer, heads: head });
  return (await call(`/v1/attention?${query}`, { headers: { accept: "image/png" } })).blob();
}

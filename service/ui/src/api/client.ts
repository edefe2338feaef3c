// One way to ask the service. Every failure becomes one ApiError with the server's own words, or what went wrong on the way.

import { store } from "../base/store";

export class ApiError extends Error {
  constructor(
    message: string,
    readonly status: number, // 0: no answer came at all
    readonly code: string | null = null,
  ) {
    super(message);
  }
}

/** Counts refusals for want of a key; the login dialog opens when it moves. */
export const refused = store(0);

interface Options {
  body?: unknown;
  accept?: string;
  signal?: AbortSignal;
}

export async function ask<T>(method: string, path: string, options: Options = {}): Promise<T> {
  return (await answer(method, path, options)).json() as Promise<T>;
}

export async function answer(method: string, path: string, { body, accept, signal }: Options = {}): Promise<Response> {
  const headers: Record<string, string> = { accept: accept ?? "application/json" };
  const form = body instanceof FormData;
  if (body !== undefined && !form) headers["content-type"] = "application/json";
  const content = body === undefined ? undefined : form ? body : JSON.stringify(body);
  let response: Response;
  try {
    response = await fetch(path, { method, headers, body: content, signal });
  } catch (error) {
    if (error instanceof DOMException && error.name === "AbortError") throw error;
    throw new ApiError("The service does not answer. Check that it runs, then try again. 服务没有应答。", 0);
  }
  if (response.ok) return response;
  if (response.status === 401 && path !== "/login") refused.set(refused.get() + 1);
  throw await errorOf(response);
}

interface Envelope {
  error?: { message?: string; code?: string | null };
}

async function errorOf(response: Response): Promise<ApiError> {
  const envelope = (await response.json().catch(() => null)) as Envelope | null;
  const message = envelope?.error?.message ?? `The service answered with status ${response.status}.`;
  return new ApiError(message, response.status, envelope?.error?.code ?? null);
}

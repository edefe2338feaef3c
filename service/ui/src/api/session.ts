// Who is here, and whether the service is ready.

import { answer, ask } from "./client";

export interface Caller {
  owner: string;
  scopes: string[];
  key_id: string | null; // null while the service has no keys
}

export const whoami = (): Promise<Caller> => ask("GET", "/v1/whoami");
export const login = (key: string): Promise<Response> => answer("POST", "/login", { body: { key } });
export const logout = (): Promise<Response> => answer("POST", "/logout");

export type Readiness = "ready" | "loading" | "down";

export async function readiness(): Promise<Readiness> {
  try {
    return (await fetch("/readyz", { cache: "no-store" })).ok ? "ready" : "loading";
  } catch {
    return "down";
  }
}

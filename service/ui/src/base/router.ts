// Addresses of the page: which place, of what, with which choices. Plain links work: clicks on our own are taken here.

import { store, useStore } from "./store";

export const PLACES = ["data", "tune", "evaluate", "look", "step", "models", "serving"] as const;
export type Place = (typeof PLACES)[number] | "home";

export interface Address {
  place: Place | null; // null: there is no such place
  id: string | null;
  query: URLSearchParams;
}

function read(): Address {
  const [, first = "", ...rest] = location.pathname.split("/");
  const id = rest.length ? decodeURIComponent(rest.join("/")) || null : null;
  const place = first === "" ? "home" : (PLACES.find((known) => known === first) ?? null);
  return { place, id, query: new URLSearchParams(location.search) };
}

const address = store<Address>(read());

export function useAddress(): Address {
  return useStore(address);
}

export function go(path: string): void {
  const moved = new URL(path, location.href).pathname !== location.pathname;
  history.pushState(null, "", path);
  address.set(read());
  if (!moved) return;
  scrollTo(0, 0);
  document.getElementById("content")?.focus({ preventScroll: true });
}

/** Puts choices into the address without a step in the browser's history; null takes one out. */
export function note(changes: Record<string, string | number | null>): void {
  const query = new URLSearchParams(location.search);
  for (const [name, value] of Object.entries(changes)) {
    if (value === null || value === "") query.delete(name);
    else query.set(name, String(value));
  }
  const text = query.toString();
  history.replaceState(null, "", text ? `${location.pathname}?${text}` : location.pathname);
  address.set(read());
}

export function pathTo(place: Place, id: string | null = null, query: Record<string, string | null> = {}): string {
  const search = new URLSearchParams(
    Object.entries(query).filter((pair): pair is [string, string] => pair[1] !== null),
  );
  const path = place === "home" ? "/" : `/${place}${id ? `/${encodeURIComponent(id)}` : ""}`;
  return search.size ? `${path}?${search}` : path;
}

export function startRouter(): void {
  addEventListener("popstate", () => address.set(read()));
  document.addEventListener("click", (event) => {
    const link = event.target instanceof Element ? event.target.closest("a") : null;
    const held = event.ctrlKey || event.metaKey || event.shiftKey || event.altKey || event.button !== 0;
    if (!link || held || event.defaultPrevented || link.target || link.hasAttribute("download")) return;
    const first = link.pathname.split("/")[1] ?? "";
    const ours = first === "" || PLACES.some((place) => place === first);
    if (link.origin !== location.origin || !ours || link.hash) return;
    event.preventDefault();
    go(link.pathname + link.search);
  });
}

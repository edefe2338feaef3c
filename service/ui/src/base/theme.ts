// Light, dark, or as the system has it; and the colours as numbers, for canvases, which know no CSS variables.

import { remember, remembered } from "./remember";
import { store } from "./store";

export type Theme = "auto" | "light" | "dark";
export type Rgb = readonly [number, number, number];

const known = remembered("theme");
export const theme = store<Theme>(known === "light" || known === "dark" ? known : "auto");
/** Counts changes of the colours; canvases draw again when it moves. */
export const paint = store(0);

const colours = new Map<string, string>();
const probe = document.createElement("span");

export function choose(chosen: Theme): void {
  remember("theme", chosen);
  theme.set(chosen);
  apply();
}

function apply(): void {
  if (theme.get() === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme.get();
  colours.clear();
  paint.set(paint.get() + 1);
}

export function startTheme(): void {
  probe.hidden = true;
  document.body.append(probe);
  apply();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", apply);
  document.fonts.addEventListener("loadingdone", () => {
    document.documentElement.classList.toggle("cjk-font", document.fonts.check('12px "Vitrine CJK"', "字"));
    paint.set(paint.get() + 1);
  });
}

/** Such as "rgb(31, 95, 168)", of the CSS variable --name. */
export function colour(name: string): string {
  let found = colours.get(name);
  if (!found) {
    probe.style.color = `var(--${name})`;
    found = getComputedStyle(probe).color;
    colours.set(name, found);
  }
  return found;
}

export function rgb(name: string): Rgb {
  const [red, green, blue] = (colour(name).match(/[\d.]+/g) ?? []).map(Number);
  return [red ?? 0, green ?? 0, blue ?? 0];
}

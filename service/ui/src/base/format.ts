// Numbers and times as people read them, in the interface's language.

import { language } from "./language";

function locale(): string {
  return language.get() === "zh" ? "zh-CN" : "en-GB";
}

export function count(value: number): string {
  return value.toLocaleString(locale(), { maximumFractionDigits: 0 });
}

export function percent(share: number, digits = 1): string {
  return share.toLocaleString(locale(), {
    style: "percent",
    minimumFractionDigits: digits,
    maximumFractionDigits: digits,
  });
}

/** Three digits that say something, whatever the size; of a number from 100 on all before the point. */
export function figure(value: number): string {
  if (value === 0) return "0";
  if (value === -Infinity) return "−∞";
  if (!Number.isFinite(value)) return String(value);
  const size = Math.abs(value);
  if (isFar(size)) return value.toExponential(2).replaceAll("-", "−");
  return (size >= 100 ? value.toFixed(0) : value.toPrecision(3)).replaceAll("-", "−");
}

/** A number beside an axis, with all its digits: its neighbour may differ in the last. */
export function tick(value: number): string {
  const whole = Number(value.toPrecision(12)); // without what adding up steps leaves
  return (isFar(Math.abs(whole)) ? whole.toExponential() : String(whole)).replaceAll("-", "−");
}

/** Whether a number of this size is easier to read with an exponent. */
function isFar(size: number): boolean {
  return (size !== 0 && size < 0.0001) || size >= 1e6;
}

export function bytes(size: number): string {
  if (size < 1024) return `${size} B`;
  if (size < 2 ** 20) return `${(size / 1024).toFixed(1)} kB`;
  return `${(size / 2 ** 20).toFixed(1)} MB`;
}

export function duration(seconds: number): string {
  const whole = Math.max(0, Math.round(seconds));
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
}

export function when(unixSeconds: number): string {
  return new Date(unixSeconds * 1000).toLocaleString(locale(), { dateStyle: "medium", timeStyle: "short" });
}

export function shortened(text: string, length: number): string {
  const letters = Array.from(text);
  return letters.length > length ? `${letters.slice(0, length - 1).join("")}…` : text;
}

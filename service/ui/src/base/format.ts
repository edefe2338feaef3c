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

/** Three or four digits that say something, whatever the size. */
export function figure(value: number): string {
  if (value === -Infinity) return "−∞";
  if (!Number.isFinite(value)) return String(value);
  const size = Math.abs(value);
  if (size !== 0 && (size < 0.0005 || size >= 1e6)) return value.toExponential(1).replace("-", "−");
  const digits = size >= 100 ? 0 : size >= 10 ? 1 : size >= 1 ? 2 : 3;
  return value.toFixed(digits).replace("-", "−");
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

// The service's figures in Prometheus' text form, and what two looks at them say of the time between.

import { answer } from "./client";

export interface Sample {
  name: string;
  labels: Record<string, string>;
  value: number;
}

export interface Scrape {
  at: number; // seconds
  samples: Sample[];
}

const LINE = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})?\s+(\S+)/;
const LABEL = /(\w+)="((?:[^"\\]|\\.)*)"/g;

export async function scrape(signal?: AbortSignal): Promise<Scrape> {
  const text = await (await answer("GET", "/metrics", { accept: "text/plain", signal })).text();
  return { at: Date.now() / 1000, samples: samplesOf(text) };
}

export function samplesOf(text: string): Sample[] {
  return text.split("\n").flatMap((line) => {
    const found = line.startsWith("#") ? null : LINE.exec(line);
    if (!found) return [];
    const labels = Object.fromEntries([...(found[2] ?? "").matchAll(LABEL)].map(([, name, value]) => [name, value]));
    return [{ name: found[1], labels, value: Number(found[3].replace("+Inf", "Infinity")) }];
  });
}

type Wanted = (labels: Record<string, string>) => boolean;
const ALL: Wanted = () => true;

export function sum({ samples }: Scrape, name: string, wanted: Wanted = ALL): number {
  return samples.reduce(
    (total, sample) => (sample.name === name && wanted(sample.labels) ? total + sample.value : total),
    0,
  );
}

/** Growth of a counter a second; null when the service was started anew between. */
export function rate(before: Scrape, now: Scrape, name: string, wanted: Wanted = ALL): number | null {
  const grown = sum(now, name, wanted) - sum(before, name, wanted);
  return grown < 0 ? null : grown / Math.max(0.001, now.at - before.at);
}

/** Of a histogram's growth between two looks: the bound under which that share lies, within its bucket evenly spread. */
export function quantile(
  before: Scrape,
  now: Scrape,
  name: string,
  share: number,
  wanted: Wanted = ALL,
): number | null {
  const buckets = grownBuckets(before, now, `${name}_bucket`, wanted);
  const total = buckets.at(-1)?.[1] ?? 0;
  if (total <= 0) return null;
  const sought = share * total;
  let [lower, below] = [0, 0];
  for (const [bound, count] of buckets) {
    if (count >= sought)
      return bound === Infinity ? lower : lower + ((bound - lower) * (sought - below)) / Math.max(1, count - below);
    [lower, below] = [bound, count];
  }
  return null;
}

function grownBuckets(before: Scrape, now: Scrape, name: string, wanted: Wanted): [number, number][] {
  const grown = new Map<number, number>();
  for (const [scraped, sign] of [
    [now, 1],
    [before, -1],
  ] as const)
    for (const sample of scraped.samples) {
      if (sample.name !== name || !wanted(sample.labels)) continue;
      const bound = Number((sample.labels.le ?? "").replace("+Inf", "Infinity"));
      grown.set(bound, (grown.get(bound) ?? 0) + sign * sample.value);
    }
  return [...grown].sort(([a], [b]) => a - b);
}

// What happened between two looks at the metrics.

import { quantile, rate, sum, type Scrape } from "../../api/metrics";

export const LANES = ["fast", "look", "write", "bulk"] as const;
export type Lane = (typeof LANES)[number];

export interface Moment {
  at: number;
  requests: number | null; // a second
  p50: number | null; // milliseconds
  p95: number | null;
  tokens: number | null; // a second
  rows: number | null; // texts a batch
  waiting: Record<Lane, number>;
}

/** Routes that answer people; probes, this page and its own looks are not counted. */
const answers = (labels: Record<string, string>): boolean =>
  (labels.route ?? "").startsWith("/v1/") && !(labels.route ?? "").endsWith("/events");

export function between(before: Scrape, now: Scrape): Moment {
  const seconds = (share: number): number | null => {
    const found = quantile(before, now, "vitrine_request_duration_seconds", share, answers);
    return found === null ? null : 1000 * found;
  };
  const batches = rate(before, now, "vitrine_batch_rows_count");
  const texts = rate(before, now, "vitrine_batch_rows_sum");
  const waiting = (lane: Lane): number => sum(now, "vitrine_queue_depth", (labels) => labels.lane === lane);
  return {
    at: now.at,
    requests: rate(before, now, "vitrine_requests_total", answers),
    p50: seconds(0.5),
    p95: seconds(0.95),
    tokens: rate(before, now, "vitrine_tokens_total"),
    rows: batches && texts ? texts / batches : null,
    waiting: { fast: waiting("fast"), look: waiting("look"), write: waiting("write"), bulk: waiting("bulk") },
  };
}

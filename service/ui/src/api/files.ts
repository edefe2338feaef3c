// Training files, and the report on what is in them.

import { answer, ApiError, ask } from "./client";

export interface DataFile {
  id: string;
  bytes: number;
  created_at: number;
  filename: string;
  purpose: string;
  status: "uploaded" | "processed" | "error";
  status_details: string | null;
  warnings: string[] | null;
  num_rows: number | null;
  labels: string[] | null;
  task: string | null;
}

export interface Said {
  line: number;
  message: string;
}

export interface Lengths {
  rows: number;
  total: number;
  mean: number;
  median: number;
  p95: number;
  longest: number;
  cut_at: number;
  rows_cut: number;
  tokens_cut: number;
  histogram: Histogram;
}

export interface Histogram {
  edges: number[];
  counts: number[];
}

export interface Group {
  size: number;
  lines: number[];
  texts: string[];
  labels: string[];
}

export interface Sample {
  why: string;
  line: number;
  target: string;
  raw: string[];
  characters: number;
  normalised: string;
  tokens: { token: string; id: number; text: string; kind: "known" | "special" | "unknown"; tag: string }[];
  num_tokens: number;
  tokens_cut: number;
}

export interface Report {
  name: string;
  task: string;
  model: string;
  max_length: number;
  rows: { read: number; kept: number; faulty: number };
  held_out: boolean;
  splits?: { name: string; rows: number }[];
  labels?: ({ label: string; count: number } & Record<string, number | string>)[];
  scores?: Histogram | null;
  tokens?: Lengths;
  vocabulary?: {
    size: number;
    used: number;
    used_share: number;
    tokens: number;
    unknown_tokens: number;
    unknown_rate: number;
    unknown: { text: string; count: number }[];
    tokens_per_character: number;
  };
  duplicates?: Record<"exact" | "contradictory" | "near", { rows: number; groups: Group[] }>;
  leakage?: { exact: number; near: number; validation_rows: number; lines: number[]; near_lines: number[] } | null;
  batches?: {
    batch_size: number;
    per_epoch: number;
    padding_share: number;
    sample: { rows: number; tokens: number; padding_share: number; lengths: number[]; ids: number[][] };
  };
  samples?: Sample[];
  flow: { stage: string; count: number; lost: number; why: string }[];
  num_faults: number;
  num_warnings: number;
  faults: Said[];
  warnings: Said[];
}

const path = (id: string): string => `/v1/files/${encodeURIComponent(id)}`;

export const files = async (signal?: AbortSignal): Promise<DataFile[]> =>
  (await ask<{ data: DataFile[] }>("GET", "/v1/files?purpose=fine-tune&limit=200", { signal })).data;
export const file = (id: string, signal?: AbortSignal): Promise<DataFile> => ask("GET", path(id), { signal });
export const removeFile = (id: string): Promise<unknown> => ask("DELETE", path(id));
export const contentPath = (id: string): string => `${path(id)}/content`;

export function upload(chosen: File): Promise<DataFile> {
  const form = new FormData();
  form.append("purpose", "fine-tune");
  form.append("file", chosen, chosen.name);
  return ask("POST", "/v1/files", { body: form });
}

/** Asks until the worker has made the report. */
export async function report(id: string, model: string, signal: AbortSignal): Promise<Report> {
  for (;;) {
    try {
      return await ask("GET", `${path(id)}/report?${new URLSearchParams({ model })}`, { signal });
    } catch (error) {
      if (!(error instanceof ApiError) || error.code !== "processing") throw error;
    }
    await new Promise((done) => setTimeout(done, 700));
    signal.throwIfAborted();
  }
}

/** The beginning of a file, and whether that is all of it. */
export async function beginning(
  id: string,
  most: number,
  signal: AbortSignal,
): Promise<{ text: string; whole: boolean }> {
  const response = await answer("GET", contentPath(id), { accept: "*/*", signal });
  const blob = await response.blob();
  return { text: await blob.slice(0, most).text(), whole: blob.size <= most };
}

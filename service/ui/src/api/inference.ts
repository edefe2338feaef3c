// Text in, answers out.

import { ask } from "./client";

export type Input = string | [string, string];

export interface Tokens {
  ids: number[];
  tokens: string[];
  offsets: [number, number][];
  special: boolean[];
  truncated: boolean;
  full_length: number; // before it was cut
  normalised: string | null;
}

export interface Score {
  label: string;
  score: number;
}

export interface Classified {
  object: "classification" | "regression";
  label?: string;
  score: number;
  scores?: Score[];
  truncated: boolean;
}

export interface Tag {
  label: string;
  score: number;
  start: number;
  end: number;
  text: string;
}

export interface Candidate {
  token: string;
  score: number;
}

interface List<T> {
  data: T[];
}

export const tokenize = async (model: string, input: Input[], signal?: AbortSignal): Promise<Tokens[]> =>
  (
    await ask<List<Tokens>>("POST", "/v1/tokenize", {
      body: { model, input, truncate: true, normalised: true },
      signal,
    })
  ).data;
export const classify = async (model: string, input: string, signal?: AbortSignal): Promise<Classified> =>
  (await ask<List<Classified>>("POST", "/v1/classify", { body: { model, input: [input], truncate: true }, signal }))
    .data[0];
/** The likeliest tokens at each mask of a text. */
export const fillMask = async (model: string, input: string, signal?: AbortSignal): Promise<Candidate[][]> =>
  (
    await ask<List<{ masks: { candidates: Candidate[] }[] }>>("POST", "/v1/fill-mask", {
      body: { model, input: [input], truncate: true },
      signal,
    })
  ).data[0].masks.map((mask) => mask.candidates);

export const tag = async (model: string, input: string, signal?: AbortSignal): Promise<Tag[]> =>
  (await ask<List<{ tags: Tag[] }>>("POST", "/v1/tag", { body: { model, input: [input], truncate: true }, signal }))
    .data[0].tags;

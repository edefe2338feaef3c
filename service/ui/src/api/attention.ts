// Attention in its binary form (docs/en/attention-format.md): a step a row, a byte a weight. Kept so, since 512 tokens of 72
// heads would take 75 MB as floats; a head becomes numbers when it is painted.

import { answer } from "./client";

export const MEDIA_TYPE = "application/vnd.vitrine.attention";
export type Method = "raw" | "rollout" | "value_norm";
export type Merge = "token" | "word" | "character";
export type Special = "keep" | "hide" | "renormalise";

export interface Unit {
  text: string;
  start: number;
  end: number;
  segment: number;
  special: boolean;
  tokens: number[];
}

export interface Header {
  model: string;
  tokens: string[];
  ids: number[];
  special: boolean[];
  units: Unit[];
  layers: number[];
  heads: (number | "all")[];
  shape: [number, number, number, number];
  removed_mass: number[][];
  rows_sum_to_one: boolean;
  truncated: boolean;
}

export interface Options {
  method: Method;
  merge: Merge;
  special: Special;
}

/** One head: rows look, columns are looked at. */
export class Head {
  private most: number | null = null;

  constructor(
    readonly size: number,
    private readonly steps: Float32Array,
    private readonly codes: Uint8Array,
  ) {}

  weight(from: number, to: number): number {
    return this.steps[from] * this.codes[from * this.size + to];
  }

  get largest(): number {
    if (this.most === null) {
      let most = 0;
      for (let from = 0; from < this.size; from += 1)
        for (let to = 0; to < this.size; to += 1) most = Math.max(most, this.weight(from, to));
      this.most = most;
    }
    return this.most;
  }
}

export class Attention {
  constructor(
    readonly header: Header,
    private readonly steps: Float32Array,
    private readonly codes: Uint8Array,
  ) {}

  /** By places in header.layers and header.heads. */
  head(layer: number, head: number): Head {
    const [, heads, rows, columns] = this.header.shape;
    const first = (layer * heads + head) * rows;
    const codes = this.codes.subarray(first * columns, (first + rows) * columns);
    return new Head(rows, this.steps.subarray(first, first + rows), codes);
  }
}

export async function attention(
  model: string,
  input: string,
  options: Options,
  signal?: AbortSignal,
): Promise<Attention> {
  const body = { model, input, ...options, truncate: true };
  const response = await answer("POST", "/v1/attention", { body, accept: MEDIA_TYPE, signal });
  return readAttention(await response.arrayBuffer());
}

const MOST_WEIGHTS = 2 ** 28;
const fault = (why: string): Error => new Error(`no attention in version 1 of VATN: ${why}`);

/** The first document of an answer. Throws for anything else, before it takes memory that the bytes do not fill. */
export async function readAttention(buffer: ArrayBuffer): Promise<Attention> {
  const view = new DataView(buffer);
  if (buffer.byteLength < 16 || view.getUint32(0) !== 0x5641544e || view.getUint32(4, true) !== 1)
    throw fault("it begins otherwise");
  const body = 16 + view.getUint32(8, true);
  const end = body + view.getUint32(12, true);
  if (end > buffer.byteLength) throw fault("it is cut off");
  const header = headerOf(new Uint8Array(buffer, 16, body - 16));
  const [layers, heads, rows, columns] = header.shape;
  const steps = layers * heads * rows;
  const raw = new Uint8Array(steps * (4 + columns));
  let got = 0;
  try {
    const packed = new Blob([buffer.slice(body, end)]).stream().pipeThrough(new DecompressionStream("deflate"));
    const reader = packed.getReader();
    for (let next = await reader.read(); !next.done; next = await reader.read()) {
      raw.set(next.value, got); // throws when there is more than the shape says
      got += next.value.length;
    }
  } catch {
    throw fault("its body is damaged");
  }
  if (got !== raw.length) throw fault("its body is too short");
  return new Attention(header, new Float32Array(raw.buffer, 0, steps), raw.subarray(4 * steps));
}

function headerOf(bytes: Uint8Array): Header {
  let header: Header | null = null;
  try {
    header = JSON.parse(new TextDecoder().decode(bytes)) as Header | null;
  } catch {
    throw fault("its header is no JSON");
  }
  const shape: unknown = header?.shape;
  if (!Array.isArray(shape) || shape.length !== 4 || !shape.every((size) => Number.isInteger(size) && size > 0))
    throw fault("its header has no shape");
  if (shape.reduce((product: number, size: number) => product * size, 1) > MOST_WEIGHTS) throw fault("it is too large");
  return header as Header;
}

/** A picture that the service draws. */
export async function attentionPicture(
  model: string,
  input: string,
  options: Options,
  chosen: { layers: number[]; heads: number[] } | null,
  accept: "image/png" | "image/svg+xml",
): Promise<Blob> {
  const { method, merge, special } = options;
  const body = { model, input, method, merge, special, ...(chosen ?? {}), truncate: true };
  return (await answer("POST", "/v1/attention", { body, accept })).blob();
}

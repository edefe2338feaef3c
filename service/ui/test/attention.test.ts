import assert from "node:assert/strict";
import { test } from "node:test";
import { deflateSync } from "node:zlib";
import { readAttention } from "../src/api/attention";

const SHAPE = [2, 2, 3, 3];

function packed(shape: unknown, body: Uint8Array): Uint8Array {
  const head = new TextEncoder().encode(JSON.stringify({ shape }));
  const start = new DataView(new ArrayBuffer(16));
  start.setUint32(0, 0x5641544e);
  start.setUint32(4, 1, true);
  start.setUint32(8, head.length, true);
  start.setUint32(12, body.length, true);
  return Uint8Array.from([...new Uint8Array(start.buffer), ...head, ...body]);
}

const steps = new Float32Array(12).fill(0.5);
const codes = new Uint8Array(36).map((_, place) => place);
const whole = packed(SHAPE, deflateSync(Uint8Array.from([...new Uint8Array(steps.buffer), ...codes])));

test("a document is read", async () => {
  assert.equal((await readAttention(whole.buffer as ArrayBuffer)).head(1, 1).weight(2, 2), 17.5);
});

test("any bytes are a document or an error of ours, and a bomb takes no memory", async () => {
  let seed = 1;
  const random = (below: number): number => {
    seed = (seed * 1103515245 + 12345) % 2 ** 31;
    return Math.floor((seed / 2 ** 31) * below);
  };
  let refused = 0;
  const bomb = deflateSync(new Uint8Array(2 ** 26));
  const others = [
    packed(SHAPE, bomb),
    packed([2 ** 14, 2 ** 14, 2, 2], bomb),
    packed(null, bomb),
    packed([1, 1, 1, -1], bomb),
  ];
  for (let turn = 0; turn < 500 + others.length; turn += 1) {
    let bytes = others[turn] ?? whole.slice(0, random(4) ? whole.length : random(whole.length));
    if (turn >= others.length)
      for (let change = random(4); change > 0; change -= 1) bytes[random(bytes.length)] = random(256);
    if (!random(20)) bytes = new Uint8Array(random(64)).map(() => random(256));
    try {
      await readAttention(bytes.buffer as ArrayBuffer);
    } catch (error) {
      assert.match(String(error), /^Error: no attention in version 1 of VATN: \w/);
      refused += 1;
    }
  }
  assert.ok(refused > 200);
});

// Which rows are wanted: what a chart hands to the table of rows.

export type Picked =
  | { kind: "every" }
  | { kind: "label"; label: string }
  | { kind: "score"; bin: number; from: number; to: number; last: boolean } // without `to`, but in the last
  | { kind: "length"; bin: number; from: number; to: number }
  | { kind: "line"; line: number };

export const EVERY: Picked = { kind: "every" };

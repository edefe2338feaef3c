// What the scores of an explanation add up to, and how much of that no part of the text shows.

import type { Explanation } from "../../api/explain";
import { figure } from "../../base/format";
import type { lookWords } from "../../words/look";

const NOTED = 0.01; // of what the scores add up to, from which on a part of it is told

export function sumOf(
  { method, value, baseline, hidden, rest }: Pick<Explanation, "method" | "value" | "baseline" | "hidden" | "rest">,
  words: (typeof lookWords)["en"],
): string {
  const said = [words.sums[method](figure(baseline))];
  const told = (part: number): boolean => rest !== null && Math.abs(part) > NOTED * Math.abs(value - baseline);
  if (told(hidden)) said.push(words.hiddenScores(figure(hidden)));
  if (told(rest ?? 0)) said.push(words.missingScores(figure(rest ?? 0)));
  return said.join(" ");
}

import type { ComponentChildren } from "preact";

/** "Q K^T / sqrt(K)" as one would write it. */
export function Formula({ text }: { text: string }) {
  const parts: ComponentChildren[] = [];
  const pattern = /_([A-Z0-9]+)|\^([A-Z])|sqrt\(([^)]*)\)/g;
  let last = 0;
  for (const found of text.matchAll(pattern)) {
    parts.push(text.slice(last, found.index));
    const [whole, below, above, root] = found;
    parts.push(below ? <sub>{below}</sub> : above ? <sup>{above}</sup> : `√${root}`);
    last = found.index + whole.length;
  }
  parts.push(text.slice(last));
  return <span class="formula">{parts}</span>;
}

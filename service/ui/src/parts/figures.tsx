import type { ComponentChildren } from "preact";

export interface FigureOf {
  name: string;
  value: ComponentChildren;
  note?: ComponentChildren;
}

/** Single numbers in a row. */
export function Figures({ of }: { of: readonly FigureOf[] }) {
  return (
    <dl class="figures">
      {of.map(({ name, value, note }) => (
        <div key={name}>
          <dt>{name}</dt>
          <dd>
            {value}
            {note && <small>{note}</small>}
          </dd>
        </div>
      ))}
    </dl>
  );
}

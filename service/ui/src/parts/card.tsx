import type { ComponentChildren } from "preact";
import { useId } from "preact/hooks";

interface CardProps {
  title?: string;
  note?: ComponentChildren;
  tools?: ComponentChildren;
  id?: string;
  children: ComponentChildren;
}

/** One thing on a place: its name, a sentence on what it shows, and the thing. */
export function Card({ title, note, tools, id, children }: CardProps) {
  const name = useId();
  return (
    <section class="card" id={id} aria-labelledby={title ? name : undefined}>
      {title && (
        <div class="card-head">
          <div class="card-title">
            <h2 id={name}>{title}</h2>
            {tools && <div class="row">{tools}</div>}
          </div>
          {note && <p>{note}</p>}
        </div>
      )}
      {children}
    </section>
  );
}

import type { ComponentChildren } from "preact";

interface CardProps {
  title?: string;
  note?: ComponentChildren;
  tools?: ComponentChildren;
  id?: string;
  children: ComponentChildren;
}

/** One thing on a place: its name, a sentence on what it shows, and the thing. */
export function Card({ title, note, tools, id, children }: CardProps) {
  return (
    <section class="card" id={id}>
      {title && (
        <div class="card-head">
          <div class="card-title">
            <h2>{title}</h2>
            {tools && <div class="row">{tools}</div>}
          </div>
          {note && <p>{note}</p>}
        </div>
      )}
      {children}
    </section>
  );
}

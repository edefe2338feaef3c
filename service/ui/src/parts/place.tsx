// The head of every place: its name, one sentence on what is seen here and how it links with its neighbours, export.

import type { ComponentChildren } from "preact";
import { useRef } from "preact/hooks";
import { ExportMenu } from "../export/menu";

interface PlaceProps {
  title: string;
  lead: ComponentChildren;
  name: string; // of an exported file
  tools?: ComponentChildren;
  children: ComponentChildren;
}

export function PlaceFrame({ title, lead, name, tools, children }: PlaceProps) {
  const frame = useRef<HTMLDivElement>(null);
  return (
    <div class="place" ref={frame}>
      <div class="place-head">
        <div>
          <h1>{title}</h1>
          <p>{lead}</p>
        </div>
        <div class="row export-no">
          {tools}
          <ExportMenu view={frame} name={name} />
        </div>
      </div>
      {children}
    </div>
  );
}

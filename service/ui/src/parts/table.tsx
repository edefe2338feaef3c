import type { ComponentChildren } from "preact";
import { useWords } from "../base/language";
import { shellWords } from "../words/shell";

export interface Column {
  name: string;
  right?: boolean;
}

interface TableProps {
  columns: readonly Column[];
  rows: readonly (readonly ComponentChildren[])[];
  label: string;
}

/** Rows in a frame that scrolls by itself, by keyboard too. */
export function Table({ columns, rows, label }: TableProps) {
  return (
    <div class="table-frame" tabIndex={0} role="region" aria-label={label}>
      <table class="data">
        <thead>
          <tr>
            {columns.map((column) => (
              <th key={column.name} scope="col" class={column.right ? "right" : undefined}>
                {column.name}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {rows.map((row, index) => (
            <tr key={index}>
              {row.map((cell, place) => (
                <td key={place} class={columns[place]?.right ? "right" : undefined}>
                  {cell}
                </td>
              ))}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

/** The numbers of a picture, for those who read them better, or can't see the picture. */
export function TableBehind(props: TableProps) {
  const words = useWords(shellWords);
  return (
    <details class="behind">
      <summary>{words.table}</summary>
      <Table {...props} />
    </details>
  );
}

// What differs between two texts or two models: which heads, and which links of theirs.

import { compareAttention, type Comparison, type Side } from "../../api/compare";
import { figure, percent } from "../../base/format";
import { useWords } from "../../base/language";
import { useLoad } from "../../base/load";
import { useStore } from "../../base/store";
import { paint } from "../../base/theme";
import { Card } from "../../parts/card";
import { Waiting } from "../../parts/notice";
import { toned } from "../../parts/palette";
import { Table } from "../../parts/table";
import { lookWords } from "../../words/look";
import type { LookOptions } from "./options";

interface DifferencesProps {
  left: Side;
  right: Side;
  options: LookOptions;
  onPick: (layer: number, head: number) => void;
}

export function Differences({ left, right, options, onPick }: DifferencesProps) {
  const words = useWords(lookWords);
  const { method, merge, special } = options;
  const loaded = useLoad<Comparison>(JSON.stringify([left, right, method, merge, special]), (signal) =>
    compareAttention(left, right, options, signal),
  );
  const lengths = method === "value_norm" && special !== "renormalise";
  return (
    <Card
      title={words.differences}
      note={lengths ? words.differentLengthsNote : words.differencesNote}
      id="differences"
    >
      <Waiting loaded={loaded}>
        {(found) => (
          <div class="columns two">
            <Moved found={found} shown={lengths ? figure : (share) => percent(share, 0)} onPick={onPick} />
            <Largest found={found} />
          </div>
        )}
      </Waiting>
    </Card>
  );
}

interface MovedProps {
  found: Comparison;
  shown: (moved: number) => string;
  onPick: (layer: number, head: number) => void;
}

/** By layer and head, how much of the attention lies elsewhere. */
function Moved({ found, shown, onPick }: MovedProps) {
  const words = useWords(lookWords);
  useStore(paint);
  const { layers, heads } = found.left;
  const most = Math.max(...found.moved.flat(), 1e-9);
  return (
    <div class="grid-frame" tabIndex={0} role="region" aria-label={words.movedHeads}>
      <table class="heads moved">
        <thead>
          <tr>
            <td />
            {heads.map((head) => (
              <th key={head} scope="col">
                {head}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {found.moved.map((row, layer) => (
            <tr key={layer}>
              <th scope="row">{layers[layer]}</th>
              {row.map((moved, head) => (
                <td key={head}>
                  <button
                    type="button"
                    style={toned(moved / most)}
                    aria-label={`${words.headName(layers[layer], heads[head])}: ${shown(moved)}`}
                    onClick={() => onPick(layer, head)}
                  >
                    {shown(moved).replace("%", "")}
                  </button>
                </td>
              ))}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

function Largest({ found }: { found: Comparison }) {
  const words = useWords(lookWords);
  const name = ([left, right]: [number, number]): string => {
    const [first, second] = [found.left.units[left].text, found.right.units[right].text];
    return first === second ? first : `${first} / ${second}`;
  };
  return (
    <Table
      label={words.differences}
      columns={[
        { name: words.layer, right: true },
        { name: words.head, right: true },
        { name: words.from },
        { name: words.to },
        { name: words.first, right: true },
        { name: words.second, right: true },
      ]}
      rows={found.largest.map((change) => [
        change.layer,
        change.head,
        name(change.looks),
        name(change.looked_at),
        figure(change.left),
        figure(change.right),
      ])}
    />
  );
}

import type { Trace } from "../../api/trace";
import { percent } from "../../base/format";
import { useWords } from "../../base/language";
import { Card } from "../../parts/card";
import { Table } from "../../parts/table";
import { stepWords } from "../../words/step";

/** What a language model would say at each place after each layer. */
export function Lens({ trace }: { trace: Trace }) {
  const words = useWords(stepWords);
  if (!trace.guesses.length) return null;
  return (
    <Card title={words.lens} note={words.lensNote}>
      <Table
        label={words.lens}
        columns={[{ name: words.layer }, ...trace.tokens.map((token) => ({ name: token }))]}
        rows={trace.guesses.map((guess) => [
          guess.layer === 0 ? words.embeddings : guess.layer - 1,
          ...guess.tokens.map(([best]) => (best ? <span title={percent(best.probability)}>{best.text}</span> : "")),
        ])}
      />
    </Card>
  );
}

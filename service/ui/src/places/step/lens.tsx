import { guesses, type Trace } from "../../api/trace";
import { percent } from "../../base/format";
import { useWords } from "../../base/language";
import { useLoad } from "../../base/load";
import { Card } from "../../parts/card";
import { Waiting } from "../../parts/notice";
import { Table } from "../../parts/table";
import { stepWords } from "../../words/step";

/** What a language model would say at each place after each layer. */
export function Lens({ trace, text }: { trace: Trace; text: string }) {
  const words = useWords(stepWords);
  const able = trace.guesses.length > 0;
  const loaded = useLoad(able ? `${trace.model}\n${text}` : null, (signal) => guesses(trace.model, text, signal));
  if (!able) return null;
  return (
    <Card title={words.lens} note={words.lensNote}>
      <Waiting loaded={loaded}>
        {(found) => (
          <Table
            label={words.lens}
            columns={[{ name: words.layer }, ...trace.tokens.map((token) => ({ name: token }))]}
            rows={found.map((guess) => [
              guess.layer === 0 ? words.embeddings : guess.layer - 1,
              ...guess.tokens.map(([best]) => best && <span title={percent(best.probability)}>{best.text}</span>),
            ])}
          />
        )}
      </Waiting>
    </Card>
  );
}

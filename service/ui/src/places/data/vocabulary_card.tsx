import type { Report } from "../../api/files";
import { count, figure, percent } from "../../base/format";
import { useWords } from "../../base/language";
import { Bars } from "../../parts/bars";
import { Card } from "../../parts/card";
import { Figures } from "../../parts/figures";
import { dataWords } from "../../words/data";

/** How well the base's vocabulary covers the texts. */
export function VocabularyCard({ report }: { report: Report }) {
  const words = useWords(dataWords);
  const found = report.vocabulary;
  if (!found) return null;
  return (
    <Card title={words.vocabulary} note={words.vocabularyNote}>
      <div class="stack">
        <Figures
          of={[
            {
              name: words.used,
              value: percent(found.used_share),
              note: `${count(found.used)} ${words.ofEntries(count(found.size))}`,
            },
            { name: words.unknown, value: percent(found.unknown_rate, 2), note: count(found.unknown_tokens) },
            { name: words.perCharacter, value: figure(found.tokens_per_character) },
          ]}
        />
        {found.unknown.length > 0 && (
          <div class="stack">
            <h3>{words.unknownPieces}</h3>
            <Bars
              label={words.unknownPieces}
              bars={found.unknown.map((piece) => ({
                name: piece.text,
                value: piece.count,
                shown: count(piece.count),
                tone: "second",
              }))}
            />
          </div>
        )}
      </div>
    </Card>
  );
}

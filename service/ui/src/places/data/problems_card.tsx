import type { Report, Said } from "../../api/files";
import { count } from "../../base/format";
import { useWords } from "../../base/language";
import { Card } from "../../parts/card";
import { dataWords } from "../../words/data";

interface ProblemsCardProps {
  report: Report;
  onLine: (line: number) => void;
}

/** What is wrong or odd, each with its line. */
export function ProblemsCard({ report, onLine }: ProblemsCardProps) {
  const words = useWords(dataWords);
  const { faults, warnings, num_faults: numFaults, num_warnings: numWarnings } = report;
  if (!numFaults && !numWarnings)
    return (
      <p class="notice good" id="no-problems">
        {words.noProblems}
      </p>
    );
  return (
    <Card title={words.problems} note={words.faultsNote} id="problems">
      <div class="columns">
        {numFaults > 0 && <List name={words.faults} tone="bad" said={faults} all={numFaults} onLine={onLine} />}
        {numWarnings > 0 && (
          <List name={words.warnings} tone="warn" said={warnings} all={numWarnings} onLine={onLine} />
        )}
      </div>
    </Card>
  );
}

interface ListProps {
  name: string;
  tone: string;
  said: readonly Said[];
  all: number;
  onLine: (line: number) => void;
}

function List({ name, tone, said, all, onLine }: ListProps) {
  const words = useWords(dataWords);
  return (
    <div class="stack">
      <h3>
        {name} <span class={`badge ${tone}`}>{count(all)}</span>
      </h3>
      <ul class="said" tabIndex={0} aria-label={name}>
        {said.map((one, index) => (
          <li key={index}>
            {one.line > 0 && (
              <button type="button" class="chip" onClick={() => onLine(one.line)}>
                {words.ofLine(one.line)}
              </button>
            )}{" "}
            {one.message}
          </li>
        ))}
        {all > said.length && <li class="muted">{words.more(count(all - said.length))}</li>}
      </ul>
    </div>
  );
}

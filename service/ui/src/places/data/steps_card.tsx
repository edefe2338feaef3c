// One row from its raw text to its place in a batch.

import type { Report } from "../../api/files";
import { tokenize, type Input, type Tokens as Read } from "../../api/inference";
import { percent } from "../../base/format";
import { useWords } from "../../base/language";
import { useLoad } from "../../base/load";
import { pathTo } from "../../base/router";
import { inputOf, partsOf, targetOf, type Row } from "../../base/rows";
import { Card } from "../../parts/card";
import { Choice } from "../../parts/choice";
import { Waiting } from "../../parts/notice";
import { dataWords } from "../../words/data";
import { Tokens } from "../look/tokens";

interface StepsCardProps {
  report: Report;
  model: string;
  rows: readonly Row[];
  line: number | null;
  onLine: (line: number) => void;
}

export function StepsCard({ report, model, rows, line, onLine }: StepsCardProps) {
  const words = useWords(dataWords);
  const samples = report.samples ?? [];
  const at = line ?? samples[0]?.line;
  const row = rows.find((one) => one.line === at);
  const sample = samples.find((one) => one.line === at);
  const input = row ? inputOf(row) : inputOfParts(sample?.raw ?? []);
  const parts = partsOf(input);
  const loaded = useLoad<Read>(
    parts[0].trim() ? JSON.stringify([model, input]) : null,
    async (signal) => (await tokenize(model, [input], signal))[0],
  );
  if (!samples.length) return null;
  const options = [...samples.map((one) => one.line), ...(at && !sample ? [at] : [])];
  const nameOf = (option: number): string => {
    const why = samples.find((one) => one.line === option)?.why;
    return why ? (words.samples[why] ?? why) : words.ofLine(option);
  };
  return (
    <Card
      id="steps"
      title={words.steps}
      note={words.stepsNote}
      tools={
        at !== undefined && <Choice name={words.steps} options={options} value={at} label={nameOf} onChange={onLine} />
      }
    >
      <ol class="text-steps">
        <li>
          <h3>{words.raw}</h3>
          {parts.map((text, index) => (
            <p key={index} class="raw">
              {text}
            </p>
          ))}
          <p class="small muted">
            {words.ofLine(at ?? 0)} · {words.target}: <strong>{row ? targetOf(row) : sample?.target}</strong>
            {parts.length === 1 && (
              <>
                {" "}
                · <a href={pathTo("look", null, { text: parts[0] })}>{words.lookAt}</a>
              </>
            )}
          </p>
        </li>
        <Waiting loaded={loaded}>
          {(read) => (
            <>
              <li>
                <h3>{words.normalised}</h3>
                <p class="raw">
                  {read.normalised === parts.join("\t") ? (
                    <span class="muted">{words.normalisedSame}</span>
                  ) : (
                    read.normalised
                  )}
                </p>
              </li>
              <li>
                <h3>{words.tokens}</h3>
                <Tokens tokens={read} />
              </li>
              <li>
                <h3>{words.inBatch}</h3>
                <InBatch length={Math.min(read.ids.length, report.max_length)} report={report} />
              </li>
            </>
          )}
        </Waiting>
      </ol>
    </Card>
  );
}

function inputOfParts([text = "", pair]: readonly string[]): Input {
  return pair === undefined ? text : [text, pair];
}

/** The row among the rows of the sample batch: what is its own, what is padding. */
function InBatch({ length, report }: { length: number; report: Report }) {
  const words = useWords(dataWords);
  const longest = Math.max(length, ...(report.batches?.sample.lengths ?? []));
  return (
    <div class="stack">
      <div class="batch" role="img" aria-label={words.inBatchNote(length, longest, percent(1 - length / longest))}>
        <div class="batch-row tall">
          <span style={{ width: `${(100 * length) / longest}%` }} />
        </div>
      </div>
      <p class="small muted">{words.inBatchNote(length, longest, percent(1 - length / longest))}</p>
    </div>
  );
}

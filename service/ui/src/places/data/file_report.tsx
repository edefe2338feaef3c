// What is in one file: its report as charts, the rows behind them, and a text step by step.

import { useMemo, useState } from "preact/hooks";
import { beginning, contentPath, file as askFile, removeFile, report as askReport, type Report } from "../../api/files";
import { models } from "../../api/models";
import { useAttempt } from "../../base/attempt";
import { useWords } from "../../base/language";
import { useLoad, usePolling } from "../../base/load";
import { go, note, pathTo, useAddress } from "../../base/router";
import { readRows } from "../../base/rows";
import { Notice, Waiting } from "../../parts/notice";
import { PlaceFrame } from "../../parts/place";
import { dataWords } from "../../words/data";
import { BatchCard } from "./batch_card";
import { CopiesCard } from "./copies_card";
import { FileState } from "./file_list";
import { FlowCard } from "./flow_card";
import { LabelsCard } from "./labels_card";
import { LengthsCard } from "./lengths_card";
import { ProblemsCard } from "./problems_card";
import { EVERY, type Picked } from "./picked";
import { RowsCard } from "./rows_card";
import { StepsCard } from "./steps_card";
import { VocabularyCard } from "./vocabulary_card";

const CHECK_MS = 800;
const MOST_BYTES = 4_000_000; // of a file, that are shown

export function FileReport({ id }: { id: string }) {
  const words = useWords(dataWords);
  const { query } = useAddress();
  const file = useLoad(id, (signal) => askFile(id, signal));
  usePolling(file, file.value?.status === "uploaded" ? CHECK_MS : null);
  const bases = useLoad("models", models);
  const encoders = (bases.value ?? []).filter((model) => !model.adapter && model.base_model === null);
  const model = query.get("model") ?? encoders.find((one) => one.id === "minilm-l6")?.id ?? encoders[0]?.id ?? null;
  const checked = file.value && file.value.status !== "uploaded";
  const report = useLoad(checked && model ? `${id} ${model}` : null, (signal) => askReport(id, model ?? "", signal));
  const [problem, attempt] = useAttempt();
  const remove = async () => {
    await removeFile(id);
    go(pathTo("data"));
  };
  return (
    <PlaceFrame
      title={file.value?.filename ?? words.title}
      lead={words.reportLead}
      name="data-report"
      tools={
        file.value && (
          <>
            <a class="button" href={contentPath(id)} download={file.value.filename}>
              {words.download}
            </a>
            <button type="button" class="button danger" onClick={() => attempt(remove)}>
              {words.remove}
            </button>
            {file.value.status === "processed" && (
              <a class="button main" href={pathTo("tune", null, { file: id })}>
                {words.tune}
              </a>
            )}
          </>
        )
      }
    >
      <div class="row spread">
        <span class="row">
          <a href={pathTo("data")}>← {words.allFiles}</a>
          {file.value && <FileState file={file.value} />}
        </span>
        {encoders.length > 0 && (
          <label class="row small">
            {words.measuredBy}
            <select class="short" value={model ?? ""} onChange={(event) => note({ model: event.currentTarget.value })}>
              {encoders.map((one) => (
                <option key={one.id}>{one.id}</option>
              ))}
            </select>
          </label>
        )}
      </div>
      {problem && <Notice tone="bad">{problem}</Notice>}
      <Waiting loaded={file}>
        {() => (
          <Waiting loaded={bases}>
            {() => (
              <>
                {model === null && <Notice tone="bad">{words.noBase}</Notice>}
                {report.busy && !report.value && <Notice>{words.making}</Notice>}
                <Waiting loaded={report}>{(found) => <Told id={id} report={found} model={model ?? ""} />}</Waiting>
              </>
            )}
          </Waiting>
        )}
      </Waiting>
    </PlaceFrame>
  );
}

function Told({ id, report, model }: { id: string; report: Report; model: string }) {
  const [picked, pick] = useState<Picked>(EVERY);
  const content = useLoad(id, (signal) => beginning(id, MOST_BYTES, signal));
  const read = useMemo(
    () => (content.value ? readRows(content.value.text, content.value.whole) : null),
    [content.value],
  );
  const [line, chooseLine] = useState<number | null>(null);
  const show = (next: Picked) => {
    pick(next);
    document.getElementById("rows")?.scrollIntoView({ block: "nearest" });
  };
  const step = (next: number) => {
    chooseLine(next);
    document.getElementById("steps")?.scrollIntoView({ block: "start" });
  };
  return (
    <>
      <FlowCard report={report} />
      <ProblemsCard report={report} onLine={(at) => show({ kind: "line", line: at })} />
      <div class="columns">
        <LabelsCard report={report} picked={picked} onPick={show} />
        <LengthsCard report={report} picked={picked} onPick={show} />
      </div>
      <StepsCard report={report} model={model} rows={read?.rows ?? []} line={line} onLine={chooseLine} />
      <div class="columns">
        <BatchCard report={report} />
        <VocabularyCard report={report} />
      </div>
      <CopiesCard report={report} onLine={(at) => show({ kind: "line", line: at })} />
      <Waiting loaded={content}>
        {({ whole }) =>
          read && <RowsCard read={read} whole={whole} model={model} picked={picked} onPick={pick} onLine={step} />
        }
      </Waiting>
    </>
  );
}

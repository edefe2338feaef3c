// Texts as points in one plane, and one text's attention, over the training of a tuned model.

import { useState } from "preact/hooks";
import { drift, type Drift } from "../../api/drift";
import { beginning, files as askFiles, type DataFile } from "../../api/files";
import { jobs as askJobs, type Job } from "../../api/jobs";
import type { Model } from "../../api/models";
import { useWords } from "../../base/language";
import { useLoad } from "../../base/load";
import { readRows, targetOf, textOf } from "../../base/rows";
import { Card } from "../../parts/card";
import { Notice, Waiting } from "../../parts/notice";
import { driftWords } from "../../words/drift";
import { DriftView } from "./drift_view";

const POINTS = 60; // texts of the file, evenly spaced
const MOST_BYTES = 2_000_000;

interface Followed {
  drift: Drift;
  labels: string[]; // of each text; the first is the user's own
}

export function DriftCard({ model, text }: { model: Model; text: string }) {
  const words = useWords(driftWords);
  const loaded = useLoad("files and jobs", (signal) => Promise.all([askFiles(signal), askJobs(signal)]));
  return (
    <Card title={words.title} note={words.note} id="drift">
      <Waiting loaded={loaded}>
        {([files, jobs]) => (
          <Following
            model={model}
            text={text}
            files={files.filter((file) => file.status === "processed")}
            job={jobs.find((one) => isOf(one, model)) ?? null}
          />
        )}
      </Waiting>
    </Card>
  );
}

interface FollowingProps {
  model: Model;
  text: string;
  files: DataFile[]; // whose rows can be the points
  job: Job | null; // that made the model
}

function Following({ model, text, files, job }: FollowingProps) {
  const words = useWords(driftWords);
  const [chosen, choose] = useState<string | null>(null);
  const file = chosen ?? files.find((one) => one.id === job?.training_file)?.id ?? files[0]?.id ?? null;
  const [wanted, want] = useState<string | null>(null);
  const key = JSON.stringify([model.id, job?.id, file, text]);
  const loaded = useLoad<Followed>(wanted === key ? key : null, async (signal) => {
    const { text: content, whole } = await beginning(file ?? "", MOST_BYTES, signal);
    const rows = readRows(content, whole).rows.filter((row) => textOf(row).trim());
    const some = Array.from(
      { length: Math.min(POINTS, rows.length) },
      (_, index) => rows[Math.floor((index * rows.length) / Math.min(POINTS, rows.length))],
    );
    const found = await drift(job ? { job: job.id } : { model: model.id }, [text, ...some.map(textOf)], signal);
    return { drift: found, labels: ["", ...some.map(targetOf)] };
  });
  if (files.length === 0) return <p class="muted">{words.noFiles}</p>;
  return (
    <div class="stack">
      <div class="row export-no">
        <label class="row small">
          {words.file}
          <select class="short" value={file ?? ""} onChange={(event) => choose(event.currentTarget.value)}>
            {files.map((one) => (
              <option key={one.id} value={one.id}>
                {one.filename}
              </option>
            ))}
          </select>
        </label>
        <button type="button" class="button" disabled={loaded.busy && wanted === key} onClick={() => want(key)}>
          {words.show}
        </button>
        {loaded.busy && wanted === key && (
          <span class="small muted" role="status">
            {words.showing}
          </span>
        )}
      </div>
      {loaded.error && <Notice tone="bad">{loaded.error.message}</Notice>}
      {loaded.value && wanted === key && (
        <DriftView drift={loaded.value.drift} labels={loaded.value.labels} single={!job} />
      )}
    </div>
  );
}

/** The model is what that job made, or one of its checkpoints. */
function isOf(job: Job, model: Model): boolean {
  const made = job.fine_tuned_model;
  return made !== null && (model.id === made || model.id.startsWith(`${made}:ckpt-`));
}

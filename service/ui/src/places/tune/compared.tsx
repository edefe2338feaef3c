import { useState } from "preact/hooks";
import { events as askEvents, type Job, type JobEvent } from "../../api/jobs";
import { figure } from "../../base/format";
import { useWords } from "../../base/language";
import { useLoad } from "../../base/load";
import { Card } from "../../parts/card";
import { Chart } from "../../parts/chart";
import { Waiting } from "../../parts/notice";
import { TableBehind } from "../../parts/table";
import { tuneWords } from "../../words/tune";
import { curve, figureNames, line, readable } from "./curves";
import { nameOf } from "./state";

const NAMES = ["train_loss", "valid_loss", "learning_rate", "gradient_norm"];

/** Several runs on one chart, by the figure that is chosen. */
export function Compared({ jobs }: { jobs: readonly Job[] }) {
  const words = useWords(tuneWords);
  const [name, choose] = useState("train_loss");
  const moved = jobs.map((job) => `${job.id} ${job.progress?.step ?? 0}`).join();
  const loaded = useLoad<JobEvent[][]>(moved, (signal) => Promise.all(jobs.map((job) => askEvents(job.id, signal))));
  return (
    <Card
      title={words.compareTitle}
      tools={
        <select
          class="short"
          aria-label={words.compareTitle}
          value={name}
          onChange={(event) => choose(event.currentTarget.value)}
        >
          {[...NAMES, ...figureNames((loaded.value ?? []).flat())].map((one) => (
            <option key={one} value={one}>
              {one === "valid_loss" ? words.validLoss : one === "train_loss" ? words.trainLoss : readable(one)}
            </option>
          ))}
        </select>
      }
    >
      <Waiting loaded={loaded}>
        {(found) => {
          const lines = jobs.map((job, index) => line(nameOf(job), curve(found[index] ?? [], name), index));
          return (
            <>
              <Chart lines={lines} xName={words.step} label={words.compareTitle} height={260} />
              <TableBehind
                label={words.compareTitle}
                columns={[{ name: words.job }, { name: words.step, right: true }, { name: words.value, right: true }]}
                rows={lines.flatMap((one) => one.points.map(([step, value]) => [one.name, step, figure(value)]))}
              />
            </>
          );
        }}
      </Waiting>
    </Card>
  );
}

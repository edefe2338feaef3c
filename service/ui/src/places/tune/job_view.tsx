// One run: how far it is, its curves, what was chosen for it, everything that happened.

import { useState } from "preact/hooks";
import { act, checkpoints as askCheckpoints, ENDED, type Job, type JobEvent } from "../../api/jobs";
import { duration, figure, when } from "../../base/format";
import { useWords } from "../../base/language";
import { useLoad } from "../../base/load";
import { amount, headlineOf } from "../../base/metric";
import { pathTo } from "../../base/router";
import { Card } from "../../parts/card";
import { Figures } from "../../parts/figures";
import { Notice } from "../../parts/notice";
import { PlaceFrame } from "../../parts/place";
import { Table } from "../../parts/table";
import { figureWords, nameOfFigure } from "../../words/figures";
import { tuneWords } from "../../words/tune";
import { Curves } from "./curve_cards";
import { useJob } from "./follow";
import { JobBadge, nameOf, ProgressBar } from "./state";

export function JobView({ id }: { id: string }) {
  const words = useWords(tuneWords);
  const { job, events, error, refresh } = useJob(id);
  return (
    <PlaceFrame
      title={job ? nameOf(job) : words.title}
      lead={words.lead}
      name="tune"
      tools={job && <Acts job={job} onDone={refresh} />}
    >
      <a href={pathTo("tune")}>← {words.allJobs}</a>
      {error && !job && <Notice tone="bad">{error.message}</Notice>}
      {job && (
        <>
          <Standing job={job} />
          <Curves events={events} />
          <div class="columns">
            <Reasons job={job} />
            <Checkpoints job={job} step={events.length} />
          </div>
          <Timeline events={events} />
        </>
      )}
    </PlaceFrame>
  );
}

function Acts({ job, onDone }: { job: Job; onDone: () => void }) {
  const words = useWords(tuneWords);
  const [problem, tell] = useState("");
  const button = (action: "pause" | "resume" | "cancel", tone = "") => (
    <button
      type="button"
      class={`button ${tone}`}
      onClick={() =>
        void act(job.id, action).then(onDone, (error: unknown) =>
          tell(error instanceof Error ? error.message : String(error)),
        )
      }
    >
      {words[action]}
    </button>
  );
  return (
    <>
      {problem && <span class="small">{problem}</span>}
      {(job.status === "running" || job.status === "queued") && button("pause")}
      {job.status === "paused" && button("resume", "main")}
      {!ENDED.includes(job.status) && button("cancel", "danger")}
      {job.fine_tuned_model && (
        <>
          <a class="button" href={pathTo("look", null, { model: job.fine_tuned_model })}>
            {words.look}
          </a>
          <a class="button main" href={pathTo("evaluate", job.id)}>
            {words.evaluate}
          </a>
        </>
      )}
    </>
  );
}

function Standing({ job }: { job: Job }) {
  const words = useWords(tuneWords);
  const names = useWords(figureWords);
  const {
    step,
    total_steps: total,
    epoch,
    train_loss: loss,
    learning_rate: rate,
    gradient_norm: norm,
    tokens_per_second: speed,
  } = job.progress ?? {};
  const headline = headlineOf(job.metrics);
  const left = job.estimated_finish ? job.estimated_finish - Date.now() / 1000 : null;
  return (
    <Card>
      <div class="stack">
        <div class="row spread">
          <span class="row" role="status">
            <JobBadge job={job} />
            {job.queue_position !== null && <span class="small">{words.place(job.queue_position)}</span>}
            {left !== null && left > 0 && <span class="small muted">{words.left(duration(left))}</span>}
            {job.progress?.finishing && <span class="small muted">{words.finishing}</span>}
          </span>
          <span class="small muted">
            {job.model} →{" "}
            {job.fine_tuned_model ? <a href={pathTo("models", job.fine_tuned_model)}>{job.fine_tuned_model}</a> : "…"}
          </span>
        </div>
        <ProgressBar job={job} />
        {job.error && (
          <Notice tone="bad">
            <strong>{words.failed}.</strong> {job.error.message}
          </Notice>
        )}
        {step !== undefined && (
          <Figures
            of={[
              {
                name: words.step,
                value: `${step} / ${total}`,
                note: epoch !== undefined && `${figure(epoch)} ${words.epoch}`,
              },
              ...(loss !== undefined ? [{ name: words.trainLoss, value: figure(loss) }] : []),
              ...(headline
                ? [
                    {
                      name: words.figure,
                      value: amount(headline.metric, headline.value),
                      note: nameOfFigure(names, headline.metric.key),
                    },
                  ]
                : []),
              ...(rate !== undefined ? [{ name: words.rateTitle, value: figure(rate) }] : []),
              ...(norm !== undefined ? [{ name: words.norm, value: figure(norm) }] : []),
              ...(speed !== undefined ? [{ name: words.speed, value: figure(speed) }] : []),
            ]}
          />
        )}
      </div>
    </Card>
  );
}

function Reasons({ job }: { job: Job }) {
  const words = useWords(tuneWords);
  const rows = Object.entries(job.hyperparameters).filter(([, value]) => value !== null);
  return (
    <Card title={words.reasons}>
      <Table
        label={words.reasons}
        columns={[{ name: words.option }, { name: words.value }, { name: words.why }]}
        rows={rows.map(([name, value]) => [
          <code key={name}>{name}</code>,
          typeof value === "number"
            ? figure(value).replace(/\.0+$/, "")
            : typeof value === "string"
              ? value
              : JSON.stringify(value),
          job.reasons[name] ?? "",
        ])}
      />
    </Card>
  );
}

function Checkpoints({ job, step }: { job: Job; step: number }) {
  const words = useWords(tuneWords);
  const loaded = useLoad(`${job.id} ${step}`, (signal) => askCheckpoints(job.id, signal));
  if (!loaded.value?.length) return null;
  return (
    <Card title={words.checkpoints} note={words.checkpointsNote}>
      <Table
        label={words.checkpoints}
        columns={[{ name: words.step, right: true }, { name: words.model }, { name: words.validLoss, right: true }]}
        rows={loaded.value.map((one) => [
          one.step_number,
          <a key={one.id} href={pathTo("look", null, { model: one.fine_tuned_model_checkpoint })}>
            {one.fine_tuned_model_checkpoint}
          </a>,
          one.metrics.valid_loss === null || one.metrics.valid_loss === undefined
            ? "–"
            : figure(one.metrics.valid_loss),
        ])}
      />
    </Card>
  );
}

function Timeline({ events }: { events: readonly JobEvent[] }) {
  const words = useWords(tuneWords);
  const tones = { info: "", warn: "warn", error: "bad" };
  return (
    <Card title={words.events} note={words.eventsNote}>
      <Table
        label={words.events}
        columns={[{ name: words.time }, { name: words.message }]}
        rows={events.toReversed().map((event) => [
          <span key={event.id} class="nowrap muted">
            {when(event.created_at)}
          </span>,
          <span key={event.id}>
            {event.level !== "info" && <span class={`badge ${tones[event.level]}`}>!</span>} {event.message}
          </span>,
        ])}
      />
    </Card>
  );
}

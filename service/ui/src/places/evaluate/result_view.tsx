// How good one tuned model is: its figures, its mistakes, the rows behind them.

import { useState } from "preact/hooks";
import { gain, results as askResults, type Evaluation, type Results, type Versus } from "../../api/evaluation";
import { contentPath } from "../../api/files";
import { job as askJob } from "../../api/jobs";
import { bytes, count, figure } from "../../base/format";
import { useWords } from "../../base/language";
import { useLoad } from "../../base/load";
import { amount, type Metric } from "../../base/metric";
import { pathTo } from "../../base/router";
import { Card } from "../../parts/card";
import { Columns } from "../../parts/columns";
import { Notice, Waiting } from "../../parts/notice";
import { PlaceFrame } from "../../parts/place";
import { Table } from "../../parts/table";
import { evaluateWords } from "../../words/evaluate";
import { figureWords, nameOfFigure } from "../../words/figures";
import { nameOf } from "../tune/state";
import { Baselines } from "./baselines";
import { Confusion, type CellOf } from "./confusion";
import { PerLabelCard } from "./per_label";
import { Reliability } from "./reliability";
import { RowsBehind } from "./rows_behind";
import { Slices } from "./slices";
import { Suspects } from "./suspects";
import { TrainingMap } from "./training_map";

export function ResultView({ id }: { id: string }) {
  const words = useWords(evaluateWords);
  const job = useLoad(id, (signal) => askJob(id, signal));
  const found = useLoad(job.value ? `${id} ${job.value.result_files.join()}` : null, (signal) => {
    if (!job.value) throw new Error("no job");
    return askResults(job.value, signal);
  });
  const model = job.value?.fine_tuned_model ?? null;
  return (
    <PlaceFrame
      title={job.value ? nameOf(job.value) : words.title}
      lead={words.lead}
      name="evaluation"
      tools={
        model && (
          <>
            <a class="button" href={pathTo("models", model)}>
              {words.models}
            </a>
            <a class="button main" href={pathTo("look", null, { model })}>
              {words.look}
            </a>
          </>
        )
      }
    >
      <a href={pathTo("evaluate")}>← {words.all}</a>
      <Waiting loaded={job}>
        {() => (
          <Waiting loaded={found}>
            {(results) =>
              results.evaluation ? (
                <Told evaluation={results.evaluation} results={results} model={model ?? ""} />
              ) : (
                <Notice>{words.notYet}</Notice>
              )
            }
          </Waiting>
        )}
      </Waiting>
    </PlaceFrame>
  );
}

interface ToldProps {
  evaluation: Evaluation;
  results: Results;
  model: string;
}

function Told({ evaluation, results, model }: ToldProps) {
  const words = useWords(evaluateWords);
  const names = useWords(figureWords);
  const [cell, choose] = useState<CellOf | null>(null);
  const { metric } = evaluation;
  return (
    <>
      <Headline evaluation={evaluation} />
      <div class="columns">
        <Baselines evaluation={evaluation} />
        {evaluation.confusion && <Confusion confusion={evaluation.confusion} chosen={cell} onChoose={choose} />}
        {evaluation.errors && (
          <Card title={words.errors} note={words.errorsNote}>
            <Columns edges={evaluation.errors.edges} counts={evaluation.errors.counts} label={words.errors} unit="" />
          </Card>
        )}
      </div>
      {cell && <RowsBehind cell={cell} predictions={results.predictions} model={model} onClose={() => choose(null)} />}
      <div class="columns">
        {evaluation.per_label && <PerLabelCard labels={evaluation.per_label} />}
        {evaluation.calibration && <Reliability calibration={evaluation.calibration} />}
      </div>
      {evaluation.slices && evaluation.slices.length > 0 && <Slices metric={metric} slices={evaluation.slices} />}
      {evaluation.mistakes && (
        <Suspects
          title={metric.higher_is_better ? words.worst : words.largest}
          note={metric.higher_is_better ? words.worstNote : words.largestNote}
          rows={evaluation.mistakes.worst}
          measure={{
            name: metric.higher_is_better ? words.sure : words.error,
            of: (row) => amount(metric, row.size ?? null),
          }}
          model={model}
        />
      )}
      <div class="columns">
        {evaluation.mislabelled && (
          <Suspects
            title={words.suspects}
            note={words.suspectsNote}
            rows={evaluation.mislabelled.worst}
            measure={{ name: words.against, of: (row) => figure(row.suspicion ?? 0) }}
            model={model}
          />
        )}
        {evaluation.dynamics?.points.some(([variability]) => variability > 0) && (
          <TrainingMap points={evaluation.dynamics.points} />
        )}
      </div>
      <div class="columns">
        <Card title={words.figures}>
          <Table
            label={words.figures}
            columns={[{ name: words.figure }, { name: words.value, right: true }]}
            rows={Object.entries(evaluation.figures).map(([name, value]) => [nameOfFigure(names, name), figure(value)])}
          />
        </Card>
        <Card title={words.files} note={words.filesNote}>
          <ul class="stack">
            {results.files.map((file) => (
              <li key={file.id} class="row spread">
                <a href={contentPath(file.id)} download={file.filename}>
                  {file.filename}
                </a>
                <span class="muted small">{bytes(file.bytes)}</span>
              </li>
            ))}
          </ul>
        </Card>
      </div>
    </>
  );
}

const TONES = { "1": "good", "0": "warn", "-1": "bad" } as const;

function Headline({ evaluation }: { evaluation: Evaluation }) {
  const words = useWords(evaluateWords);
  const names = useWords(figureWords);
  const { headline, metric, versus } = evaluation;
  return (
    <Card>
      <div class="headline">
        <strong class="number">{amount(metric, headline.value)}</strong>
        <div>
          <p>
            <b>{nameOfFigure(names, metric.title)}</b> {words.of(count(evaluation.rows), evaluation.data)}
          </p>
          <p class="row small">
            {headline.interval && (
              <span class="muted">
                {words.interval(amount(metric, headline.interval[0]), amount(metric, headline.interval[1]))}
              </span>
            )}
            {versus && <span class={`badge ${TONES[gain(metric, versus)]}`}>{apart(metric, versus, words)}</span>}
          </p>
        </div>
      </div>
    </Card>
  );
}

function apart(metric: Metric, { baseline, value }: Versus, words: (typeof evaluateWords)["en"]): string {
  const [higher, size] = [value >= 0, Math.abs(value)];
  if (!metric.higher_is_better)
    return higher ? words.higherBy(baseline, figure(size)) : words.lowerBy(baseline, figure(size));
  return higher ? words.beats(baseline, figure(100 * size)) : words.behind(baseline, figure(100 * size));
}

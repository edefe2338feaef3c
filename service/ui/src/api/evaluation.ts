// What a job leaves: its evaluation, and a row for each held-out row.

import type { Metric } from "../base/metric";
import { csvRecords } from "../base/rows";
import { file, type DataFile, type Histogram } from "./files";
import { content, type Job } from "./jobs";

export type Interval = [number, number] | null;

export interface Headline {
  value: number | null; // null where there is nothing to count
  interval: Interval;
}

export interface Bin {
  from: number;
  to: number;
  count: number;
  confidence: number;
  accuracy: number;
}

export interface Calibration {
  ece: number;
  mce: number;
  mean_confidence: number;
  accuracy: number;
  bins: Bin[];
}

export interface Suspect {
  line: number;
  text: string;
  given: string;
  suggested?: string | null;
  true?: string;
  predicted?: string;
  size?: number;
  suspicion?: number;
  confidence?: number | null;
}

export interface PerLabel {
  label: string;
  precision: number;
  recall: number;
  f1: number;
  support: number;
}

/** The model less the best baseline. */
export interface Versus {
  baseline: string;
  value: number;
  interval: Interval;
}

export interface Evaluation {
  model: string;
  data: string;
  task: string;
  rows: number;
  metric: Metric & { title: string };
  headline: Headline;
  figures: Record<string, number>;
  baselines: { name: string; what: string; headline: Headline }[];
  versus?: Versus;
  per_label?: PerLabel[];
  confusion?: { labels: string[]; counts: number[][] } | null;
  calibration?: Calibration & { temperature?: number; before?: Calibration };
  slices?: { by: string; groups: ({ name: string; rows: number } & Headline)[] }[];
  mistakes?: { rows: number; worst: Suspect[] };
  mislabelled?: { named: number; worst: Suspect[] } | null;
  dynamics?: { rows: number; points: [number, number, number][] };
  errors?: Histogram;
  points?: [number, number][];
}

/** 1 when the model is better than the best baseline, -1 when worse, 0 when 95% of the resamplings can't tell. */
export function gain(metric: Metric, { interval }: Versus): -1 | 0 | 1 {
  const [least, most] = interval ?? [0, 0];
  if (least <= 0 && most >= 0) return 0;
  return least > 0 === metric.higher_is_better ? 1 : -1;
}

export interface Prediction {
  line: number;
  text: string;
  truth: string;
  predicted: string;
  sure: number | null;
}

export interface Results {
  files: DataFile[];
  evaluation: Evaluation | null;
  predictions: Prediction[];
}

export async function results(job: Job, signal: AbortSignal): Promise<Results> {
  const files = await Promise.all(job.result_files.map((id) => file(id, signal)));
  const named = async (name: string): Promise<string | null> => {
    const found = files.find((one) => one.filename === name);
    return found ? content(found.id, signal) : null;
  };
  const [report, table] = await Promise.all([named("evaluation.json"), named("predictions.csv")]);
  return {
    files,
    evaluation: report === null ? null : (JSON.parse(report) as Evaluation),
    predictions: table === null ? [] : predictionsOf(table),
  };
}

function predictionsOf(table: string): Prediction[] {
  const [header, ...records] = csvRecords(table);
  const at = (name: string): number => header.cells.indexOf(name);
  return records.map(({ cells }) => {
    const predicted = cells[at("predicted")] ?? "";
    const sure = cells[at(`probability:${predicted}`)];
    return {
      line: Number(cells[at("line")]),
      text: cells[at("text")] ?? cells[at("words")] ?? "",
      truth: cells[at("true")] ?? "",
      predicted,
      sure: sure === undefined ? null : Number(sure),
    };
  });
}

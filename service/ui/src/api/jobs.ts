// Fine-tuning jobs and what they tell.

import { answer, ask } from "./client";

export type JobState = "validating_files" | "queued" | "running" | "paused" | "succeeded" | "failed" | "cancelled";
export const ENDED: readonly JobState[] = ["succeeded", "failed", "cancelled"];

export interface Job {
  id: string;
  created_at: number;
  finished_at: number | null;
  estimated_finish: number | null;
  model: string;
  fine_tuned_model: string | null;
  user_provided_suffix: string | null;
  status: JobState;
  error: { code: string; message: string } | null;
  hyperparameters: Record<string, unknown>;
  reasons: Record<string, string>;
  seed: number;
  training_file: string;
  validation_file: string | null;
  result_files: string[];
  trained_tokens: number | null;
  task: string | null;
  queue_position: number | null;
  progress: Partial<Progress> | null;
  metrics: Record<string, unknown> | null;
}

export interface Progress {
  step: number;
  total_steps: number;
  epoch: number;
  train_loss: number;
  learning_rate: number;
  tokens_per_second: number;
  tokens_seen: number;
  gradient_norm: number;
  finishing?: string; // what is done after the last step, while it is done
}

export interface JobEvent {
  id: string;
  created_at: number;
  level: "info" | "warn" | "error";
  message: string;
  type: "message" | "metrics";
  data: Record<string, number>;
}

export interface NewJob {
  model: string;
  training_file: string;
  validation_file?: string;
  suffix?: string;
  seed?: number;
  hyperparameters?: Record<string, number>;
  adapter?: string;
  class_weights?: string;
  training_method?: string;
  early_stopping?: number;
  max_length?: number;
  metric?: string;
  dropout?: number;
  lora_rank?: number;
}

export interface Checkpoint {
  id: string;
  created_at: number;
  fine_tuned_model_checkpoint: string;
  step_number: number;
  metrics: Record<string, number | null>;
}

const path = (id: string): string => `/v1/fine_tuning/jobs/${encodeURIComponent(id)}`;

export const jobs = async (signal?: AbortSignal): Promise<Job[]> =>
  (await ask<{ data: Job[] }>("GET", "/v1/fine_tuning/jobs?limit=50", { signal })).data;
export const job = (id: string, signal?: AbortSignal): Promise<Job> => ask("GET", path(id), { signal });
export const createJob = (body: NewJob): Promise<Job> => ask("POST", "/v1/fine_tuning/jobs", { body });
export const act = (id: string, action: "cancel" | "pause" | "resume"): Promise<Job> =>
  ask("POST", `${path(id)}/${action}`);
export const checkpoints = async (id: string, signal?: AbortSignal): Promise<Checkpoint[]> =>
  (await ask<{ data: Checkpoint[] }>("GET", `${path(id)}/checkpoints?limit=50`, { signal })).data;

/** Every event from the first, then each as it happens; the browser goes on by itself after a break. -> stop */
export function follow(id: string, tell: (event: JobEvent) => void): () => void {
  const source = new EventSource(`${path(id)}/events?stream=true`);
  source.addEventListener("message", (message: MessageEvent<string>) => tell(JSON.parse(message.data) as JobEvent));
  return () => source.close();
}

/** Every event there is now, oldest first. */
export async function events(id: string, signal?: AbortSignal): Promise<JobEvent[]> {
  const found: JobEvent[] = [];
  for (let after: string | null = null; ;) {
    const query = new URLSearchParams(after ? { limit: "100", after } : { limit: "100" });
    const page: { data: JobEvent[]; has_more: boolean } = await ask("GET", `${path(id)}/events?${query}`, { signal });
    found.push(...page.data);
    after = page.data.at(-1)?.id ?? null;
    if (!page.has_more || !after) return found.reverse();
  }
}

export const content = async (file: string, signal?: AbortSignal): Promise<string> =>
  (await answer("GET", `/v1/files/${encodeURIComponent(file)}/content`, { accept: "*/*", signal })).text();

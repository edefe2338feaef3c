// What can be called, and the names that stand for it.

import { answer, ask } from "./client";

export interface Model {
  id: string;
  aliases: string[];
  created: number;
  task: string;
  architecture: string;
  routes: string[];
  adapter: boolean;
  labels: string[] | null;
  num_layers: number;
  num_heads: number;
  width: number;
  max_length: number;
  base_model: string | null;
  dtype: string;
  recorded_passes: number | null;
  resident: boolean;
  bento_tag: string;
  metrics: Record<string, unknown> | null;
}

export interface Alias {
  id: string;
  model: string;
  changed_at: number;
  previous: string | null;
}

const path = (id: string): string => `/v1/models/${encodeURIComponent(id)}`;

export const models = async (signal?: AbortSignal): Promise<Model[]> =>
  (await ask<{ data: Model[] }>("GET", "/v1/models", { signal })).data;
export const aliases = async (signal?: AbortSignal): Promise<Alias[]> =>
  (await ask<{ data: Alias[] }>("GET", "/v1/aliases", { signal })).data;
export const card = async (id: string, signal?: AbortSignal): Promise<string> =>
  (await answer("GET", `${path(id)}/card`, { accept: "text/markdown", signal })).text();
export const diagramPath = (id: string): string => `${path(id)}/diagram`;
export const promote = (id: string, alias: string, metric: string | null, beatsCurrent: boolean): Promise<Alias> =>
  ask("POST", `${path(id)}/promote`, { body: metric ? { alias, metric, beats_current: beatsCurrent } : { alias } });
export const rollBack = (alias: string): Promise<Alias> => ask("POST", `${path(alias)}/rollback`);
export const removeAlias = (alias: string): Promise<unknown> =>
  ask("DELETE", `/v1/aliases/${encodeURIComponent(alias)}`);
export const removeModel = (id: string): Promise<unknown> => ask("DELETE", path(id));

/** The model of this name, its own or one that stands for it. */
export const named = (all: readonly Model[], name: string | null): Model | undefined =>
  all.find((model) => model.id === name || model.aliases.includes(name ?? ""));

/** Whether training can begin from it. */
export const tunable = (model: Model): boolean => !model.adapter && model.architecture !== "encoder_decoder";

/** Models that can be looked into. */
export const seen = (all: readonly Model[]): Model[] => all.filter((model) => model.routes.includes("/v1/attention"));

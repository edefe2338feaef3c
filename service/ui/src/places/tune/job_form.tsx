// A new fine-tuning job: base, data, name; all else has a good default.

import { useState } from "preact/hooks";
import { files as askFiles, type DataFile } from "../../api/files";
import { createJob, type NewJob } from "../../api/jobs";
import { models as askModels, named, tunable, type Model } from "../../api/models";
import { useWords } from "../../base/language";
import { useLoad } from "../../base/load";
import { go, pathTo, useAddress } from "../../base/router";
import { Field } from "../../parts/field";
import { Notice, Waiting } from "../../parts/notice";
import { SnippetsBehind } from "../../parts/snippets";
import { tuneWords } from "../../words/tune";
import { JobOptions } from "./job_options";

const USUAL_BASE = "minilm-l6"; // as of the command line

/** Shown once there is something to choose from: sent before, it would name neither a file nor a base. */
export function JobForm() {
  const files = useLoad("files", askFiles);
  const models = useLoad("models", askModels);
  return (
    <Waiting loaded={files}>
      {(every) => <Waiting loaded={models}>{(bases) => <Choices files={every} models={bases} />}</Waiting>}
    </Waiting>
  );
}

function Choices({ files, models }: { files: DataFile[]; models: Model[] }) {
  const words = useWords(tuneWords);
  const { query } = useAddress();
  const [problem, tell] = useState("");
  const [busy, work] = useState(false);
  const [filled, note] = useState<NewJob | null>(null);
  const bases = models.filter(tunable);
  const data = files.filter((file) => file.status !== "error");
  const untuned = bases.filter((model) => model.base_model === null);
  const asked = query.get("model");
  const base = (named(bases, asked) ?? untuned.find((model) => model.id === USUAL_BASE) ?? untuned[0])?.id;
  const shown = data.find((file) => file.id === query.get("file")) ?? data[0];
  const send = async (event: SubmitEvent) => {
    event.preventDefault();
    if (!(event.currentTarget instanceof HTMLFormElement)) return;
    work(true);
    tell("");
    try {
      const job = await createJob(bodyOf(new FormData(event.currentTarget)));
      go(pathTo("tune", job.id));
    } catch (error) {
      tell(error instanceof Error ? error.message : String(error));
      work(false);
    }
  };
  if (!data.length)
    return (
      <div class="stack">
        <p class="muted">{words.noData}</p>
        <a class="button main" href={pathTo("data")}>
          {words.addData}
        </a>
      </div>
    );
  return (
    <form
      class="stack"
      id="job-form"
      onSubmit={(event) => void send(event)}
      onInput={(event) => note(bodyOf(new FormData(event.currentTarget)))}
    >
      <Field name={words.data} hint={words.dataHint}>
        <select name="training_file" required>
          {data.map((file) => (
            <option key={file.id} value={file.id} selected={file.id === query.get("file")}>
              {file.filename}
            </option>
          ))}
        </select>
      </Field>
      {asked !== null && !named(bases, asked) && <Notice tone="warn">{words.noBase(asked)}</Notice>}
      <Field name={words.base} hint={words.baseHint}>
        <select name="model" required>
          {bases.map((model) => (
            <option key={model.id} value={model.id} selected={model.id === base}>
              {model.id}
            </option>
          ))}
        </select>
      </Field>
      <Field name={words.name} hint={words.nameHint}>
        <input name="suffix" maxLength={64} autocomplete="off" spellcheck={false} placeholder="movies" />
      </Field>
      <details class="behind">
        <summary>{words.more}</summary>
        <p class="field-hint">{words.moreHint}</p>
        <JobOptions files={data} />
      </details>
      <SnippetsBehind
        asked={{ route: "/v1/fine_tuning/jobs", body: filled ?? { model: base, training_file: shown?.id } }}
      />
      {problem && <Notice tone="bad">{problem}</Notice>}
      <div class="row">
        <button class="button main" disabled={busy}>
          {busy ? words.starting : words.start}
        </button>
      </div>
    </form>
  );
}

/** What was filled in; what was left open is not sent, so that the service chooses. */
function bodyOf(form: FormData): NewJob {
  const text = (name: string): string | undefined => {
    const value = form.get(name);
    return typeof value === "string" && value.trim() ? value.trim() : undefined;
  };
  const number = (name: string): number | undefined => (text(name) === undefined ? undefined : Number(text(name)));
  const given = {
    n_epochs: number("n_epochs"),
    batch_size: number("batch_size"),
    learning_rate_multiplier: number("learning_rate_multiplier"),
  };
  const hyperparameters = Object.fromEntries(
    Object.entries(given).filter((pair): pair is [string, number] => pair[1] !== undefined),
  );
  return {
    model: text("model") ?? "",
    training_file: text("training_file") ?? "",
    validation_file: text("validation_file"),
    suffix: text("suffix"),
    seed: number("seed"),
    hyperparameters,
    adapter: text("adapter"),
    class_weights: text("class_weights"),
    training_method: text("training_method"),
    early_stopping: number("early_stopping"),
    max_length: number("max_length"),
    metric: text("metric"),
    dropout: number("dropout"),
    lora_rank: number("lora_rank"),
  };
}

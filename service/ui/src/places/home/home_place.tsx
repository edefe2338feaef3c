// The overview: the five stages with what there is in each, and a text to begin with.

import { files as askFiles } from "../../api/files";
import { jobs as askJobs } from "../../api/jobs";
import { models as askModels } from "../../api/models";
import { useState } from "preact/hooks";
import { useWords } from "../../base/language";
import { useLoad } from "../../base/load";
import { go, pathTo } from "../../base/router";
import { Card } from "../../parts/card";
import { Field } from "../../parts/field";
import { homeWords } from "../../words/home";
import { lookWords } from "../../words/look";
import { shellWords } from "../../words/shell";
import { EXAMPLES } from "../examples";

const STAGES = ["data", "tune", "evaluate", "look", "step"] as const;

export function HomePlace() {
  const words = useWords(homeWords);
  const shell = useWords(shellWords);
  const files = useLoad("files", askFiles).value;
  const jobs = useLoad("jobs", askJobs).value;
  const models = useLoad("models", askModels).value;
  const standing: Record<(typeof STAGES)[number], string | null> = {
    data: files && words.counts.files(files.length),
    tune: jobs && words.counts.running(jobs.filter((job) => job.status === "running").length),
    evaluate: jobs && words.counts.done(jobs.filter((job) => job.status === "succeeded").length),
    look: models && words.counts.models(models.length),
    step: models && words.counts.models(models.filter((model) => model.routes.includes("/v1/trace")).length),
  };
  return (
    <div class="place home">
      <div class="home-head">
        <h1>{words.title}</h1>
        <p>{words.lead}</p>
      </div>
      <ol class="stages">
        {STAGES.map((stage) => (
          <li key={stage}>
            <a class="card stage" href={pathTo(stage)}>
              <b>{shell.places[stage]}</b>
              <span>{words.stages[stage]}</span>
              <small>{standing[stage] ?? " "}</small>
            </a>
          </li>
        ))}
      </ol>
      <TryNow />
    </div>
  );
}

function TryNow() {
  const words = useWords(homeWords);
  const look = useWords(lookWords);
  const [text, write] = useState<string>(EXAMPLES[0]);
  const send = (event: SubmitEvent) => {
    event.preventDefault();
    go(pathTo("look", null, { text }));
  };
  return (
    <Card title={words.try} note={words.tryNote}>
      <form class="stack" onSubmit={send}>
        <Field name={look.text}>
          <textarea rows={2} required value={text} onInput={(event) => write(event.currentTarget.value)} />
        </Field>
        <div class="row">
          <button class="button main">{words.go}</button>
        </div>
      </form>
    </Card>
  );
}

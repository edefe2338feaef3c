// One model: what it is, its diagram, how to call it, and a place to try it.

import {
  card as askCard,
  diagramPath,
  models as askModels,
  named,
  removeModel,
  tunable,
  type Model,
} from "../../api/models";
import { useAttempt } from "../../base/attempt";
import { count } from "../../base/format";
import { useWords } from "../../base/language";
import { useLoad } from "../../base/load";
import { go, pathTo } from "../../base/router";
import { Card } from "../../parts/card";
import { Figures } from "../../parts/figures";
import { Notice, Waiting } from "../../parts/notice";
import { PlaceFrame } from "../../parts/place";
import { figureWords, saidHeadline } from "../../words/figures";
import { modelsWords } from "../../words/models";
import { CallCard } from "./call_card";
import { PromoteForm } from "./promote_form";
import { TryCard } from "./try_card";

const CHECKPOINT = ":ckpt-"; // such models have no card

export function ModelView({ id }: { id: string }) {
  const words = useWords(modelsWords);
  const loaded = useLoad("models", askModels);
  const model = loaded.value && named(loaded.value, id);
  const [problem, attempt] = useAttempt();
  const remove = async () => {
    await removeModel(id);
    go(pathTo("models"));
  };
  return (
    <PlaceFrame
      title={id}
      lead={words.lead}
      name="model"
      tools={
        model && (
          <>
            {model.base_model !== null && (
              <button type="button" class="button danger" onClick={() => attempt(remove)}>
                {words.deleteModel}
              </button>
            )}
            {tunable(model) && (
              <a class="button" href={pathTo("tune", null, { model: model.id })}>
                {words.tune}
              </a>
            )}
            {model.routes.includes("/v1/trace") && (
              <a class="button" href={pathTo("step", null, { model: model.id })}>
                {words.step}
              </a>
            )}
            <a class="button main" href={pathTo("look", null, { model: model.id })}>
              {words.look}
            </a>
          </>
        )
      }
    >
      <a href={pathTo("models")}>← {words.all}</a>
      {problem && <Notice tone="bad">{problem}</Notice>}
      <Waiting loaded={loaded}>
        {() => (model ? <Told model={model} /> : <Notice tone="bad">404: {id}</Notice>)}
      </Waiting>
    </PlaceFrame>
  );
}

function Told({ model }: { model: Model }) {
  const words = useWords(modelsWords);
  const names = useWords(figureWords);
  return (
    <>
      <Card title={words.facts}>
        <div class="stack">
          <Figures
            of={[
              { name: words.task, value: model.task.replaceAll("_", " ") },
              {
                name: words.shape,
                value: `${model.num_layers} × ${model.num_heads}`,
                note: words.shapeOf(model.num_layers, model.num_heads, model.width),
              },
              { name: words.longest, value: count(model.max_length), note: words.tokens },
              { name: words.number, value: model.dtype },
              {
                name: words.figure,
                value: saidHeadline(names, model.metrics),
                note: model.base_model && `${words.base} ${model.base_model}`,
              },
            ]}
          />
          {model.labels && (
            <p class="row small">
              <span class="muted">{words.labels}</span>
              {model.labels.slice(0, 40).map((label) => (
                <span key={label} class="badge">
                  {label}
                </span>
              ))}
            </p>
          )}
          {model.base_model !== null && <PromoteForm model={model} />}
        </div>
      </Card>
      <div class="columns">
        <TryCard model={model} />
        <CallCard model={model} />
      </div>
      <Card title={words.diagram} note={words.diagramNote}>
        <div class="diagram">
          <img src={diagramPath(model.id)} alt={words.diagramOf(model.id)} />
        </div>
      </Card>
      {model.base_model !== null && !model.id.includes(CHECKPOINT) && <CardText model={model} />}
    </>
  );
}

function CardText({ model }: { model: Model }) {
  const words = useWords(modelsWords);
  const loaded = useLoad(model.id, (signal) => askCard(model.id, signal));
  if (!loaded.value) return null;
  return (
    <Card title={words.card} note={words.cardNote}>
      <pre class="code wrap" tabIndex={0}>
        {loaded.value}
      </pre>
    </Card>
  );
}

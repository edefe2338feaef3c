import { models as askModels } from "../../api/models";
import { when } from "../../base/format";
import { useWords } from "../../base/language";
import { useLoad } from "../../base/load";
import { pathTo } from "../../base/router";
import { Card } from "../../parts/card";
import { Waiting } from "../../parts/notice";
import { PlaceFrame } from "../../parts/place";
import { Table } from "../../parts/table";
import { figureWords, saidHeadline } from "../../words/figures";
import { modelsWords } from "../../words/models";
import { AliasCard } from "./alias_card";

export function ModelList() {
  const words = useWords(modelsWords);
  const names = useWords(figureWords);
  const loaded = useLoad("models", askModels);
  return (
    <PlaceFrame title={words.title} lead={words.lead} name="models">
      <AliasCard />
      <Card title={words.list}>
        <Waiting loaded={loaded}>
          {(all) => (
            <Table
              label={words.list}
              columns={[
                { name: words.name },
                { name: words.task },
                { name: words.shape },
                { name: words.base },
                { name: words.figure, right: true },
                { name: words.created },
              ]}
              rows={all.map((model) => [
                <span key={model.id}>
                  <a href={pathTo("models", model.id)}>{model.id}</a>{" "}
                  {model.aliases.map((alias) => (
                    <span key={alias} class="badge live">
                      {alias}
                    </span>
                  ))}{" "}
                  {model.resident && <span class="badge good">{words.loaded}</span>}
                </span>,
                model.task.replaceAll("_", " "),
                words.shapeOf(model.num_layers, model.num_heads, model.width),
                model.base_model ?? "–",
                saidHeadline(names, model.metrics),
                <span key={model.id} class="nowrap">
                  {when(model.created)}
                </span>,
              ])}
            />
          )}
        </Waiting>
      </Card>
    </PlaceFrame>
  );
}

import { useState } from "preact/hooks";
import { aliases as askAliases, removeAlias, rollBack } from "../../api/models";
import { when } from "../../base/format";
import { useWords } from "../../base/language";
import { useLoad } from "../../base/load";
import { pathTo } from "../../base/router";
import { Card } from "../../parts/card";
import { Notice, Waiting } from "../../parts/notice";
import { Table } from "../../parts/table";
import { modelsWords } from "../../words/models";

/** The names, what each stands for, and the way back. */
export function AliasCard() {
  const words = useWords(modelsWords);
  const loaded = useLoad("aliases", askAliases);
  const [problem, tell] = useState("");
  const change = (promise: Promise<unknown>) =>
    promise.then(
      () => {
        tell("");
        loaded.again();
      },
      (error: unknown) => tell(error instanceof Error ? error.message : String(error)),
    );
  return (
    <Card title={words.aliases} note={words.aliasesNote}>
      {problem && <Notice tone="bad">{problem}</Notice>}
      <Waiting loaded={loaded}>
        {(all) =>
          all.length ? (
            <Table
              label={words.aliases}
              columns={[
                { name: words.alias },
                { name: words.standsFor },
                { name: words.previous },
                { name: words.since },
                { name: words.rollBack },
              ]}
              rows={all.map((alias) => [
                <strong key={alias.id}>{alias.id}</strong>,
                <a key={alias.id} href={pathTo("models", alias.model)}>
                  {alias.model}
                </a>,
                alias.previous ?? "–",
                <span key={alias.id} class="nowrap">
                  {when(alias.changed_at)}
                </span>,
                <span key={alias.id} class="row">
                  <button
                    type="button"
                    class="button tiny"
                    disabled={!alias.previous}
                    onClick={() => void change(rollBack(alias.id))}
                  >
                    {words.rollBack}
                  </button>
                  <button type="button" class="button tiny danger" onClick={() => void change(removeAlias(alias.id))}>
                    {words.remove}
                  </button>
                </span>,
              ])}
            />
          ) : (
            <p class="muted">{words.noAliases}</p>
          )
        }
      </Waiting>
    </Card>
  );
}

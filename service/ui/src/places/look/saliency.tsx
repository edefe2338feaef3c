// The text coloured by how much each part speaks for a label, and whether those colours can be believed.

import { explain, METHODS, type Explanation, type Faithfulness } from "../../api/explain";
import type { Model } from "../../api/models";
import { figure } from "../../base/format";
import { useWords } from "../../base/language";
import { useLoad } from "../../base/load";
import { note } from "../../base/router";
import { useStore } from "../../base/store";
import { paint } from "../../base/theme";
import { toned } from "../../parts/palette";
import { Waiting } from "../../parts/notice";
import { SnippetsBehind } from "../../parts/snippets";
import { TableBehind } from "../../parts/table";
import { lookWords } from "../../words/look";
import type { LookOptions } from "./options";
import { sumOf } from "./sums";

interface SaliencyProps {
  model: Model;
  text: string;
  options: LookOptions;
}

const TONES = { "better than random": "good", "near random": "warn", "worse than random": "bad" } as const;

export function Saliency({ model, text, options }: SaliencyProps) {
  const words = useWords(lookWords);
  const able = model.routes.includes("/v1/explain");
  const method = options.explain;
  const asked = {
    method,
    target: model.labels?.includes(options.target ?? "") ? options.target : null,
    merge: options.merge,
    special: options.special === "keep" ? ("keep" as const) : ("hide" as const),
  };
  const loaded = useLoad<Explanation>(able ? JSON.stringify([model.id, text, asked]) : null, (signal) =>
    explain(model.id, text, asked, signal),
  );
  if (!able) return <p class="muted">{words.noSaliency}</p>;
  return (
    <div class="stack">
      <div class="row export-no">
        <select
          class="short"
          aria-label={words.method}
          value={method}
          onChange={(event) => note({ explain: event.currentTarget.value })}
        >
          {METHODS.map((method) => (
            <option key={method} value={method}>
              {words.methods[method]}
            </option>
          ))}
        </select>
        {model.labels && (
          <select
            class="short"
            aria-label={words.target}
            value={asked.target ?? ""}
            onChange={(event) => note({ target: event.currentTarget.value || null })}
          >
            <option value="">{words.predicted}</option>
            {model.labels.map((label) => (
              <option key={label}>{label}</option>
            ))}
          </select>
        )}
      </div>
      <Waiting loaded={loaded}>{(found) => <Explained found={found} />}</Waiting>
      <SnippetsBehind asked={{ route: "/v1/explain", body: { model: model.id, input: text, ...asked } }} />
    </div>
  );
}

function Explained({ found }: { found: Explanation }) {
  const words = useWords(lookWords);
  useStore(paint);
  const most = Math.max(...found.units.map((unit) => Math.abs(unit.score)), 1e-12);
  return (
    <div class="stack">
      <div class="row spread">
        <span class="small">
          <strong>{found.target}</strong> <span class="muted number">{figure(found.value)}</span>
        </span>
        <span class="legend small" aria-hidden="true">
          {words.lowers} <span class="legend-bar" /> {words.raises}
        </span>
      </div>
      <p class="saliency" aria-hidden="true">
        {found.units.map((unit, index) => {
          return (
            <span
              key={index}
              class={unit.special ? "special" : ""}
              style={toned(unit.score / most)}
              title={figure(unit.score)}
            >
              {unit.text}
            </span>
          );
        })}
      </p>
      {found.faithfulness && <Believed found={found.faithfulness} />}
      <p class="small muted">{sumOf(found, words)}</p>
      <TableBehind
        label={words.saliency}
        columns={[{ name: words.part }, { name: words.score, right: true }]}
        rows={found.units.map((unit) => [unit.text, figure(unit.score)])}
      />
    </div>
  );
}

function Believed({ found }: { found: Faithfulness }) {
  const words = useWords(lookWords);
  const parts = [
    [words.comprehensiveness, found.comprehensiveness],
    [words.sufficiency, found.sufficiency],
  ] as const;
  return (
    <div class="row small">
      <span class={`badge ${TONES[found.verdict]}`}>{words.verdicts[found.verdict]}</span>
      {parts.map(([name, measured]) => (
        <span key={name} class="number">
          {name} <strong>{figure(measured.aopc)}</strong>{" "}
          <span class="muted">({words.byChance(figure(measured.random.mean), figure(measured.random.deviation))})</span>
        </span>
      ))}
      <span class="muted">{words.verdictNotes[found.verdict]}</span>
    </div>
  );
}

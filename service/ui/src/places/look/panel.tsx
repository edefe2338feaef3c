// One text in one model, from its tokens to its attention. Two of them stand side by side when comparing.

import { attention } from "../../api/attention";
import { tokenize } from "../../api/inference";
import type { Model } from "../../api/models";
import { useWords } from "../../base/language";
import { useLoad } from "../../base/load";
import { Card } from "../../parts/card";
import { Waiting } from "../../parts/notice";
import { SnippetsBehind } from "../../parts/snippets";
import { lookWords } from "../../words/look";
import { Answer } from "./answer";
import { AttentionView } from "./attention_view";
import { AttentionOptions } from "./attention_options";
import type { LookOptions } from "./options";
import { Saliency } from "./saliency";
import { Tokens } from "./tokens";

interface PanelProps {
  model: Model;
  text: string;
  options: LookOptions;
  compared: boolean; // with another, beside it; the choices stand above both
  stretch: boolean;
  onStretch: (stretch: boolean) => void;
  onPick: (layer: number, head: number) => void;
}

export function Panel({ model, text, options, compared, stretch, onStretch, onPick }: PanelProps) {
  const words = useWords(lookWords);
  const tokens = useLoad(`${model.id}\n${text}`, async (signal) => (await tokenize(model.id, [text], signal))[0]);
  const { method, merge, special } = options;
  const seen = useLoad(JSON.stringify([model.id, text, method, merge, special]), (signal) =>
    attention(model.id, text, { method, merge, special }, signal),
  );
  return (
    <div class="stack panel">
      <div class="panel-top">
        <Card title={words.tokens} note={words.tokensNote}>
          <Waiting loaded={tokens}>{(read) => <Tokens tokens={read} />}</Waiting>
        </Card>
        <Card title={words.answer} note={words.answerNote}>
          <Answer model={model} text={text} />
        </Card>
      </div>
      <Card title={words.saliency} note={words.saliencyNote}>
        <Saliency model={model} text={text} options={options} />
      </Card>
      <Card title={words.attention} note={words.attentionNote}>
        <div class={seen.busy ? "attention busy" : "attention"}>
          {!compared && <AttentionOptions model={model} options={options} stretch={stretch} onStretch={onStretch} />}
          <Waiting loaded={seen}>
            {(found) => (
              <AttentionView
                attention={found}
                model={model.id}
                text={text}
                options={options}
                stretch={stretch}
                onPick={onPick}
              />
            )}
          </Waiting>
        </div>
        <SnippetsBehind
          asked={{ route: "/v1/attention", body: { model: model.id, input: text, method, merge, special } }}
        />
      </Card>
    </div>
  );
}

import type { Model } from "../../api/models";
import { useWords } from "../../base/language";
import type { Asked } from "../../base/snippets";
import { Card } from "../../parts/card";
import { Snippets } from "../../parts/snippets";
import { modelsWords } from "../../words/models";

/** How to call it: from a shell, from Python and from JavaScript. */
export function CallCard({ model }: { model: Model }) {
  const words = useWords(modelsWords);
  return (
    <Card title={words.call} note={words.callNote}>
      <Snippets asked={askedOf(model)} />
    </Card>
  );
}

function askedOf(model: Model): Asked {
  const wanted = ["/v1/classify", "/v1/tag", "/v1/completions", "/v1/fill-mask", "/v1/embeddings"];
  const route = wanted.find((one) => model.routes.includes(one)) ?? "/v1/tokenize";
  const name = model.aliases[0] ?? model.id;
  if (route === "/v1/completions") return { route, body: { model: name, prompt: "A good film" } };
  return { route, body: { model: name, input: route === "/v1/fill-mask" ? "A good [MASK]." : "A good film" } };
}

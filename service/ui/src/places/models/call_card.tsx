import { useState } from "preact/hooks";
import type { Model } from "../../api/models";
import { useWords } from "../../base/language";
import { Card } from "../../parts/card";
import { Choice } from "../../parts/choice";
import { modelsWords } from "../../words/models";
import { shellWords } from "../../words/shell";

const KINDS = ["curl", "Python"] as const;

/** How to call it: from a shell, and from Python. */
export function CallCard({ model }: { model: Model }) {
  const words = useWords(modelsWords);
  const shell = useWords(shellWords);
  const [kind, choose] = useState<(typeof KINDS)[number]>("curl");
  const [copied, tell] = useState(false);
  const text = kind === "curl" ? curlOf(model) : pythonOf(model);
  const copy = () => void navigator.clipboard?.writeText(text).then(() => tell(true));
  return (
    <Card
      title={words.call}
      note={words.callNote}
      tools={
        <>
          <Choice name={words.call} options={KINDS} value={kind} onChange={choose} />
          <button type="button" class="button tiny" onClick={copy}>
            {copied ? shell.copied : shell.copy}
          </button>
        </>
      }
    >
      <pre class="code" tabIndex={0} aria-label={kind}>
        {text}
      </pre>
    </Card>
  );
}

function routeOf(model: Model): string {
  const wanted = ["/v1/classify", "/v1/tag", "/v1/completions", "/v1/fill-mask", "/v1/embeddings"];
  return wanted.find((route) => model.routes.includes(route)) ?? "/v1/tokenize";
}

function bodyOf(model: Model, route: string): Record<string, string> {
  const name = model.aliases[0] ?? model.id;
  if (route === "/v1/completions") return { model: name, prompt: "A good film" };
  return { model: name, input: route === "/v1/fill-mask" ? "A good [MASK]." : "A good film" };
}

function curlOf(model: Model): string {
  const route = routeOf(model);
  return `curl ${location.origin}${route} \\\n  -H 'content-type: application/json' \\\n  -H "authorization: Bearer $VITRINE_API_KEY" \\\n  -d '${JSON.stringify(bodyOf(model, route))}'`;
}

function pythonOf(model: Model): string {
  const route = routeOf(model);
  const body = bodyOf(model, route);
  const client = `import os\n\nimport openai\n\nclient = openai.OpenAI(\n    base_url="${location.origin}/v1",\n    api_key=os.environ.get("VITRINE_API_KEY", "none"),\n)\n`;
  if (route === "/v1/embeddings")
    return `${client}answer = client.embeddings.create(model="${body.model}", input="${body.input}")\nprint(answer.data[0].embedding[:5])`;
  if (route === "/v1/completions")
    return `${client}answer = client.completions.create(model="${body.model}", prompt="${body.prompt}")\nprint(answer.choices[0].text)`;
  return `${client}answer = client.post("${route.slice(3)}", cast_to=object, body=${JSON.stringify(body)})\nprint(answer)`;
}

// A request of the page as whoever copies it would send it: from a shell, from Python with the openai client, from
// JavaScript. What is shown runs as it is; a test does so.

export const KINDS = ["curl", "Python", "JavaScript"] as const;
export type Kind = (typeof KINDS)[number];

export interface Asked {
  route: string; // a POST with a JSON body
  body: object;
}

const OF_CLIENT: Record<string, string> = {
  "/v1/embeddings": "embeddings.create",
  "/v1/completions": "completions.create",
  "/v1/fine_tuning/jobs": "fine_tuning.jobs.create",
};
const OWN_FIELDS = [
  // beside OpenAI's
  "adapter",
  "class_weights",
  "training_method",
  "early_stopping",
  "max_length",
  "metric",
  "dropout",
  "lora_rank",
];

export function snippet(kind: Kind, origin: string, { route, body }: Asked): string {
  const sent = JSON.parse(JSON.stringify(body)) as Record<string, unknown>; // without what is undefined
  return { curl, Python: python, JavaScript: javascript }[kind](origin, route, sent);
}

function curl(origin: string, route: string, body: object): string {
  const quoted = JSON.stringify(body).replaceAll("'", `'\\''`);
  return [
    `curl ${origin}${route} \\`,
    `  -H 'content-type: application/json' \\`,
    `  -H "authorization: Bearer $VITRINE_API_KEY" \\`,
    `  -d '${quoted}'`,
  ].join("\n");
}

function python(origin: string, route: string, body: Record<string, unknown>): string {
  const method = OF_CLIENT[route];
  const call = method
    ? `client.${method}(\n${named(body)}\n)`
    : `client.post(\n    "${route.slice(3)}",\n    cast_to=object,\n    body=${literal(body)},\n)`;
  return [
    "import os",
    "",
    "import openai",
    "",
    "client = openai.OpenAI(",
    `    base_url="${origin}/v1",`,
    `    api_key=os.environ.get("VITRINE_API_KEY", "none"),`,
    ")",
    `answer = ${call}`,
    "print(answer)",
  ].join("\n");
}

/** Arguments of a method of the client; what OpenAI does not know goes in extra_body. */
function named(body: Record<string, unknown>): string {
  const pairs = Object.entries(body);
  const lines = pairs
    .filter(([name]) => !OWN_FIELDS.includes(name))
    .map(([name, value]) => `${name}=${literal(value)}`);
  const own = Object.fromEntries(pairs.filter(([name]) => OWN_FIELDS.includes(name)));
  if (Object.keys(own).length) lines.push(`extra_body=${literal(own)}`);
  return lines.map((line) => `    ${line},`).join("\n");
}

/** JSON's strings and numbers are Python's too. */
function literal(value: unknown): string {
  if (value === null) return "None";
  if (typeof value === "boolean") return value ? "True" : "False";
  if (Array.isArray(value)) return `[${value.map(literal).join(", ")}]`;
  if (typeof value !== "object") return JSON.stringify(value);
  return `{${Object.entries(value as object)
    .map(([name, one]) => `${JSON.stringify(name)}: ${literal(one)}`)
    .join(", ")}}`;
}

function javascript(origin: string, route: string, body: object): string {
  return [
    `const response = await fetch("${origin}${route}", {`,
    `  method: "POST",`,
    `  headers: {`,
    `    "content-type": "application/json",`,
    "    authorization: `Bearer ${process.env.VITRINE_API_KEY}`,",
    `  },`,
    `  body: JSON.stringify(${JSON.stringify(body)}),`,
    `});`,
    `console.log(await response.json());`,
  ].join("\n");
}

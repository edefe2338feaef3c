// Bundles the page: src/ and public/ become static/, which the service serves. Called by `npm run build`.

import { build } from "esbuild";
import { cpSync, mkdirSync, renameSync, rmSync, statSync } from "node:fs";
import { gzipSync } from "node:zlib";
import { readFileSync } from "node:fs";

const FRESH = "static.new";

rmSync(FRESH, { recursive: true, force: true });
mkdirSync(FRESH);
cpSync("public", FRESH, { recursive: true });
await build({
  entryPoints: { app: "src/main.tsx", styles: "src/styles/index.css" },
  outdir: FRESH,
  bundle: true,
  format: "esm",
  target: "es2022",
  jsx: "automatic",
  jsxImportSource: "preact",
  external: ["/fonts/*"],
  minify: true,
  legalComments: "linked",
});
rmSync("static", { recursive: true, force: true });
renameSync(FRESH, "static");
for (const name of ["app.js", "styles.css", "index.html"]) {
  const bytes = readFileSync(`static/${name}`);
  console.log(`${name}: ${statSync(`static/${name}`).size} bytes, ${gzipSync(bytes).length} compressed`);
}

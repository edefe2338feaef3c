// Bundles the page: src/ and public/ become static/, which the service serves. Called by `npm run build`.

import { build } from "esbuild";
import { cpSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { gzipSync } from "node:zlib";

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
  legalComments: "none", // whole licences beside it
});
const licences = ["preact", "uplot"].map(
  (name) => `${name}\n\n${readFileSync(`node_modules/${name}/LICENSE`, "utf8")}`,
);
writeFileSync(`${FRESH}/licences.txt`, licences.join("\n\n"));
rmSync("static", { recursive: true, force: true });
renameSync(FRESH, "static");
for (const name of ["app.js", "styles.css", "index.html"]) {
  const bytes = readFileSync(`static/${name}`);
  console.log(`${name}: ${bytes.length} bytes, ${gzipSync(bytes).length} compressed`);
}

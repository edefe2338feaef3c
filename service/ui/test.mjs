// Bundles the unit tests and runs them. By itself, without npm: the npm of Node's PyPI package can't call itself.
import { spawnSync } from "node:child_process";
import { readdirSync } from "node:fs";
import { build } from "esbuild";

const names = readdirSync("test").filter((name) => name.endsWith(".test.ts"));
await build({
  entryPoints: names.map((name) => `test/${name}`),
  bundle: true,
  platform: "node",
  format: "esm",
  outExtension: { ".js": ".mjs" },
  outdir: ".tests",
  logLevel: "warning",
});
const bundled = names.map((name) => `.tests/${name.replace(/\.ts$/, ".mjs")}`);
const ran = spawnSync(process.execPath, ["--test", "--test-reporter=dot", ...bundled], { stdio: "inherit" });
process.exit(ran.status ?? 1);

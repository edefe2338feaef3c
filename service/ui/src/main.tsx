// Starts the page.

import { render } from "preact";
import { App } from "./app";
import { startRouter } from "./base/router";
import { startTheme } from "./base/theme";

const root = document.getElementById("app");
if (root) {
  startTheme();
  startRouter();
  render(<App />, root);
}

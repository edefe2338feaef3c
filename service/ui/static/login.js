// Asks for an API key when the service wants one, and then goes on where the page was; lets the browser out again.

import { api } from "./api.js";
import { byId } from "./dom.js";

/** Shows the dialog at the first answer that says so; `again` is called once the browser is let in. */
export function watchLogin(again) {
  const dialog = byId("login");
  const field = byId("login-key");
  const problem = byId("login-problem");
  const out = byId("logout");
  document.addEventListener("login-needed", () => {
    if (!dialog.open) dialog.showModal();
  });
  byId("login-form").addEventListener("submit", async (event) => {
    event.preventDefault();
    problem.textContent = "";
    try {
      await api.login(field.value.trim());
      field.value = "";
      dialog.close();
      showOwner();
      again();
    } catch (error) {
      problem.textContent = error.message;
      field.select();
    }
  });  out.addEventListener("click", async () => {
    await api.logout();
    out.hidden = true;
    dialog.showModal();
  });
  showOwner();

  /** A service without keys knows no owner, and needs no way out. */
  async function showOwner() {
    const caller = await api.whoami().catch(() => null);
    out.hidden = !caller?.key_id;
    if (caller) out.textContent = `Log out ${caller.owner}`;
  }
}

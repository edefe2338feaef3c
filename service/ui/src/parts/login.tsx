// Asks for an API key when the service refuses for want of one, and lets what was asked for be asked again.

import { useEffect, useRef, useState } from "preact/hooks";
import { refused } from "../api/client";
import { login } from "../api/session";
import { useWords } from "../base/language";
import { store, useStore } from "../base/store";
import { shellWords } from "../words/shell";

/** Counts logins and logouts. */
export const session = store(0);

export function Login() {
  const words = useWords(shellWords);
  const times = useStore(refused);
  const dialog = useRef<HTMLDialogElement>(null);
  const [problem, tell] = useState("");
  useEffect(() => {
    if (times && !dialog.current?.open) dialog.current?.showModal();
  }, [times]);
  const send = async (event: SubmitEvent) => {
    event.preventDefault();
    const field = dialog.current?.querySelector("input");
    if (!field) return;
    try {
      await login(field.value.trim());
      location.reload(); // every part of the page asks anew
    } catch (error) {
      tell(error instanceof Error ? error.message : String(error));
      field.value = "";
      field.focus();
    }
  };
  return (
    <dialog
      ref={dialog}
      class="login"
      id="login"
      aria-labelledby="login-title"
      onCancel={(event) => event.preventDefault()}
    >
      <form onSubmit={(event) => void send(event)}>
        <h2 id="login-title">{words.loginTitle}</h2>
        <label class="field">
          <span class="field-name">{words.loginKey}</span>
          <input type="password" autocomplete="current-password" required spellcheck={false} placeholder="vt-…" />
          <span class="field-hint">{words.loginHint}</span>
        </label>
        {problem && (
          <p class="notice bad" role="alert" id="login-problem">
            {problem}
          </p>
        )}
        <div class="row">
          <button class="button main">{words.loginButton}</button>
        </div>
      </form>
    </dialog>
  );
}

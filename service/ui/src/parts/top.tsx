// The header: the five stages in their order, models and serving beside them, language, colours, readiness.

import { useCallback, useEffect, useState } from "preact/hooks";
import { logout, readiness, whoami, type Caller, type Readiness } from "../api/session";
import { language, speak, useWords } from "../base/language";
import { useTimer } from "../base/load";
import { pathTo, useAddress, type Place } from "../base/router";
import { useStore } from "../base/store";
import { choose, theme, type Theme } from "../base/theme";
import { shellWords } from "../words/shell";
import { session } from "./login";

const STAGES: Place[] = ["data", "tune", "evaluate", "look", "step"];
const BESIDE: Place[] = ["models", "serving"];
const NEXT_THEME: Record<Theme, Theme> = { auto: "light", light: "dark", dark: "auto" };
const READY_MS = 5000;

export function Top() {
  const words = useWords(shellWords);
  const colours = useStore(theme);
  return (
    <header class="top">
      <div class="top-inner">
        <a class="brand" href="/">
          <img src="/ui/icon.svg" alt="" width="26" height="26" />
          <span>Vitrine</span>
        </a>
        <nav class="places" aria-label={words.nav}>
          <ol>
            {STAGES.map((place) => (
              <PlaceLink key={place} place={place} name={words.places[place]} />
            ))}
          </ol>
          <ul>
            {BESIDE.map((place) => (
              <PlaceLink key={place} place={place} name={words.places[place]} />
            ))}
          </ul>
        </nav>
        <div class="top-tools">
          <a class="tool wide" href="/docs" target="_self">
            {words.api}
          </a>
          <button
            type="button"
            class="tool"
            lang={language.get() === "en" ? "zh" : "en"}
            aria-label={`${words.language}: ${words.languageLabel}`}
            onClick={() => speak(language.get() === "en" ? "zh" : "en")}
          >
            {words.language}
          </button>
          <button
            type="button"
            class="tool"
            title={words.themeLabel}
            aria-label={`${words.theme[colours]}. ${words.themeLabel}`}
            onClick={() => choose(NEXT_THEME[colours])}
          >
            {words.theme[colours]}
          </button>
          <Who />
          <Ready />
        </div>
      </div>
    </header>
  );
}

function PlaceLink({ place, name }: { place: Place; name: string }) {
  const current = useAddress().place === place;
  return (
    <li>
      <a href={pathTo(place)} aria-current={current ? "page" : undefined}>
        {name}
      </a>
    </li>
  );
}

function Who() {
  const words = useWords(shellWords);
  const round = useStore(session);
  const [caller, show] = useState<Caller | null>(null);
  useEffect(() => {
    whoami().then(show, () => show(null));
  }, [round]);
  if (!caller?.key_id) return null;
  const leave = async () => {
    await logout();
    show(null);
    session.set(session.get() + 1);
  };
  return (
    <button type="button" class="tool" id="logout" onClick={() => void leave()}>
      {words.logOut} {caller.owner}
    </button>
  );
}

function Ready() {
  const words = useWords(shellWords);
  const [state, show] = useState<Readiness | null>(null);
  const look = useCallback(() => void readiness().then(show), []);
  useEffect(look, [look]);
  useTimer(READY_MS, look);
  return (
    <span class="ready" role="status" data-state={state ?? "unknown"}>
      <span class="dot" aria-hidden="true" />
      <span class="ready-text">{state ? words.readiness[state] : "…"}</span>
    </span>
  );
}

// The header: the five stages in their order, models and serving beside them, language, colours, readiness.

import { useCallback, useEffect, useRef, useState } from "preact/hooks";
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
  const spoken = useStore(language);
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
            lang={spoken === "en" ? "zh" : "en"}
            aria-label={`${words.language}: ${words.languageLabel}`}
            onClick={() => speak(spoken === "en" ? "zh" : "en")}
          >
            {spoken === "en" ? <ChineseName /> : words.language}
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

/** 中文, drawn: written, it would make machines without a Chinese font fetch one of 16 MB. */
function ChineseName() {
  return (
    <svg class="chinese-name" viewBox="0 0 30 16" width="30" height="16" aria-hidden="true">
      <path d="M2 4.5h11v5.5H2zM7.5 1.5v13" />
      <path d="M22.5 1.2v2.6M16.5 4.2h12M19.5 4.5q2 6.5 8.8 9.6M25.8 4.5q-1.8 6.7-9.3 9.8" />
    </svg>
  );
}

function PlaceLink({ place, name }: { place: Place; name: string }) {
  const current = useAddress().place === place;
  const link = useRef<HTMLAnchorElement>(null);
  useEffect(() => {
    const row = link.current?.closest("nav");
    if (current && link.current && row) row.scrollLeft = link.current.offsetLeft - row.clientWidth / 2; // on narrow screens
  }, [current]);
  return (
    <li>
      <a ref={link} href={pathTo(place)} aria-current={current ? "page" : undefined}>
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

// The interface's language. Each place has its words in both, side by side in words/; types see to it that no key lacks.

import { remember, remembered } from "./remember";
import { store, useStore } from "./store";

export type Language = "en" | "zh";
export type Both<W> = Record<Language, W>;

const known = remembered("language");
const first: Language = known === "en" || known === "zh" ? known : navigator.language.startsWith("zh") ? "zh" : "en";
export const language = store<Language>(first);
document.documentElement.lang = htmlLanguage(first);

export function speak(chosen: Language): void {
  remember("language", chosen);
  document.documentElement.lang = htmlLanguage(chosen);
  language.set(chosen);
}

export function useWords<W>(words: Both<W>): W {
  return words[useStore(language)];
}

function htmlLanguage(chosen: Language): string {
  return chosen === "zh" ? "zh-Hans" : "en";
}

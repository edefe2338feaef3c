// What a component asks of the service: asked again when the key changes, and the last answer stays until the next comes.

import { useCallback, useEffect, useLayoutEffect, useState } from "preact/hooks";

const LOOK_MS = 100;
const MOST_MS = 30_000; // what takes longer is saved as it stands

let underway = 0; // loads of what is shown that have not been answered yet

export interface Loaded<T> {
  value: T | null;
  error: Error | null;
  busy: boolean;
  again: () => void;
}

/** `key` null asks nothing. `keep` false forgets the last answer when the key changes. */
export function useLoad<T>(key: string | null, load: (signal: AbortSignal) => Promise<T>, keep = true): Loaded<T> {
  const [state, show] = useState<{ key: string | null; value: T | null; error: Error | null; busy: boolean }>({
    key: null,
    value: null,
    error: null,
    busy: key !== null,
  });
  const [round, ask] = useState(0);
  useEffect(() => {
    if (key === null) {
      show({ key, value: null, error: null, busy: false });
      return;
    }
    const control = new AbortController();
    show((last) => ({ ...last, value: keep || last.key === key ? last.value : null, error: null, busy: true }));
    load(control.signal).then(
      (value) => {
        if (!control.signal.aborted) show({ key, value, error: null, busy: false });
      },
      (error: unknown) => {
        const wrong = error instanceof Error ? error : new Error(String(error));
        if (!control.signal.aborted) show({ key, value: null, error: wrong, busy: false });
      },
    );
    return () => control.abort();
  }, [key, round]);
  useUnderway(state.busy || state.key !== key);
  const again = useCallback(() => ask((last) => last + 1), []);
  return { value: state.value, error: state.error, busy: state.busy, again };
}

/** Counts as one load while it holds; from before the first paint, so that no moment between two loads counts as done. */
export function useUnderway(pending: boolean): void {
  useLayoutEffect(() => {
    if (!pending) return;
    underway += 1;
    return () => void (underway -= 1);
  }, [pending]);
}

/** Resolves once nothing has been on its way from one look to the next: what came last is drawn by then. */
export async function allLoaded(): Promise<void> {
  for (let waited = 0; waited < MOST_MS; waited += LOOK_MS) {
    const before = underway;
    await pause();
    if (!before && !underway) return;
  }
}

function pause(): Promise<void> {
  return new Promise((done) => setTimeout(done, LOOK_MS));
}

/** Calls every so many milliseconds while it is shown and the window is seen. */
export function useTimer(milliseconds: number | null, call: () => void): void {
  useEffect(() => {
    if (milliseconds === null) return;
    const timer = setInterval(() => {
      if (!document.hidden) call();
    }, milliseconds);
    return () => clearInterval(timer);
  }, [milliseconds, call]);
}

/** Asks again so many milliseconds after each answer: asked sooner, a slow one would never come. */
export function usePolling({ busy, again }: Loaded<unknown>, milliseconds: number | null): void {
  useTimer(busy ? null : milliseconds, again);
}

/** The value, once it has not changed for a while. */
export function useSettled<T>(value: T, milliseconds: number): T {
  const [settled, settle] = useState(value);
  useEffect(() => {
    const timer = setTimeout(() => settle(value), milliseconds);
    return () => clearTimeout(timer);
  }, [value, milliseconds]);
  return settled;
}

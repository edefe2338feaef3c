// What a component asks of the service: asked again when the key changes, and the last answer stays until the next comes.

import { useCallback, useEffect, useState } from "preact/hooks";

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
  const again = useCallback(() => ask((last) => last + 1), []);
  return { value: state.value, error: state.error, busy: state.busy, again };
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

/** The value, once it has not changed for a while. */
export function useSettled<T>(value: T, milliseconds: number): T {
  const [settled, settle] = useState(value);
  useEffect(() => {
    const timer = setTimeout(() => settle(value), milliseconds);
    return () => clearTimeout(timer);
  }, [value, milliseconds]);
  return settled;
}

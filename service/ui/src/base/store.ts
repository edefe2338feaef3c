// A value that components watch. What outlives a place (language, theme, session) lies in one of these.

import { useEffect, useState } from "preact/hooks";

export interface Store<T> {
  get(): T;
  set(value: T): void;
  watch(listener: () => void): () => void;
}

export function store<T>(initial: T): Store<T> {
  let value = initial;
  const listeners = new Set<() => void>();
  return {
    get: () => value,
    set(next) {
      if (next === value) return;
      value = next;
      for (const listener of [...listeners]) listener();
    },
    watch(listener) {
      listeners.add(listener);
      return () => void listeners.delete(listener);
    },
  };
}

export function useStore<T>(source: Store<T>): T {
  const [value, show] = useState(source.get());
  useEffect(() => {
    show(source.get()); // it may have changed between render and effect
    return source.watch(() => show(source.get()));
  }, [source]);
  return value;
}

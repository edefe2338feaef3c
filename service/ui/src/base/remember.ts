// What this browser remembers between visits; nothing breaks where it may not.

export function remembered(name: string): string | null {
  try {
    return localStorage.getItem(`vitrine-${name}`);
  } catch {
    return null;
  }
}

export function remember(name: string, value: string): void {
  try {
    localStorage.setItem(`vitrine-${name}`, value);
  } catch {
    // private windows may refuse
  }
}

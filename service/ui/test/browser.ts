// What modules ask of a browser while they are loaded; imported before them.

Object.defineProperty(globalThis, "document", { value: { documentElement: {} } });
Object.defineProperty(globalThis, "navigator", { value: { language: "en-GB" }, configurable: true });

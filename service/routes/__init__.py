"""HTTP routes. They validate, call the engine, the registry or the store, and shape answers; no torch, no database."""

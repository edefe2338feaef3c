import type { ComponentChildren } from "preact";

interface FieldProps {
  name: string;
  hint?: ComponentChildren;
  children: ComponentChildren;
}

/** A control with its name above and what it means below. */
export function Field({ name, hint, children }: FieldProps) {
  return (
    <label class="field">
      <span class="field-name">{name}</span>
      {children}
      {hint && <span class="field-hint">{hint}</span>}
    </label>
  );
}

import { useId } from "preact/hooks";

interface ChoiceProps<T extends string | number> {
  name: string;
  options: readonly T[];
  value: T;
  label?: (option: T) => string;
  onChange: (option: T) => void;
}

/** One of a few: radio buttons, so that arrow keys walk them. */
export function Choice<T extends string | number>({ name, options, value, label, onChange }: ChoiceProps<T>) {
  const group = useId();
  return (
    <fieldset class="choice" role="radiogroup" aria-label={name}>
      {options.map((option) => (
        <label key={option}>
          <input type="radio" name={group} checked={option === value} onChange={() => onChange(option)} />
          <span>{label ? label(option) : String(option)}</span>
        </label>
      ))}
    </fieldset>
  );
}

import type { DataFile } from "../../api/files";
import { useWords } from "../../base/language";
import { Field } from "../../parts/field";
import { tuneWords } from "../../words/tune";

/** What may be left open. */
export function JobOptions({ files }: { files: readonly DataFile[] }) {
  const words = useWords(tuneWords);
  const numbers = [
    ["n_epochs", words.epochs, words.epochsHint, 1, 50, "1", words.auto],
    ["batch_size", words.batch, words.batchHint, 1, 256, "1", words.auto],
    ["learning_rate_multiplier", words.rate, words.rateHint, 0.01, 1000, "any", words.auto],
    ["max_length", words.length, words.lengthHint, 4, 100_000, "1", words.auto],
    ["early_stopping", words.patience, words.patienceHint, 1, 100, "1", words.never],
    ["dropout", words.dropout, words.dropoutHint, 0, 0.99, "any", words.auto],
    ["lora_rank", words.rank, words.rankHint, 1, 256, "1", "8"],
    ["seed", words.seed, words.seedHint, 0, 2 ** 31 - 1, "1", "0"],
  ] as const;
  const choices = [
    ["adapter", words.adapter, words.adapterHint, words.adapters],
    ["training_method", words.method, words.methodHint, words.methods],
    ["class_weights", words.weights, words.weightsHint, words.weightsOf],
    ["metric", words.metric, words.metricHint, words.metrics],
  ] as const;
  return (
    <div class="stack">
      <Field name={words.validation} hint={words.validationHint}>
        <select name="validation_file">
          <option value="">{words.heldOut}</option>
          {files.map((file) => (
            <option key={file.id} value={file.id}>
              {file.filename}
            </option>
          ))}
        </select>
      </Field>
      {numbers.map(([name, shown, hint, least, most, step, placeholder]) => (
        <Field key={name} name={shown} hint={hint}>
          <input type="number" name={name} min={least} max={most} step={step} placeholder={placeholder} />
        </Field>
      ))}
      {choices.map(([name, shown, hint, options]) => (
        <Field key={name} name={shown} hint={hint}>
          <select name={name}>
            {Object.entries(options).map(([value, says]) => (
              <option key={value} value={value}>
                {says}
              </option>
            ))}
          </select>
        </Field>
      ))}
    </div>
  );
}

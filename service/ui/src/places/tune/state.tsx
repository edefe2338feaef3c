import type { Job } from "../../api/jobs";
import { useWords } from "../../base/language";
import { tuneWords } from "../../words/tune";

const TONES = {
  validating_files: "live",
  queued: "",
  running: "live",
  paused: "warn",
  succeeded: "good",
  failed: "bad",
  cancelled: "",
};

export function JobBadge({ job }: { job: Job }) {
  const words = useWords(tuneWords);
  return <span class={`badge ${TONES[job.status]}`}>{words.states[job.status]}</span>;
}

export function ProgressBar({ job }: { job: Job }) {
  const { step = 0, total_steps: total = 0 } = job.progress ?? {};
  const share = job.status === "succeeded" ? 1 : total ? step / total : 0;
  return (
    <div
      class="progress"
      role="progressbar"
      aria-valuemin={0}
      aria-valuemax={100}
      aria-valuenow={Math.round(100 * share)}
      aria-label={nameOf(job)}
    >
      <span style={{ width: `${100 * share}%` }} />
    </div>
  );
}

export function nameOf(job: Job): string {
  return job.user_provided_suffix ?? job.id;
}

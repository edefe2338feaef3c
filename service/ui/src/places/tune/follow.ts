// A job as it goes on: its events as a stream from the first, and its state asked again whenever something happened.

import { useEffect, useState } from "preact/hooks";
import { ENDED, follow, job as ask, type Job, type JobEvent } from "../../api/jobs";
import { useUnderway } from "../../base/load";

const GATHER_MS = 250; // events that come together are shown together
const LOOK_MS = 2000; // a queue moves without events of this job

interface Followed {
  job: Job | null;
  events: JobEvent[]; // oldest first
  error: Error | null;
  refresh: () => void;
}

export function useJob(id: string): Followed {
  const [job, showJob] = useState<Job | null>(null);
  const [events, showEvents] = useState<JobEvent[]>([]);
  const [error, fail] = useState<Error | null>(null);
  const [round, askAgain] = useState(0);
  useUnderway(job === null && error === null);
  const ended = job !== null && ENDED.includes(job.status);
  const look = (signal: AbortSignal) =>
    ask(id, signal).then(showJob, (problem: unknown) => {
      if (!signal.aborted) fail(problem instanceof Error ? problem : new Error(String(problem)));
    });
  useEffect(() => {
    const known = new Map<string, JobEvent>();
    const control = new AbortController();
    let timer: ReturnType<typeof setTimeout> | undefined;
    const stop = follow(id, (event) => {
      known.set(event.id, event);
      timer ??= setTimeout(() => {
        timer = undefined;
        showEvents([...known.values()]);
        void look(control.signal);
      }, GATHER_MS);
    });
    return () => {
      stop();
      control.abort();
      clearTimeout(timer);
    };
  }, [id, round]);
  useEffect(() => {
    const control = new AbortController();
    void look(control.signal);
    const timer = ended ? undefined : setInterval(() => void look(control.signal), LOOK_MS);
    return () => {
      control.abort();
      clearInterval(timer);
    };
  }, [id, ended, round]);
  return { job, events, error, refresh: () => askAgain((last) => last + 1) };
}

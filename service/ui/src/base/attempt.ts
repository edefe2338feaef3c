// What a button sets off. It may be refused, and why is then told beside it.

import { useState } from "preact/hooks";

/** Why the last attempt failed ("": it did not), and a way to attempt something. */
export function useAttempt(): [string, (work: () => Promise<unknown>) => void] {
  const [problem, tell] = useState("");
  const attempt = async (work: () => Promise<unknown>) => {
    tell("");
    try {
      await work();
    } catch (error) {
      tell(error instanceof Error ? error.message : String(error));
    }
  };
  return [problem, (work) => void attempt(work)];
}

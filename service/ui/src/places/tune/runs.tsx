import { useState } from "preact/hooks";
import { ENDED, jobs as askJobs } from "../../api/jobs";
import { shortened, when } from "../../base/format";
import { useWords } from "../../base/language";
import { useLoad, usePolling } from "../../base/load";
import { pathTo } from "../../base/router";
import { Card } from "../../parts/card";
import { Waiting } from "../../parts/notice";
import { PlaceFrame } from "../../parts/place";
import { Table } from "../../parts/table";
import { figureWords, saidHeadline } from "../../words/figures";
import { tuneWords } from "../../words/tune";
import { Compared } from "./compared";
import { JobForm } from "./job_form";
import { JobBadge, nameOf, ProgressBar } from "./state";

const LOOK_MS = 2000;

/** A new job beside all runs; those that are ticked on one chart. */
export function Runs() {
  const words = useWords(tuneWords);
  const names = useWords(figureWords);
  const loaded = useLoad("jobs", askJobs);
  const live = loaded.value?.some((job) => !ENDED.includes(job.status)) ?? false;
  usePolling(loaded, live ? LOOK_MS : null);
  const [ticked, tick] = useState<string[]>([]);
  const toggle = (id: string) => tick(ticked.includes(id) ? ticked.filter((one) => one !== id) : [...ticked, id]);
  return (
    <PlaceFrame title={words.title} lead={words.lead} name="tune">
      <div class="side-and-main">
        <Card title={words.newJob}>
          <JobForm />
        </Card>
        <div class="stack">
          <Card title={words.jobs} note={words.jobsNote}>
            <Waiting loaded={loaded}>
              {(all) =>
                all.length ? (
                  <Table
                    label={words.jobs}
                    columns={[
                      { name: words.compare },
                      { name: words.job },
                      { name: words.state },
                      { name: words.progress },
                      { name: words.figure, right: true },
                      { name: words.created },
                    ]}
                    rows={all.map((job) => [
                      <input
                        key={job.id}
                        type="checkbox"
                        aria-label={`${words.compare}: ${nameOf(job)}`}
                        checked={ticked.includes(job.id)}
                        onChange={() => toggle(job.id)}
                      />,
                      <a key={job.id} href={pathTo("tune", job.id)} title={job.id}>
                        {shortened(nameOf(job), 28)}
                      </a>,
                      <JobBadge key={job.id} job={job} />,
                      <ProgressBar key={job.id} job={job} />,
                      saidHeadline(names, job.metrics),
                      <span key={job.id} class="nowrap">
                        {when(job.created_at)}
                      </span>,
                    ])}
                  />
                ) : (
                  <p class="blank">{words.noJobs}</p>
                )
              }
            </Waiting>
          </Card>
          {ticked.length > 0 && <Compared jobs={(loaded.value ?? []).filter((job) => ticked.includes(job.id))} />}
        </div>
      </div>
    </PlaceFrame>
  );
}

import { jobs as askJobs } from "../../api/jobs";
import { when } from "../../base/format";
import { useWords } from "../../base/language";
import { useLoad } from "../../base/load";
import { pathTo, useAddress } from "../../base/router";
import { Card } from "../../parts/card";
import { Waiting } from "../../parts/notice";
import { PlaceFrame } from "../../parts/place";
import { Table } from "../../parts/table";
import { evaluateWords } from "../../words/evaluate";
import { figureWords, saidHeadline } from "../../words/figures";
import { nameOf } from "../tune/state";
import { ResultView } from "./result_view";

/** Evaluate: runs that have ended, or how good one of them is. */
export function EvaluatePlace() {
  const { id } = useAddress();
  return id ? <ResultView key={id} id={id} /> : <Ended />;
}

function Ended() {
  const words = useWords(evaluateWords);
  const names = useWords(figureWords);
  const loaded = useLoad("jobs", askJobs);
  return (
    <PlaceFrame title={words.title} lead={words.lead} name="evaluate">
      <Card title={words.choose}>
        <Waiting loaded={loaded}>
          {(all) => {
            const ended = all.filter((job) => job.status === "succeeded");
            if (!ended.length)
              return (
                <p class="blank">
                  {words.none} <a href={pathTo("tune")}>{words.toTune}</a>
                </p>
              );
            return (
              <Table
                label={words.choose}
                columns={[
                  { name: words.run },
                  { name: words.model },
                  { name: words.figure, right: true },
                  { name: words.ended },
                ]}
                rows={ended.map((job) => [
                  <a key={job.id} href={pathTo("evaluate", job.id)}>
                    {nameOf(job)}
                  </a>,
                  job.fine_tuned_model,
                  saidHeadline(names, job.metrics),
                  job.finished_at ? when(job.finished_at) : "–",
                ])}
              />
            );
          }}
        </Waiting>
      </Card>
    </PlaceFrame>
  );
}

import { files, type DataFile } from "../../api/files";
import { bytes, count, when } from "../../base/format";
import { useWords } from "../../base/language";
import { useLoad, usePolling } from "../../base/load";
import { go, pathTo } from "../../base/router";
import { Card } from "../../parts/card";
import { Waiting } from "../../parts/notice";
import { PlaceFrame } from "../../parts/place";
import { Table } from "../../parts/table";
import { dataWords } from "../../words/data";
import { Upload } from "./upload";

const CHECK_MS = 1000;

export function FileList() {
  const words = useWords(dataWords);
  const loaded = useLoad("files", files);
  const unchecked = loaded.value?.some((file) => file.status === "uploaded") ?? false;
  usePolling(loaded, unchecked ? CHECK_MS : null);
  return (
    <PlaceFrame title={words.title} lead={words.lead} name="data">
      <div class="side-and-main">
        <Card title={words.upload} note={words.uploadNote}>
          <div class="stack">
            <Upload onDone={(file) => go(pathTo("data", file.id))} />
            <dl class="kinds">
              {words.columns.map(([columns, what]) => (
                <div key={columns}>
                  <dt>
                    <code>{columns}</code>
                  </dt>
                  <dd>{what}</dd>
                </div>
              ))}
            </dl>
          </div>
        </Card>
        <Card title={words.files}>
          <Waiting loaded={loaded}>
            {(all) =>
              all.length ? (
                <Table
                  label={words.files}
                  columns={[
                    { name: words.name },
                    { name: words.state },
                    { name: words.task },
                    { name: words.rows, right: true },
                    { name: words.size, right: true },
                    { name: words.added },
                  ]}
                  rows={all.map((file) => [
                    <a key={file.id} href={pathTo("data", file.id)}>
                      {file.filename}
                    </a>,
                    <FileState key={file.id} file={file} />,
                    file.task ? (words.tasks[file.task] ?? file.task) : "–",
                    file.num_rows === null ? "–" : count(file.num_rows),
                    bytes(file.bytes),
                    <span key={file.id} class="nowrap">
                      {when(file.created_at)}
                    </span>,
                  ])}
                />
              ) : (
                <p class="blank">{words.noFiles}</p>
              )
            }
          </Waiting>
        </Card>
      </div>
    </PlaceFrame>
  );
}

export function FileState({ file }: { file: DataFile }) {
  const words = useWords(dataWords);
  const tone = { uploaded: "live", processed: "good", error: "bad" }[file.status];
  return <span class={`badge ${tone}`}>{words.states[file.status]}</span>;
}

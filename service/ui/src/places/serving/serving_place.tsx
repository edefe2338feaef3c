// Serving: what the service does now, looked at every two seconds.

import { useCallback, useEffect, useState } from "preact/hooks";
import { scrape, type Scrape } from "../../api/metrics";
import { figure } from "../../base/format";
import { useWords } from "../../base/language";
import { useTimer } from "../../base/load";
import { Card } from "../../parts/card";
import { Chart, type Line } from "../../parts/chart";
import { Figures } from "../../parts/figures";
import { Notice } from "../../parts/notice";
import { PlaceFrame } from "../../parts/place";
import { TableBehind } from "../../parts/table";
import { servingWords } from "../../words/serving";
import { between, LANES, type Moment } from "./moments";
import { RoutesCard } from "./routes_card";

const LOOK_MS = 2000;
const KEPT = 300; // looks: ten minutes

export function ServingPlace() {
  const words = useWords(servingWords);
  const [looks, keep] = useState<Scrape[]>([]);
  const [problem, tell] = useState("");
  const look = useCallback(() => {
    scrape().then(
      (found) => {
        tell("");
        keep((known) => [...known, found].slice(-KEPT));
      },
      (error: unknown) => tell(error instanceof Error ? error.message : String(error)),
    );
  }, []);
  useEffect(look, [look]);
  useTimer(LOOK_MS, look);
  const moments = looks.slice(1).map((now, index) => between(looks[index], now));
  const last = moments.at(-1);
  const latest = looks.at(-1);
  return (
    <PlaceFrame title={words.title} lead={words.lead} name="serving">
      {problem && <Notice tone="bad">{problem}</Notice>}
      {last && last.requests === 0 && <Notice>{words.idle}</Notice>}
      {last && <Now moment={last} />}
      <div class="columns two">
        <Moving
          title={words.latency}
          note={words.latencyNote}
          moments={moments}
          lines={[
            [words.p50, (one) => one.p50],
            [words.p95, (one) => one.p95],
          ]}
        />
        <Moving
          title={words.speed}
          note={words.speedNote}
          moments={moments}
          lines={[[words.tokens, (one) => one.tokens]]}
        />
        <Moving
          title={words.queue}
          note={words.queueNote}
          moments={moments}
          lines={LANES.map((lane) => [words.lanes[lane], (one: Moment) => one.waiting[lane]])}
        />
        <Moving
          title={words.batch}
          note={words.batchNote}
          moments={moments}
          lines={[[words.rows, (one) => one.rows]]}
        />
      </div>
      {latest && <RoutesCard look={latest} />}
    </PlaceFrame>
  );
}

function Now({ moment }: { moment: Moment }) {
  const words = useWords(servingWords);
  const shown = (value: number | null, unit = ""): string => (value === null ? "–" : `${figure(value)}${unit}`);
  const waiting = LANES.reduce((total, lane) => total + moment.waiting[lane], 0);
  return (
    <Figures
      of={[
        { name: words.requests, value: shown(moment.requests) },
        { name: words.p50, value: shown(moment.p50, ` ${words.ms}`) },
        { name: words.p95, value: shown(moment.p95, ` ${words.ms}`) },
        { name: words.tokens, value: shown(moment.tokens) },
        { name: words.rows, value: shown(moment.rows) },
        { name: words.waiting, value: String(waiting) },
      ]}
    />
  );
}

interface MovingProps {
  title: string;
  note: string;
  moments: readonly Moment[];
  lines: readonly (readonly [string, (moment: Moment) => number | null])[];
}

const fromNothing = (_: number, most: number): [number, number] => [0, Math.max(1, most * 1.1)];
const COLOURS = ["accent", "second", "third", "fourth"];

function Moving({ title, note, moments, lines }: MovingProps) {
  const words = useWords(servingWords);
  const drawn: Line[] = lines.map(([name, of], index) => ({
    name,
    colour: COLOURS[index],
    points: moments.flatMap((moment): [number, number][] => {
      const value = of(moment);
      return value === null ? [] : [[moment.at, value]];
    }),
  }));
  return (
    <Card title={title} note={note}>
      <Chart lines={drawn} xName={words.time} label={title} height={170} time range={fromNothing} />
      <TableBehind
        label={title}
        columns={[{ name: words.time }, ...drawn.map((one) => ({ name: one.name, right: true }))]}
        rows={moments.slice(-30).map((moment) => [
          new Date(moment.at * 1000).toLocaleTimeString(),
          ...lines.map(([, of]) => {
            const value = of(moment);
            return value === null ? "–" : figure(value);
          }),
        ])}
      />
    </Card>
  );
}

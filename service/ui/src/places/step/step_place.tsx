// Step through: the forward pass of one text, played over the model's own steps.

import { models, named, type Model } from "../../api/models";
import { trace as ask, type Trace } from "../../api/trace";
import { useCallback, useEffect, useMemo, useState } from "preact/hooks";
import { useWords } from "../../base/language";
import { useLoad, useSettled } from "../../base/load";
import { note, pathTo, useAddress } from "../../base/router";
import { Choice } from "../../parts/choice";
import { Notice, Waiting } from "../../parts/notice";
import { PlaceFrame } from "../../parts/place";
import { lookWords } from "../../words/look";
import { stepWords } from "../../words/step";
import { EXAMPLES } from "../examples";
import { LookInput } from "../look/input";
import { Detail } from "./detail";
import { Lens } from "./lens";
import { StepMap } from "./map";
import { Player, type Speed } from "./player";
import { keyOf, placed, sequence, type Step } from "./sequence";

const PAUSE_MS = 400;
const STEP_MS = 2600; // at speed 1
const REVEAL_SHARE = 0.4; // of a step's time, in which its result appears
const COLUMNS = 16;

export function StepPlace() {
  const words = useWords(stepWords);
  const { query } = useAddress();
  const loaded = useLoad("models", models);
  const text = query.get("text") ?? EXAMPLES[2];
  return (
    <PlaceFrame
      title={words.title}
      lead={words.lead}
      name="step-through"
      tools={
        <a class="button" href={pathTo("look", null, { model: query.get("model"), text })}>
          {words.toLook}
        </a>
      }
    >
      <Waiting loaded={loaded}>
        {(all) => (traced(all).length ? <Stepping models={all} text={text} /> : <Notice>{words.noModel}</Notice>)}
      </Waiting>
    </PlaceFrame>
  );
}

function Stepping({ models: all, text }: { models: Model[]; text: string }) {
  const words = useWords(stepWords);
  const inLook = useWords(lookWords);
  const { query } = useAddress();
  const able = traced(all);
  const name = query.get("model");
  const model = (name === null ? able[0] : named(able, name)) ?? null;
  const layer = Math.min(Math.max(0, Math.trunc(Number(query.get("layer")) || 0)), (model?.num_layers ?? 1) - 1);
  const settled = useSettled(text, PAUSE_MS);
  const asked = settled.trim();
  const loaded = useLoad<Trace>(model && asked ? JSON.stringify([model.id, asked, layer]) : null, (signal) =>
    ask(model?.id ?? "", asked, layer ? `${layer - 1}-${layer}` : "0", COLUMNS, signal),
  );
  return (
    <>
      <LookInput title={null} models={able} model={model} text={text} names={["model", "text"]} comparable={false} />
      {model ? (
        <Waiting loaded={loaded}>
          {(found) => <Walk trace={found} text={asked} layer={lastLayer(found, layer)} />}
        </Waiting>
      ) : (
        <Notice tone="bad">{named(all, name) ? words.noTrace : inLook.notThere(name ?? "")}</Notice>
      )}
    </>
  );
}

/** Models whose steps can be told. */
function traced(all: readonly Model[]): Model[] {
  return all.filter((model) => model.routes.includes("/v1/trace"));
}

/** Of the step wanted; of its like in the layer shown, until its own has come. */
function placeOf(steps: readonly Step[], wanted: string): number {
  const exact = steps.findIndex((step) => keyOf(step) === wanted);
  const name = wanted.split(".")[1];
  return exact >= 0
    ? exact
    : Math.max(
        0,
        steps.findIndex((step) => typeof step.part === "number" && step.name === name),
      );
}

/** Until the layer asked for has come, the one before it is shown. */
function lastLayer(trace: Trace, wanted: number): number {
  const there = trace.stages.map((stage) => stage.layer).filter((one): one is number => one !== null);
  return there.includes(wanted) ? wanted : Math.max(...there, 0);
}

function Walk({ trace, text, layer }: { trace: Trace; text: string; layer: number }) {
  const words = useWords(stepWords);
  const { query } = useAddress();
  const stages = useMemo(() => placed(trace), [trace]);
  const all = query.get("range") === "all";
  const { num_layers: numLayers, num_heads: heads } = trace.config;
  const steps = useMemo(() => sequence(stages, layer, numLayers, all), [stages, layer, numLayers, all]);
  const head = Math.min(Math.max(0, Number(query.get("head")) || 0), heads - 1);
  const [playing, play] = useState(false);
  const [speed, setSpeed] = useState<Speed>(1);
  const wanted = query.get("at") ?? keyOf(steps[0]);
  const index = placeOf(steps, wanted);
  const here = steps[index];
  const at =
    stages.find((one) => keyOf(one) === keyOf(here)) ??
    stages.find((one) => one.part === layer && one.name === here.name) ??
    stages[0];
  const stepTo = useCallback(
    (to: number) => {
      const step = steps[Math.max(0, Math.min(steps.length - 1, to))];
      note({ at: keyOf(step), ...(typeof step.part === "number" ? { layer: step.part } : {}) });
    },
    [steps],
  );
  const toLayer = useCallback(
    (to: number) => {
      if (to < 0 || to >= numLayers) return;
      const name = typeof at.part === "number" ? at.name : "query";
      note({ layer: to, at: keyOf({ part: to, name }) });
    },
    [at, numLayers],
  );
  const choose = (key: string) => {
    const before = Number(key.split(".")[0]);
    note(Number.isFinite(before) ? { at: key, layer: before } : { at: key });
  };
  useEffect(() => {
    if (!playing) return;
    if (index >= steps.length - 1) {
      play(false);
      return;
    }
    const timer = setTimeout(() => stepTo(index + 1), STEP_MS / speed);
    return () => clearTimeout(timer);
  }, [playing, index, speed, steps, stepTo]);
  useBrackets(head, heads, layer, toLayer);
  const start = (go: boolean) => {
    if (go && index >= steps.length - 1) stepTo(0);
    play(go);
  };
  return (
    <>
      <div class="step-bar">
        <Player
          index={index}
          count={steps.length}
          playing={playing}
          speed={speed}
          onPlay={start}
          onStep={stepTo}
          onSpeed={setSpeed}
        />
        <div class="row small">
          <span class="muted">{words.layer}</span>
          <Choice
            name={words.layer}
            options={Array.from({ length: numLayers }, (_, one) => one)}
            value={layer}
            onChange={toLayer}
          />
          <span class="muted">{words.range}</span>
          <Choice
            name={words.range}
            options={["one", "all"] as const}
            value={all ? "all" : "one"}
            label={(one) => words.ranges[one]}
            onChange={(range) => note({ range: range === "all" ? "all" : null })}
          />
        </div>
      </div>
      <div class="step-columns">
        <StepMap trace={trace} stages={stages} layer={layer} current={keyOf(at)} onChoose={choose} onLayer={toLayer} />
        <div class="stack">
          <Detail
            trace={trace}
            at={at}
            head={head}
            onHead={(chosen) => note({ head: chosen })}
            onChoose={choose}
            milliseconds={playing ? (STEP_MS / speed) * REVEAL_SHARE : 300}
          />
          <p class="small muted">{words.keys}</p>
        </div>
      </div>
      <Lens trace={trace} text={text} />
    </>
  );
}

/** [ and ] walk the heads, { and } the layers. */
function useBrackets(head: number, heads: number, layer: number, toLayer: (layer: number) => void): void {
  useEffect(() => {
    const walk = (event: KeyboardEvent) => {
      if (event.target instanceof Element && event.target.closest("textarea, select")) return;
      if (event.key === "[") note({ head: Math.max(0, head - 1) });
      if (event.key === "]") note({ head: Math.min(heads - 1, head + 1) });
      if (event.key === "{") toLayer(layer - 1);
      if (event.key === "}") toLayer(layer + 1);
    };
    document.addEventListener("keydown", walk);
    return () => document.removeEventListener("keydown", walk);
  }, [head, heads, layer, toLayer]);
}

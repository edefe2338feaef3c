// The frame around every place: which one is shown, and how to reach the others.

import type { ComponentType } from "preact";
import { useEffect } from "preact/hooks";
import { useWords } from "./base/language";
import { useAddress, type Place } from "./base/router";
import { Login } from "./parts/login";
import { Top } from "./parts/top";
import { DataPlace } from "./places/data/data_place";
import { EvaluatePlace } from "./places/evaluate/evaluate_place";
import { HomePlace } from "./places/home/home_place";
import { LookPlace } from "./places/look/look_place";
import { ModelsPlace } from "./places/models/models_place";
import { ServingPlace } from "./places/serving/serving_place";
import { StepPlace } from "./places/step/step_place";
import { TunePlace } from "./places/tune/tune_place";
import { shellWords } from "./words/shell";

const SHOWN: Record<Place, ComponentType> = {
  home: HomePlace,
  data: DataPlace,
  tune: TunePlace,
  evaluate: EvaluatePlace,
  look: LookPlace,
  step: StepPlace,
  models: ModelsPlace,
  serving: ServingPlace,
};

export function App() {
  const { place } = useAddress();
  const words = useWords(shellWords);
  useEffect(() => {
    document.title = place && place !== "home" ? `${words.places[place]} · Vitrine` : "Vitrine";
  }, [place, words]);
  const Shown = place ? SHOWN[place] : NotFound;
  return (
    <>
      <a class="skip" href="#content">
        {words.skip}
      </a>
      <Top />
      <main id="content" tabIndex={-1}>
        <Shown />
      </main>
      <Login />
    </>
  );
}

function NotFound() {
  const words = useWords(shellWords);
  return (
    <div class="place">
      <h1>404</h1>
      <p>
        {words.notFound} <a href="/">{words.toOverview}</a>
      </p>
    </div>
  );
}

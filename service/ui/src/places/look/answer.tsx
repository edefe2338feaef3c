import { classify, fillMask, tag, type Candidate, type Classified, type Tag } from "../../api/inference";
import { tunable, type Model } from "../../api/models";
import { figure, percent } from "../../base/format";
import { useWords } from "../../base/language";
import { useLoad } from "../../base/load";
import { pathTo } from "../../base/router";
import { Bars } from "../../parts/bars";
import { Waiting } from "../../parts/notice";
import { lookWords } from "../../words/look";

const MASK = "[MASK]";

/** What comes out: labels with scores, a number, or tags on their words. */
export function Answer({ model, text }: { model: Model; text: string }) {
  const words = useWords(lookWords);
  const tags = model.routes.includes("/v1/tag");
  const labels = model.routes.includes("/v1/classify");
  const loaded = useLoad<Classified | Tag[]>(labels || tags ? `${model.id}\n${text}` : null, (signal) =>
    tags ? tag(model.id, text, signal) : classify(model.id, text, signal),
  );
  if (model.routes.includes("/v1/fill-mask") && text.includes(MASK)) return <Masks model={model} text={text} />;
  if (!labels && !tags)
    return (
      <p class="muted">
        {words.noAnswer}{" "}
        {tunable(model) && (
          <>
            {words.notTuned} <a href={pathTo("tune", null, { model: model.id })}>{words.tuneIt}</a>
          </>
        )}
      </p>
    );
  return (
    <Waiting loaded={loaded}>
      {(answer) =>
        Array.isArray(answer) ? (
          <ol class="tokens">
            {answer.map((found, index) => (
              <li key={index} class="token">
                <span>{found.text}</span>
                <small>
                  {found.label} {percent(found.score, 0)}
                </small>
              </li>
            ))}
          </ol>
        ) : answer.scores ? (
          <Bars
            label={words.answer}
            most={1}
            bars={answer.scores.slice(0, 12).map((score, index) => ({
              name: score.label,
              value: score.score,
              shown: percent(score.score),
              tone: index ? "quiet" : undefined,
            }))}
          />
        ) : (
          <p>
            {words.number}: <strong class="number">{figure(answer.score)}</strong>
          </p>
        )
      }
    </Waiting>
  );
}

function Masks({ model, text }: { model: Model; text: string }) {
  const loaded = useLoad<Candidate[][]>(`${model.id}\n${text}`, (signal) => fillMask(model.id, text, signal));
  return (
    <Waiting loaded={loaded}>
      {(masks) =>
        masks.map((candidates, index) => (
          <Bars
            key={index}
            label={MASK}
            most={1}
            bars={candidates.map((one) => ({ name: one.token, value: one.score, shown: percent(one.score) }))}
          />
        ))
      }
    </Waiting>
  );
}

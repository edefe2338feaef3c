import type { Tokens as Read } from "../../api/inference";
import { useWords } from "../../base/language";
import { lookWords } from "../../words/look";

/** What the model reads: each token with its id. */
export function Tokens({ tokens, unknownId }: { tokens: Read; unknownId?: number | null }) {
  const words = useWords(lookWords);
  const unknown = (index: number): boolean =>
    unknownId !== undefined ? tokens.ids[index] === unknownId : /^(\[UNK\]|<unk>)$/.test(tokens.tokens[index]);
  return (
    <>
      <ol class="tokens">
        {tokens.tokens.map((token, index) => (
          <li
            key={index}
            class={`token ${tokens.special[index] && !unknown(index) ? "special" : ""} ${unknown(index) ? "unknown" : ""}`}
            title={unknown(index) ? words.unknown : undefined}
          >
            <span>{token}</span>
            <small>{tokens.ids[index]}</small>
          </li>
        ))}
      </ol>
      {tokens.tokens.some((_, index) => unknown(index)) && <p class="small unknown-note">■ {words.unknown}</p>}
      {tokens.truncated && <p class="small muted">{words.cut}</p>}
    </>
  );
}

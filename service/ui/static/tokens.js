// Step 2 of "Look inside": the tokens as chips, with ids, and where each one stands in the text.

import { make, roving } from "./dom.js";
import { count } from "./format.js";

const UNKNOWN = "[UNK]";

export function showTokens(place, data, text) {
  const characters = Array.from(text); // the server counts code points, a JavaScript string counts UTF-16 units
  const detail = make("p", { class: "readout", "aria-live": "polite" });
  const unknown = data.tokens.filter((token) => token === UNKNOWN).length;
  const missing = unknown ? ` ${count(unknown)} of them are not in this model's vocabulary: it cannot tell those apart.` : "";
  const overview = `${count(data.tokens.length)} tokens from ${count(characters.length)} characters. Point at a token to see where it comes from.${missing}`;
  detail.append(overview);

  const chips = data.tokens.map((token, index) => {
    const description = describe(token, data.ids[index], data.offsets[index], data.special[index], characters);
    const show = () => detail.replaceChildren(description);
    const hide = () => detail.replaceChildren(overview);
    return make("button", {
      type: "button", class: chipClass(token, data.special[index]), title: description, "aria-label": description,
      mouseenter: show, focus: show, mouseleave: hide, blur: hide,
    }, make("span", { class: "token-text" }, ...tokenText(token)), make("span", { class: "token-id" }, String(data.ids[index])));
  });
  roving(chips);
  place.replaceChildren(make("div", { class: "token-row", role: "group", "aria-label": "Tokens" }, ...chips), detail);
}

/** What to call each token in a picture: one outside the vocabulary is shown as the characters it stands for, with a *. */
export function tokenLabels({ tokens, offsets }, text) {
  const characters = Array.from(text);
  return tokens.map((token, index) => {
    const surface = characters.slice(...offsets[index]).join("");
    return token === UNKNOWN && surface ? `${surface}*` : token;
  });
}

function chipClass(token, special) {
  if (special) return "token token-special";
  if (token === UNKNOWN) return "token token-unknown";
  return token.startsWith("##") ? "token token-continued" : "token";
}

function tokenText(token) {
  return token.startsWith("##") && token.length > 2 ? [make("span", { class: "token-mark" }, "##"), token.slice(2)] : [token];
}

function describe(token, id, [start, end], special, characters) {
  if (special) return `${token}: id ${id}, a marker that the model adds; it stands for no part of the text`;
  return `${token}: id ${id}, characters ${start} to ${end} of the text: “${characters.slice(start, end).join("")}”`;
}

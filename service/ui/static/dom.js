// Builds elements from data. Text always goes in as text nodes, never as HTML, so that a user's text, a label
// or a file name can't become markup.

const SVG_NAMESPACE = "http://www.w3.org/2000/svg";

/** An HTML element; attributes that are functions are listeners, null and false attributes are left out. */
export function make(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/** The same for SVG, whose elements live in a namespace of their own. */
export function makeSvg(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG_NAMESPACE, tag), attributes, children);
}

export function byId(id) {
  return document.getElementById(id);
}

/** A box that explains an error or an empty place, with an optional way out. */
export function notice(kind, title, message, action = null) {
  return make("div", { class: `notice notice-${kind}`, role: kind === "error" ? "alert" : null },
    make("strong", {}, title), message ? make("p", {}, message) : null, action);
}

/**
 * Makes many small controls one stop of the Tab key: arrow keys move between them. `columns` is how far up and
 * down go; a list without columns moves by one.
 */
export function roving(items, columns = 1, start = 0) {
  items.forEach((item, index) => {
    item.tabIndex = index === start ? 0 : -1;
    item.addEventListener("keydown", (event) => {
      const moves = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: columns, ArrowUp: -columns };
      const target = event.key === "Home" ? 0 : event.key === "End" ? items.length - 1 : index + (moves[event.key] ?? NaN);
      if (!items[target]) return;
      event.preventDefault();
      items[target].focus();
    });
    item.addEventListener("focus", () => {
      for (const other of items) other.tabIndex = other === item ? 0 : -1;
    });
  });
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (typeof value === "function") element.addEventListener(name, value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

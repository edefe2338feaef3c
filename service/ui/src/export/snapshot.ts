// A view as a file: its elements as they stand, canvases and pictures as data, the page's styles beside them, no script.
// The SVG holds the same as a foreign object, which browsers draw; the PNG is that SVG drawn.

const SCALE = 2; // pixels of a PNG for each of the page's

export async function asHtml(view: HTMLElement): Promise<Blob> {
  const copy = await still(view);
  const { lang } = document.documentElement;
  const head = `<meta charset="utf-8"><title>${escaped(document.title)}</title><style>${styles()}</style>`;
  const body = `<body style="color-scheme:${scheme()}">${copy.outerHTML}</body>`;
  return new Blob(
    [`<!doctype html>\n<html lang="${lang}" style="color-scheme:${scheme()}"><head>${head}</head>${body}</html>\n`],
    {
      type: "text/html",
    },
  );
}

export async function asSvg(view: HTMLElement): Promise<Blob> {
  return new Blob([await svgText(view)], { type: "image/svg+xml" });
}

export async function asPng(view: HTMLElement): Promise<Blob> {
  const { width, height } = view.getBoundingClientRect();
  const picture = new Image();
  picture.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(await svgText(view))}`;
  await picture.decode();
  const canvas = document.createElement("canvas");
  const scale = Math.min(SCALE, 16_000 / height);
  canvas.width = Math.ceil(width * scale);
  canvas.height = Math.ceil(height * scale);
  canvas.getContext("2d")?.drawImage(picture, 0, 0, canvas.width, canvas.height);
  return new Promise((done, fail) =>
    canvas.toBlob((blob) => (blob ? done(blob) : fail(new Error("no PNG"))), "image/png"),
  );
}

/** The styles are text, not an element: the page's policy forbids inline styles, even in what is not shown. */
async function svgText(view: HTMLElement): Promise<string> {
  const { width, height } = view.getBoundingClientRect();
  const copy = await still(view);
  const body = document.createElement("div");
  body.className = "root";
  body.style.cssText = bodyStyle();
  body.append(copy);
  const inside = new XMLSerializer().serializeToString(body);
  const size = `width="${Math.ceil(width)}" height="${Math.ceil(height)}"`;
  const style = `<style>${escaped(styles().replaceAll(":root", ".root"))}</style>`;
  return `<svg xmlns="http://www.w3.org/2000/svg" ${size}>${style}<foreignObject width="100%" height="100%">${inside}</foreignObject></svg>`;
}

function escaped(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;");
}

/** Light or dark, as it is now. */
function scheme(): string {
  const { theme } = document.documentElement.dataset;
  if (theme) return theme;
  return matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
}

function bodyStyle(): string {
  const { backgroundColor, color, font } = getComputedStyle(document.body);
  return `background:${backgroundColor};color:${color};font:${font};line-height:1.5;margin:0;min-height:100vh;color-scheme:${scheme()}`;
}

function styles(): string {
  return [...document.styleSheets]
    .flatMap((sheet) => [...sheet.cssRules])
    .filter((rule) => !(rule instanceof CSSFontFaceRule)) // a font of 16 MB on our own host
    .map((rule) => rule.cssText)
    .join("\n");
}

/** A copy without what acts: canvases and pictures become data, fields what stands in them. */
async function still(view: HTMLElement): Promise<HTMLElement> {
  const copy = view.cloneNode(true) as HTMLElement;
  const canvases = view.querySelectorAll("canvas");
  copy.querySelectorAll("canvas").forEach((canvas, index) => canvas.replaceWith(picture(canvases[index])));
  const fields = view.querySelectorAll<HTMLTextAreaElement>("textarea");
  copy.querySelectorAll("textarea").forEach((field, index) => (field.textContent = fields[index].value));
  const chosen = view.querySelectorAll("select");
  copy.querySelectorAll("select").forEach((field, index) => {
    [...field.options].forEach((option, at) => option.toggleAttribute("selected", at === chosen[index].selectedIndex));
  });
  const ticked = view.querySelectorAll<HTMLInputElement>("input");
  copy.querySelectorAll("input").forEach((field, index) => field.toggleAttribute("checked", ticked[index].checked));
  for (const element of copy.querySelectorAll(".export-no, script")) element.remove();
  for (const link of copy.querySelectorAll("a"))
    link.href = new URL(link.getAttribute("href") ?? "", location.href).href;
  await Promise.all([...copy.querySelectorAll<HTMLImageElement>("img")].map(inlined));
  return copy;
}

function picture(canvas: HTMLCanvasElement): HTMLImageElement {
  const image = document.createElement("img");
  if (canvas.width && canvas.height) image.src = canvas.toDataURL("image/png");
  image.alt = canvas.getAttribute("aria-label") ?? "";
  image.className = canvas.className;
  image.style.cssText = canvas.style.cssText;
  const { width, height } = canvas.getBoundingClientRect();
  image.style.width = `${width}px`;
  image.style.height = `${height}px`;
  return image;
}

async function inlined(image: HTMLImageElement): Promise<void> {
  const address = image.getAttribute("src") ?? "";
  if (!address || address.startsWith("data:")) return;
  const blob = await (await fetch(address)).blob();
  image.src = await new Promise<string>((done) => {
    const reader = new FileReader();
    reader.onload = () => done(String(reader.result));
    reader.readAsDataURL(blob);
  });
}

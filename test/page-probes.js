// Functions that page tests run inside the browser. Each stands alone: it is sent as its source.

/** Texts of bands without their tags. */
export function bandTexts(bands) {
  return bands.map((band) => {
    const copy = band.cloneNode(true);
    copy.querySelector('.tag')?.remove();
    return copy.textContent;
  });
}

/** Width of a bar's part, in percent. */
export function widthOf(part) {
  return Number.parseFloat(part.style.width);
}

/** From now on, keep what the memory label says, in `heldTexts`. */
export function recordHeld() {
  const label = document.getElementById('held');
  globalThis.heldTexts = [];
  new MutationObserver(() => {
    const { heldTexts } = globalThis;
    if (heldTexts.at(-1) !== label.textContent) heldTexts.push(label.textContent);
  }).observe(label, { childList: true });
}

/** Positions of token elements. */
export function positions(tokens) {
  return tokens.map((token) => Number(token.dataset.i));
}

/** Visible controls and pictures without a name for screen readers. */
export function wordless(elements) {
  return elements
    .filter((one) => one.checkVisibility())
    .filter((one) => {
      const label = one.labels?.[0]?.textContent;
      return !(one.getAttribute('aria-label') || one.textContent?.trim() || label?.trim());
    })
    .map((one) => one.outerHTML);
}

export function ink() {
  return getComputedStyle(document.body).color;
}

export function setTheme(name) {
  document.documentElement.dataset.theme = name;
}

/** Pixels by which the page is wider than the screen. */
export function overflow() {
  return document.documentElement.scrollWidth - innerWidth;
}

/** Visible texts below 4.5:1 against their nearest opaque background (WCAG AA). */
export function lowContrast() {
  const parse = (color) => (color.match(/[\d.]+/g) ?? []).map(Number);
  const light = (rgb) => {
    const [r, g, b] = rgb.slice(0, 3).map((v) => {
      const c = v / 255;
      return c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const poor = [];
  for (const element of document.querySelectorAll('body *')) {
    const own = [...element.childNodes].some(
      (node) => node.nodeType === Node.TEXT_NODE && node.textContent.trim() !== '',
    );
    if (!own || !element.checkVisibility() || element.closest('svg') || element.disabled) continue;
    let ground = element;
    while (ground !== null && parse(getComputedStyle(ground).backgroundColor)[3] === 0) {
      ground = ground.parentElement;
    }
    const back = light(parse(getComputedStyle(ground ?? document.body).backgroundColor));
    const front = light(parse(getComputedStyle(element).color));
    const ratio = (Math.max(back, front) + 0.05) / (Math.min(back, front) + 0.05);
    if (ratio < 4.5) {
      const text = element.textContent.slice(0, 30);
      poor.push(`${element.tagName}.${element.className} ${ratio.toFixed(2)} "${text}"`);
    }
  }
  return poor;
}

/** Whether the first element's box begins within the second's. */
export function inside([inner, outer]) {
  const box = document.querySelector(inner).getBoundingClientRect();
  const frame = document.querySelector(outer).getBoundingClientRect();
  return box.top >= frame.top - 1 && box.top < frame.bottom && box.bottom > frame.top;
}

export function focused(element) {
  return document.activeElement === element;
}

export function underlined(element) {
  return getComputedStyle(element).textDecorationLine.includes('underline');
}

/** Visible controls smaller than 24 by 24 pixels (WCAG 2.5.8). */
export function small(elements) {
  return elements
    .filter((one) => one.checkVisibility())
    .filter((one) => {
      const { width, height } = one.getBoundingClientRect();
      return width < 24 || height < 24;
    })
    .map((one) => `${one.outerHTML.slice(0, 90)} ${one.getBoundingClientRect().height}`);
}

/** Share of the strip's row that its segments cover. */
export function covered(bars) {
  const boxes = bars.map((bar) => bar.getBoundingClientRect());
  const first = Math.min(...boxes.map((box) => box.left));
  const last = Math.max(...boxes.map((box) => box.right));
  let at = first;
  let sum = 0;
  for (const { left, right } of boxes.sort((a, b) => a.left - b.left)) {
    sum += Math.max(0, right - Math.max(at, left));
    at = Math.max(at, right);
  }
  return sum / (last - first);
}

/** Where each word of a text begins on the screen, from the left. */
export function wordPlaces(element) {
  const node = element.firstChild;
  return [...node.data.matchAll(/\S+/g)].map(({ index, 0: word }) => {
    const range = document.createRange();
    range.setStart(node, index);
    range.setEnd(node, index + word.length);
    return range.getBoundingClientRect().left;
  });
}

export function direction(element) {
  return getComputedStyle(element).direction;
}

/** Say that the kept conversation was had under another contract. */
export function otherContract() {
  const kept = JSON.parse(sessionStorage.getItem('lockstep.chat.toy'));
  sessionStorage.setItem('lockstep.chat.toy', JSON.stringify({ ...kept, digest: '0'.repeat(64) }));
}

/** As somebody who draws a field's corner down. */
export function drawLarger(field) {
  field.style.height = '700px';
}

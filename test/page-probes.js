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

// Functions that the tests of looks run inside the browser. Each stands alone: it is sent as its source.

/** Texts that do not fit where they stand: cut off by a box of their own, or wider than the screen. */
export function clipped() {
  const found = [];
  for (const element of document.querySelectorAll('body *')) {
    if (!element.checkVisibility() || element.closest('svg, .hidden, .skip, textarea, .scroll'))
      continue;
    const own = [...element.childNodes].some(
      (node) => node.nodeType === Node.TEXT_NODE && node.textContent.trim() !== '',
    );
    const style = getComputedStyle(element);
    if (!own || style.fontSize === '0px') continue;
    const hides = style.overflowX === 'hidden' && style.webkitLineClamp === 'none';
    const name = `${element.tagName}.${element.className} "${element.textContent.slice(0, 40)}"`;
    if (hides && element.scrollWidth > element.clientWidth + 1) found.push(`cut off: ${name}`);
    if (element.getBoundingClientRect().right > innerWidth + 1)
      found.push(`too far right: ${name}`);
  }
  return found;
}

/** Texts of a picture that leave it, or that write over each other. */
export function badTexts() {
  const svg = document.querySelector('svg');
  const frame = svg.getBoundingClientRect();
  const boxes = [...svg.querySelectorAll('text')].map((text) => ({
    words: text.textContent,
    box: text.getBoundingClientRect(),
  }));
  const found = [];
  for (const [i, { words, box }] of boxes.entries()) {
    const out =
      box.left < frame.left - 0.5 ||
      box.right > frame.right + 0.5 ||
      box.top < frame.top - 0.5 ||
      box.bottom > frame.bottom + 0.5;
    if (out) found.push(`outside: ${words}`);
    for (const other of boxes.slice(i + 1)) {
      const wide = Math.min(box.right, other.box.right) - Math.max(box.left, other.box.left);
      const high = Math.min(box.bottom, other.box.bottom) - Math.max(box.top, other.box.top);
      // Lines of text may touch: the box of a line is higher than its letters.
      if (wide > 1 && high > 4) found.push(`over each other: ${words} / ${other.words}`);
    }
  }
  return found;
}

/** Columns of numbers whose cells do not end below one another. */
export function raggedColumns() {
  const found = [];
  for (const table of document.querySelectorAll('table:not(.words)')) {
    const rows = [...table.rows];
    for (let column = 1; column < rows[0].cells.length; column++) {
      const ends = rows.map((row) => {
        const range = document.createRange();
        range.selectNodeContents(row.cells[column]);
        return Math.round(range.getBoundingClientRect().right);
      });
      if (Math.max(...ends) - Math.min(...ends) > 1) found.push(`${column}: ${ends}`);
    }
  }
  return found;
}

/** What a person copies who selects the digest. */
export function selected(element) {
  getSelection().selectAllChildren(element);
  return getSelection().toString();
}

export function colors() {
  const { color } = getComputedStyle(document.body);
  const card = document.querySelector('.card');
  return [color, getComputedStyle(card).backgroundColor];
}

/** Words of a legend. */
export function legendWords() {
  return [...document.querySelectorAll('.keys li')].map((one) => [
    one.className,
    one.querySelector('b').textContent,
    one.querySelector('span').textContent,
  ]);
}

/** Seconds for which anything here would move. */
export function longestMotion() {
  const seconds = [...document.querySelectorAll('*')].flatMap((one) => {
    const { transitionDuration, animationDuration } = getComputedStyle(one);
    return [transitionDuration, animationDuration].join().split(',').map(Number.parseFloat);
  });
  return Math.max(...seconds);
}

/** Elements that scroll and cannot be reached by the keyboard. */
export function unreachable() {
  return [...document.querySelectorAll('.scroll')]
    .filter((one) => one.scrollWidth > one.clientWidth && one.tabIndex < 0)
    .map((one) => one.outerHTML.slice(0, 80));
}

/** The colour of a picture's corner, as it is shown. */
export async function cornerOf(image) {
  await image.decode();
  const canvas = document.createElement('canvas');
  const brush = canvas.getContext('2d');
  brush.drawImage(image, 0, 0);
  return [...brush.getImageData(4, 4, 1, 1).data].slice(0, 3);
}

/** Elements that a printed page hides, of those that match. */
export function printed(elements) {
  return elements.filter((one) => one.checkVisibility()).length;
}

/** Elements with content that is cut off. */
export function cutOff(elements) {
  return elements
    .filter((one) => one.checkVisibility() && one.scrollHeight > one.clientHeight + 2)
    .filter((one) => getComputedStyle(one).overflowY !== 'visible')
    .map((one) => one.className);
}

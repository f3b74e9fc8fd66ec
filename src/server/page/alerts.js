// Messages, put where the eye is: what went wrong, and what has changed at the server.
import { byId, h } from './dom.js';

/** What stands between backquotes is a command or a name. */
function parts(words) {
  return words.split('`').map((part, i) => (i % 2 === 1 ? h('code', { dir: 'auto' }, part) : part));
}

function put(words, { before, title = '', notice, action }) {
  const close = h(
    'button',
    { type: 'button', class: 'quiet', onclick: () => alerts.clear() },
    'Dismiss',
  );
  const alert = byId('alert');
  if (before === null) byId('main').prepend(alert);
  else before.before(alert);
  alert.title = title;
  alert.classList.toggle('notice', notice);
  alert.classList.remove('floating');
  alert.replaceChildren(h('span', {}, ...parts(words)), ...(action ?? []), close);
  alert.hidden = false;
}

const inView = (element) => {
  const { top, bottom } = element.getBoundingClientRect();
  return bottom > 0 && top < innerHeight;
};

export const alerts = {
  /** @param before where the eye is: what the message is put in front of */
  show(error, before = null) {
    const wait = error.retryAfter ? ` Try again in ${error.retryAfter} s.` : '';
    const { message, instead = `${message}${wait}` } = error;
    put(instead, { before, title: instead === error.message ? '' : message, notice: false });
    byId('alert').scrollIntoView({ block: 'nearest' });
  },
  /** Something happened that nobody asked for: it stays in view, and moves nothing that is read. */
  tell(words, before, ...action) {
    const beside = inView(before);
    put(words, { before: beside ? before : null, notice: true, action });
    byId('alert').classList.toggle('floating', !beside);
  },
  clear() {
    byId('alert').hidden = true;
    byId('alert').replaceChildren();
  },
};

// The form below the conversation: what is written in it goes to the chat that is shown.
import { byId } from './dom.js';

export function makeComposer(alerts) {
  const form = byId('composer');
  const input = byId('message');
  const send = byId('send');
  const status = byId('status');
  const system = byId('system');
  const most = byId('most');
  /** @type {import('./chat.js').Chat | null} */
  let chat = null;

  /** Fields are written only where they differ: the cursor stays where it is. */
  function set(field, name, value) {
    if (field[name] !== value) field[name] = value;
  }

  function draw() {
    set(input, 'value', chat.draft);
    set(system, 'value', chat.system);
    set(send, 'textContent', chat.running ? 'Stop' : 'Send');
    send.classList.toggle('stop', chat.running);
    set(status, 'textContent', chat.status);
  }

  input.addEventListener('input', () => {
    if (chat !== null) chat.draft = input.value;
  });
  system.addEventListener('input', () => {
    if (chat !== null) chat.system = system.value;
  });
  function submit() {
    if (chat === null || chat.running) return;
    chat.submit(input.value);
  }
  form.addEventListener('submit', (event) => {
    event.preventDefault();
    if (chat?.running) chat.stop();
    else submit();
  });
  input.addEventListener('keydown', (event) => {
    if (event.key !== 'Enter' || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    submit();
  });
  byId('clear').addEventListener('click', () => {
    chat?.clear();
    alerts.clear();
    input.focus();
  });

  return {
    /** Where the eye is in a chat. */
    form,
    draw(changed) {
      if (changed === chat) draw();
    },
    /** What is written and not yet sent goes along to a chat that has nothing of its own. */
    show(next) {
      if (chat === null) {
        if (input.value !== '') next.draft = input.value;
        if (system.value !== '') next.system = system.value;
      } else if (next !== chat && next.draft === '') {
        next.draft = chat.draft;
        chat.draft = '';
      }
      const last = byId('log');
      if (next.log !== last) {
        last.replaceWith(next.log);
        last.removeAttribute('id');
        next.log.id = 'log';
        next.shown();
      }
      chat = next;
      const { tokens } = chat.contract.limits;
      most.max = String(tokens);
      if (Number(most.value) > tokens) most.value = String(tokens);
      byId('system-row').hidden = !chat.contract.chat;
      draw();
      // Until now the browser itself would have sent the form: a reload, and the message lost.
      send.disabled = false;
    },
  };
}

// Talking to the server: JSON, streams, and errors in words.

const KEY = 'lockstep.key';
let key = sessionStorage.getItem(KEY);

export function setKey(value) {
  key = value === '' ? null : value;
  if (key === null) sessionStorage.removeItem(KEY);
  else sessionStorage.setItem(KEY, key);
}

/** A failure in words for people; `code` is OpenAI's error code, `field` the field to blame. */
export class ApiError extends Error {
  constructor(message, { status = 0, code = null, field = null, retryAfter = null } = {}) {
    super(message);
    this.status = status;
    this.code = code;
    this.field = field;
    this.retryAfter = retryAfter;
  }
}

async function ask(path, { body, signal, taken = [] } = {}) {
  const headers = {};
  if (key !== null) headers.authorization = `Bearer ${key}`;
  if (body !== undefined) headers['content-type'] = 'application/json';
  let response;
  try {
    response = await fetch(path, {
      method: body === undefined ? 'GET' : 'POST',
      headers,
      body: body === undefined ? undefined : JSON.stringify(body),
      signal,
    });
  } catch (error) {
    if (error.name === 'AbortError') throw error;
    throw new ApiError('The server cannot be reached. Is `lockstep serve` still running?');
  }
  if (response.ok || taken.includes(response.status)) return response;
  const answer = await response.json().catch(() => null);
  const told = answer?.error;
  throw new ApiError(told?.message ?? `The server answered ${response.status}.`, {
    status: response.status,
    code: told?.code ?? null,
    field: told?.param ?? null,
    retryAfter: response.headers.get('retry-after'),
  });
}

export async function getJson(path) {
  return (await ask(path)).json();
}

/** What `/health/ready` tells, which it does with 503, too. */
export async function getReady() {
  return (await ask('health/ready', { taken: [503] })).json();
}

/** A path that is asked about one of the models. */
export function aboutModel(path, name) {
  return `${path}?model=${encodeURIComponent(name)}`;
}

export async function postJson(path, body, signal) {
  return (await ask(path, { body, signal })).json();
}

/** The events of a streamed answer, parsed. Throws ApiError when the server reports one midway. */
export async function* streamEvents(path, body, signal) {
  const response = await ask(path, { body, signal });
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = '';
  let finished = false;
  try {
    while (!finished) {
      const { value, done } = await reader.read();
      if (done) break;
      rest += value;
      const blocks = rest.split('\n\n');
      rest = blocks.pop();
      for (const block of blocks) {
        if (!block.startsWith('data: ')) continue;
        const data = block.slice(6);
        if (data === '[DONE]') {
          finished = true;
          break;
        }
        const event = JSON.parse(data);
        if (event.error) {
          throw new ApiError(event.error.message, {
            code: event.error.code,
            field: event.error.param,
          });
        }
        yield event;
      }
    }
  } catch (error) {
    if (error instanceof ApiError || error.name === 'AbortError') throw error;
    throw new ApiError('The connection broke before the answer was complete.');
  } finally {
    reader.cancel().catch(() => {});
  }
  if (!finished) throw new ApiError('The answer ended before it was complete.');
}

// What the page asks of the relay. The token is kept here and nowhere else.

const ANSWER_MS = 8000;
let token = null;

export class Unreachable extends Error {}
export class NeedsToken extends Error {}
export class Refused extends Error {
  constructor(status, words) {
    super(words);
    this.status = status;
  }
}

export function setToken(text) {
  token = text;
}

/** A document of /api/v1/; params that are null or empty are left out. */
export async function ask(path, params = {}) {
  const query = new URLSearchParams(Object.entries(params).filter(([, v]) => v !== null && v !== '')).toString();
  const url = `api/v1/${path}${query && `?${query}`}`;
  const asked = { headers: token ? { Authorization: `Bearer ${token}` } : {}, cache: 'no-store', credentials: 'omit', redirect: 'error',
    signal: AbortSignal.timeout(ANSWER_MS) };
  let answer, document;
  try {
    answer = await fetch(url, asked);
    document = await answer.json();
  } catch {
    throw new Unreachable('the relay does not answer');
  }
  if (answer.status === 401) throw new NeedsToken(document.error);
  if (!answer.ok) throw new Refused(answer.status, document.error ?? `status ${answer.status}`);
  return document;
}

// The conversation outlives a reload: it is kept in this tab, for the model and contract it was had with.

const KEY = 'lockstep.chat';

/** @returns what was kept for this contract, or null */
export function kept(contract) {
  try {
    const saved = JSON.parse(sessionStorage.getItem(KEY) ?? 'null');
    return saved?.digest === contract.digest && saved.name === contract.name ? saved : null;
  } catch {
    return null;
  }
}

/**
 * @param {{system: string, draft: string, entries: object[]}} chat `draft`: what is written and not yet sent
 * @returns {boolean} whether there was room for it
 */
export function keep(contract, chat) {
  const saved = { digest: contract.digest, name: contract.name, ...chat };
  try {
    sessionStorage.setItem(KEY, JSON.stringify(saved));
    return true;
  } catch {
    sessionStorage.removeItem(KEY);
    return false;
  }
}

export function forget() {
  sessionStorage.removeItem(KEY);
}

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

/** @returns {boolean} whether there was room for it */
export function keep(contract, system, entries) {
  const saved = { digest: contract.digest, name: contract.name, system, entries };
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

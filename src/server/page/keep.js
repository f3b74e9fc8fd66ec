// A conversation outlives a reload: it is kept in this tab, for the model and contract it was had with.

const keyOf = ({ name }) => `lockstep.chat.${name}`;

/** @returns what was kept for this contract, or null */
export function kept(contract) {
  try {
    const saved = JSON.parse(sessionStorage.getItem(keyOf(contract)) ?? 'null');
    return saved?.digest === contract.digest ? saved : null;
  } catch {
    return null;
  }
}

/**
 * @param {{system: string, draft: string, entries: object[]}} chat `draft`: what is written and not yet sent
 * @returns {boolean} whether there was room for it
 */
export function keep(contract, chat) {
  const saved = { digest: contract.digest, ...chat };
  try {
    sessionStorage.setItem(keyOf(contract), JSON.stringify(saved));
    return true;
  } catch {
    forget(contract);
    return false;
  }
}

export function forget(contract) {
  sessionStorage.removeItem(keyOf(contract));
}

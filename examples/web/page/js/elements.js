/**
 * The parts of the page, by their id.
 */

/** @template {HTMLElement} T @param {string} id @param {new () => T} kind @returns {T} */
export function element(id, kind) {
  const node = document.getElementById(id);
  if (!(node instanceof kind)) throw new Error(`the page has no #${id}`);
  return node;
}
export const button = (/** @type {string} */ id) => element(id, HTMLButtonElement);
export const part = (/** @type {string} */ id) => element(id, HTMLElement);

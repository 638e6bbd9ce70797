/**
 * Groups of which one is chosen: one stop of the Tab key, arrow keys within.
 */

/**
 * @param {HTMLElement} group with role=radiogroup; its buttons have role=radio
 * @param {(button: HTMLElement) => void} onChoose
 */
export function radioGroup(group, onChoose) {
  const buttons = () => /** @type {HTMLElement[]} */ ([...group.querySelectorAll('[role=radio]:not([hidden])')]);
  group.addEventListener('click', (event) => {
    const button = /** @type {HTMLElement|null} */ (/** @type {Element} */ (event.target).closest('[role=radio]'));
    if (button) onChoose(button);
  });
  group.addEventListener('keydown', (event) => {
    const all = buttons(), at = all.indexOf(/** @type {HTMLElement} */ (document.activeElement));
    const step = { ArrowDown: 1, ArrowRight: 1, ArrowUp: -1, ArrowLeft: -1 }[event.key];
    const to = event.key === 'Home' ? 0 : event.key === 'End' ? all.length - 1 : step && at >= 0 ? (at + step + all.length) % all.length : -1;
    if (to < 0 || !all[to]) return;
    event.preventDefault();
    onChoose(all[to]);
    buttons()[to]?.focus();
  });
}

/** @param {HTMLElement} group @param {(button: HTMLElement) => boolean} chosen */
export function setChosen(group, chosen) {
  const buttons = /** @type {HTMLElement[]} */ ([...group.querySelectorAll('[role=radio]')]);
  const any = buttons.some(chosen);
  buttons.forEach((button, i) => {
    button.setAttribute('aria-checked', String(chosen(button)));
    button.tabIndex = chosen(button) || (!any && i === 0) ? 0 : -1;
  });
}

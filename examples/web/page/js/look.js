/**
 * Controls of how things look: the map's opacity and colours, dark and light.
 */
import { COLOURS, gradient } from './colours.js';
import { button, element, part } from './elements.js';
import { radioGroup, setChosen } from './radio.js';

/** A press on the picture, or the space bar, hides the map while it lasts. */
export function wirePeek() {
  const node = part('stage'), peek = (/** @type {boolean} */ on) => node.classList.toggle('peek', on);
  node.addEventListener('pointerdown', (event) => !(/** @type {Element} */ (event.target).closest('button')) && peek(true));
  for (const end of ['pointerup', 'pointercancel', 'pointerleave', 'blur']) node.addEventListener(end, () => peek(false));
  node.addEventListener('contextmenu', (event) => event.preventDefault());
  for (const [kind, on] of /** @type {[string, boolean][]} */ ([['keydown', true], ['keyup', false]])) {
    document.addEventListener(kind, (event) => {
      if (/** @type {KeyboardEvent} */ (event).key !== ' ' || (event.target !== node && event.target !== document.body)) return;
      event.preventDefault();
      peek(on);
    });
  }
}

/** @param {import('./stage.js').Stage} stage */
export function wireOpacity(stage) {
  const opacity = element('opacity', HTMLInputElement);
  const setOpacity = () => {
    stage.setOpacity(opacity.valueAsNumber / 100);
    opacity.style.setProperty('--at', `${opacity.value}%`);
  };
  opacity.addEventListener('input', setOpacity);
  setOpacity();
}

/** @param {import('./stage.js').Stage} stage @param {Record<string, Uint8Array>} colours */
export function wireColours(stage, colours) {
  const group = part('colours');
  const choose = (/** @type {string} */ name) => {
    stage.setColours(colours[name]);
    part('legend').style.background = gradient(colours[name]);
    setChosen(group, (choice) => choice.dataset.name === name);
    localStorage.setItem('colours', name);
  };
  for (const name of COLOURS) {
    const choice = Object.assign(document.createElement('button'), { type: 'button', className: 'colour', title: name });
    choice.setAttribute('role', 'radio');
    choice.setAttribute('aria-label', name);
    choice.dataset.name = name;
    choice.append(document.createElement('i'));
    /** @type {HTMLElement} */ (choice.firstElementChild).style.background = gradient(colours[name]);
    group.append(choice);
  }
  radioGroup(group, (choice) => choose(choice.dataset.name ?? COLOURS[0]));
  choose(COLOURS.find((name) => name === localStorage.getItem('colours')) ?? COLOURS[0]);
}

/** Dark or light, as the system has it until the button was used. */
export function wireTheme() {
  const dark = matchMedia('(prefers-color-scheme: dark)');
  const set = (/** @type {string|null} */ theme) => (document.documentElement.dataset.theme = theme ?? (dark.matches ? 'dark' : 'light'));
  set(localStorage.getItem('theme'));
  dark.addEventListener('change', () => set(localStorage.getItem('theme')));
  button('theme').addEventListener('click', () => {
    const theme = document.documentElement.dataset.theme === 'dark' ? 'light' : 'dark';
    localStorage.setItem('theme', theme);
    set(theme);
  });
}

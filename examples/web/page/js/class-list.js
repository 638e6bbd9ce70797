/**
 * The classes with their probabilities; the one that is explained is marked. A search reaches the others.
 */
import { radioGroup, setChosen } from './radio.js';

const SHOWN = 5, FOUND = 40;

export class ClassList {
  /**
   * @param {HTMLElement} list
   * @param {HTMLInputElement} search
   * @param {(target: number) => void} onChoose
   */
  constructor(list, search, onChoose) {
    this.list = list;
    this.search = search;
    /** @type {string[]} */
    this.labels = [];
    /** @type {Float32Array} */
    this.probabilities = new Float32Array(0);
    this.target = -1;
    radioGroup(list, (button) => onChoose(Number(button.dataset.target)));
    search.addEventListener('input', () => this.draw());
    search.addEventListener('keydown', (event) => {
      if (event.key === 'Escape') this.clearSearch();
      if (event.key === 'ArrowDown' || event.key === 'Enter') {
        event.preventDefault();
        const first = /** @type {HTMLElement|null} */ (list.querySelector('[role=radio]'));
        first?.focus();
        if (event.key === 'Enter' && first) onChoose(Number(first.dataset.target));
      }
    });
  }

  /** @param {string[]} labels @param {Float32Array} probabilities @param {number} target */
  show(labels, probabilities, target) {
    [this.labels, this.probabilities, this.target] = [labels, probabilities, target];
    this.draw();
  }

  clearSearch() {
    this.search.value = '';
    this.draw();
  }

  /** The short name of a class: the first of its synonyms. @param {number} target */
  name(target) {
    return this.label(target).split(',')[0];
  }

  /** @param {number} target */
  label(target) {
    return this.labels[target]?.replaceAll('_', ' ') ?? `class ${target}`;
  }

  /** The classes to list: the likeliest ones and the explained one, or those that the search finds. */
  get listed() {
    const words = this.search.value.trim().toLowerCase();
    const order = [...this.probabilities.keys()].sort((a, b) => this.probabilities[b] - this.probabilities[a]);
    if (words) return order.filter((target) => this.label(target).toLowerCase().includes(words)).slice(0, FOUND);
    const best = order.slice(0, SHOWN);
    return this.target < 0 || best.includes(this.target) || !order.length ? best : [...best.slice(0, SHOWN - 1), this.target];
  }

  draw() {
    const { listed } = this;
    /** @type {Map<string|undefined, HTMLElement>} */
    const old = new Map([...this.list.children].map((row) => [/** @type {HTMLElement} */ (row).dataset.target, /** @type {HTMLElement} */ (row)]));
    const rows = listed.map((target) => old.get(String(target)) ?? this.row(target));
    if (rows.length !== this.list.children.length || rows.some((row, i) => row !== this.list.children[i])) this.list.replaceChildren(...rows);
    rows.forEach((row, i) => this.fill(row, listed[i]));
    setChosen(this.list, (row) => Number(row.dataset.target) === this.target);
    if (!rows.length && this.search.value) this.list.append(Object.assign(document.createElement('p'), { className: 'none', textContent: 'No class of that name' }));
  }

  /** @param {number} target */
  row(target) {
    const row = document.createElement('button');
    Object.assign(row, { type: 'button', className: 'class' });
    row.setAttribute('role', 'radio');
    row.dataset.target = String(target);
    for (const part of ['name', 'share', 'line']) row.append(Object.assign(document.createElement('span'), { className: part }));
    row.lastElementChild?.append(document.createElement('i'));
    return row;
  }

  /** @param {HTMLElement} row @param {number} target */
  fill(row, target) {
    const [name, share, line] = /** @type {HTMLElement[]} */ ([...row.children]);
    const [first, ...others] = this.label(target).split(',');
    const [probability, text] = [this.probabilities[target] ?? 0, percent(this.probabilities[target] ?? 0)];
    name.replaceChildren(first, ...(others.length ? [Object.assign(document.createElement('small'), { textContent: others.join(',').trim() })] : []));
    share.textContent = text;
    line.style.setProperty('--share', String(probability));
    row.title = this.label(target);
    row.setAttribute('aria-label', `${this.label(target)}, ${text}`);
  }
}

/** @param {number} share */
export function percent(share) {
  if (share > 0 && share < 0.001) return '< 0.1 %';
  return `${(share * 100).toFixed(share < 0.0995 || share > 0.995 ? 1 : 0)} %`;
}

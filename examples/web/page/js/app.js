/**
 * The page: what is open, what is shown, and what each control does.
 */
import { Calls } from './calls.js';
import { Camera } from './camera.js';
import { ClassList, percent } from './class-list.js';
import { loadColours } from './colours.js';
import { button, element, part } from './elements.js';
import { wireColours, wireOpacity, wirePeek, wireTheme } from './look.js';
import { decode, draw, fileOf, thumbnail } from './pictures.js';
import { radioGroup, setChosen } from './radio.js';
import { Stage } from './stage.js';
import { TITLES, duration, place } from './words.js';

/** @typedef {import('./types.js').Explanation} Explanation */
/** @typedef {import('./types.js').ModelCard} ModelCard */
/** @typedef {import('./types.js').Picture} Picture */
/** @typedef {import('./types.js').SaliencyMap} SaliencyMap */
/** @typedef {import('./types.js').Sharper} Sharper */

const EXAMPLES = [
  { file: 'coffee.jpg', name: 'A cup of coffee' },
  { file: 'chelsea.jpg', name: 'A cat' },
  { file: 'both.jpg', name: 'A cat beside a cup of coffee' },
];
/** Milliseconds of a change of map, and after which a run is shown to be going on. */
const QUICK = 380, SLOW = 620, PATIENCE = 300;
/** Pixels of a camera frame's longer side. */
const LIVE = 640;
/** A class with less is not likely: the command line says “only” of it. */
const LOW = 0.05;

/** @type {{card: ModelCard|null, method: string, seen: Explanation|null, map: SaliencyMap|null, sharper: Sharper|null, target: number}} */
const state = { card: null, method: 'score-cam', seen: null, map: null, sharper: null, target: -1 };
/** Milliseconds: until the first picture was explained, and from a picture's pixels to its maps. */
const timings = { loaded: 0, gradCam: 0, preview: 0, exact: 0 };

const stage = new Stage(part('frame'), element('picture', HTMLCanvasElement), element('overlay', HTMLCanvasElement));
const worker = new Calls(new URL('./explain-worker.js', import.meta.url), (event) => (event.sharper ? showSharper(event.sharper) : report(new Error(event.failure))));
const camera = new Camera(element('video', HTMLVideoElement));
const classes = new ClassList(part('classes'), element('search', HTMLInputElement), (target) => explainClass(target));
/** @type {number} grows with each picture: an answer for an older one is dropped */
let turn = 0;
/** @type {number} when the picture that is shown came in */
let cameIn = 0;

// ---------------------------------------------------------------------------------------------- Pictures

/** @param {HTMLCanvasElement} canvas @param {Picture} picture */
async function see(canvas, picture) {
  const mine = ++turn;
  cameIn = performance.now();
  stage.clear();
  stage.setPicture(canvas, picture.width, picture.height);
  Object.assign(state, { seen: null, map: null, sharper: null, target: -1 });
  classes.clearSearch();
  const seen = await showBusy(worker.call('see', { picture, sharpen: wantsScoreCam() }, [picture.data.buffer]));
  if (mine !== turn) return;
  timings.gradCam = performance.now() - cameIn;
  showExplanation(seen, SLOW);
  sharpen();
}

/** Lets the picture shimmer while a run takes long. @template T @param {Promise<T>} run @returns {Promise<T>} */
async function showBusy(run) {
  const timer = setTimeout(() => {
    part('frame').classList.add('busy');
    if (!state.card?.sharpens) part('state').textContent = 'The file runs…';
  }, PATIENCE);
  try {
    return await run;
  } finally {
    clearTimeout(timer);
    part('frame').classList.remove('busy');
  }
}

/** @param {Blob} blob @param {string} name */
async function openPicture(blob, name) {
  closeCamera();
  const { canvas, picture } = await decode(blob);
  addThumbnail(thumbnail(canvas), name, blob);
  await see(canvas, picture);
}

/** @param {File|null} file */
async function openFile(file) {
  if (!file) return;
  if (/\.onnx$/i.test(file.name)) return openModel(file);
  return openPicture(file, file.name);
}

/** @param {HTMLElement} image @param {string} name @param {Blob} blob */
function addThumbnail(image, name, blob) {
  const thumb = document.createElement('button');
  Object.assign(thumb, { type: 'button', className: 'thumb', title: name });
  thumb.setAttribute('aria-label', name);
  thumb.append(image);
  thumb.addEventListener('click', () => attempt(showAgain(thumb, blob)));
  part('examples').append(thumb);
  press(thumb);
  thumb.scrollIntoView({ block: 'nearest', inline: 'nearest' });
}

/** @param {HTMLElement} thumb @param {Blob} blob */
async function showAgain(thumb, blob) {
  closeCamera();
  press(thumb);
  const { canvas, picture } = await decode(blob);
  await see(canvas, picture);
}

/** @param {HTMLElement|null} chosen */
function press(chosen) {
  for (const thumb of part('examples').children) thumb.setAttribute('aria-pressed', String(thumb === chosen));
}

// ------------------------------------------------------------------------------------------ Explanations

/** @param {Explanation} seen @param {number} milliseconds of the change */
function showExplanation(seen, milliseconds) {
  Object.assign(state, { seen, map: seen.map, target: seen.target });
  stage.setMap(seen.map, milliseconds);
  showAnswer();
  showState();
}

/** @param {number} target */
async function explainClass(target) {
  if (!state.seen || target === state.target || state.card?.bakedTarget) return;
  const mine = turn;
  state.target = target;
  state.sharper = null;
  showAnswer();
  if (wantsScoreCam()) worker.call('sharpen', { target }).catch(report);
  const seen = await showBusy(worker.call('explain', { target }));
  if (mine !== turn || target !== state.target) return;
  state.seen = seen;
  if (state.sharper) return;
  state.map = seen.map;
  stage.setMap(seen.map, QUICK);
  showState();
}

/** Starts Score-CAM for the shown class, where the method is chosen and the file can be stepped. */
function sharpen() {
  if (state.seen && wantsScoreCam()) worker.call('sharpen', { target: state.target }).catch(report);
}

function wantsScoreCam() {
  return state.method === 'score-cam' && Boolean(state.card?.sharpens) && !camera.runs;
}

/** @param {Sharper} sharper */
function showSharper(sharper) {
  if (!state.seen || sharper.target !== state.target || !wantsScoreCam()) return;
  if (!state.sharper) timings.preview = performance.now() - cameIn;
  if (sharper.scored === sharper.total) timings.exact = performance.now() - cameIn;
  Object.assign(state, { sharper, map: sharper.map });
  stage.setMap(sharper.map, SLOW);
  showState();
}

/** @param {string} method */
function chooseMethod(method) {
  if (method === state.method) return;
  state.method = method;
  state.sharper = null;
  showMethods();
  if (wantsScoreCam()) return sharpen();
  worker.call('rest').catch(report);
  if (state.seen) {
    state.map = state.seen.map;
    stage.setMap(state.seen.map, QUICK);
  }
  showState();
}

// --------------------------------------------------------------------------------------------- The panel

function showAnswer() {
  const { seen, target } = state;
  if (!seen) return;
  const { probabilities } = seen;
  classes.show(state.card?.labels ?? [], probabilities, target);
  const best = probabilities.reduce((top, p, i) => (p > probabilities[top] ? i : top), 0);
  const name = probabilities.length ? classes.name(target) : 'No class', heading = part('answer');
  if (heading.textContent !== name) heading.replaceChildren(Object.assign(document.createElement('span'), { textContent: name }));
  const low = probabilities.length > 0 && probabilities[target] < LOW, nothing = low && target === best;
  part('panel').classList.toggle('unlikely', nothing);
  part('eyebrow').textContent = nothing ? 'No class is likely. The first is' : target === best ? 'The model sees' : 'What speaks for';
  const share = Object.assign(document.createElement('b'), { textContent: percent(probabilities[target] ?? 0) });
  const against = `, against ${percent(probabilities[best])} for ${classes.name(best)}`;
  part('sentence').replaceChildren(`with a probability of ${low ? 'only ' : ''}`, share, target === best ? '' : against);
}

function showMethods() {
  const { card } = state, group = part('methods');
  group.classList.toggle('one', !card?.sharpens);
  group.querySelector('[data-method=score-cam]')?.toggleAttribute('hidden', !card?.sharpens);
  const first = group.querySelector('b'), note = group.querySelector('small');
  if (first && note && card) {
    first.textContent = TITLES[card.method] ?? card.method;
    note.textContent = card.method === 'grad-cam' ? 'at once' : 'in one run of the file';
  }
  setChosen(group, (choice) => choice.dataset.method === (card?.sharpens ? state.method : 'grad-cam'));
}

/** The line below the methods, the bar, and what a screen reader says of the map. */
function showState() {
  const { seen, sharper, card, map } = state, bar = part('progress');
  const share = !seen ? 0 : !wantsScoreCam() ? 1 : sharper ? sharper.scored / sharper.total : 0.01;
  bar.style.setProperty('--share', String(share));
  bar.setAttribute('aria-valuenow', String(Math.round(share * 100)));
  bar.classList.toggle('done', share === 1);
  part('state').textContent = stateText();
  if (!seen || !map) return;
  const method = sharper ? 'Score-CAM' : (TITLES[card?.method ?? ''] ?? card?.method);
  const text = `${method} for ${classes.name(state.target)}: what counts most is ${place(map)}.`;
  part('stage').setAttribute('aria-label', text);
  const settled = share === 1 || !sharper;
  if (settled && part('status').textContent !== text) part('status').textContent = text;
}

function stateText() {
  const { seen, sharper, card, map } = state;
  if (!seen) return '\u00a0';
  if (map && !map.values.some((value) => value > 0)) return 'No map: the method tells no region from another here';
  const run = `One run, ${duration(seen.milliseconds)}`;
  if (camera.runs) return `${run} a frame`;
  if (card && !card.sharpens && card.method === 'score-cam') return `${run}. It sharpens mask by mask with the page’s own file alone`;
  if (!wantsScoreCam()) return run;
  if (!sharper) return `${TITLES[card?.method ?? '']} first, in ${duration(seen.milliseconds)}. Score-CAM begins…`;
  if (sharper.scored === sharper.total) return `Exact: all ${sharper.total} masks, for every class`;
  return `${sharper.scored} of ${sharper.total} masks, the others estimated`;
}

/** @param {ModelCard} card */
function showCard(card) {
  state.card = card;
  part('file-name').textContent = card.file;
  const facts = [`${(card.bytes / 1e6).toFixed(1)} MB`, TITLES[card.method] ?? card.method, card.labels.length ? `${card.labels.length.toLocaleString('en')} classes` : 'no class names'];
  part('file-facts').textContent = facts.join(' · ');
  part('doubt').hidden = !card.assumed;
  part('doubt').textContent = `Nothing says how this model’s pictures are prepared; ${card.assumed} is assumed. If that is wrong, so are the class and the map.`;
  button('bundled').hidden = card.sharpens;
  const link = element('download', HTMLAnchorElement);
  link.hidden = !card.sharpens;
  if (card.sharpens) link.href = `models/${card.file}`;
  element('search', HTMLInputElement).placeholder = card.labels.length ? `All ${card.labels.length.toLocaleString('en')} classes` : 'A number';
  showMethods();
}

/** @param {File} file */
async function openModel(file) {
  const bytes = await file.arrayBuffer();
  await changeModel(showBusy(worker.call('open', { bytes, file: file.name }, [bytes])));
}

/** @param {Promise<ModelCard>} opening */
async function changeModel(opening) {
  showCard(await opening);
  const { width, height } = stage.picture;
  if (camera.runs) return;
  const { canvas, picture } = draw(stage.picture, width, height, Infinity);
  await see(canvas, picture);
}

// ---------------------------------------------------------------------------------------------- Camera

async function openCamera() {
  try {
    await camera.start();
  } catch {
    throw new Error('The browser gives no camera to this page. Look at its permissions, or choose a picture.');
  }
  turn++;
  press(null);
  stage.clear();
  await worker.call('rest');
  part('live').hidden = part('shutter-bar').hidden = false;
  button('shutter').focus({ preventScroll: true });
  attempt(follow(turn));
}

/** Explains frames, each as soon as the one before is done. @param {number} mine */
async function follow(mine) {
  while (camera.runs && mine === turn) {
    const { source, width, height } = camera.frame;
    const { canvas, picture } = draw(source, width, height, LIVE);
    const seen = await worker.call('see', { picture, sharpen: false }, [picture.data.buffer]);
    if (!camera.runs || mine !== turn) return;
    stage.setPicture(canvas, canvas.width, canvas.height);
    showExplanation(seen, 120);
    await new Promise(requestAnimationFrame);
  }
}

async function takePicture() {
  const { source, width, height } = camera.frame;
  const { canvas, picture } = draw(source, width, height, Infinity);
  closeCamera();
  canvas.toBlob((blob) => blob && addThumbnail(thumbnail(canvas), 'From the camera', blob), 'image/png');
  await see(canvas, picture);
}

function closeCamera() {
  if (!camera.runs) return;
  camera.stop();
  turn++;
  part('live').hidden = part('shutter-bar').hidden = true;
}

// --------------------------------------------------------------------------------------------- Problems

/** @param {unknown} error */
function report(error) {
  const { message, hint = '' } = /** @type {Error & {hint?: string}} */ (error);
  part('problem-text').textContent = message;
  part('problem-hint').hidden = !hint;
  const code = part('problem-hint').querySelector('code');
  if (code) code.textContent = hint;
  const dialog = element('problem', HTMLDialogElement);
  if (!dialog.open) dialog.showModal();
}

/** Says what went wrong. @param {Promise<unknown>} work */
function attempt(work) {
  work.catch(report);
}

// --------------------------------------------------------------------------------------------- Controls

function wireControls() {
  radioGroup(part('methods'), (choice) => chooseMethod(choice.dataset.method ?? ''));
  const [file, modelFile] = [element('file', HTMLInputElement), element('model-file', HTMLInputElement)];
  button('choose').addEventListener('click', () => file.click());
  button('choose-model').addEventListener('click', () => modelFile.click());
  for (const input of [file, modelFile]) {
    input.addEventListener('change', () => {
      attempt(openFile(input.files?.[0] ?? null));
      input.value = '';
    });
  }
  button('bundled').addEventListener('click', () => attempt(changeModel(worker.call('reopenBundle'))));
  button('camera').addEventListener('click', () => attempt(openCamera()));
  button('camera-close').addEventListener('click', () => {
    closeCamera();
    /** @type {HTMLElement|null} */ (part('examples').querySelector('.thumb'))?.click();
  });
  button('camera-turn').addEventListener('click', () => attempt(camera.turn()));
  button('shutter').addEventListener('click', () => attempt(takePicture()));
  button('copy').addEventListener('click', () => attempt(navigator.clipboard.writeText(part('problem-hint').querySelector('code')?.textContent ?? '')));
  addEventListener('paste', (event) => attempt(openFile(fileOf(event.clipboardData))));
  let within = 0;
  const over = (/** @type {boolean} */ shown) => (part('drop').hidden = !shown);
  addEventListener('dragenter', () => over(++within > 0));
  addEventListener('dragleave', () => over(--within > 0));
  addEventListener('dragover', (event) => event.preventDefault());
  addEventListener('drop', (event) => {
    event.preventDefault();
    over(Boolean((within = 0)));
    attempt(openFile(fileOf(event.dataTransfer)));
  });
}

async function start() {
  wireTheme();
  wirePeek();
  wireOpacity(stage);
  wireControls();
  const pictures = EXAMPLES.map(({ file }) => fetch(`pictures/${file}`).then((response) => response.blob()));
  const [colours, blobs] = await Promise.all([loadColours(), Promise.all(pictures)]);
  wireColours(stage, colours);
  blobs.forEach((blob, i) => addThumbnail(Object.assign(new Image(), { src: URL.createObjectURL(blob), alt: '' }), EXAMPLES[i].name, blob));
  const first = await decode(blobs[0]);
  stage.setPicture(first.canvas, first.picture.width, first.picture.height);
  press(/** @type {HTMLElement} */ (part('examples').firstElementChild));
  showCard(await worker.call('start'));
  part('loading').classList.add('done');
  await see(first.canvas, first.picture);
  timings.loaded = performance.now();
  if ('serviceWorker' in navigator && isSecureContext) await navigator.serviceWorker.register('service-worker.js');
}

/** For tests: what is shown, and how long it took. */
Object.assign(window, { onnxcamPage: { state, timings } });
start().catch((error) => {
  part('loading-text').textContent = 'This page could not be opened.';
  report(error);
});

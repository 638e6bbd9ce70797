/**
 * The worker that explains: it holds the opened file and the picture, and steps Score-CAM through a pool of workers.
 */
import { Calls } from './calls.js';
import { CompiledModel, Unusable } from './compiled-model.js';
import { load, startRuntime } from './runtime.js';
import { ScoreCam } from './score-cam.js';

/** @typedef {import('./types.js').Picture} Picture */
/** @typedef {import('./types.js').Explanation} Explanation */

const MODELS = new URL('../models/', import.meta.url), SCORER = new URL('./score-worker.js', import.meta.url);
/** Masks that one worker scores at a time; a new picture waits for no more than these. */
const CHUNK = 2;
/** Masks after which the map is shown again, while few are scored; later at each tenth more. */
const FIRST = 4, STEP = 8, GROWTH = 1.15;

/** @type {Uint8Array} */
let binary;
/** @type {CompiledModel} */
let model;
/** @type {{file: string, step: string, grid: [number, number], bytes: Uint8Array}|null} the bundled file, if it is open */
let bundle = null;
/** @type {Promise<Calls[]>|null} the workers that score masks */
let pool = null;
/** @type {ReturnType<CompiledModel['prepare']>} */
let prepared;
/** @type {ScoreCam|null} of the picture */
let scoreCam = null;
/** @type {number} the class whose map is sent */
let shown = -1;
/** @type {number} grows with each picture and model: what belongs to an older one ends */
let turn = 0;
/** @type {{turn: number}|null} the scoring that goes on */
let scoring = null;

/** @type {Record<string, (message: any) => Promise<any>>} */
const actions = {
  async start() {
    const url = new URL('onnxruntime.wasm.gz', new URL('../vendor/', import.meta.url));
    const wasm = load(url), next = loadBundle(); // at the same time
    const loaded = await wasm;
    binary = new Uint8Array(loaded);
    startRuntime(loaded);
    return openBundle(await next);
  },

  /** Opens a file of the user. Where it cannot be used, what was open stays open. */
  async open({ bytes, file }) {
    const opened = await CompiledModel.open(new Uint8Array(bytes), file);
    await replace(opened, null);
    return card(file, bytes.byteLength);
  },

  async reopenBundle() {
    return openBundle(await loadBundle());
  },

  /**
   * Explains the prediction for a picture. With `sharpen`, masks are scored meanwhile, and maps are sent as events.
   * @param {{picture: Picture, sharpen: boolean}} message @returns {Promise<Explanation>}
   */
  async see({ picture, sharpen }) {
    const started = performance.now(), mine = ++turn;
    [scoreCam, shown] = [null, -1];
    prepared = model.prepare(picture);
    if (sharpen) score().catch(fail);
    const explanation = await explained(-1, started);
    if (mine === turn) shown = explanation.target;
    return explanation;
  },

  async explain({ target }) {
    return explained(target, performance.now());
  },

  /** Scores masks of the picture, or shows another class of what is scored. Maps are sent as events. */
  async sharpen({ target }) {
    shown = target;
    if (scoreCam?.scored.length) send();
    if (scoring?.turn !== turn) await score();
  },

  /** Ends the scoring of this picture; what is scored stays. */
  async rest() {
    scoring = null;
  },
};

/** @returns {Promise<NonNullable<typeof bundle>>} */
async function loadBundle() {
  const { file, step, grid } = JSON.parse(new TextDecoder().decode(await load(new URL('bundle.json', MODELS))));
  return { file, step, grid, bytes: new Uint8Array(await load(new URL(file, MODELS))) };
}

/** @param {NonNullable<typeof bundle>} next */
async function openBundle(next) {
  pool ??= team(next); // while the model opens
  await replace(await CompiledModel.open(next.bytes, next.file), next);
  return card(next.file, next.bytes.byteLength);
}

/** @param {CompiledModel} opened @param {typeof bundle} of */
async function replace(opened, of) {
  const old = model;
  turn++;
  [model, bundle, scoreCam] = [opened, of, null];
  await old?.session.release();
}

/** @param {string} file @param {number} bytes @returns {import('./types.js').ModelCard} */
function card(file, bytes) {
  const { method, layer, preset } = model.compiled;
  return {
    file, bytes, layer: layer ?? '', labels: model.labels, sharpens: bundle !== null, bakedTarget: !model.names.target,
    assumed: /^assumed\b/.test(preset.origin) ? preset.name : '',
    method: typeof method === 'string' ? method : method.name,
  };
}

/** @param {number} target @param {number} started @returns {Promise<Explanation>} */
async function explained(target, started) {
  return { ...(await model.explain(prepared, target)), milliseconds: performance.now() - started };
}

/**
 * Opens the workers that score masks: as many as half of the cores, since a core's two threads share its arithmetic.
 * @param {NonNullable<typeof bundle>} of
 * @returns {Promise<Calls[]>}
 */
async function team({ file, step, bytes }) {
  const count = Math.min(4, Math.max(1, Math.ceil(navigator.hardwareConcurrency / 2))), graph = await load(new URL(step, MODELS));
  return Promise.all(
    Array.from({ length: count }, async () => {
      const worker = new Calls(SCORER);
      await worker.call('open', { binary: binary.slice().buffer, step: graph, weights: bytes, weightsFile: file });
      return worker;
    }),
  );
}

/** Scores all masks of the picture, from where it was left, until there is another picture or rest() is called. */
async function score() {
  const mine = (scoring = { turn }), stopped = () => scoring !== mine || turn !== mine.turn, workers = (await pool) ?? [];
  const { image } = prepared, { input } = model;
  if (stopped() || !bundle || !image || !input) return;
  const { grid } = bundle, dims = [1, input.channels, input.height, input.width];
  await Promise.all(workers.map((worker) => worker.call('picture', { data: image, dims })));
  const features = scoreCam || stopped() ? null : await workers[0].call('features', { grid });
  if (stopped()) return;
  const cam = (scoreCam ??= new ScoreCam(features, grid));
  const done = new Set(cam.scored), waiting = cam.order.filter((mask) => !done.has(mask));
  let next = cam.scored.length + FIRST;
  const work = async (/** @type {Calls} */ worker) => {
    while (waiting.length && !stopped()) {
      const masks = waiting.splice(0, CHUNK), maps = new Float32Array(masks.length * cam.cells);
      masks.forEach((mask, i) => maps.set(cam.maps[mask], i * cam.cells));
      const scores = await worker.call('score', { maps, grid }, [maps.buffer]);
      if (stopped()) return; // what goes on now scores them again
      masks.forEach((mask, i) => cam.add(mask, scores[i]));
      if (cam.scored.length < next || cam.scored.length === cam.total) continue;
      next = Math.max(cam.scored.length + STEP, Math.ceil(cam.scored.length * GROWTH));
      send();
    }
  };
  await Promise.all(workers.map(work));
  if (stopped()) return;
  send();
  scoring = null;
}

/** Tells the page of a failure that answers no call. @param {unknown} error */
function fail(error) {
  scoring = null;
  postMessage({ failure: error instanceof Error ? error.message : String(error) });
}

/** Sends the map of the shown class from the masks so far, once there is one. */
function send() {
  const { input } = model;
  if (!scoreCam || !input || !prepared.box || shown < 0) return;
  const values = scoreCam.map(shown, [input.height, input.width]);
  /** @type {import('./types.js').Sharper} */
  const sharper = {
    map: { values, width: input.width, height: input.height, box: prepared.box, grid: scoreCam.grid },
    target: shown, scored: scoreCam.scored.length, total: scoreCam.total,
  };
  postMessage({ sharper });
}

addEventListener('message', async ({ data: { id, action, ...message } }) => {
  try {
    postMessage({ id, result: await actions[action](message) });
  } catch (error) {
    const text = error instanceof Error ? error.message : String(error);
    postMessage({ id, error: text, hint: error instanceof Unusable ? error.hint : '' });
  }
});

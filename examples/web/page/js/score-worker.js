/**
 * A worker that scores masks of one picture: feature maps in, the classes' probabilities out.
 */
import { InferenceSession, Tensor } from '../vendor/onnxruntime.js';
import { softmax } from './compiled-model.js';
import { startRuntime } from './runtime.js';

/** @type {InferenceSession} */
let session;
/** @type {Tensor} */
let image;

const TARGETS = new Tensor('int64', BigInt64Array.of(0n), [1]); // not read: all classes come back

/** @param {Float32Array} maps (count, *grid) @param {[number, number]} grid @param {string[]} fetches */
function run(maps, grid, fetches) {
  const masks = new Tensor('float32', maps, [maps.length / (grid[0] * grid[1]), 1, ...grid]);
  return session.run({ 'onnxcam/image': image, 'onnxcam/maps': masks, 'onnxcam/targets': TARGETS }, fetches);
}

/** @type {Record<string, (message: any) => Promise<any>>} */
const actions = {
  async open({ binary, step, weights, weightsFile }) {
    startRuntime(binary);
    const externalData = [{ path: weightsFile, data: new Uint8Array(weights) }];
    session = await InferenceSession.create(new Uint8Array(step), { executionProviders: ['wasm'], externalData });
  },
  async picture({ data, dims }) {
    image = new Tensor('float32', data, dims);
  },
  /** The feature maps of the picture itself: a mask that is the same everywhere keeps it. */
  async features({ grid }) {
    const outputs = await run(new Float32Array(grid[0] * grid[1]), grid, ['onnxcam/features']);
    return outputs['onnxcam/features'].data;
  },
  async score({ maps, grid }) {
    const { data, dims } = (await run(maps, grid, ['onnxcam/logits']))['onnxcam/logits'];
    const logits = /** @type {Float32Array} */ (data), classes = dims[1];
    return Array.from({ length: dims[0] }, (_, i) => softmax(logits.subarray(i * classes, (i + 1) * classes)));
  },
};

addEventListener('message', async ({ data: { id, action, ...message } }) => {
  try {
    postMessage({ id, result: await actions[action](message) });
  } catch (error) {
    postMessage({ id, error: String(error instanceof Error ? error.message : error) });
  }
});

/**
 * A model that `onnxcam compile` made: opens the file, and explains pictures with it.
 */
import { InferenceSession, Tensor } from '../vendor/onnxruntime.js';
import { readOnnx } from './onnx-file.js';
import { preprocess, rgb } from './preprocess.js';

/** @typedef {import('./types.js').Picture} Picture */
/** @typedef {import('./types.js').Preset} Preset */
/** @typedef {import('./types.js').Explanation} Explanation */
/** @typedef {import('./types.js').Box} Box */

/** A file that the page cannot use; `message` is a sentence for its reader, `hint` a command line or empty. */
export class Unusable extends Error {
  /** @param {string} message @param {string} [hint] */
  constructor(message, hint = '') {
    super(message);
    this.hint = hint;
  }
}

export class CompiledModel {
  /**
   * @param {InferenceSession} session
   * @param {any} compiled the metadata `onnxcam.compiled`
   */
  constructor(session, compiled) {
    this.session = session;
    this.compiled = compiled;
    this.names = compiled.interface;
    /** @type {string[]} */
    this.labels = compiled.labels ?? [];
    /** @type {Preset} */
    this.preset = compiled.preset;
    this.takesPictures = Boolean(this.names.picture);
    this.input = this.takesPictures ? null : imageInput(session, compiled);
  }

  /**
   * @param {Uint8Array} bytes
   * @param {string} file its name
   * @returns {Promise<CompiledModel>}
   * @throws {Unusable}
   */
  static async open(bytes, file) {
    const onnx = readOnnx(bytes);
    if (!onnx) throw new Unusable(`${file} is not an ONNX model.`);
    const compiled = parsed(onnx.metadata['onnxcam.compiled']);
    if (!compiled) {
      const missing = onnx.outputs.includes('saliency_map') ? 'the note “onnxcam.compiled” in its metadata' : 'the output “saliency_map”';
      throw new Unusable(
        `${file} is an ONNX model, but it carries no explanation: ${missing} is missing. It answers ${list(onnx.outputs)} ` +
          `from ${list(onnx.inputs)}. Compile it once, then drop the new file here:`,
        `onnxcam compile ${file} -o ${file.replace(/\.onnx$/, '')}.explained.onnx --method grad-cam`,
      );
    }
    const others = onnx.inputs.filter((name) => ![compiled.interface.image, compiled.interface.picture, compiled.interface.target].includes(name));
    if (others.length) throw new Unusable(`${file} also takes ${list(others)}, for which this page has nothing to feed.`);
    try {
      return new CompiledModel(await InferenceSession.create(bytes, { executionProviders: ['wasm'] }), compiled);
    } catch (error) {
      if (error instanceof Unusable) throw error;
      throw new Unusable(`${file} cannot be opened: ${error instanceof Error ? error.message : error}`);
    }
  }

  /** The tensor that the model takes, and where it lies on the picture. @param {Picture} picture */
  prepare(picture) {
    if (!this.input) {
      const { width, height } = picture;
      return { feeds: { [this.names.picture]: new Tensor('uint8', rgb(picture), [height, width, 3]) }, image: null, box: null };
    }
    const { image, box } = preprocess(picture, this.preset, this.input);
    return { feeds: { [this.names.image]: this.input.tensor(image) }, image, box };
  }

  /**
   * The map of a class, and the model's answer.
   * @param {ReturnType<CompiledModel['prepare']>} prepared
   * @param {number} target a class; -1: the prediction
   * @returns {Promise<Omit<Explanation, 'milliseconds'>>}
   */
  async explain(prepared, target) {
    const feeds = { ...prepared.feeds };
    if (this.names.target) feeds[this.names.target] = new Tensor('int64', BigInt64Array.of(BigInt(target)), [1]);
    const outputs = await this.session.run(feeds);
    const map = outputs[this.names.map], [height, width] = map.dims.slice(-2);
    const values = /** @type {Float32Array} */ (map.data).slice(0, height * width);
    const box = prepared.box ?? /** @type {Box} */ (Array.from(/** @type {Float32Array} */ (outputs[this.names.box].data)));
    return {
      map: { values, width, height, box, grid: this.compiled.grid },
      target: Number(/** @type {BigInt64Array} */ (outputs[this.names.map_target].data)[0]),
      probabilities: probabilities(outputs[this.compiled.scores.output], this.compiled.scores.probabilities),
    };
  }
}

/**
 * One a class.
 * @param {import('../vendor/onnxruntime.js').Tensor} scores of one picture
 * @param {'as they are'|'exp'|'sigmoid'|'softmax'} how they become probabilities
 */
function probabilities(scores, how) {
  const values = Float32Array.from(/** @type {Float32Array} */ (scores.data)), sigmoid = (/** @type {number} */ z) => 1 / (1 + Math.exp(-z));
  const result = { 'as they are': () => values, exp: () => values.map(Math.exp), sigmoid: () => values.map(sigmoid), softmax: () => softmax(values) }[how]();
  return result.length === 1 ? Float32Array.of(1 - result[0], result[0]) : result;
}

/** @param {Float32Array} logits @returns {Float32Array} */
export function softmax(logits) {
  const top = logits.reduce((a, b) => Math.max(a, b), -Infinity), powers = logits.map((logit) => Math.exp(logit - top));
  const sum = powers.reduce((a, b) => a + b, 0);
  return powers.map((power) => power / sum);
}

/**
 * How the model's image lies in memory.
 * @param {InferenceSession} session
 * @param {{interface: {image: string}, layout: string, size: number[]}} compiled
 */
function imageInput(session, compiled) {
  const name = compiled.interface.image, { layout, size } = compiled;
  const declared = session.inputMetadata.find((input) => input.name === name);
  if (!declared?.isTensor || !['NCHW', 'NHWC'].includes(layout)) {
    throw new Unusable(`its input “${name}” (${layout}) takes no pictures`);
  }
  const channels = Number(declared.shape[layout.indexOf('C')]), [height, width] = size;
  if (channels !== 1 && channels !== 3) throw new Unusable(`its input “${name}” has ${channels} channels, which no picture has`);
  return {
    height, width, channels,
    /** @param {Float32Array} image (channels, height, width) */
    tensor(image) {
      const ordered = layout === 'NHWC' ? channelsLast(image, channels) : image;
      const data = declared.type === 'uint8' ? Uint8Array.from(ordered, Math.round) : ordered;
      const dims = layout === 'NHWC' ? [1, height, width, channels] : [1, channels, height, width];
      return new Tensor(/** @type {any} */ (declared.type), data, dims);
    },
  };
}

/** @param {Float32Array} image @param {number} channels */
function channelsLast(image, channels) {
  const plane = image.length / channels;
  return image.map((_, i) => image[(i % channels) * plane + Math.floor(i / channels)]);
}

/** @param {string|undefined} json @returns {any} */
function parsed(json) {
  if (!json) return null;
  try {
    return JSON.parse(json);
  } catch {
    return null;
  }
}

/** @param {string[]} names */
function list(names) {
  return names.map((name) => `“${name}”`).join(', ');
}

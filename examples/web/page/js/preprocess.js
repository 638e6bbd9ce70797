/**
 * Makes the tensor that a network takes from a picture, by the preset that stands in the model file.
 */
import { halfToEven, resizePicture } from './resample.js';

/** @typedef {import('./types.js').Picture} Picture */
/** @typedef {import('./types.js').Preset} Preset */
/** @typedef {import('./types.js').Box} Box */

/**
 * @param {Picture} picture
 * @param {Preset} preset
 * @param {{height: number, width: number, channels: number}} input
 * @returns {{image: Float32Array, box: Box}} the image (channels, height, width), and where it lies on the picture
 */
export function preprocess(picture, preset, input) {
  const { height, width, channels } = input;
  const resized = resizedSides(picture, input, preset);
  const letterbox = preset.resize.startsWith('letterbox');
  const left = corner(width, resized.width, preset), top = corner(height, resized.height, preset);
  const window = {
    left: Math.max(0, -left), top: Math.max(0, -top),
    width: letterbox ? resized.width : width, height: letterbox ? resized.height : height,
  };
  const colours = channels === 1 || preset.color === 'gray' ? 1 : 3;
  const source = { width: picture.width, height: picture.height, channels: colours };
  const bytes = resizePicture(colours === 1 ? grey(picture) : rgb(picture), source, resized, window, preset.interpolation);
  const image = new Float32Array(channels * height * width);
  for (let c = 0; c < channels; c++) {
    const at = (/** @type {number[]} */ values) => values[values.length === 1 ? 0 : c];
    const number = (/** @type {number} */ pixel) => (pixel * preset.scale - at(preset.mean)) / at(preset.std);
    const table = Float32Array.from({ length: 256 }, (_, pixel) => number(pixel));
    const plane = image.subarray(c * height * width, (c + 1) * height * width);
    if (letterbox) plane.fill(number(at(preset.padding)));
    const colour = colours === 1 ? 0 : preset.color === 'bgr' ? 2 - c : c;
    const row = Math.max(0, top), column = Math.max(0, left);
    for (let y = 0; y < window.height; y++) {
      for (let x = 0; x < window.width; x++) {
        plane[(y + row) * width + x + column] = table[bytes[(y * window.width + x) * colours + colour]];
      }
    }
  }
  const across = picture.width / resized.width, down = picture.height / resized.height;
  return { image, box: [-left * across, -top * down, (width - left) * across, (height - top) * down] };
}

/**
 * Where the resized picture begins on the input: below 0 where it is cut.
 * @param {number} side @param {number} resized @param {Preset} preset
 */
function corner(side, resized, preset) {
  if (preset.resize === 'letterbox-corner') return 0;
  if (preset.resize === 'letterbox') return Math.floor((side - resized) / 2);
  return -halfToEven((resized - side) / 2);
}

/** @param {Picture} picture @param {{height: number, width: number}} size @param {Preset} preset */
function resizedSides(picture, size, preset) {
  const before = (/** @type {number} */ side) => Math.max(side, Math.trunc(side / preset.crop));
  const least = { width: before(size.width), height: before(size.height) };
  if (preset.resize === 'squash') return least;
  if (preset.resize !== 'shortest') {
    const ratio = Math.min(size.height / picture.height, size.width / picture.width);
    const rounded = preset.resize === 'letterbox' ? halfToEven : Math.trunc;
    return { width: Math.max(1, rounded(picture.width * ratio)), height: Math.max(1, rounded(picture.height * ratio)) };
  }
  if (least.width === least.height) {
    const short = Math.min(picture.width, picture.height);
    const side = (/** @type {number} */ n) => Math.trunc((least.width * n) / short);
    return { width: side(picture.width), height: side(picture.height) };
  }
  const ratio = Math.min(picture.height / least.height, picture.width / least.width);
  return {
    width: Math.max(least.width, halfToEven(picture.width / ratio)),
    height: Math.max(least.height, halfToEven(picture.height / ratio)),
  };
}

/** @param {Picture} picture @returns {Uint8Array} three bytes a pixel */
export function rgb({ data, width, height }) {
  const result = new Uint8Array(width * height * 3);
  for (let i = 0, o = 0; i < data.length; i += 4) {
    result[o++] = data[i];
    result[o++] = data[i + 1];
    result[o++] = data[i + 2];
  }
  return result;
}

/** @param {Picture} picture @returns {Uint8Array} one byte a pixel, ITU-R 601 luma in Pillow's fixed point */
function grey({ data, width, height }) {
  const result = new Uint8Array(width * height);
  for (let i = 0; i < result.length; i++) {
    result[i] = (data[4 * i] * 19595 + data[4 * i + 1] * 38470 + data[4 * i + 2] * 7471 + 0x8000) >> 16;
  }
  return result;
}

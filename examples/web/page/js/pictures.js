/**
 * Pictures that a person gives: files, and what is pasted or dropped.
 */
import { isCut } from './intact.js';

/** @typedef {import('./types.js').Picture} Picture */

/** Pixels on the longer side, at most: what is larger is made smaller first. */
const LONGEST = 1600;

/**
 * A decoded picture, upright, over white where it is transparent.
 * @param {Blob} blob
 * @returns {Promise<{canvas: HTMLCanvasElement, picture: Picture}>}
 * @throws {Error} where the browser cannot decode it, or a part is missing
 */
export async function decode(blob) {
  if (isCut(new Uint8Array(await blob.arrayBuffer()))) {
    throw new Error('This picture is damaged or cut short: a part of its pixels is missing. Get the file again.');
  }
  let bitmap;
  try {
    bitmap = await createImageBitmap(blob, { imageOrientation: 'from-image' });
  } catch {
    throw new Error('This file is neither a picture that the browser can decode nor an .onnx model.');
  }
  const shown = draw(bitmap, bitmap.width, bitmap.height, LONGEST);
  bitmap.close();
  return shown;
}

/**
 * @param {CanvasImageSource} source @param {number} width @param {number} height
 * @param {number} longest pixels on the longer side, at most
 * @returns {{canvas: HTMLCanvasElement, picture: Picture}}
 */
export function draw(source, width, height, longest) {
  const scale = Math.min(1, longest / Math.max(width, height));
  const canvas = document.createElement('canvas');
  [canvas.width, canvas.height] = [Math.max(1, Math.round(width * scale)), Math.max(1, Math.round(height * scale))];
  const context = canvas.getContext('2d', { willReadFrequently: true });
  if (!context) throw new Error('The browser gives no canvas.');
  context.fillStyle = 'white';
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.imageSmoothingQuality = 'high';
  context.drawImage(source, 0, 0, canvas.width, canvas.height);
  const { data } = context.getImageData(0, 0, canvas.width, canvas.height);
  return { canvas, picture: { data, width: canvas.width, height: canvas.height } };
}

/** A small square of a canvas, from its middle. @param {HTMLCanvasElement} canvas @returns {HTMLCanvasElement} */
export function thumbnail(canvas) {
  const side = Math.min(canvas.width, canvas.height), small = Object.assign(document.createElement('canvas'), { width: 144, height: 144 });
  const context = small.getContext('2d');
  if (context) context.imageSmoothingQuality = 'high';
  context?.drawImage(canvas, (canvas.width - side) / 2, (canvas.height - side) / 2, side, side, 0, 0, 144, 144);
  return small;
}

/** The first file of a paste or a drop. @param {DataTransfer|null} transfer @returns {File|null} */
export function fileOf(transfer) {
  return transfer?.files[0] ?? null;
}

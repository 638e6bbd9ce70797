/**
 * Colour maps, as `onnxcam explain --colormap` has them: 256 RGB colours each, from the file that the build made.
 */

/** The names, in the order in which they are offered. */
export const COLOURS = ['turbo', 'inferno', 'viridis', 'cividis', 'gray'];

/** @returns {Promise<Record<string, Uint8Array>>} 256 × 3 bytes each */
export async function loadColours() {
  const response = await fetch(new URL('../models/colours.json', import.meta.url));
  /** @type {Record<string, string>} */
  const hex = await response.json();
  const bytes = (/** @type {string} */ text) => Uint8Array.from(text.match(/../g) ?? [], (pair) => parseInt(pair, 16));
  return Object.fromEntries(Object.entries(hex).map(([name, text]) => [name, bytes(text)]));
}

/** A CSS gradient from 0 to 1. @param {Uint8Array} colours */
export function gradient(colours) {
  const stops = Array.from({ length: 17 }, (_, i) => Math.min(255, i * 16) * 3);
  return `linear-gradient(90deg, ${stops.map((at) => `rgb(${colours[at]} ${colours[at + 1]} ${colours[at + 2]})`).join(', ')})`;
}

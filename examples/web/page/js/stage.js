/**
 * Draws the picture, and the map over it. A new map grows out of the one before.
 */
import { resizeMap } from './resample.js';

/** @typedef {import('./types.js').SaliencyMap} SaliencyMap */
/** @typedef {import('./types.js').Box} Box */

/** Pixels on a side of the map as it is coloured; the browser enlarges the colours from there. */
const FINE = 384;
/** Pixels on the longer side of the canvas that the map is drawn on. */
const LONG = 1200;

export class Stage {
  /** @param {HTMLElement} frame @param {HTMLCanvasElement} picture @param {HTMLCanvasElement} overlay */
  constructor(frame, picture, overlay) {
    this.frame = frame;
    this.picture = picture;
    this.overlay = overlay;
    this.tile = new ImageData(FINE, FINE);
    this.buffer = Object.assign(document.createElement('canvas'), { width: FINE, height: FINE });
    /** @type {Float32Array|null} what is seen now */
    this.values = null;
    /** @type {Float32Array|null} */
    this.from = null;
    /** @type {Float32Array|null} */
    this.to = null;
    /** @type {Box} */
    this.box = [0, 0, 0, 0];
    /** @type {Uint8Array|null} */
    this.colours = null;
    this.animation = 0;
    this.opacity = 0.7;
  }

  /** @param {CanvasImageSource} source @param {number} width @param {number} height */
  setPicture(source, width, height) {
    if (this.picture.width !== width || this.picture.height !== height) {
      [this.picture.width, this.picture.height] = [width, height];
      const scale = LONG / Math.max(width, height);
      [this.overlay.width, this.overlay.height] = [Math.round(width * scale), Math.round(height * scale)];
      this.frame.style.setProperty('--aspect', String(width / height));
    }
    this.picture.getContext('2d')?.drawImage(source, 0, 0, width, height);
  }

  /** Takes the map away, for a picture that has none yet. */
  clear() {
    cancelAnimationFrame(this.animation);
    this.values = this.from = this.to = null;
    this.overlay.getContext('2d')?.clearRect(0, 0, this.overlay.width, this.overlay.height);
    this.frame.classList.remove('explained');
  }

  /** @param {SaliencyMap} map @param {number} milliseconds how long the change takes */
  setMap(map, milliseconds) {
    const fine = smooth(map);
    this.box = map.box;
    this.from = this.values ?? new Float32Array(fine.length);
    this.to = fine;
    this.frame.classList.add('explained');
    cancelAnimationFrame(this.animation);
    const still = milliseconds <= 0 || matchMedia('(prefers-reduced-motion: reduce)').matches;
    if (still) return this.show(1);
    const started = performance.now();
    const step = (/** @type {number} */ now) => {
      const t = Math.min(1, Math.max(0, now - started) / milliseconds);
      this.show(t * t * (3 - 2 * t));
      if (t < 1) this.animation = requestAnimationFrame(step);
    };
    this.animation = requestAnimationFrame(step);
  }

  /** @param {Uint8Array} colours */
  setColours(colours) {
    this.colours = colours;
    if (this.values) this.paint();
  }

  /** @param {number} opacity of the map where it is 1 */
  setOpacity(opacity) {
    this.opacity = opacity;
    this.frame.style.setProperty('--opacity', String(opacity));
  }

  /** @param {number} share of the way from the map before */
  show(share) {
    const { from, to } = this;
    if (!from || !to) return;
    this.values = share >= 1 ? to : to.map((value, i) => from[i] + (value - from[i]) * share);
    this.paint();
  }

  paint() {
    const { values, colours, overlay, box } = this, context = overlay.getContext('2d');
    if (!values || !colours || !context) return;
    const { data } = this.tile;
    for (let i = 0, o = 0; i < values.length; i++, o += 4) {
      const value = values[i], at = Math.round(value * 255) * 3;
      data[o] = colours[at];
      data[o + 1] = colours[at + 1];
      data[o + 2] = colours[at + 2];
      data[o + 3] = 255 * Math.sqrt(value); // what is low hardly covers the picture
    }
    this.buffer.getContext('2d')?.putImageData(this.tile, 0, 0);
    const scale = overlay.width / this.picture.width;
    const [left, top, right, bottom] = box.map((edge) => edge * scale);
    context.clearRect(0, 0, overlay.width, overlay.height);
    context.imageSmoothingEnabled = true;
    context.imageSmoothingQuality = 'high';
    context.drawImage(this.buffer, left, top, right - left, bottom - top);
    this.shade(context, left, top, right, bottom);
  }

  /**
   * Darkens what the model did not see, outside of a line.
   * @param {CanvasRenderingContext2D} context
   * @param {number} left @param {number} top @param {number} right @param {number} bottom
   */
  shade(context, left, top, right, bottom) {
    const { width, height } = this.overlay, window = [left, top, right - left, bottom - top], round = LONG / 90;
    if (left <= 0 && top <= 0 && right >= width && bottom >= height) return;
    context.fillStyle = 'rgb(12 11 10 / 0.66)';
    context.beginPath();
    context.rect(0, 0, width, height);
    context.roundRect(window[0], window[1], window[2], window[3], round);
    context.fill('evenodd');
    context.strokeStyle = 'rgb(255 255 255 / 0.5)';
    context.lineWidth = LONG / 800;
    context.beginPath();
    context.roundRect(window[0], window[1], window[2], window[3], round);
    context.stroke();
  }
}

/** The map as it is seen: from the cells of its feature maps with a smooth cubic, where these are known. @param {SaliencyMap} map */
function smooth({ values, width, height, grid }) {
  const fine = /** @type {[number, number]} */ ([FINE, FINE]);
  const [rows, columns] = grid ?? [height, width];
  const cells = grid && rows < height ? resizeMap(values, [height, width], [rows, columns], 'linear') : values;
  return resizeMap(cells, [rows, columns], fine, 'cubic').map((value) => Math.min(1, Math.max(0, value)));
}

/**
 * Resizing: of pictures as Pillow does it, byte for byte, and of maps.
 */

/** @type {Record<string, {support: number, weight: (x: number) => number}>} */
const FILTERS = {
  bilinear: { support: 1, weight: (x) => Math.max(0, 1 - Math.abs(x)) },
  bicubic: { support: 2, weight: (x) => cubic(x, -0.5) },
  lanczos: { support: 3, weight: (x) => (Math.abs(x) < 3 ? sinc(x) * sinc(x / 3) : 0) },
};
const PRECISION = 2 ** 22;

/** Keys' cubic kernel. @param {number} x @param {number} a @returns {number} */
function cubic(x, a) {
  x = Math.abs(x);
  if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
  return x < 2 ? (((x - 5) * x + 8) * x - 4) * a : 0;
}

/** @param {number} x @returns {number} */
function sinc(x) {
  return x === 0 ? 1 : Math.sin(Math.PI * x) / (Math.PI * x);
}

/**
 * The samples that each target sample reads, and their weights in fixed point, which add up to PRECISION.
 * @param {string} filter @param {number} source @param {number} target
 * @param {number} from first target sample that is needed @param {number} count
 * @returns {Taps}
 */
function taps(filter, source, target, from, count) {
  const { support, weight } = FILTERS[filter];
  const scale = source / target, stretch = Math.max(1, scale), reach = support * stretch;
  return Array.from({ length: count }, (_, i) => {
    const centre = (from + i + 0.5) * scale;
    const first = Math.max(0, Math.trunc(centre - reach + 0.5));
    const last = Math.min(source, Math.trunc(centre + reach + 0.5));
    const raw = Array.from({ length: last - first }, (_, k) => weight((k + first - centre + 0.5) / stretch));
    const sum = raw.reduce((a, b) => a + b, 0);
    const fixed = raw.map((w) => Math.trunc((w / sum) * PRECISION + (w < 0 ? -0.5 : 0.5)));
    return { first, weights: Int32Array.from(fixed) };
  });
}

/** @param {number} sum in fixed point @returns {number} the rounded byte */
function byte(sum) {
  return Math.min(255, Math.max(0, Math.floor((sum + PRECISION / 2) / PRECISION)));
}

/**
 * A window of the resized picture, as Pillow makes it, or OpenCV for 'cv2-linear'.
 * @param {Uint8Array|Uint8ClampedArray} pixels with `channels` bytes a pixel
 * @param {{width: number, height: number, channels: number}} source
 * @param {{width: number, height: number}} target the whole resized picture
 * @param {{left: number, top: number, width: number, height: number}} window the part of it that is needed
 * @param {string} interpolation
 * @returns {Uint8Array} (height, width, channels) of the window
 */
export function resizePicture(pixels, source, target, window, interpolation) {
  if (interpolation === 'nearest') return nearest(pixels, source, target, window);
  if (interpolation === 'cv2-linear') return betweenNeighbours(pixels, source, target, window);
  const { width, channels } = source;
  const across = taps(interpolation, width, target.width, window.left, window.width);
  const down = taps(interpolation, source.height, target.height, window.top, window.height);
  // Pillow resizes the columns first, but where the rows shrink by more than twice the pixels that the columns shrink by.
  const lost = source.height - target.height;
  if (lost > 0 && 2 * (width - target.width) < lost) return alongRows(alongColumns(pixels, down, 0, width * channels), across, width, channels);
  const top = down[0].first, bottom = down[down.length - 1].first + down[down.length - 1].weights.length;
  const seen = pixels.subarray(top * width * channels, bottom * width * channels);
  return alongColumns(alongRows(seen, across, width, channels), down, top, window.width * channels);
}

/** @typedef {{first: number, weights: Int32Array}[]} Taps */

/**
 * Every row resized, rounded to bytes.
 * @param {Uint8Array|Uint8ClampedArray} pixels rows of `width` pixels @param {Taps} across @param {number} width @param {number} channels
 */
function alongRows(pixels, across, width, channels) {
  const stride = width * channels, rows = pixels.length / stride, result = new Uint8Array(rows * across.length * channels);
  for (let y = 0, o = 0; y < rows; y++) {
    for (const { first, weights } of across) {
      for (let k = 0; k < channels; k++) {
        let sum = 0;
        for (let i = 0, at = y * stride + first * channels + k; i < weights.length; i++, at += channels) sum += pixels[at] * weights[i];
        result[o++] = byte(sum);
      }
    }
  }
  return result;
}

/**
 * Every column resized, rounded to bytes.
 * @param {Uint8Array|Uint8ClampedArray} pixels rows of `stride` bytes, of which the first is the picture's row `top`
 * @param {Taps} down @param {number} top @param {number} stride
 */
function alongColumns(pixels, down, top, stride) {
  const result = new Uint8Array(down.length * stride);
  down.forEach(({ first, weights }, y) => {
    for (let x = 0; x < stride; x++) {
      let sum = 0;
      for (let i = 0, at = (first - top) * stride + x; i < weights.length; i++, at += stride) sum += pixels[at] * weights[i];
      result[y * stride + x] = byte(sum);
    }
  });
  return result;
}

/**
 * OpenCV's linear resize of bytes: between two neighbours on each side, with weights of 11 bits.
 * @param {Uint8Array|Uint8ClampedArray} pixels
 * @param {{width: number, height: number, channels: number}} source
 * @param {{width: number, height: number}} target
 * @param {{left: number, top: number, width: number, height: number}} window
 */
function betweenNeighbours(pixels, source, target, window) {
  const c = source.channels, stride = source.width * c, result = new Uint8Array(window.height * window.width * c);
  const across = neighbours(source.width, target.width, window.left, window.width);
  const down = neighbours(source.height, target.height, window.top, window.height);
  let o = 0;
  for (const [upper, lower] of down) {
    for (const [left, right] of across) {
      for (let k = 0; k < c; k++) {
        const line = (/** @type {number} */ row) =>
          (pixels[row * stride + left.at * c + k] * left.weight + pixels[row * stride + right.at * c + k] * right.weight) >> 4;
        result[o++] = (((line(upper.at) * upper.weight) >> 16) + ((line(lower.at) * lower.weight) >> 16) + 2) >> 2;
      }
    }
  }
  return result;
}

/**
 * The two samples that each target sample lies between, and their weights, which add up to 2048.
 * @param {number} source @param {number} target @param {number} from @param {number} count
 */
function neighbours(source, target, from, count) {
  const inside = (/** @type {number} */ at) => Math.min(source - 1, Math.max(0, at));
  return Array.from({ length: count }, (_, i) => {
    const position = Math.fround((from + i + 0.5) * (source / target) - 0.5), low = Math.floor(position); // OpenCV has float32 here
    const share = Math.fround(position - low);
    return [
      { at: inside(low), weight: halfToEven(Math.fround(1 - share) * 2048) },
      { at: inside(low + 1), weight: halfToEven(share * 2048) },
    ];
  });
}

/** @param {number} value @returns {number} */
export function halfToEven(value) {
  const low = Math.floor(value);
  return value - low === 0.5 ? low + (low % 2) : Math.round(value);
}

/**
 * @param {Uint8Array|Uint8ClampedArray} pixels
 * @param {{width: number, height: number, channels: number}} source
 * @param {{width: number, height: number}} target
 * @param {{left: number, top: number, width: number, height: number}} window
 */
function nearest(pixels, source, target, window) {
  const c = source.channels, result = new Uint8Array(window.height * window.width * c);
  for (let y = 0; y < window.height; y++) {
    const row = Math.floor(((y + window.top + 0.5) * source.height) / target.height) * source.width;
    for (let x = 0; x < window.width; x++) {
      const from = (row + Math.floor(((x + window.left + 0.5) * source.width) / target.width)) * c;
      for (let k = 0; k < c; k++) result[(y * window.width + x) * c + k] = pixels[from + k];
    }
  }
  return result;
}

/**
 * Resizes a map, linearly as the model's own explanation does ('half_pixel', edges repeated), or with a smooth cubic for
 * the eye.
 * @param {Float32Array|Float64Array} map row by row
 * @param {[number, number]} from rows and columns
 * @param {[number, number]} to rows and columns
 * @param {'linear'|'cubic'} kind
 * @returns {Float32Array}
 */
export function resizeMap(map, from, to, kind) {
  const [down, across] = [weightsOf(from[0], to[0], kind), weightsOf(from[1], to[1], kind)];
  const wide = new Float32Array(from[0] * to[1]), result = new Float32Array(to[0] * to[1]);
  for (let y = 0; y < from[0]; y++) {
    for (let x = 0; x < to[1]; x++) {
      let sum = 0;
      for (const [at, weight] of across[x]) sum += map[y * from[1] + at] * weight;
      wide[y * to[1] + x] = sum;
    }
  }
  for (let y = 0; y < to[0]; y++) {
    for (const [at, weight] of down[y]) {
      for (let x = 0; x < to[1]; x++) result[y * to[1] + x] += wide[at * to[1] + x] * weight;
    }
  }
  return result;
}

/** @param {number} source @param {number} target @param {'linear'|'cubic'} kind @returns {[number, number][][]} */
function weightsOf(source, target, kind) {
  return Array.from({ length: target }, (_, i) => {
    const position = ((i + 0.5) * source) / target - 0.5;
    if (kind === 'linear') {
      const inside = Math.min(source - 1, Math.max(0, position)), low = Math.floor(inside);
      return [[low, 1 - (inside - low)], [Math.min(low + 1, source - 1), inside - low]];
    }
    const low = Math.floor(position);
    return [-1, 0, 1, 2].map((step) => {
      const at = Math.min(source - 1, Math.max(0, low + step));
      return /** @type {[number, number]} */ ([at, cubic(position - low - step, -0.5)]);
    });
  });
}

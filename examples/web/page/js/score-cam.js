/**
 * Score-CAM, mask by mask, with a map at any time.
 *
 * Every feature map that varies is a mask; the class probability of the picture seen through it is its weight. Masks
 * are scored far apart from each other first. Until all are scored, the scores of the others are expected by a Gaussian
 * process over the masks, as `onnxcam explain --budget` does it (with one kernel instead of the likeliest of several).
 * A masked picture scores all classes at once, so the map of any class can be asked for at any time.
 */
import { resizeMap } from './resample.js';

const EPSILON = 2 ** -23, LENGTH = 1, LINEAR = 0.3, NOISE = 0.01, LEVEL = 100, SOFT = 1e-3;

export class ScoreCam {
  /**
   * @param {Float32Array} features (maps, rows, columns) of the picture
   * @param {[number, number]} grid rows and columns
   */
  constructor(features, grid) {
    this.grid = grid;
    this.cells = grid[0] * grid[1];
    this.maps = varying(features, this.cells);
    this.points = points(this.maps);
    this.order = farthestFirst(this.maps, this.points);
    /** @type {number[]} */
    this.scored = [];
    /** @type {Float32Array[]} the classes' probabilities through each mask of `scored` */
    this.probabilities = [];
    this.factor = new Factor(this.points);
  }

  get total() {
    return this.maps.length;
  }

  /** @param {number} mask @param {Float32Array} probabilities one a class */
  add(mask, probabilities) {
    this.scored.push(mask);
    this.probabilities.push(probabilities);
  }

  /**
   * The map of a class from the scores so far.
   * @param {number} target the class
   * @param {[number, number]} size rows and columns of the map
   * @returns {Float32Array} in [0,1]
   */
  map(target, size) {
    const known = this.probabilities.map((p) => p[target]), raw = new Float64Array(this.cells);
    const weights = this.scored.length < this.total ? this.expected(known) : new Float64Array(this.total);
    this.scored.forEach((mask, i) => (weights[mask] = known[i]));
    this.maps.forEach((map, k) => map.forEach((value, cell) => (raw[cell] += weights[k] * value)));
    return stretched(resizeMap(Float32Array.from(raw), this.grid, size, 'linear'));
  }

  /** @param {number[]} known scores of the masks in `scored` @returns {Float64Array} expected scores of all masks */
  expected(known) {
    const soft = Math.max(SOFT * Math.max(...known), 1e-300);
    const values = known.map((p) => Math.log((Math.min(p, 1) + soft) / (1 - Math.min(p, 1) + soft)));
    const level = values.reduce((a, b) => a + b, 0) / values.length;
    this.factor.extend(this.scored);
    const mean = this.factor.predict(values.map((value) => value - level));
    return mean.map((g) => {
      const p = (1 + 2 * soft) / (1 + Math.exp(-(g + level))) - soft;
      return Math.min(1, Math.max(0, p));
    });
  }
}

/** The covariance of the scored masks, factored row by row (Cholesky), and theirs with all masks. */
class Factor {
  /** @param {Float64Array[]} points */
  constructor(points) {
    this.points = points;
    this.squares = points.map((p) => dot(p, p));
    this.spread = Math.max((2 * this.squares.reduce((a, b) => a + b, 0)) / points.length, 1e-12);
    /** @type {Float64Array[]} */
    this.rows = [];
    /** @type {Float64Array[]} one a scored mask: its covariance with every mask */
    this.covariances = [];
  }

  /** @param {number[]} scored */
  extend(scored) {
    for (let n = this.rows.length; n < scored.length; n++) {
      const covariance = Float64Array.from(this.points, (_, k) => this.covariance(scored[n], k));
      const row = new Float64Array(n + 1);
      for (let i = 0; i <= n; i++) {
        let rest = covariance[scored[i]] + (i === n ? NOISE : 0);
        const other = i === n ? row : this.rows[i];
        for (let j = 0; j < i; j++) rest -= row[j] * other[j];
        row[i] = i === n ? Math.sqrt(Math.max(rest, 1e-12)) : rest / other[i];
      }
      this.rows.push(row);
      this.covariances.push(covariance);
    }
  }

  /** Matérn 5/2 plus a linear kernel plus a level of which nothing is assumed. @param {number} a @param {number} b */
  covariance(a, b) {
    const inner = dot(this.points[a], this.points[b]);
    const d = Math.sqrt((5 / LENGTH ** 2) * Math.max(0, (this.squares[a] + this.squares[b] - 2 * inner) / this.spread));
    return (1 + d + (d * d) / 3) * Math.exp(-d) + (LINEAR * 2 * inner) / this.spread + LEVEL;
  }

  /** @param {number[]} values of the scored masks @returns {Float64Array} the expected value of every mask */
  predict(values) {
    const n = this.rows.length, solved = Float64Array.from(values), result = new Float64Array(this.points.length);
    for (let i = 0; i < n; i++) {
      for (let j = 0; j < i; j++) solved[i] -= this.rows[i][j] * solved[j];
      solved[i] /= this.rows[i][i];
    }
    for (let i = n - 1; i >= 0; i--) {
      for (let j = i + 1; j < n; j++) solved[i] -= this.rows[j][i] * solved[j];
      solved[i] /= this.rows[i][i];
    }
    for (let i = 0; i < n; i++) {
      const covariance = this.covariances[i];
      for (let k = 0; k < result.length; k++) result[k] += solved[i] * covariance[k];
    }
    return result;
  }
}

/** @param {Float64Array} a @param {Float64Array} b */
function dot(a, b) {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += a[i] * b[i];
  return sum;
}

/** The feature maps that vary over space, beyond rounding. @param {Float32Array} features @param {number} cells */
function varying(features, cells) {
  const maps = [];
  for (let at = 0; at < features.length; at += cells) {
    const map = features.subarray(at, at + cells);
    const low = Math.min(...map), high = Math.max(...map);
    if (high - low > 8 * EPSILON * Math.max(-low, high)) maps.push(map);
  }
  return maps;
}

/** Masks as points: networks respond to contrast, so to the root of the mask. @param {Float32Array[]} maps */
function points(maps) {
  const result = maps.map((map) => {
    const low = Math.min(...map), extent = Math.max(...map) - low;
    return Float64Array.from(map, (value) => Math.sqrt((value - low) / extent));
  });
  const mean = new Float64Array(maps[0]?.length ?? 0);
  for (const point of result) point.forEach((value, i) => (mean[i] += value / result.length));
  for (const point of result) point.forEach((value, i) => (point[i] = value - mean[i]));
  return result;
}

/**
 * The order in which masks are scored: the next is far from those before it, and its map is strong.
 * @param {Float32Array[]} maps @param {Float64Array[]} points @returns {number[]}
 */
function farthestFirst(maps, points) {
  const strength = maps.map((map) => {
    const mean = map.reduce((a, b) => a + b, 0) / map.length;
    return Math.sqrt(map.reduce((sum, value) => sum + (value - mean) ** 2, 0) / map.length);
  });
  const distance = new Float64Array(maps.length).fill(1), order = [];
  for (let n = 0; n < maps.length; n++) {
    let best = -1;
    for (let k = 0; k < maps.length; k++) {
      if (distance[k] >= 0 && (best < 0 || distance[k] * strength[k] > distance[best] * strength[best])) best = k;
    }
    order.push(best);
    for (let k = 0; k < maps.length; k++) {
      if (distance[k] < 0) continue;
      let squared = 0;
      for (let i = 0; i < points[k].length; i++) squared += (points[k][i] - points[best][i]) ** 2;
      distance[k] = n === 0 ? Math.sqrt(squared) : Math.min(distance[k], Math.sqrt(squared));
    }
    distance[best] = -1;
  }
  return order;
}

/** ReLU, then to [0,1]; a map without anything positive is shown as it is. @param {Float32Array} map */
function stretched(map) {
  let low = Infinity, high = -Infinity;
  for (const value of map) {
    if (value > high) high = value;
    if (value < low) low = value;
  }
  if (high > 0) low = Math.max(0, low);
  const extent = high - low;
  return extent > 0 ? map.map((value) => (Math.max(value, low) - low) / extent) : map.fill(0);
}

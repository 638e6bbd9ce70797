/**
 * How methods, places and durations are called.
 */

/** @type {Record<string, string>} */
export const TITLES = {
  'grad-cam': 'Grad-CAM', 'grad-cam++': 'Grad-CAM++', 'layer-cam': 'Layer-CAM', 'hires-cam': 'HiRes-CAM', 'xgrad-cam': 'XGrad-CAM',
  cam: 'CAM', 'score-cam': 'Score-CAM', 'recipro-cam': 'Recipro-CAM', 'eigen-cam': 'Eigen-CAM', rise: 'RISE', 'opti-cam': 'Opti-CAM',
};

/** Where the map is highest, in words. @param {import('./types.js').SaliencyMap} map */
export function place({ values, width, height }) {
  const at = values.reduce((top, value, i) => (value > values[top] ? i : top), 0);
  const [row, column] = [Math.floor(((at / width) | 0) * 3 / height), Math.floor((at % width) * 3 / width)];
  const [down, across] = [['at the top', '', 'at the bottom'][row], ['left', '', 'right'][column]];
  if (!down && !across) return 'in the middle';
  return down ? `${down}${across ? ` ${across}` : ''}` : `on the ${across}`;
}

/** @param {number} milliseconds */
export function duration(milliseconds) {
  return milliseconds < 1000 ? `${Math.round(milliseconds)} ms` : `${(milliseconds / 1000).toFixed(1)} s`;
}

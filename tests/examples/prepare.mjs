// How far the page's preprocessing is from the arrays in a folder.   node prepare.mjs PAGE_JS FOLDER
import { readFileSync } from 'node:fs';

const [page, folder] = process.argv.slice(2);
const { preprocess } = await import(`${page}/preprocess.js`);
const { preset, cases } = JSON.parse(readFileSync(`${folder}/cases.json`, 'utf8'));
const largest = (a, b) => a.reduce((most, value, i) => Math.max(most, Math.abs(value - b[i])), 0);
console.log(JSON.stringify(cases.map(({ width, height, box, channels }, i) => {
  const data = new Uint8ClampedArray(readFileSync(`${folder}/pixels${i}`));
  const expected = new Float32Array(new Uint8Array(readFileSync(`${folder}/image${i}`)).buffer);
  const made = preprocess({ data, width, height }, preset, { height: 224, width: 224, channels });
  return { image: largest(made.image, expected), box: largest(made.box, box) };
})));

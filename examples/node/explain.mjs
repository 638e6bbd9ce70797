/**
 * Explains a picture with a file that `onnxcam compile --raw` made, with onnxruntime-node alone.
 *
 *     npm install --ignore-scripts
 *     node explain.mjs model.explained.onnx photo.ppm map.pgm [class]
 *
 * The picture is a PPM (P6): RGB bytes behind a line of text, so that nothing is needed to decode it; `sharp(path).removeAlpha()
 * .raw().toBuffer({ resolveWithObject: true })` gives the same bytes of a JPEG or PNG. The map is written as a PGM (P5).
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { InferenceSession, Tensor } from 'onnxruntime-node';

/** A picture as rows of RGB bytes. @param {string} path @returns {{pixels: Uint8Array, width: number, height: number}} */
export function readPpm(path) {
  const bytes = readFileSync(path);
  const [header, width, height] = /^P6\s+(\d+)\s+(\d+)\s+255\s/.exec(bytes.toString('latin1', 0, 64)) ?? [];
  if (!header) throw new Error(`${path} is no PPM of 8 bits (P6); README.md has a line that makes one of a JPEG or PNG`);
  return { pixels: new Uint8Array(bytes.subarray(header.length)), width: Number(width), height: Number(height) };
}

/**
 * @param {InferenceSession} session of a compiled file
 * @param {ReturnType<typeof readPpm>} picture
 * @param {number} target a class; -1: the prediction
 */
export async function explain(session, { pixels, width, height }, target = -1) {
  if (!['picture', 'target'].every((name) => session.inputNames.includes(name))) {
    throw new Error('this file takes no picture and class; compile the model with --raw, and without --target');
  }
  const outputs = await session.run({
    picture: new Tensor('uint8', pixels, [height, width, 3]),
    target: new Tensor('int64', BigInt64Array.of(BigInt(target)), [1]),
  });
  return {
    map: outputs.saliency_map.data, // in [0,1], row by row
    sides: outputs.saliency_map.dims.slice(1), // its rows and columns
    target: Number(outputs.saliency_target.data[0]),
    box: outputs.saliency_box.data, // left, top, right, bottom of the map on the picture
  };
}

/** @param {string[]} words of the command line */
async function main([model, photo, file, target = '-1']) {
  if (!file) throw new Error('usage: node explain.mjs MODEL PICTURE.ppm MAP.pgm [CLASS]');
  const session = await InferenceSession.create(model);
  const { map, sides, target: explained, box } = await explain(session, readPpm(photo), Number(target));
  writeFileSync(file, Buffer.concat([Buffer.from(`P5\n${sides[1]} ${sides[0]}\n255\n`), Uint8Array.from(map, (value) => Math.round(value * 255))]));
  console.log(`class ${explained}: ${file} is the map of the part ${[...box].map(Math.round).join(', ')} (left, top, right, bottom)`);
}

if (process.argv[1] === import.meta.filename) {
  await main(process.argv.slice(2)).catch((error) => {
    console.error(error.message);
    process.exitCode = 1;
  });
}

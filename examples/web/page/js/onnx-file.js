/**
 * Reads from an .onnx file what a session does not tell: its metadata, and the names of its inputs and outputs.
 *
 * An .onnx file is a protocol buffer: fields, each with a number and a wire type. Here four messages are walked
 * (ModelProto, GraphProto, ValueInfoProto, StringStringEntryProto), and all other fields are skipped over.
 */

const MODEL_GRAPH = 7, MODEL_METADATA = 14, GRAPH_INPUT = 11, GRAPH_OUTPUT = 12, GRAPH_INITIALIZER = 5;
const ENTRY_KEY = 1, ENTRY_VALUE = 2, VALUE_NAME = 1, TENSOR_NAME = 8;

/**
 * @typedef {object} OnnxFile
 * @property {Record<string, string>} metadata
 * @property {string[]} inputs    Without those that are weights.
 * @property {string[]} outputs
 */

/**
 * @param {Uint8Array} bytes
 * @returns {OnnxFile|null} null where the bytes are no ONNX model
 */
export function readOnnx(bytes) {
  try {
    /** @type {Record<string, string>} */
    const metadata = {};
    const inputs = [], outputs = [], weights = new Set();
    for (const { number, part } of fields(bytes)) {
      if (number === MODEL_METADATA) metadata[text(part, ENTRY_KEY)] = text(part, ENTRY_VALUE);
      if (number !== MODEL_GRAPH) continue;
      for (const field of fields(part)) {
        if (field.number === GRAPH_INPUT) inputs.push(text(field.part, VALUE_NAME));
        if (field.number === GRAPH_OUTPUT) outputs.push(text(field.part, VALUE_NAME));
        if (field.number === GRAPH_INITIALIZER) weights.add(text(field.part, TENSOR_NAME));
      }
    }
    return outputs.length ? { metadata, inputs: inputs.filter((name) => !weights.has(name)), outputs } : null;
  } catch (error) {
    if (error instanceof RangeError) return null;
    throw error;
  }
}

/**
 * The length-delimited fields of a message; numbers are skipped.
 * @param {Uint8Array} message
 * @returns {Generator<{number: number, part: Uint8Array}>}
 */
function* fields(message) {
  let at = 0;
  const varint = () => {
    let value = 0, unit = 1;
    for (;;) {
      if (at >= message.length || unit > 2 ** 63) throw new RangeError('no protocol buffer');
      const byte = message[at++];
      value += (byte & 127) * unit;
      unit *= 128;
      if (byte < 128) return value;
    }
  };
  while (at < message.length) {
    const tag = varint(), wire = tag & 7, number = Math.floor(tag / 8);
    if (wire === 0) varint();
    else if (wire === 1) at += 8;
    else if (wire === 5) at += 4;
    else if (wire === 2) {
      const length = varint();
      if (at + length > message.length) throw new RangeError('the file is cut off');
      yield { number, part: message.subarray(at, at + length) };
      at += length;
    } else throw new RangeError('no protocol buffer');
  }
}

/** @param {Uint8Array} message @param {number} field the field's number @returns {string} */
function text(message, field) {
  for (const { number, part } of fields(message)) if (number === field) return new TextDecoder().decode(part);
  return '';
}

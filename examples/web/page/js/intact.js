/**
 * Whether a picture's file is whole. A browser paints what is missing grey or black, and the model would explain that.
 */

const PNG = [0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a];
/** Pixels of a block, each of which takes at least one bit. */
const BLOCK = 64;
const SCAN = 0xda, END = 0xd9;

/** Whether a JPEG or PNG ends before its picture does; false for other files. @param {Uint8Array} bytes */
export function isCut(bytes) {
  if (bytes[0] === 0xff && bytes[1] === 0xd8) return isCutJpeg(bytes);
  return PNG.every((byte, i) => bytes[i] === byte) && isCutPng(bytes);
}

/** Reads segment after segment: the end must be marked, and the scans hold at least a bit a block. @param {Uint8Array} bytes */
function isCutJpeg(bytes) {
  let at = 2, pixels = 0, coded = 0;
  while (at + 4 <= bytes.length && bytes[at] === 0xff && bytes[at + 1] !== END) {
    const kind = bytes[at + 1];
    if (kind === 0xff) {
      at++; // filling
      continue;
    }
    const isFrame = kind >= 0xc0 && kind <= 0xcf && ![0xc4, 0xc8, 0xcc].includes(kind);
    if (isFrame) pixels = number(bytes, at + 5) * number(bytes, at + 7);
    at += 2 + number(bytes, at + 2);
    if (kind !== SCAN) continue;
    const begin = at;
    at = nextMarker(bytes, at);
    coded += at - begin;
  }
  return bytes[at] !== 0xff || bytes[at + 1] !== END || coded * 8 < pixels / BLOCK;
}

/** Where a scan's data end: at a marker that is neither a stuffed byte nor a restart. @param {Uint8Array} bytes @param {number} at */
function nextMarker(bytes, at) {
  for (let marker = bytes.indexOf(0xff, at); marker >= 0; marker = bytes.indexOf(0xff, marker + 1)) {
    const kind = bytes[marker + 1];
    if (kind !== 0 && kind !== 0xff && !(kind >= 0xd0 && kind <= 0xd7)) return marker;
  }
  return bytes.length;
}

/** Reads chunk after chunk up to IEND. @param {Uint8Array} bytes */
function isCutPng(bytes) {
  for (let at = PNG.length; at + 8 <= bytes.length; at += 12 + number(bytes, at) * 0x10000 + number(bytes, at + 2)) {
    if (String.fromCharCode(...bytes.subarray(at + 4, at + 8)) === 'IEND') return false;
  }
  return true;
}

/** Two bytes, the larger first. @param {Uint8Array} bytes @param {number} at */
function number(bytes, at) {
  return bytes[at] * 0x100 + bytes[at + 1];
}

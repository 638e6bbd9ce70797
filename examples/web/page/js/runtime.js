/**
 * Starts onnxruntime in this worker from a WebAssembly binary that the page has unpacked.
 */
import { env } from '../vendor/onnxruntime.js';

/** @param {ArrayBuffer} binary */
export function startRuntime(binary) {
  env.wasm.numThreads = 1; // several threads need response headers that a static host does not send
  env.wasm.wasmBinary = binary;
  env.logLevel = 'error';
}

/** A file of the page; unpacked where it is gzip and the host has not done it. @param {URL} url */
export async function load(url) {
  const response = await fetch(url);
  if (!response.ok) throw new Error(`${url.pathname} cannot be loaded (${response.status})`);
  const bytes = await response.arrayBuffer(), [first, second] = new Uint8Array(bytes, 0, 2);
  if (first !== 0x1f || second !== 0x8b) return bytes;
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream('gzip'))).arrayBuffer();
}

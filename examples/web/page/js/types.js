/**
 * The types that travel between the page and its workers.
 *
 * @typedef {object} Picture    A decoded picture: `data` is RGBA, row by row, upright.
 * @property {Uint8ClampedArray} data
 * @property {number} width
 * @property {number} height
 *
 * @typedef {object} Preset     How a picture becomes the network's numbers; the file's metadata `onnxcam.preset`.
 * @property {string} name
 * @property {number} scale     The network takes (pixel * scale - mean) / std.
 * @property {number[]} mean
 * @property {number[]} std
 * @property {'rgb'|'bgr'|'gray'} color
 * @property {'shortest'|'squash'|'letterbox'|'letterbox-corner'} resize
 * @property {number} crop
 * @property {'nearest'|'bilinear'|'bicubic'|'lanczos'|'cv2-linear'} interpolation
 * @property {number[]|null} [size]
 * @property {number[]} padding
 *
 * @typedef {[number, number, number, number]} Box    Left, top, right, bottom in pixels of the picture.
 *
 * @typedef {object} SaliencyMap
 * @property {Float32Array} values   In [0,1], row by row.
 * @property {number} width
 * @property {number} height
 * @property {Box} box               Where the map lies on the picture.
 * @property {[number, number]|null} grid   Rows and columns of the feature maps that it was made of, if known.
 *
 * @typedef {object} Explanation
 * @property {SaliencyMap} map
 * @property {number} target         The class that the map is for.
 * @property {Float32Array} probabilities   One a class; empty where the model's answer is no list of classes.
 * @property {number} milliseconds   Of the run, preprocessing included.
 *
 * @typedef {object} Sharper         What Score-CAM sends on the way.
 * @property {SaliencyMap} map
 * @property {number} target
 * @property {number} scored         Masks whose score is known.
 * @property {number} total          Masks in all; the map is exact when `scored` reaches it.
 *
 * @typedef {object} ModelCard       What the page says of an opened file.
 * @property {string} file
 * @property {number} bytes
 * @property {string} method
 * @property {string} layer
 * @property {string[]} labels       Empty where the file has none.
 * @property {string} assumed        The preset that nothing but a guess speaks for; empty where something says it.
 * @property {boolean} sharpens      Whether Score-CAM can be stepped through beside it.
 * @property {boolean} bakedTarget   The file explains one class only, chosen when it was compiled.
 */
export {};

// The build puts onnxruntime.js beside this file.
export * from 'onnxruntime-web';

/**
 * Calls of a worker, each with its own answer.
 */

export class Calls {
  /** @param {URL} url @param {(event: any) => void} [onEvent] messages that answer no call */
  constructor(url, onEvent = () => {}) {
    this.worker = new Worker(url, { type: 'module' });
    /** @type {Map<number, {resolve: (result: any) => void, reject: (error: Error) => void}>} */
    this.open = new Map();
    this.last = 0;
    this.worker.addEventListener('message', ({ data }) => {
      if (data.id === undefined) return onEvent(data);
      const call = this.open.get(data.id);
      this.open.delete(data.id);
      if (data.error === undefined) call?.resolve(data.result);
      else call?.reject(Object.assign(new Error(data.error), { hint: data.hint ?? '' }));
    });
    this.worker.addEventListener('error', (event) => {
      for (const { reject } of this.open.values()) reject(new Error(event.message || 'the worker did not start'));
      this.open.clear();
    });
  }

  /**
   * @param {string} action
   * @param {object} [message]
   * @param {Transferable[]} [transfer]
   * @returns {Promise<any>}
   */
  call(action, message = {}, transfer = []) {
    const id = ++this.last;
    return new Promise((resolve, reject) => {
      this.open.set(id, { resolve, reject });
      this.worker.postMessage({ id, action, ...message }, transfer);
    });
  }
}

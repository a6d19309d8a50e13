/** Main-thread side of the worker: sends requests and receives results. */

export class Backend {
  /** @param {(bytes: number) => void} onProgress called with the size of each chunk that the worker downloads */
  constructor(onProgress = () => {}) {
    this.worker = new Worker(new URL("./worker.js", import.meta.url), { type: "module" });
    this.pending = new Map();
    this.nextId = 1;
    this.worker.onmessage = ({ data: { id, result, error, bytes } }) => {
      if (bytes !== undefined) return onProgress(bytes);
      const { resolve, reject } = this.pending.get(id);
      this.pending.delete(id);
      if (error === undefined) resolve(result);
      else reject(new Error(error));
      return undefined;
    };
    this.worker.onerror = (event) => {
      event.preventDefault();
      this.error = new Error("Recognition has stopped. Reload the page.");
      for (const { reject } of this.pending.values()) reject(this.error);
      this.pending.clear();
    };
  }

  /** Send a request to the worker; worker.js defines the types. */
  request(type, content = {}, transfer = []) {
    if (this.error) return Promise.reject(this.error);
    return new Promise((resolve, reject) => {
      const id = this.nextId;
      this.nextId += 1;
      this.pending.set(id, { resolve, reject });
      this.worker.postMessage({ id, type, ...content }, transfer);
    });
  }
}

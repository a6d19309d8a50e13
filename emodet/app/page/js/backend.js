/** Main-thread side of the worker: sends requests, receives results. */

export class Backend {
  /** @param {(bytes: number) => void} progress called with the size of each chunk that the worker loads */
  constructor(progress = () => {}) {
    this.worker = new Worker(new URL("./worker.js", import.meta.url), { type: "module" });
    this.waiting = new Map();
    this.next = 1;
    this.worker.onmessage = ({ data: { id, result, problem, bytes } }) => {
      if (bytes !== undefined) return progress(bytes);
      const { resolve, reject } = this.waiting.get(id);
      this.waiting.delete(id);
      if (problem === undefined) resolve(result);
      else reject(new Error(problem));
      return undefined;
    };
    this.worker.onerror = (event) => {
      event.preventDefault();
      const problem = new Error("worker");
      for (const { reject } of this.waiting.values()) reject(problem);
      this.waiting.clear();
      this.broken = problem;
    };
  }

  /** Send a request to the worker; worker.js defines the requests. */
  ask(ask, content = {}, transfer = []) {
    if (this.broken) return Promise.reject(this.broken);
    return new Promise((resolve, reject) => {
      const id = this.next;
      this.next += 1;
      this.waiting.set(id, { resolve, reject });
      this.worker.postMessage({ id, ask, ...content }, transfer);
    });
  }
}

// Calls of the HTTP API, and live updates of requests.

/**
 * The settings that the server wrote into the page.
 * @type {{ api: string, authentication: boolean, token_header: string | null, events: boolean, keep: number,
 *   format: string, webseed: boolean, version: string }}
 */
export const settings = JSON.parse(document.querySelector("meta[name=proxytorrent]").content);

/** How long a poll waits for a change, in seconds, where the server has no events. */
const POLL_SECONDS = 5;

const STORED_TOKEN = "proxytorrent.token";

/** The token of this tab. It is gone when the tab is closed. */
export const token = {
  get: () => sessionStorage.getItem(STORED_TOKEN),
  set: (value) => sessionStorage.setItem(STORED_TOKEN, value),
  forget: () => sessionStorage.removeItem(STORED_TOKEN),
};

/** An error response of the API (RFC 9457), or no response: then the status is 0. */
export class Problem extends Error {
  constructor(status, { code = "unreachable", detail = "", errors = [] } = {}, retryAfter = null) {
    super(detail);
    this.status = status;
    this.code = code;
    this.errors = errors;
    /** After how many seconds to try again, if the server says so. */
    this.retryAfter = retryAfter;
  }
}

/**
 * Calls the API. Throws a `Problem` unless the call succeeds.
 * @param {string} method
 * @param {string} path below the API's prefix, such as "/requests"
 * @param {{ body?: object, headers?: Record<string, string>, signal?: AbortSignal }} [options]
 * @returns {Promise<Response>}
 */
export async function call(method, path, { body, headers = {}, signal } = {}) {
  const sent = { ...headers };
  if (body) sent["content-type"] = "application/json";
  if (token.get()) sent[settings.token_header ?? "authorization"] = `Bearer ${token.get()}`;
  const url = new URL(settings.api + path.replace(/^\//, settings.api ? "/" : ""), document.baseURI);
  let response;
  try {
    response = await fetch(url, { method, headers: sent, body: body && JSON.stringify(body), signal });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new Problem(0);
  }
  if (response.ok) return response;
  const problem = await response.json().catch(() => ({ code: "unreachable", detail: response.statusText }));
  throw new Problem(response.status, problem, Number(response.headers.get("retry-after")) || null);
}

/** As `call`, and returns the body of the response, which is JSON. */
export const callJson = async (...args) => (await call(...args)).json();

/** Returns a random Idempotency-Key. `crypto.randomUUID` exists on HTTPS only. */
export const idempotencyKey = () =>
  Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");

/** Whether the request may still change without a call of its owner. */
export const isActive = (request) => ["queued", "fetching", "packaging", "seeding"].includes(request.status);

const delay = (ms, signal) =>
  new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    signal.addEventListener("abort", () => (clearTimeout(timer), resolve()), { once: true });
  });

/** Returns when the tab is visible. */
const visible = (signal) =>
  new Promise((resolve) => {
    if (!document.hidden) return resolve();
    document.addEventListener("visibilitychange", () => resolve(), { once: true, signal });
    signal.addEventListener("abort", () => resolve(), { once: true });
  });

/**
 * Follows requests until they have ended, with one call at a time: the stream of their events, or polls where the
 * server has none. After an error it waits, up to 30 seconds, and tries again.
 */
export class Follower {
  #wanted = new Set();
  #covered = new Set();
  #current = null;
  #failures = 0;

  /**
   * @param {{ onRequest: (request: object) => void, onGone: (id: string) => void,
   *   onProblem: (problem: Problem | null) => void }} listener `onProblem` is called with null when the connection works
   */
  constructor(listener) {
    this.listener = listener;
  }

  /** Sets the ids of the requests to follow. */
  follow(ids) {
    this.#wanted = new Set(ids);
    if (ids.length === 0) return this.stop();
    if (this.#current && ids.every((id) => this.#covered.has(id))) return;
    // Several requests that are created together begin one stream.
    this.#start(this.#current ? 200 : 0);
  }

  stop() {
    this.#current?.abort();
    this.#current = null;
    this.#covered.clear();
  }

  async #start(after) {
    this.#current?.abort();
    const controller = new AbortController();
    const { signal } = controller;
    this.#current = controller;
    this.#covered = new Set(this.#wanted);
    await delay(after, signal);
    while (!signal.aborted && this.#wanted.size > 0) {
      // The newest, as many as one call may have.
      const ids = [...this.#wanted].sort().reverse().slice(0, 100);
      let pause = 1000;
      try {
        await (settings.events ? this.#stream(ids, signal) : this.#poll(ids, signal));
      } catch (error) {
        if (signal.aborted) return;
        this.#failures += 1;
        pause = Math.max(Math.min(1000 * 2 ** this.#failures, 30_000), 1000 * (error.retryAfter ?? 0));
        this.listener.onProblem(error instanceof Problem ? error : new Problem(0));
        if (error.status === 401) return this.stop();
      }
      await delay(pause, signal);
    }
    if (this.#current === controller) this.stop();
  }

  #works() {
    if (this.#failures > 0) this.listener.onProblem(null);
    this.#failures = 0;
  }

  #ended(ids, seen) {
    for (const id of ids) if (!seen.has(id)) this.listener.onGone(id);
  }

  /** Reads the Server-Sent Events of the requests until the stream ends. */
  async #stream(ids, signal) {
    const response = await call("GET", `/requests/events?ids=${ids.join(",")}`, { signal });
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    const seen = new Set();
    let text = "";
    for (;;) {
      const { value, done } = await reader.read();
      if (done) break;
      this.#works();
      const events = (text + value).split("\n\n");
      text = events.pop();
      for (const event of events) {
        const data = event.split("\n").filter((line) => line.startsWith("data:")).map((line) => line.slice(5).trim());
        if (data.length === 0) continue;
        const request = JSON.parse(data.join("\n"));
        seen.add(request.id);
        this.listener.onRequest(request);
      }
    }
    this.#ended(ids, seen);
  }

  /** Waits for a change of the oldest request, and lists the others. */
  async #poll(ids, signal) {
    await visible(signal);
    const seen = new Set();
    const read = (request) => {
      seen.add(request.id);
      this.listener.onRequest(request);
    };
    const oldest = ids.at(-1);
    try {
      read(await callJson("GET", `/requests/${oldest}?wait=${POLL_SECONDS}`, { signal }));
    } catch (error) {
      if (error.status !== 404) throw error;
    }
    if (ids.length > 1) {
      const { items } = await callJson("GET", "/requests?limit=100", { signal });
      items.filter((request) => ids.includes(request.id)).forEach(read);
    }
    this.#works();
    this.#ended([oldest], seen);
  }
}

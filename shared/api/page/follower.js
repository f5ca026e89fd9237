// Live updates of requests.

import { Problem, call, callJson, settings } from "./client.js";

/** How long a poll waits for a change, in seconds, where the server has no events. */
const POLL_SECONDS = 5;

/** The most requests that one call may follow. */
const MOST = 100;

/** After how many milliseconds without a byte a stream is broken. The server sends one at least every 15 seconds. */
const SILENCE = 45_000;

const delay = (ms, signal) =>
  new Promise((resolve) => {
    const end = () => {
      clearTimeout(timer);
      signal.removeEventListener("abort", end);
      resolve();
    };
    const timer = setTimeout(end, ms);
    signal.addEventListener("abort", end);
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
 * server has none. It rests while the tab is hidden. After an error it waits, up to 30 seconds, and tries again.
 */
export class Follower {
  #wanted = new Set();
  #followed = [];
  #current = null;
  #failures = 0;

  /**
   * @param {{ onRequest: (request: object) => void, onGone: (id: string) => void,
   *   onProblem: (problem: Problem | null) => void }} listener `onProblem` is called with null when the connection works
   */
  constructor(listener) {
    this.listener = listener;
    // Browsers limit the connections to a server, for all tabs together.
    document.addEventListener("visibilitychange", () => document.hidden && this.#current && this.#start(0));
  }

  /** Sets the ids of the requests to follow. */
  follow(ids) {
    this.#wanted = new Set(ids);
    if (ids.length === 0) return this.stop();
    const still = this.#followed.filter((id) => this.#wanted.has(id)).length;
    const isComplete = still === this.#wanted.size;
    // With more than one call may follow, a new call begins when half of its requests have ended.
    if (this.#current && (isComplete || (this.#followed.length === MOST && still > MOST / 2))) return;
    // Several requests that are created together begin one stream.
    this.#start(this.#current ? 200 : 0);
  }

  stop() {
    this.#current?.abort();
    this.#current = null;
  }

  async #start(after) {
    this.#current?.abort();
    const controller = new AbortController();
    const { signal } = controller;
    this.#current = controller;
    // The oldest are the next to be served.
    const next = () => (this.#followed = [...this.#wanted].sort().slice(0, MOST));
    next();
    await delay(after, signal);
    while (!signal.aborted && next().length > 0) {
      let pause = 1000;
      try {
        await visible(signal);
        if (signal.aborted) return;
        await (settings.events ? this.#stream(signal) : this.#poll(signal));
      } catch (error) {
        if (signal.aborted) return;
        if (error.status === 401) return this.stop();
        this.#failures += 1;
        pause = Math.max(Math.min(1000 * 2 ** this.#failures, 30_000), 1000 * (error.retryAfter ?? 0));
        this.listener.onProblem(error instanceof Problem ? error : new Problem(0));
      }
      await delay(pause, signal);
    }
    if (this.#current === controller) this.stop();
  }

  #works() {
    if (this.#failures > 0) this.listener.onProblem(null);
    this.#failures = 0;
  }

  /** Reads the Server-Sent Events of the requests until the stream ends. */
  async #stream(signal) {
    const ids = this.#followed;
    const broken = new AbortController();
    const either = AbortSignal.any([signal, broken.signal]);
    const response = await call("GET", `/requests/events?ids=${ids.join(",")}`, { signal: either });
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    const seen = new Set();
    let text = "";
    for (;;) {
      const timer = setTimeout(() => broken.abort(), SILENCE);
      const { value, done } = await reader.read().finally(() => clearTimeout(timer));
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
    // The stream begins with an event for each request that exists.
    ids.filter((id) => !seen.has(id)).forEach((id) => this.listener.onGone(id));
  }

  /** Waits for a change of the oldest request, and lists the others. */
  async #poll(signal) {
    const [oldest, ...others] = this.#followed;
    try {
      this.listener.onRequest(await callJson("GET", `/requests/${oldest}?wait=${POLL_SECONDS}`, { signal }));
    } catch (error) {
      if (error.status !== 404) throw error;
      this.listener.onGone(oldest);
    }
    if (others.length > 0) {
      const { items } = await callJson("GET", "/requests?limit=100", { signal });
      items.filter((request) => others.includes(request.id)).forEach((request) => this.listener.onRequest(request));
    }
    this.#works();
  }
}

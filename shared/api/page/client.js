// Calls of the HTTP API, and live updates of requests.

/**
 * The settings that the server wrote into the page.
 * @type {{ api: string, authentication: boolean, token_header: string | null, events: boolean, keep: number,
 *   format: string, webseed: boolean, version: string }}
 */
export const settings = JSON.parse(document.querySelector("meta[name=proxytorrent]").content);

// Not the URL of the page itself: it may have a user name, with which `fetch` refuses it.
const base = location.origin + location.pathname.replace(/[^/]*$/, settings.api && `${settings.api}/`);

const STORED_TOKEN = "proxytorrent.token";

/** The token of this tab. It is gone when the tab is closed. */
export const token = {
  get: () => sessionStorage.getItem(STORED_TOKEN),
  set: (value) => sessionStorage.setItem(STORED_TOKEN, value),
  forget: () => sessionStorage.removeItem(STORED_TOKEN),
};

/** An error response of the API (RFC 9457). The status is 0 if there was no response. */
export class Problem extends Error {
  /**
   * @param {number} status
   * @param {{ code?: string, detail?: string, errors?: { field: string, detail: string }[] } | null} [body]
   * @param {number | null} [retryAfter] after how many seconds to try again, if the server says so
   */
  constructor(status, body = null, retryAfter = null) {
    super(body?.detail ?? "");
    this.status = status;
    this.code = body?.code ?? null;
    this.errors = body?.errors ?? [];
    this.retryAfter = retryAfter;
  }
}

let onUnauthorized = () => {};

/** Sets the function that is called with each 401. */
export function whenUnauthorized(listener) {
  onUnauthorized = listener;
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
  const response = await read(signal, () =>
    fetch(base + path.slice(1), { method, headers: sent, body: body && JSON.stringify(body), signal }),
  );
  if (response.ok) return response;
  const retryAfter = Number(response.headers.get("retry-after")) || null;
  // A proxy in between may respond with something else.
  const problem = new Problem(response.status, await response.json().catch(() => null), retryAfter);
  if (problem.status === 401) onUnauthorized(problem);
  throw problem;
}

/** As `call`, and returns the body of the response, which is JSON. */
export async function callJson(method, path, options = {}) {
  const response = await call(method, path, options);
  return read(options.signal, () => response.json());
}

/** Returns what `receive` returns. Without a response that can be read it throws a `Problem` with the status 0. */
async function read(signal, receive) {
  try {
    return await receive();
  } catch (error) {
    throw signal?.aborted ? error : new Problem(0);
  }
}

/** Returns a random Idempotency-Key. `crypto.randomUUID` exists on HTTPS only. */
export const idempotencyKey = () =>
  Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");

/** Whether a request is on its way to be ready. */
export const isActive = (request) => ["queued", "fetching", "packaging", "seeding"].includes(request.status);

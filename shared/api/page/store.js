// The requests that the page has loaded.

import { callJson, isActive } from "./client.js";
import { Follower } from "./follower.js";
import { useCallback, useEffect, useMemo, useRef, useState } from "./libraries.js";

/** The requests on a page of the list. */
const PAGE = 50;

/** The most pages that are read to meet the requests that are loaded. */
const MOST_PAGES = 20;

/** How often the list is read again, for requests that were created elsewhere, in milliseconds. */
const REFRESH_INTERVAL = 60_000;

const listPage = (cursor) => callJson("GET", `/requests?limit=${PAGE}${cursor ? `&cursor=${cursor}` : ""}`);

/**
 * Returns the loaded requests, newest first, and what loads and changes them. While `isOn` it keeps them up to date.
 *
 * `listener` has `onEnd`, which is called when a request becomes ready or ends, and `onProblem`, which is called with
 * the part that fails (`list` or `events`) and the problem, or null when that part works again.
 */
export function useRequests(isOn, listener) {
  const [loaded, setLoaded] = useState(new Map());
  const [cursor, setCursor] = useState(null);
  const [isLoaded, setIsLoaded] = useState(false);
  const [isLoading, setIsLoading] = useState(false);
  const known = useRef(new Map());
  // A response for the user before must not be shown to the next one.
  const session = useRef({ isLoaded: false });
  const listeners = useRef(listener);
  listeners.current = listener;

  const add = useCallback((requests, isNew = false) => {
    const all = new Map(known.current);
    const ended = [];
    for (const request of requests) {
      const old = all.get(request.id);
      // A page of the list may be older than an event.
      if (old && Date.parse(old.updated_at) > Date.parse(request.updated_at)) continue;
      if ((old ? isActive(old) : isNew) && !isActive(request)) ended.push(request);
      all.set(request.id, request);
    }
    known.current = all;
    setLoaded(all);
    ended.forEach((request) => listeners.current.onEnd(request));
  }, []);
  const remove = useCallback((isGone) => {
    known.current = new Map([...known.current].filter(([id]) => !isGone(id)));
    setLoaded(known.current);
  }, []);

  /** Reads the newest requests, up to those that are loaded. Throws a `Problem`. */
  const readNewest = useCallback(async () => {
    const current = session.current;
    let next = null;
    for (let pages = 1; pages <= MOST_PAGES; pages += 1) {
      const page = await listPage(next);
      if (current !== session.current) return;
      const meets = !current.isLoaded || page.items.some(({ id }) => known.current.has(id));
      add(page.items);
      next = page.next_cursor;
      if (!current.isLoaded) setCursor(next);
      current.isLoaded = true;
      setIsLoaded(true);
      if (meets || !next) return;
    }
    // Older ones would leave a gap.
    remove((id) => id < next);
    setCursor(next);
  }, []);
  const older = useCallback(async () => {
    const current = session.current;
    setIsLoading(true);
    try {
      const page = await listPage(cursor);
      if (current !== session.current) return;
      add(page.items);
      setCursor(page.next_cursor);
      listeners.current.onProblem("list", null);
    } catch (problem) {
      listeners.current.onProblem("list", problem);
    } finally {
      setIsLoading(false);
    }
  }, [cursor]);
  const read = useCallback(async (id, isNew) => {
    const current = session.current;
    const request = await callJson("GET", `/requests/${id}`);
    if (current === session.current) add([request], isNew);
  }, []);
  const clear = useCallback(() => {
    session.current = { isLoaded: false };
    setIsLoaded(false);
    setCursor(null);
    remove(() => true);
  }, []);

  useEffect(() => {
    if (!isOn) return undefined;
    let timer;
    let failures = 0;
    let stopped = false;
    const refresh = async () => {
      clearTimeout(timer);
      let pause = REFRESH_INTERVAL;
      if (!document.hidden) {
        try {
          await readNewest();
          failures = 0;
          listeners.current.onProblem("list", null);
        } catch (problem) {
          failures += 1;
          pause = Math.max(Math.min(1000 * 2 ** failures, REFRESH_INTERVAL), 1000 * (problem.retryAfter ?? 0));
          listeners.current.onProblem("list", problem);
        }
      }
      clearTimeout(timer);
      if (!stopped) timer = setTimeout(refresh, pause);
    };
    refresh();
    document.addEventListener("visibilitychange", refresh);
    window.addEventListener("online", refresh);
    return () => {
      stopped = true;
      clearTimeout(timer);
      document.removeEventListener("visibilitychange", refresh);
      window.removeEventListener("online", refresh);
    };
  }, [isOn]);

  const follower = useMemo(
    () =>
      new Follower({
        onRequest: (request) => add([request]),
        onGone: (gone) => remove((id) => id === gone),
        onProblem: (problem) => listeners.current.onProblem("events", problem),
      }),
    [],
  );
  useEffect(() => {
    if (isOn) follower.follow([...loaded.values()].filter(isActive).map(({ id }) => id));
    else follower.stop();
  }, [loaded, isOn]);

  // An id begins with the time.
  const requests = useMemo(() => [...loaded.values()].sort((a, b) => (a.id < b.id ? 1 : -1)), [loaded]);
  return { requests, isLoaded, isLoading, older: cursor && older, add, read, remove, clear };
}

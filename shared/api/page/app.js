// The page: the form, the list of requests, and what both share.

import { Follower, call, callJson, isActive, settings, token } from "./client.js";
import { ConfirmDialog, MagnetDialog, TokenDialog } from "./dialogs.js";
import { NewRequests } from "./form.js";
import { html, render, useCallback, useEffect, useMemo, useRef, useState } from "./libraries.js";
import { problemText } from "./problem.js";
import { nameOf } from "./request.js";
import { Requests } from "./requests.js";
import { language, t } from "./text.js";

/** The requests on a page of the list. */
const PAGE = 50;

/** How often the list is read again, for requests that were created elsewhere, in milliseconds. */
const REFRESH_INTERVAL = 60_000;

/** How long a message is shown, in milliseconds. */
const MESSAGE_TIME = 6000;

/** Returns the loaded requests, and what loads and changes them. `onEnd` is called when a request ends. */
function useRequests(listener) {
  const [loaded, setLoaded] = useState(new Map());
  const [cursor, setCursor] = useState(null);
  const [loading, setLoading] = useState(true);
  const known = useRef(new Map());
  const listeners = useRef(listener);
  listeners.current = listener;

  const add = useCallback((requests) => {
    const all = new Map(known.current);
    const ended = [];
    for (const request of requests) {
      const old = all.get(request.id);
      // A page of the list may be older than an event.
      if (old && old.updated_at > request.updated_at) continue;
      if (old && isActive(old) && !isActive(request)) ended.push(request);
      all.set(request.id, request);
    }
    known.current = all;
    setLoaded(all);
    ended.forEach((request) => listeners.current.onEnd(request));
  }, []);
  const remove = useCallback((gone) => {
    known.current = new Map([...known.current].filter(([id]) => !gone(id)));
    setLoaded(known.current);
  }, []);
  const load = useCallback(async (cursor) => {
    try {
      const page = await callJson("GET", `/requests?limit=${PAGE}${cursor ? `&cursor=${cursor}` : ""}`);
      add(page.items);
      listeners.current.onProblem(null);
      return page.next_cursor;
    } catch (problem) {
      listeners.current.onProblem(problem);
      return cursor;
    } finally {
      setLoading(false);
    }
  }, []);
  const reload = useCallback(async () => {
    const next = await load(null);
    // The older pages that are loaded stay.
    setCursor((cursor) => (known.current.size > PAGE ? cursor : next));
  }, []);
  const older = useCallback(async () => {
    setLoading(true);
    setCursor(await load(cursor));
  }, [cursor]);
  const read = useCallback(async (id) => add([await callJson("GET", `/requests/${id}`)]), []);

  const follower = useMemo(
    () =>
      new Follower({
        onRequest: (request) => add([request]),
        onGone: (gone) => remove((id) => id === gone),
        onProblem: (problem) => listeners.current.onProblem(problem),
      }),
    [],
  );
  useEffect(() => follower.follow([...loaded.values()].filter(isActive).map(({ id }) => id)), [loaded]);

  const clear = useCallback(() => {
    follower.stop();
    remove(() => true);
    setCursor(null);
  }, []);
  // Newest first: an id begins with the time.
  const requests = useMemo(() => [...loaded.values()].sort((a, b) => (a.id < b.id ? 1 : -1)), [loaded]);
  return { requests, loading, reload, older: cursor && older, read, clear };
}

function App() {
  const [message, setMessage] = useState(null);
  const [lost, setLost] = useState(null);
  const [dialog, setDialog] = useState(null);
  const [refused, setRefused] = useState(settings.authentication && !token.get() ? "" : null);

  const say = useCallback((text, isError = false) => setMessage({ text, isError }), []);
  useEffect(() => {
    if (!message || message.isError) return undefined;
    const timer = setTimeout(() => setMessage(null), MESSAGE_TIME);
    return () => clearTimeout(timer);
  }, [message]);

  const onProblem = (problem) => {
    const reason = problem?.status === 0 ? t("connection_lost") : problem && problemText(problem);
    setLost(problem?.status === 401 ? null : reason);
    if (problem?.status === 401) setRefused(token.get() ? problemText(problem) : "");
  };
  const onEnd = (request) => {
    const name = nameOf(request);
    if (request.status === "ready") say(t("now_ready", { name }));
    if (request.status === "failed") say(t("now_failed", { name }), true);
  };
  const { requests, loading, reload, older, read, clear } = useRequests({ onProblem, onEnd });

  const act = async (action) => {
    try {
      await action(say);
    } catch (problem) {
      if (problem.status === 401) onProblem(problem);
      else say(problemText(problem), true);
    }
  };

  useEffect(() => {
    if (refused !== null) return undefined;
    reload();
    const refresh = () => !document.hidden && reload();
    const timer = setInterval(refresh, REFRESH_INTERVAL);
    document.addEventListener("visibilitychange", refresh);
    return () => (clearInterval(timer), document.removeEventListener("visibilitychange", refresh));
  }, [refused]);
  useEffect(() => {
    // What another app shared is in the form now: a reload must not fill it again.
    if (location.search) history.replaceState(null, "", location.pathname);
  }, []);

  const enter = (value) => {
    token.set(value);
    setRefused(null);
  };
  const signOut = () => {
    token.forget();
    clear();
    setRefused("");
  };
  const remove = ({ request }) =>
    act(async () => {
      setDialog(null);
      document.getElementById("requests").focus();
      await call("DELETE", `/requests/${request.id}`);
      await read(request.id);
    });
  const again = ({ url, format, ttl, keep, webseed, callback_url }) =>
    act(async () => {
      const body = { url, format, ttl, keep, webseed, ...(callback_url && { callback_url }) };
      const created = await callJson("POST", "/requests", { body });
      await read(created.id);
      document.getElementById("requests").focus();
    });

  return html`
    <header class="top">
      <img src="page/icon.svg" alt="" width="40" height="40" />
      <div>
        <h1>${t("title")}</h1>
        <p>${t("subtitle")}</p>
      </div>
      <nav>
        <a href="docs/">${t("api")}</a>
        ${settings.authentication && refused === null && html`<button class="quiet" onClick=${signOut}>${t("sign_out")}</button>`}
      </nav>
    </header>
    <main>
      <${NewRequests} onCreated=${(id) => act(() => read(id))} />
      ${lost && html`<p class="lost" role="alert">${lost}</p>`}
      <${Requests}
        requests=${requests} loading=${loading} onOlder=${older} act=${act} onDialog=${setDialog} onAgain=${again}
      />
    </main>
    <div class="message ${message?.isError ? "error" : ""}" role="status" hidden=${!message}>
      <span dir="auto">${message?.text}</span>
      <button class="quiet" onClick=${() => setMessage(null)}>${t("close")}</button>
    </div>
    ${refused !== null && html`<${TokenDialog} problem=${refused} onToken=${enter} />`}
    ${dialog?.kind === "magnet" && html`
      <${MagnetDialog} request=${dialog.request} name=${nameOf(dialog.request)} onClose=${() => setDialog(null)} />
    `}
    ${["cancel", "delete"].includes(dialog?.kind) && html`
      <${ConfirmDialog}
        kind=${dialog.kind} name=${nameOf(dialog.request)} onConfirm=${() => remove(dialog)}
        onClose=${() => setDialog(null)}
      />
    `}
  `;
}

document.documentElement.lang = language;
render(html`<${App} />`, document.getElementById("app"));

// The page: the form, the list of requests, and what both share.

import { call, callJson, idempotencyKey, isActive, settings, token, whenUnauthorized } from "./client.js";
import { ConfirmDialog, MagnetDialog, TokenDialog } from "./dialogs.js";
import { NewRequests } from "./form.js";
import { html, render, useCallback, useEffect, useRef, useState } from "./libraries.js";
import { problemText } from "./problem.js";
import { nameOf } from "./request.js";
import { Requests } from "./requests.js";
import { useRequests } from "./store.js";
import { language, t } from "./text.js";

/** How long a message is shown, in milliseconds. */
const MESSAGE_TIME = 6000;

/** The dialogs for a request, by kind: whether they fit its status. */
const FITS = {
  magnet: (request) => request.status === "ready",
  delete: (request) => request.status === "ready",
  cancel: isActive,
};

/** Moves the focus to the heading of the list, when what had it is gone. */
const focusList = () => document.getElementById("requests").focus();

function App() {
  const [message, setMessage] = useState(null);
  const [lost, setLost] = useState({});
  const [dialog, setDialog] = useState(null);
  // Why the token is asked for: "" if there was none yet, null if it is not asked for.
  const [refused, setRefused] = useState(settings.authentication && !token.get() ? "" : null);
  // A call that is repeated after a lost response must not create a second request.
  const repeated = useRef(new Map());

  const say = useCallback((text, isError = false) => setMessage({ text, isError }), []);
  useEffect(() => {
    if (!message || message.isError) return undefined;
    const timer = setTimeout(() => setMessage(null), MESSAGE_TIME);
    return () => clearTimeout(timer);
  }, [message]);
  useEffect(() => whenUnauthorized((problem) => setRefused(token.get() ? problemText(problem) : "")), []);
  useEffect(() => {
    // What another app shared is in the form now: a reload must not fill it again.
    if (location.search) history.replaceState(null, "", location.pathname);
  }, []);

  const onProblem = (part, problem) => {
    const text = problem && problem.status !== 401 ? problemText(problem) : null;
    setLost((lost) => ({ ...lost, [part]: text }));
  };
  const onEnd = (request) => {
    const name = nameOf(request);
    if (request.status === "ready") say(t("now_ready", { name }));
    if (request.status === "failed") say(t("now_failed", { name }), true);
  };
  const { requests, isLoaded, isLoading, older, add, read, remove, clear } = useRequests(refused === null, {
    onProblem,
    onEnd,
  });

  /** Runs an action, and shows its error. */
  const act = async (action) => {
    try {
      await action();
    } catch (problem) {
      if (problem.status !== 401) say(problemText(problem), true);
    }
  };
  const enter = (value) => {
    token.set(value);
    clear();
    setRefused(null);
  };
  const signOut = () => {
    token.forget();
    clear();
    setRefused("");
  };
  const end = (id) =>
    act(async () => {
      focusList();
      await call("DELETE", `/requests/${id}`);
      await read(id);
    });
  const again = ({ id, url, format, ttl, keep, webseed, sha256, callback_url }) =>
    act(async () => {
      const body = { url, format, ttl, keep, webseed };
      if (sha256) body.sha256 = sha256;
      if (callback_url) body.callback_url = callback_url;
      if (!repeated.current.has(id)) repeated.current.set(id, idempotencyKey());
      const headers = { "idempotency-key": repeated.current.get(id) };
      const created = await callJson("POST", "/requests", { body, headers });
      repeated.current.delete(id);
      focusList();
      await read(created.id, true);
    });

  const shown = requests.find(({ id }) => id === dialog?.id);
  const kind = shown && FITS[dialog.kind](shown) ? dialog.kind : null;
  useEffect(() => {
    // It must not open again when the request fits once more.
    if (dialog && !kind) setDialog(null);
  }, [dialog, kind]);
  const problem = Object.values(lost).find(Boolean);
  return html`
    <header class="top">
      <img src="page/icon.svg" alt="" width="40" height="40" />
      <div>
        <h1>${t("title")}</h1>
        <p>${t("subtitle")}</p>
      </div>
      ${settings.authentication && refused === null && html`
        <button class="quiet" onClick=${signOut}>${t("sign_out")}</button>
      `}
    </header>
    <main>
      <${NewRequests} onCreated=${(id) => act(() => read(id, true))} />
      <div role="alert">${problem && html`<p class="lost">${problem} ${t("trying_again")}</p>`}</div>
      <${Requests}
        requests=${requests} isLoaded=${isLoaded} isLoading=${isLoading} onOlder=${older} onAgain=${again}
        onDialog=${(kind, { id }) => setDialog({ kind, id })} onGone=${(gone) => remove((id) => id === gone)}
        onRead=${(request) => add([request])} act=${act} say=${say}
      />
      ${message && html`
        <div class="message ${message.isError ? "error" : ""}">
          <span dir="auto">${message.text}</span>
          <button class="quiet" onClick=${() => setMessage(null)}>${t("close")}</button>
        </div>
      `}
    </main>
    <footer>
      <span>${t("title")} ${settings.version}</span>
      <a href="docs">${t("api")}</a>
    </footer>
    <p class="for-screen-readers" role="status">${message?.text}</p>
    ${refused !== null && html`<${TokenDialog} problem=${refused} onToken=${enter} />`}
    ${kind === "magnet" && html`
      <${MagnetDialog} request=${shown} name=${nameOf(shown)} onClose=${() => setDialog(null)} />
    `}
    ${(kind === "cancel" || kind === "delete") && html`
      <${ConfirmDialog}
        key=${kind} kind=${kind} name=${nameOf(shown)} onConfirm=${() => end(shown.id)} onClose=${() => setDialog(null)}
      />
    `}
  `;
}

document.documentElement.lang = language;
render(html`<${App} />`, document.getElementById("app"));

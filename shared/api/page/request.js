// One request of the list.

import { call, callJson, isActive } from "./client.js";
import { copyMagnet } from "./dialogs.js";
import { html, useEffect, useRef, useState } from "./libraries.js";
import { problemText } from "./problem.js";
import { bytes, date, duration, failureText, number, percent, size, t } from "./text.js";

/** How often a request whose details are open is read, for its swarm, in milliseconds. */
const SWARM_INTERVAL = 10_000;

/**
 * Returns the name of a request: that of its file, or the end of its URL.
 * @param {{ file_name: string | null, url: string }} request
 * @returns {string}
 */
export function nameOf(request) {
  if (request.file_name) return request.file_name;
  const { host, pathname } = new URL(request.url);
  const last = pathname.split("/").filter(Boolean).at(-1);
  if (!last) return host;
  try {
    return decodeURIComponent(last);
  } catch {
    // Not UTF-8.
    return last;
  }
}

/** Returns how many seconds the fetch still takes, at the rate of its bytes so far; null if that is not known. */
function useTimeLeft({ status, received_bytes: received, total_bytes: total }) {
  const first = useRef(null);
  const now = { at: Date.now(), received };
  // A fetch that starts anew has fewer bytes.
  if (status !== "fetching" || !first.current || received < first.current.received) first.current = now;
  const bytes = received - first.current.received;
  const ms = now.at - first.current.at;
  return total && bytes > 0 && ms >= 1000 ? ((total - received) * ms) / bytes / 1000 : null;
}

/** Returns a ref of an element that has the focus again when a change of its status removes what had it. */
function useKeptFocus(status) {
  const element = useRef(null);
  const had = useRef(false);
  useEffect(() => {
    const { current } = element;
    const entered = () => (had.current = true);
    const left = (event) => event.relatedTarget && (had.current = current.contains(event.relatedTarget));
    current.addEventListener("focusin", entered);
    current.addEventListener("focusout", left);
    return () => (current.removeEventListener("focusin", entered), current.removeEventListener("focusout", left));
  }, []);
  useEffect(() => {
    if (had.current && document.activeElement === document.body) element.current.querySelector("h3").focus();
  }, [status]);
  return element;
}

/**
 * A request. `act` runs what a button does, and shows its errors; `say` shows a message; `onDialog` opens a dialog;
 * `onAgain` creates the same request again.
 */
export function Request({ request, act, say, onDialog, onAgain, onRead, onGone }) {
  const [open, setOpen] = useState(false);
  const element = useKeptFocus(request.status);
  const left = useTimeLeft(request);
  const name = nameOf(request);
  const id = `request-${request.id}`;
  const active = isActive(request);
  const ended = !active && request.status !== "ready";
  return html`
    <li class="request ${request.status}" ref=${element}>
      <article aria-labelledby=${id}>
        <header>
          <h3 id=${id} dir="auto" tabindex="-1">${name}</h3>
          <span class="status">${t(request.status)}</span>
        </header>
        <p class="source">
          <a href=${request.url} target="_blank" rel="noreferrer noopener" dir="ltr">${request.url}</a>
        </p>
        ${active && html`<${Progress} request=${request} name=${name} left=${left} />`}
        <p class="facts">${facts(request).map((fact) => html`<span>${fact}</span> `)}</p>
        ${request.error_code && html`<${Failure} request=${request} />`}
        <div class="actions">
          ${request.status === "ready" && html`
            <${ReadyActions} request=${request} act=${act} say=${say} onDialog=${onDialog} describedby=${id} />
          `}
          ${active && html`
            <button onClick=${() => onDialog("cancel", request)} aria-describedby=${id}>${t("cancel")}</button>
          `}
          ${ended && html`<${Again} request=${request} onAgain=${onAgain} describedby=${id} />`}
          <button class="quiet last" aria-expanded=${String(open)} aria-describedby=${id} onClick=${() => setOpen(!open)}>
            ${t("details")}
          </button>
        </div>
        ${open && html`<${Details} request=${request} onRead=${onRead} onGone=${onGone} />`}
      </article>
    </li>
  `;
}

function facts(request) {
  const all = [t("created", { date: date(request.created_at) })];
  if (request.content_size !== null) all.unshift(size(request.content_size));
  if (request.status === "ready") {
    all.push(request.expires_at ? t("until", { date: date(request.expires_at) }) : t("until_deleted"));
  }
  return all;
}

function Progress({ request, name, left }) {
  const { progress, received_bytes: received, total_bytes: total, status, waiting } = request;
  const unknown = status === "queued" || (status === "fetching" && !total);
  const texts = unknown ? [] : [percent(progress)];
  if (status === "fetching" && received > 0) {
    texts.push(total ? t("received", { received: size(received), total: size(total) }) : size(received));
  }
  if (left !== null) texts.push(t("left", { duration: duration(left) }));
  if (waiting?.reason === "retry") texts.push(t("next_try", { date: date(waiting.until) }));
  if (waiting?.reason === "identical_request") texts.push(t("waits_for_identical"));
  return html`
    <div class="progress">
      <progress max="100" value=${unknown ? null : progress} aria-label=${t("progress_of", { name })} />
      <span>${texts.join(", ")}</span>
    </div>
  `;
}

function Failure({ request }) {
  const general = failureText(request.error_code);
  return html`
    <p class="failure">
      ${isActive(request) && html`<strong>${t("retrying", { count: request.retry_count })}</strong> `}
      ${general ?? request.error_message}
      ${general && html` <small lang="en" dir="auto">${request.error_message}</small>`}
    </p>
  `;
}

function ReadyActions({ request, act, say, onDialog, describedby }) {
  const copy = () =>
    act(async () => {
      if (await copyMagnet(request.id)) say(t("copied"));
      else onDialog("magnet", request);
    });
  const torrent = () =>
    act(async () => {
      const response = await call("GET", `/requests/${request.id}/torrent`);
      const link = URL.createObjectURL(await response.blob());
      download(link, `${nameOf(request)}.torrent`);
      // The browser reads the blob after the click.
      setTimeout(() => URL.revokeObjectURL(link), 60_000);
    });
  const content = () =>
    act(async () => {
      const { url } = await callJson("GET", `/requests/${request.id}/content-link`);
      download(url, nameOf(request));
    });
  return html`
    <button class="primary" onClick=${copy} aria-describedby=${describedby}>${t("copy_magnet")}</button>
    <button onClick=${torrent} aria-describedby=${describedby}>${t("torrent")}</button>
    <button onClick=${content} aria-describedby=${describedby}>${t("content")}</button>
    <button onClick=${() => onDialog("magnet", request)} aria-describedby=${describedby}>${t("qr")}</button>
    <button onClick=${() => onDialog("delete", request)} aria-describedby=${describedby}>${t("delete")}</button>
  `;
}

/** Saves what is at a URL as a file. */
function download(url, name) {
  const link = document.createElement("a");
  link.href = url;
  link.download = name;
  link.click();
}

function Again({ request, onAgain, describedby }) {
  const [busy, setBusy] = useState(false);
  // The API does not return headers and bodies, which may have secrets.
  const whole = request.method === "GET" && request.header_names.length === 0;
  const again = async () => {
    setBusy(true);
    await onAgain(request);
    setBusy(false);
  };
  return html`
    <button disabled=${!whole || busy} onClick=${again} aria-describedby=${describedby}>${t("again")}</button>
    ${!whole && html`<p class="hint">${t("again_not")}</p>`}
  `;
}

function Details({ request, onRead, onGone }) {
  const [swarm, setSwarm] = useState(null);
  const [error, setError] = useState(null);
  useEffect(() => {
    if (request.status !== "ready") return undefined;
    const controller = new AbortController();
    const { signal } = controller;
    const read = async () => {
      if (document.hidden) return;
      try {
        const current = await callJson("GET", `/requests/${request.id}`, { signal });
        setSwarm(current.swarm ?? null);
        setError(null);
        // A ready request may have expired.
        onRead(current);
      } catch (problem) {
        if (signal.aborted) return;
        if (problem.status === 404) onGone(request.id);
        if (problem.status === 401) clearInterval(timer);
        setError(problemText(problem));
      }
    };
    const timer = setInterval(read, SWARM_INTERVAL);
    read();
    return () => (clearInterval(timer), controller.abort());
  }, [request.id, request.status]);
  const rows = details(request, swarm, error);
  return html`
    <dl>
      ${rows.map(([key, value]) => html`<div><dt>${t(key)}</dt><dd dir="auto">${value}</dd></div>`)}
    </dl>
  `;
}

function details(request, swarm, error) {
  const all = [
    ["detail_id", request.id],
    ["detail_url", request.url],
    ["detail_final_url", request.final_url !== request.url && request.final_url],
    ["detail_type", request.content_type],
    ["detail_size", request.content_size !== null && bytes(request.content_size)],
    ["detail_sha256", request.content_hash],
    ["detail_infohash", request.infohash],
    ["detail_infohash_v2", request.infohash_v2],
    ["detail_created", date(request.created_at)],
    ["detail_completed", request.completed_at && date(request.completed_at)],
    ["detail_swarm", error ?? (swarm && t("swarm", {
      seeders: number(swarm.seeders),
      leechers: number(swarm.leechers),
      completed: number(swarm.completed),
      uploaded: size(swarm.uploaded_bytes),
    }))],
  ];
  return all.filter(([, value]) => value);
}

// The dialogs: the token, the magnet link, and the confirmation of a deletion.

import { callJson } from "./client.js";
import { encodeQr, html, useEffect, useRef, useState } from "./libraries.js";
import { problemText } from "./problem.js";
import { t } from "./text.js";

/**
 * A modal dialog. `children` is a function of `close`, which closes it and gives the focus back. `onClose` is called
 * when it is closed, also with Escape.
 */
function Dialog({ title, onClose, children, className = "" }) {
  const dialog = useRef(null);
  useEffect(() => dialog.current.showModal(), []);
  return html`
    <dialog ref=${dialog} class=${className} aria-labelledby="dialog-title" onClose=${onClose}>
      <h2 id="dialog-title" dir="auto">${title}</h2>
      ${children(() => dialog.current.close())}
    </dialog>
  `;
}

/** Asks for the token. `problem` says why the last one was refused. */
export function TokenDialog({ problem, onToken }) {
  const [wrong, setWrong] = useState(null);
  const submit = (event) => {
    event.preventDefault();
    const value = event.currentTarget.token.value.trim();
    // The value of an HTTP header.
    if (/^[\x21-\x7e]+$/.test(value)) onToken(value);
    else setWrong(t("token_wrong"));
  };
  const error = wrong ?? problem;
  // Without a token there is nothing to go back to.
  const stay = (event) => event.currentTarget.showModal();
  return html`
    <${Dialog} title=${t("token_title")} onClose=${stay}>
      ${() => html`
        <form onSubmit=${submit}>
          <p>${t("token_text")}</p>
          <div role="alert">${error && html`<p class="errors">${error}</p>`}</div>
          <label class="label" for="token">${t("token")}</label>
          <input id="token" name="token" type="password" autocomplete="off" spellcheck="false" autofocus />
          <div class="buttons"><button class="primary">${t("token_enter")}</button></div>
        </form>
      `}
    <//>
  `;
}

/** Asks whether to cancel or delete a request. `onConfirm` is called after the dialog is closed. */
export function ConfirmDialog({ kind, name, onConfirm, onClose }) {
  const confirmed = useRef(false);
  const closed = () => {
    onClose();
    if (confirmed.current) onConfirm();
  };
  return html`
    <${Dialog} title=${t(`${kind}_title`, { name })} onClose=${closed}>
      ${(close) => html`
        <p>${t(`${kind}_text`)}</p>
        <div class="buttons">
          <button type="button" autofocus onClick=${close}>${t("keep_it")}</button>
          <button type="button" class="danger" onClick=${() => ((confirmed.current = true), close())}>${t(kind)}</button>
        </div>
      `}
    <//>
  `;
}

/**
 * Copies the magnet link of a request. Returns whether the browser allowed it.
 * @param {string} id
 * @returns {Promise<boolean>}
 */
export async function copyMagnet(id) {
  const link = readMagnet(id);
  try {
    // The item is made at once, because Safari allows it only in the handler of the click.
    const item = { "text/plain": link.then((text) => new Blob([text], { type: "text/plain" })) };
    await navigator.clipboard.write([new ClipboardItem(item)]);
    return true;
  } catch {
    // The link could not be read: an error of the API, not of the clipboard.
    await link;
    return false;
  }
}

async function readMagnet(id) {
  return (await callJson("GET", `/requests/${id}/magnet`)).magnet_link;
}

/** Shows the magnet link of a request, and its QR code. */
export function MagnetDialog({ request, name, onClose }) {
  const [link, setLink] = useState(null);
  const [message, setMessage] = useState(null);
  const field = useRef(null);
  useEffect(() => {
    readMagnet(request.id).then(setLink, (problem) => setMessage(problemText(problem)));
  }, [request.id]);
  const copy = () => {
    field.current.focus();
    field.current.select();
    // `navigator.clipboard` exists on HTTPS only.
    setMessage(t(document.execCommand("copy") ? "copied" : "select_and_copy"));
  };
  return html`
    <${Dialog} title=${t("magnet_of", { name })} onClose=${onClose} className="magnet">
      ${(close) => html`
        ${link && html`
          <${QrCode} text=${link} />
          <label class="label" for="magnet">${t("magnet")}</label>
          <textarea id="magnet" ref=${field} readonly rows="3" value=${link} />
        `}
        <p role="status">${message}</p>
        <div class="buttons">
          <button type="button" onClick=${close}>${t("close")}</button>
          ${link && html`
            <a class="button" href=${link}>${t("open_magnet")}</a>
            <button type="button" class="primary" onClick=${copy}>${t("copy")}</button>
          `}
        </div>
      `}
    <//>
  `;
}

/** Draws a text as a QR code, in black on white, which every camera reads. */
function QrCode({ text }) {
  const { data, size } = encodeQr(text, { ecc: "L", border: 4 });
  const squares = data.flatMap((row, y) => row.map((dark, x) => (dark ? `M${x} ${y}h1v1h-1z` : "")));
  return html`
    <svg class="qr" role="img" aria-label=${t("magnet_qr")} viewBox="0 0 ${size} ${size}" shape-rendering="crispEdges">
      <rect width=${size} height=${size} fill="#fff" />
      <path d=${squares.join("")} fill="#000" />
    </svg>
  `;
}

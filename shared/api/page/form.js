// The form that creates requests.

import { callJson, idempotencyKey, settings } from "./client.js";
import { html, useRef, useState } from "./libraries.js";
import { problemText } from "./problem.js";
import { duration, t } from "./text.js";

const DAY = 86400;

/** The choices of the retention, in seconds. */
const KEEPS = [DAY, 7 * DAY, 30 * DAY, 365 * DAY];

/** The statuses of errors that the next URL would meet as well. */
const GENERAL = [0, 401, 429, 503, 507];

/**
 * Returns the URL in a line, or null. A host without a scheme gets https, as in the address bar of a browser.
 * @param {string} line
 * @returns {string | null}
 */
function parseUrl(line) {
  const text = /^[\p{L}\p{N}_-]+(\.[\p{L}\p{N}_-]+)+(:\d+)?([/?#]|$)/u.test(line) ? `https://${line}` : line;
  const url = URL.canParse(text) ? new URL(text) : null;
  return url && /^https?:$/.test(url.protocol) ? text : null;
}

/** Returns the URL that another app shared with this one: in `url`, or somewhere in `text` or `title`. */
function sharedUrl() {
  const shared = new URLSearchParams(location.search);
  const texts = ["url", "text", "title"].map((name) => shared.get(name) ?? "");
  return texts.map((text) => text.match(/https?:\/\/\S+/)?.[0]).find(Boolean) ?? "";
}

const linesOf = (text) => text.split("\n").map((line) => line.trim()).filter(Boolean);

/** Returns what the form says about each URL. */
const optionsOf = (form) => ({
  format: form.format.value,
  ...(form.keep.value && { keep: Number(form.keep.value) }),
  ...(form.fresh.checked && { ttl: 0 }),
  ...(form.sha256.value.trim() && { sha256: form.sha256.value.trim() }),
  ...(form.webseed && { webseed: form.webseed.checked }),
});

/** Returns what is wrong with the lines, which have this checksum. */
function check(lines, sha256) {
  if (lines.length === 0) return [t("no_url")];
  const wrong = lines.filter((line) => !parseUrl(line)).map((line) => t("not_a_url", { line }));
  return sha256 && lines.length > 1 ? [...wrong, t("one_url_only")] : wrong;
}

/** The form. `onCreated` is called with the id of each new request. */
export function NewRequests({ onCreated }) {
  const [text, setText] = useState(sharedUrl);
  const [errors, setErrors] = useState([]);
  const [busy, setBusy] = useState(false);
  const isBusy = useRef(false);
  // A call that is repeated after a lost response must not create a second request.
  const keys = useRef(new Map());

  const create = async (line, options) => {
    const body = { url: parseUrl(line), ...options };
    const name = JSON.stringify(body);
    if (!keys.current.has(name)) keys.current.set(name, idempotencyKey());
    const headers = { "idempotency-key": keys.current.get(name) };
    const { id } = await callJson("POST", "/requests", { body, headers });
    keys.current.delete(name);
    // The field may have been edited meanwhile.
    setText((text) => linesOf(text).filter((other) => other !== line).join("\n"));
    onCreated(id);
  };

  const submit = async (event) => {
    event.preventDefault();
    // Ctrl+Enter submits although the button is disabled.
    if (isBusy.current) return;
    const form = event.currentTarget;
    const lines = [...new Set(linesOf(text))];
    const options = optionsOf(form);
    const wrong = check(lines, options.sha256);
    setErrors(wrong);
    if (wrong.length > 0) return form.urls.focus();
    isBusy.current = true;
    setBusy(true);
    const problems = [];
    for (const line of lines) {
      try {
        await create(line, options);
      } catch (problem) {
        problems.push(`${t("not_created", { url: line })} — ${problemText(problem)}`);
        if (GENERAL.includes(problem.status)) break;
      }
    }
    setErrors(problems);
    if (problems.length === 0) form.sha256.value = "";
    isBusy.current = false;
    setBusy(false);
  };

  const onKeyDown = (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) event.currentTarget.form.requestSubmit();
  };
  return html`
    <form class="new" onSubmit=${submit} novalidate>
      <label class="label" for="urls">${t("urls")}</label>
      <textarea
        id="urls" name="urls" rows=${Math.min(8, text.split("\n").length + 1)} value=${text} spellcheck="false"
        autocapitalize="off" autocomplete="off" inputmode="url" placeholder="https://" aria-describedby="urls-hint"
        aria-invalid=${errors.length > 0 ? "true" : null}
        onInput=${(event) => setText(event.currentTarget.value)} onKeyDown=${onKeyDown}
      />
      <p id="urls-hint" class="hint">${t("urls_hint")}</p>
      <div role="alert">
        ${errors.length > 0 && html`<ul class="errors">${errors.map((error) => html`<li>${error}</li>`)}</ul>`}
      </div>
      <div class="new-actions">
        <button class="primary" disabled=${busy}>${t("fetch")}</button>
        <details>
          <summary>${t("options")}</summary>
          <${Options} />
        </details>
      </div>
    </form>
  `;
}

function Options() {
  const byDefault = settings.keep ? t("by_default", { what: duration(settings.keep) }) : t("keep_forever_default");
  const format = (name) => html`
    <option value=${name} selected=${settings.format === name}>${t(`format_${name}`)}</option>
  `;
  return html`
    <div class="options">
      <label>${t("keep")}
        <select name="keep">
          <option value="">${byDefault}</option>
          ${KEEPS.map((keep) => html`<option value=${keep}>${duration(keep)}</option>`)}
          <option value="0">${t("keep_forever")}</option>
        </select>
      </label>
      <label>${t("format")}<select name="format">${format("v1")}${format("hybrid")}</select></label>
      <label class="wide">${t("sha256")}
        <input name="sha256" spellcheck="false" autocomplete="off" aria-describedby="sha256-hint" />
      </label>
      <p id="sha256-hint" class="hint wide">${t("sha256_hint")}</p>
      <label class="check wide"><input type="checkbox" name="fresh" /> ${t("fresh")}</label>
      ${settings.webseed && html`
        <label class="check wide"><input type="checkbox" name="webseed" defaultChecked /> ${t("webseed")}</label>
      `}
    </div>
  `;
}

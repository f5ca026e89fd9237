// The form that creates requests.

import { call, idempotencyKey, settings } from "./client.js";
import { html, useRef, useState } from "./libraries.js";
import { problemText } from "./problem.js";
import { duration, t } from "./text.js";

const DAY = 86400;

/** The choices of the retention, in seconds. */
const KEEPS = [DAY, 7 * DAY, 30 * DAY, 365 * DAY];

/**
 * Returns the URL in a line, or null. A host without a scheme gets https, as in the address bar of a browser.
 * @param {string} line
 * @returns {string | null}
 */
export function parseUrl(line) {
  const text = /^[\w-]+(\.[\w-]+)+(:\d+)?([/?#]|$)/.test(line) ? `https://${line}` : line;
  const url = URL.canParse(text) ? new URL(text) : null;
  return url && /^https?:$/.test(url.protocol) ? text : null;
}

/** Returns the URL that another app shared with this one: in `url`, or somewhere in `text` or `title`. */
function sharedUrl() {
  const shared = new URLSearchParams(location.search);
  const texts = ["url", "text", "title"].map((name) => shared.get(name) ?? "");
  return texts.map((text) => text.match(/https?:\/\/\S+/)?.[0]).find(Boolean) ?? "";
}

/** The form. `onCreated` is called with the id of each new request. */
export function NewRequests({ onCreated }) {
  const [text, setText] = useState(sharedUrl);
  const [errors, setErrors] = useState([]);
  const [busy, setBusy] = useState(false);
  // A call that is repeated after a lost response must not create a second request.
  const keys = useRef(new Map());

  const submit = async (event) => {
    event.preventDefault();
    const form = event.currentTarget;
    const lines = text.split("\n").map((line) => line.trim()).filter(Boolean);
    const wrong = lines.filter((line) => !parseUrl(line));
    const sha256 = form.sha256.value.trim();
    if (lines.length === 0 || wrong.length > 0 || (sha256 && lines.length > 1)) {
      setErrors([
        ...(lines.length === 0 ? [t("no_url")] : []),
        ...wrong.map((line) => t("not_a_url", { line })),
        ...(sha256 && lines.length > 1 ? [t("one_url_only")] : []),
      ]);
      form.urls.focus();
      return;
    }
    const common = {
      format: form.format.value,
      ...(form.keep.value && { keep: Number(form.keep.value) }),
      ...(form.fresh.checked && { ttl: 0 }),
      ...(sha256 && { sha256 }),
      ...(form.webseed && { webseed: form.webseed.checked }),
    };
    setBusy(true);
    setErrors([]);
    const left = [];
    const problems = [];
    for (const line of lines) {
      const body = { url: parseUrl(line), ...common };
      const name = JSON.stringify(body);
      if (!keys.current.has(name)) keys.current.set(name, idempotencyKey());
      try {
        const headers = { "idempotency-key": keys.current.get(name) };
        const response = await call("POST", "/requests", { body, headers });
        keys.current.delete(name);
        await onCreated((await response.json()).id);
      } catch (problem) {
        left.push(line);
        problems.push(`${t("not_created", { url: line })} — ${problemText(problem)}`);
      }
    }
    setText(left.join("\n"));
    setErrors(problems);
    setBusy(false);
    if (left.length === 0) form.sha256.value = "";
  };

  const keepDefault = settings.keep
    ? t("keep_default", { duration: duration(settings.keep) })
    : t("keep_forever_default");
  return html`
    <form class="new" onSubmit=${submit} novalidate>
      <label class="label" for="urls">${t("urls")}</label>
      <textarea
        id="urls" name="urls" rows=${Math.min(8, text.split("\n").length + 1)} value=${text} spellcheck="false"
        autocapitalize="off" autocomplete="off" inputmode="url" placeholder="https://" aria-describedby="urls-hint"
        aria-invalid=${errors.length > 0 ? "true" : null}
        onInput=${(event) => setText(event.currentTarget.value)}
        onKeyDown=${(event) => event.key === "Enter" && (event.ctrlKey || event.metaKey) && event.currentTarget.form.requestSubmit()}
      />
      <p id="urls-hint" class="hint">${t("urls_hint")}</p>
      ${errors.length > 0 && html`<ul class="errors" role="alert">${errors.map((error) => html`<li>${error}</li>`)}</ul>`}
      <div class="new-actions">
        <button class="primary" disabled=${busy}>${t("fetch")}</button>
        <details>
          <summary>${t("options")}</summary>
          <div class="options">
            <label>${t("keep")}
              <select name="keep">
                <option value="">${keepDefault}</option>
                ${KEEPS.map((keep) => html`<option value=${keep}>${duration(keep)}</option>`)}
                <option value="0">${t("keep_forever")}</option>
              </select>
            </label>
            <label>${t("format")}
              <select name="format" defaultValue=${settings.format}>
                <option value="v1" selected=${settings.format === "v1"}>${t("format_v1")}</option>
                <option value="hybrid" selected=${settings.format === "hybrid"}>${t("format_hybrid")}</option>
              </select>
            </label>
            <label class="wide">${t("sha256")}
              <input name="sha256" pattern="[0-9a-fA-F]{64}" spellcheck="false" autocomplete="off" aria-describedby="sha256-hint" />
            </label>
            <p id="sha256-hint" class="hint wide">${t("sha256_hint")}</p>
            <label class="check wide"><input type="checkbox" name="fresh" /> ${t("fresh")}</label>
            ${settings.webseed && html`
              <label class="check wide"><input type="checkbox" name="webseed" defaultChecked /> ${t("webseed")}</label>
            `}
          </div>
        </details>
      </div>
    </form>
  `;
}

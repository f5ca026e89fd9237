// The list of requests, with search and older pages.

import { isActive } from "./client.js";
import { html, useEffect, useRef, useState } from "./libraries.js";
import { Request } from "./request.js";
import { number, t } from "./text.js";

/** What the list can show, by name: whether it has a request. */
const FILTERS = {
  all: (request) => request.status !== "cancelled",
  active: isActive,
  ready: (request) => request.status === "ready",
  failed: (request) => request.status === "failed",
  expired: (request) => request.status === "expired",
  cancelled: (request) => request.status === "cancelled",
};

/** Whether one of the texts of a request has this text, in lower case. */
const matches = (request, text) =>
  ["file_name", "url", "final_url", "infohash", "infohash_v2", "content_hash", "id"].some((field) =>
    request[field]?.toLowerCase().includes(text),
  );

/** The list. `requests` are the loaded ones, newest first; `onOlder` loads more, if there are more. */
export function Requests({ requests, isLoaded, isLoading, onOlder, ...actions }) {
  const [search, setSearch] = useState("");
  const [filter, setFilter] = useState("all");
  const heading = useRef(null);
  const hadOlder = useRef(false);
  const hasOlder = Boolean(onOlder);
  useEffect(() => {
    // The button that loaded the last ones is gone, and had the focus.
    if (hadOlder.current && !hasOlder && document.activeElement === document.body) heading.current.focus();
    hadOlder.current = hasOlder;
  }, [hasOlder]);
  const text = search.trim().toLowerCase();
  const shown = requests.filter(FILTERS[filter]).filter((request) => !text || matches(request, text));
  return html`
    <section aria-labelledby="requests">
      <div class="list-header">
        <h2 id="requests" ref=${heading} tabindex="-1">${t("requests")}</h2>
        <label class="inline">${t("search")}
          <input type="search" value=${search} onInput=${(event) => setSearch(event.currentTarget.value)} />
        </label>
        <label class="inline">${t("show")}
          <select value=${filter} onChange=${(event) => setFilter(event.currentTarget.value)}>
            ${Object.keys(FILTERS).map((name) => html`<option value=${name}>${t(`show_${name}`)}</option>`)}
          </select>
        </label>
      </div>
      <p class="for-screen-readers" role="status">${text && t("found", { count: number(shown.length) })}</p>
      ${shown.length > 0 && html`
        <ul class="requests">
          ${shown.map((request) => html`<${Request} key=${request.id} request=${request} ...${actions} />`)}
        </ul>
      `}
      ${shown.length === 0 && html`<p class="empty">${emptyText(requests, isLoaded, onOlder)}</p>`}
      ${onOlder && html`<button class="older" disabled=${isLoading} onClick=${onOlder}>${t("older")}</button>`}
    </section>
  `;
}

function emptyText(requests, isLoaded, onOlder) {
  if (!isLoaded) return t("loading");
  if (requests.length === 0) return t("empty");
  return onOlder ? t("no_match", { count: number(requests.length) }) : t("no_match_at_all");
}

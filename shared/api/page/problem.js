// Errors of the API in words.

import { Problem } from "./client.js";
import { problemTranslation, soon, t } from "./text.js";

/**
 * Returns an error as a text for people: what the server says, each field that is not valid, and when to try again.
 * @param {unknown} error
 * @returns {string}
 */
export function problemText(error) {
  if (!(error instanceof Problem)) throw error;
  if (error.status === 0) return t("unreachable");
  const fields = error.errors.map(({ field, detail }) => `${field} ${detail}`).join("; ");
  const said = fields || error.message || t("unexpected", { status: error.status });
  const translation = problemTranslation(error.code);
  const text = translation ? `${translation} (${said})` : said;
  return error.retryAfter ? `${text}. ${t("retry_after", { when: soon(error.retryAfter) })}` : text;
}

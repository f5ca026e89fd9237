// Errors of the API in words.

import { Problem } from "./client.js";
import { duration, t } from "./text.js";

/**
 * Returns an error as a text for people: what the server says, each field that is not valid, and when to try again.
 * @param {unknown} error
 * @returns {string}
 */
export function problemText(error) {
  if (!(error instanceof Problem)) throw error;
  if (error.status === 0) return t("unreachable");
  const fields = error.errors.map(({ field, detail }) => `${field} ${detail}`);
  const texts = [fields.length > 0 ? fields.join("; ") : error.message];
  if (error.retryAfter) texts.push(t("retry_after", { duration: duration(error.retryAfter) }));
  return texts.join(". ");
}

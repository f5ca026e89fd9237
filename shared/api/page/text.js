// Texts in the language of the browser, and numbers and dates as its reader writes them.

import en from "./en.js";
import ru from "./ru.js";

const languages = { en, ru };

/** The language of the page: the first of the browser's that the page has. */
export const language =
  navigator.languages.map((tag) => tag.split("-")[0]).find((tag) => tag in languages) ?? "en";

// Dates and numbers follow the reader's region, such as that of en-GB.
const locale = navigator.languages.find((tag) => tag.split("-")[0] === language) ?? language;

const texts = languages[language];

/**
 * Returns a text. `{name}` in it is replaced by the value of that name.
 * @param {string} key
 * @param {Record<string, string | number>} [values]
 * @returns {string}
 */
export function t(key, values = {}) {
  return texts[key].replace(/\{(\w+)\}/g, (_, name) => String(values[name]));
}

/**
 * Returns the text for the code of a failed request, or null if the code is not known.
 * @param {string | null | undefined} code
 * @returns {string | null}
 */
export const failureText = (code) => (code && texts.failures[code]) ?? null;

const UNITS = ["byte", "kilobyte", "megabyte", "gigabyte", "terabyte"];

/**
 * Returns a number of bytes for people, such as "1.2 MB".
 * @param {number} bytes
 * @returns {string}
 */
export function size(bytes) {
  const power = bytes < 1000 ? 0 : Math.min(Math.floor(Math.log10(bytes) / 3), UNITS.length - 1);
  const format = { style: "unit", unit: UNITS[power], unitDisplay: power ? "short" : "long", maximumFractionDigits: 1 };
  return new Intl.NumberFormat(locale, format).format(bytes / 1000 ** power);
}

/**
 * Returns a whole number for people.
 * @param {number} value
 * @returns {string}
 */
export const number = (value) => new Intl.NumberFormat(locale).format(value);

/**
 * Returns a share of 100 for people.
 * @param {number} value
 * @returns {string}
 */
export const percent = (value) => new Intl.NumberFormat(locale, { style: "percent" }).format(value / 100);

/**
 * Returns a duration for people, in its largest unit.
 * @param {number} seconds
 * @returns {string}
 */
export function duration(seconds) {
  const units = [["day", 86400], ["hour", 3600], ["minute", 60], ["second", 1]];
  const [unit, length] = units.find(([, length]) => seconds >= length) ?? units[3];
  const format = { style: "unit", unit, unitDisplay: "long" };
  return new Intl.NumberFormat(locale, format).format(Math.max(1, Math.round(seconds / length)));
}

/**
 * Returns a date and time for people.
 * @param {string} timestamp in RFC 3339
 * @returns {string}
 */
export const date = (timestamp) =>
  new Intl.DateTimeFormat(locale, { dateStyle: "medium", timeStyle: "short" }).format(new Date(timestamp));

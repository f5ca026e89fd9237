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

/**
 * Returns the translation of the code of an error of the API, or null: then what the server says is in the language of
 * the page, or the code is not known.
 * @param {string | null} code
 * @returns {string | null}
 */
export const problemTranslation = (code) => (code && texts.problems[code]) ?? null;

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
 * Returns an exact number of bytes for people.
 * @param {number} value
 * @returns {string}
 */
export const bytes = (value) =>
  new Intl.NumberFormat(locale, { style: "unit", unit: "byte", unitDisplay: "long" }).format(value);

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

const TIMES = [["day", 86400], ["hour", 3600], ["minute", 60], ["second", 1]];

/** Returns a duration in seconds as a whole number of its largest unit. */
function inLargestUnit(seconds) {
  const [unit, length] = TIMES.find(([, length]) => seconds >= length) ?? TIMES.at(-1);
  return { unit, count: Math.max(1, Math.round(seconds / length)) };
}

/**
 * Returns a duration for people, such as "7 days".
 * @param {number} seconds
 * @returns {string}
 */
export function duration(seconds) {
  const { unit, count } = inLargestUnit(seconds);
  return new Intl.NumberFormat(locale, { style: "unit", unit, unitDisplay: "long" }).format(count);
}

/**
 * Returns a time in the future for people, such as "in 7 seconds".
 * @param {number} seconds
 * @returns {string}
 */
export function soon(seconds) {
  const { unit, count } = inLargestUnit(seconds);
  return new Intl.RelativeTimeFormat(locale).format(count, unit);
}

/**
 * Returns a date and time for people.
 * @param {string} timestamp in RFC 3339
 * @returns {string}
 */
export const date = (timestamp) =>
  new Intl.DateTimeFormat(locale, { dateStyle: "medium", timeStyle: "short" }).format(new Date(timestamp));

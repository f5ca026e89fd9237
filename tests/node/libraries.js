export { h, render, Fragment } from "preact";
export { useEffect, useMemo, useReducer, useRef, useState, useCallback } from "preact/hooks";
import { h } from "preact";
import htm from "htm";
export const html = htm.bind(h);
export { encode as encodeQr } from "uqr";

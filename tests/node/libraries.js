// What the web page uses of packages from npm. `make page` builds shared/api/page/libraries.js from it.

export { render } from "preact";
export { useCallback, useEffect, useMemo, useRef, useState } from "preact/hooks";
import { h } from "preact";
import htm from "htm";
export const html = htm.bind(h);
export { encode as encodeQr } from "uqr";

// Small tools. Texts reach the page as text nodes and attributes only, never as HTML.
"use strict";
const B1K = {};

B1K.RATE = 30; // control steps per simulated second

/** Make an element: h("a", {class: "x", href: "#"}, "text", child, null). */
B1K.h = function (tag, attributes, ...children) {
  const svg = B1K.SVG_TAGS.has(tag);
  const element = svg
    ? document.createElementNS("http://www.w3.org/2000/svg", tag)
    : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === null || value === undefined || value === false) {
      continue;
    }
    if (name.startsWith("--")) {
      element.style.setProperty(name, value);
    } else {
      element.setAttribute(name, value === true ? "" : value);
    }
  }
  for (const child of children.flat(Infinity)) {
    if (child !== null && child !== undefined) {
      element.append(child);
    }
  }
  return element;
};
B1K.SVG_TAGS = new Set(["svg", "path", "rect", "line"]);

B1K.OUTCOMES = ["success", "failure", "error"];
B1K.GLYPHS = { success: "●", failure: "✕", error: "!" };

/** Outcome as a mark and a word: never by colour alone. */
B1K.outcome = function (name) {
  const glyph = B1K.h("i", { "aria-hidden": "true" }, B1K.GLYPHS[name]);
  return B1K.h("span", { class: `outcome ${name}` }, glyph, " ", name);
};

/** The letter of a run, in its colour: A, B, ... */
B1K.letter = function (run) {
  return String.fromCharCode(65 + (run % 26)) + (run >= 26 ? Math.floor(run / 26) + 1 : "");
};

B1K.COLOURS = 8; // as many as the style sheet has

B1K.runMark = function (run) {
  const colour = `var(--run-${run % B1K.COLOURS})`;
  return B1K.h("span", { class: "run", "--run": colour }, B1K.letter(run));
};

B1K.number = function (value, digits) {
  return value === null || value === undefined ? "-" : value.toFixed(digits);
};

B1K.seconds = function (value) {
  if (value === null || value === undefined) {
    return "-";
  }
  if (value >= 1) {
    return `${value.toFixed(2)} s`;
  }
  return `${(1000 * value).toFixed(value >= 0.0995 ? 0 : value >= 0.00995 ? 1 : 2)} ms`;
};

/** A simulated time, 83.4 as 1:23.4. */
B1K.clock = function (seconds) {
  const minutes = Math.floor(seconds / 60);
  const rest = (seconds - 60 * minutes).toFixed(1);
  return `${minutes}:${rest.padStart(4, "0")}`;
};

/** The value of [[step, value], ...] at a step: the last that is not later. */
B1K.at = function (changes, step) {
  let low = 0;
  let high = changes.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (changes[middle][0] <= step) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return low ? changes[low - 1][1] : null;
};

// --- the address: what is shown, e.g. #episode/0/clean_boxing_gloves-3-0?vs=1&step=340 ----------

B1K.readHash = function () {
  const [path, query] = location.hash.slice(1).split("?", 2);
  const parts = path.split("/").map((part) => {
    try {
      return decodeURIComponent(part);
    } catch {
      return part; // a stray % in an address typed by hand
    }
  });
  return { view: parts[0] || "overview", parts: parts.slice(1), query: new URLSearchParams(query) };
};

B1K.makeHash = function (view, parts, query) {
  const path = [view, ...parts].map(encodeURIComponent).join("/");
  const text = new URLSearchParams(query).toString();
  return `#${path}${text ? `?${text}` : ""}`;
};

/** Change the address without a new entry in the history. */
B1K.replaceHash = function (hash) {
  if (location.hash !== hash) {
    history.replaceState(null, "", hash);
  }
};

// --- data ---------------------------------------------------------------------------------------

B1K.index = null;
B1K.details = new Map();
B1K.waiting = new Map();

/** Called by data/index.js. */
B1K.start = function (index) {
  B1K.index = index;
  B1K.byId = new Map(index.episodes.map((row) => [row.id, row]));
  B1K.main();
};

/** Called by an episode's own script. */
B1K.detail = function (id, detail) {
  B1K.details.set(id, detail);
  for (const [, , name] of detail.course ? detail.course.skills : []) {
    if (name !== null && !B1K.index.skills.includes(name)) {
      B1K.index.skills.push(name); // a served page has read no trace before
    }
  }
};

/** An episode's details; loads its script when it is asked for the first time. */
B1K.loadDetail = function (id) {
  if (!B1K.waiting.has(id)) {
    const loading = new Promise((resolve, reject) => {
      const script = B1K.h("script", { src: `${B1K.index.folder}/data/${id}.js` });
      script.onload = () => {
        const detail = B1K.details.get(id);
        detail ? resolve(detail) : reject(new Error(`${script.src} holds no episode ${id}`));
      };
      script.onerror = () => reject(new Error(`${script.src} cannot be loaded`));
      document.head.append(script);
    });
    B1K.waiting.set(id, loading);
  }
  return B1K.waiting.get(id);
};

// The list of episodes: filters, order, rows. Rows are made as they come into view.
"use strict";
B1K.list = (function () {
  const h = B1K.h;
  const BATCH = 60;
  const COLUMNS = [
    { key: "run", title: "Run", value: (row) => row.run },
    { key: "instance", title: "Instance", value: (row) => row.instance + row.rollout / 1e4 },
    { key: "outcome", title: "Outcome", value: (row) => B1K.OUTCOMES.indexOf(row.outcome) },
    { key: "why", title: "Why", value: (row) => row.why || "" },
    { key: "q", tip: "q_score", title: "q", value: (row) => (row.q === null ? -1 : row.q) },
    { key: "course", tip: "subgoals", title: "Course", value: (row) => row.reached.length },
    { key: "steps", tip: "steps", title: "Steps", value: (row) => row.steps },
    { key: "latency", tip: "latency", title: "Latency", value: (row) => row.latency_s ?? -1 },
  ];
  const state = { outcomes: new Set(), run: "", label: "", instance: "", text: "", sort: "", down: false };
  let shown = [];
  let drawn = 0;
  let body = null;
  let sentinel = null; // below the last row: when it comes near, more rows are made
  let near = null;
  let longest = 1;
  let chips = new Map();
  const $ = (id) => document.getElementById(id);

  function takeRows() {
    const rows = B1K.index.episodes;
    longest = Math.max(1, ...rows.map((row) => row.steps));
    for (const row of rows) {
      row.text = [row.name, row.outcome, row.why, row.label, B1K.index.runs[row.run].name]
        .concat(row.problems)
        .join(" ")
        .toLowerCase();
    }
    return rows;
  }

  /** Show new rows, with filters, order and place as they are. */
  function refresh() {
    const rows = takeRows();
    for (const [outcome, chip] of chips) {
      chip.querySelector(".count").textContent = rows.filter((row) => row.outcome === outcome).length;
    }
    fillLabels(rows);
    const before = drawn;
    const top = scrollY;
    apply();
    while (drawn < Math.min(before, shown.length)) {
      drawMore();
    }
    scrollTo(0, top);
  }

  function setup() {
    const rows = takeRows();
    fillFilters(rows);
    buildTable();
    near = new IntersectionObserver((entries) => {
      if (entries.some((entry) => entry.isIntersecting)) {
        drawMore();
      }
    }, { rootMargin: "600px" });
  }

  function fillFilters(rows) {
    for (const outcome of B1K.OUTCOMES) {
      const count = rows.filter((row) => row.outcome === outcome).length;
      const chip = h("button", { type: "button", class: "chip", "aria-pressed": "false" },
        B1K.outcome(outcome), " ", h("span", { class: "count" }, String(count)));
      chip.addEventListener("click", () => {
        state.outcomes.has(outcome) ? state.outcomes.delete(outcome) : state.outcomes.add(outcome);
        changed();
      });
      chips.set(outcome, chip);
      $("filter-outcomes").append(chip);
    }
    const runs = B1K.index.runs.map((run, i) => [String(i), `${B1K.letter(i)}  ${run.name}`]);
    options($("filter-run"), [["", "all"], ...runs]);
    $("filter-run-label").hidden = runs.length < 2;
    fillLabels(rows);
    for (const [id, key] of [["run", "run"], ["label", "label"], ["instance", "instance"], ["text", "text"]]) {
      $(`filter-${id}`).addEventListener("input", (event) => {
        state[key] = event.target.value;
        changed();
      });
    }
    $("filter-clear").addEventListener("click", () => {
      read(new URLSearchParams());
      changed();
    });
    $("filters").addEventListener("submit", (event) => event.preventDefault());
  }

  function fillLabels(rows) {
    const counts = new Map();
    const words = new Map();
    for (const row of rows) {
      if (row.label) {
        counts.set(row.label, (counts.get(row.label) || 0) + 1);
        words.set(row.label, row.label === "policy_fault" ? "the policy failed" : row.why);
      }
    }
    const labels = [...counts.keys()].sort((a, b) => counts.get(b) - counts.get(a));
    $("filter-label").replaceChildren();
    options($("filter-label"), [["", "any"], ...labels.map((l) => [l, `${words.get(l)} (${counts.get(l)})`])]);
    $("filter-label").value = state.label;
  }

  function options(select, pairs) {
    select.append(...pairs.map(([value, text]) => h("option", { value }, text)));
  }

  function buildTable() {
    const heads = COLUMNS.map((column) => {
      const button = h("button", { type: "button" }, column.title);
      button.addEventListener("click", () => {
        state.down = state.sort === column.key ? !state.down : false;
        state.sort = column.key;
        changed();
      });
      const tip = column.tip ? { title: B1K.index.tips[column.tip] } : {};
      return h("th", { scope: "col", class: `c-${column.key}`, "data-key": column.key, ...tip }, button);
    });
    body = h("tbody");
    const single = B1K.index.runs.length < 2;
    const table = h("table", { class: `episodes${single ? " single" : ""}`, "aria-label": "Episodes" },
      h("thead", null, h("tr", null, heads)), body);
    sentinel = h("div", { class: "sentinel" });
    $("list").append(table, h("p", { class: "empty muted", hidden: true }, "No episode fits."), sentinel);
  }

  // --- filter and order -------------------------------------------------------------------------

  /** Take the state from the address. */
  function read(query) {
    state.outcomes = new Set((query.get("outcome") || "").split(",").filter((o) => B1K.OUTCOMES.includes(o)));
    for (const key of ["run", "label", "instance", "text"]) {
      state[key] = query.get(key) || "";
      $(`filter-${key}`).value = state[key];
    }
    const sort = query.get("sort") || "";
    state.down = sort.startsWith("-");
    state.sort = sort.replace(/^-/, "");
  }

  function query() {
    const found = {};
    if (state.outcomes.size) {
      found.outcome = [...state.outcomes].join(",");
    }
    for (const key of ["run", "label", "instance", "text"]) {
      if (state[key]) {
        found[key] = state[key];
      }
    }
    if (state.sort) {
      found.sort = (state.down ? "-" : "") + state.sort;
    }
    return found;
  }

  function changed() {
    B1K.replaceHash(B1K.makeHash("episodes", [], query()));
    apply();
  }

  /** "0-4, 7" as a test; null where it cannot be read. */
  function instances(text) {
    const ranges = [];
    for (const piece of text.split(",").map((p) => p.trim()).filter(Boolean)) {
      const match = /^(\d+)(?:\s*-\s*(\d+))?$/.exec(piece);
      if (!match) {
        return null;
      }
      ranges.push([Number(match[1]), Number(match[2] ?? match[1])]);
    }
    return (number) => !ranges.length || ranges.some(([low, high]) => low <= number && number <= high);
  }

  function apply() {
    const fits = instances(state.instance);
    $("filter-instance").setAttribute("aria-invalid", fits === null ? "true" : "false");
    const words = state.text.toLowerCase().split(/\s+/).filter(Boolean);
    shown = B1K.index.episodes.filter((row) =>
      (!state.outcomes.size || state.outcomes.has(row.outcome)) &&
      (!state.run || row.run === Number(state.run)) &&
      (!state.label || row.label === state.label) &&
      (fits === null || fits(row.instance)) &&
      words.every((word) => row.text.includes(word)));
    const column = COLUMNS.find((c) => c.key === state.sort);
    if (column) {
      const sign = state.down ? -1 : 1;
      const order = (a, b) => (a < b ? -1 : a > b ? 1 : 0);
      shown.sort((a, b) => sign * order(column.value(a), column.value(b)));
    }
    for (const [outcome, chip] of chips) {
      chip.setAttribute("aria-pressed", String(state.outcomes.has(outcome)));
    }
    for (const head of body.parentElement.querySelectorAll("th[data-key]")) {
      const active = head.dataset.key === state.sort;
      head.setAttribute("aria-sort", active ? (state.down ? "descending" : "ascending") : "none");
    }
    const all = B1K.index.episodes.length;
    $("shown").textContent = shown.length === all ? `${all} episodes` : `${shown.length} of ${all} episodes`;
    document.querySelector("#list .empty").hidden = shown.length > 0;
    body.replaceChildren();
    drawn = 0;
    drawMore();
  }

  // --- rows -------------------------------------------------------------------------------------

  function drawMore() {
    if (drawn < shown.length) {
      const next = shown.slice(drawn, drawn + BATCH);
      drawn += next.length;
      body.append(...next.map(rowElement));
    }
    sentinel.hidden = drawn >= shown.length;
    // Observed anew: only a change is told, and on a high screen it may still be in view.
    near.unobserve(sentinel);
    near.observe(sentinel);
  }

  function rowElement(row) {
    const name = `instance ${row.instance}${row.rollout ? `, rollout ${row.rollout}` : ""}`;
    const link = h("a", { href: address(row), "aria-label": `Open ${name} of run ${B1K.letter(row.run)}` },
      `${row.instance}`, row.rollout ? h("span", { class: "muted" }, `.${row.rollout}`) : null);
    const why = [row.why || (row.outcome === "failure" ? "unknown" : "")];
    if (row.problems.length) {
      why.push(h("span", { class: "flag", title: row.problems.join("\n") }, "damaged files"));
    }
    if (!row.video) {
      why.push(h("span", { class: "flag muted" }, "no video"));
    }
    const element = h("tr", { "data-id": row.id, tabindex: "-1" },
      h("td", { class: "c-run" }, B1K.runMark(row.run)),
      h("td", { class: "c-instance number" }, link),
      h("td", { class: "c-outcome" }, B1K.outcome(row.outcome)),
      h("td", { class: "c-why" }, why),
      h("td", { class: "c-q number" }, B1K.number(row.q, 2)),
      h("td", { class: "c-course" }, sparkline(row)),
      h("td", { class: "c-steps number" }, String(row.steps)),
      h("td", { class: "c-latency number" }, B1K.seconds(row.latency_s)));
    element.addEventListener("click", (event) => {
      if (!event.target.closest("a") && !String(getSelection())) {
        location.hash = address(row);
      }
    });
    return element;
  }

  /** Sub-goals reached as an area, q as a line; all rows have one scale of time. */
  function sparkline(row) {
    const total = Math.max(1, row.subgoals);
    const end = row.steps / longest;
    let area = "M0 1";
    row.reached.forEach((step, i) => {
      const x = step / longest;
      area += `H${x.toFixed(4)}V${(1 - (i + 1) / total).toFixed(4)}`;
    });
    area += `H${end.toFixed(4)}V1Z`;
    let line = "";
    for (const [step, q] of row.q_course) {
      const x = ((step - 1) / longest).toFixed(4);
      const y = (1 - (q ?? 0)).toFixed(4);
      line += line ? `H${x}V${y}` : `M${x} ${y}`;
    }
    const words = `${row.reached.length} of ${row.subgoals} sub-goals reached`;
    return h("svg", { class: "spark", viewBox: "0 -0.06 1 1.12", preserveAspectRatio: "none", role: "img", "aria-label": words },
      h("path", { class: "area", d: area }),
      line ? h("path", { class: "line", d: `${line}H${end.toFixed(4)}` }) : null);
  }

  // --- for others -------------------------------------------------------------------------------

  function address(row, query) {
    return B1K.makeHash("episode", [String(row.run), row.name], query || {});
  }

  /** The episode after (1) or before (-1) one, in the present order; null at the ends. */
  function neighbour(id, by) {
    const place = shown.findIndex((row) => row.id === id);
    return place < 0 ? null : shown[place + by] || null;
  }

  function place(id) {
    return [shown.findIndex((row) => row.id === id) + 1, shown.length];
  }

  /** Move the keyboard's row in the list. */
  function move(by) {
    const rows = () => [...body.children];
    const now = rows().indexOf(document.activeElement.closest("tr"));
    if (now + by >= drawn) {
      drawMore();
    }
    const next = rows()[now < 0 ? 0 : Math.min(Math.max(now + by, 0), rows().length - 1)];
    if (next) {
      next.querySelector("a").focus();
      next.scrollIntoView({ block: "nearest" });
    }
  }

  return { setup, refresh, read, query, apply, address, neighbour, place, move };
})();

// Follows the runs of a page that is served: asks how they stand, and shows new episodes.
"use strict";
(function () {
  const EVERY_MS = 1000;
  let version = null;

  function show(lines) {
    const notices = lines.map((line) => B1K.h("p", { class: "notice" }, line));
    const now = document.getElementById("live");
    if (now.textContent !== lines.join("")) {
      now.replaceChildren(...notices);
    }
  }

  /** Take the new overview, and the list's new rows; what is open stays open. */
  async function take() {
    const [page, index] = await Promise.all([
      fetch("/").then((answer) => answer.text()),
      fetch("/index.json").then((answer) => answer.json()),
    ]);
    const made = new DOMParser().parseFromString(page, "text/html");
    for (const id of ["view-overview", "view-runs", "episode-count"]) {
      document.getElementById(id).replaceChildren(...made.getElementById(id).childNodes);
    }
    index.skills = B1K.index.skills;
    B1K.index = index;
    B1K.byId = new Map(index.episodes.map((row) => [row.id, row]));
    B1K.list.refresh();
  }

  async function look() {
    try {
      const state = await fetch("/live.json").then((answer) => answer.json());
      show(state.lines);
      if (version !== null && version !== state.version) {
        await take();
      }
      version = state.version;
    } catch {
      show(["The server of this page has ended: what is shown is as it was then."]);
    }
    setTimeout(look, EVERY_MS);
  }

  look();
})();

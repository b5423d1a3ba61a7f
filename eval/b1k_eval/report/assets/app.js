// Which view is shown, keys, colours, help. Runs when the data are there.
"use strict";
B1K.main = function () {
  const $ = (id) => document.getElementById(id);
  const VIEWS = ["overview", "episodes", "runs", "episode"];

  // --- views ------------------------------------------------------------------------------------

  let before = null;

  function route() {
    const { view: asked, parts, query } = B1K.readHash();
    const view = VIEWS.includes(asked) ? asked : "overview";
    for (const name of VIEWS) {
      $(`view-${name}`).hidden = name !== view;
    }
    for (const link of document.querySelectorAll("nav [data-view]")) {
      const here = link.dataset.view === (view === "episode" ? "episodes" : view);
      here ? link.setAttribute("aria-current", "page") : link.removeAttribute("aria-current");
    }
    if (view === "episodes") {
      B1K.list.read(query);
      B1K.list.apply();
    }
    view === "episode" ? B1K.episode.open(parts, query) : B1K.episode.close();
    if (before !== null && before !== view) {
      scrollTo(0, 0);
    }
    before = view;
  }

  for (const link of document.querySelectorAll('nav [data-view="episodes"]')) {
    link.addEventListener("click", () => {
      link.href = B1K.makeHash("episodes", [], B1K.list.query()); // as it was left
    });
  }
  document.querySelector("[data-skip]").addEventListener("click", (event) => {
    event.preventDefault();
    $("main").focus();
  });

  // --- colours ----------------------------------------------------------------------------------

  const THEMES = ["auto", "light", "dark"];
  const themeButton = $("theme-button");

  function theme() {
    return document.documentElement.dataset.theme || "auto";
  }

  function showTheme() {
    const name = theme();
    themeButton.textContent = name[0].toUpperCase() + name.slice(1);
    themeButton.setAttribute("aria-label", `Colours: ${name}`);
  }

  themeButton.addEventListener("click", () => {
    const next = THEMES[(THEMES.indexOf(theme()) + 1) % THEMES.length];
    next === "auto"
      ? delete document.documentElement.dataset.theme
      : (document.documentElement.dataset.theme = next);
    try {
      localStorage.setItem("b1k-eval-theme", next);
    } catch {
      // Not kept, then: see theme.js.
    }
    showTheme();
  });

  // --- keys -------------------------------------------------------------------------------------

  const help = $("help-dialog");
  $("help-button").addEventListener("click", () => help.showModal());

  /** Whether a key belongs to what has the focus. */
  function taken(event) {
    const { target } = event;
    if (target.matches("input, select, textarea")) {
      return true;
    }
    return target.matches("button, a, summary") && (event.key === " " || event.key === "Enter");
  }

  const LIST_KEYS = {
    ArrowDown: () => B1K.list.move(1),
    ArrowUp: () => B1K.list.move(-1),
    "/": () => $("filter-text").focus(),
  };

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || help.open) {
      return;
    }
    if (event.key === "Escape" && event.target.matches("input, select")) {
      event.target.blur();
      return;
    }
    if (taken(event)) {
      return;
    }
    let done = true;
    const view = before;
    if (event.key === "?") {
      help.showModal();
    } else if (view === "episode") {
      done = B1K.episode.key(event);
    } else if (view === "episodes" && LIST_KEYS[event.key]) {
      LIST_KEYS[event.key]();
    } else {
      done = false;
    }
    if (done) {
      event.preventDefault();
    }
  });

  showTheme();
  B1K.list.setup();
  B1K.list.apply();
  addEventListener("hashchange", route);
  route();
};

// Before the first paint, so that a page that was set to dark does not flash.
"use strict";
(function () {
  let theme = null;
  try {
    theme = localStorage.getItem("b1k-eval-theme");
  } catch {
    // Storage may be switched off for pages from disk: then the system's colours it is.
  }
  if (theme === "light" || theme === "dark") {
    document.documentElement.dataset.theme = theme;
  }
})();

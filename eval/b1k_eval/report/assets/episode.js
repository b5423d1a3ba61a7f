// An episode: video, timelines and details; or the same episode of two runs beside each other.
"use strict";
B1K.episode = (function () {
  const h = B1K.h;
  const RATES = [0.25, 0.5, 1, 2, 4, 8];
  const section = () => document.getElementById("view-episode");
  let now = null; // {row, other, player, lanes}
  let wanted = 0; // counts openings, so that one that was slow to load does not come later

  function find(run, name) {
    return B1K.index.episodes.find((row) => row.run === run && row.name === name) || null;
  }

  async function open(parts, query) {
    const row = find(Number(parts[0]), parts[1]);
    const vs = query.get("vs");
    const other = row && vs !== null ? find(Number(vs), parts[1]) : null;
    const step = Number(query.get("step") || 0) || 0;
    if (now && row === now.row && other === now.other) {
      if (step !== now.player.step) {
        now.player.seek(step);
      }
      return;
    }
    close();
    const mine = ++wanted;
    if (!row) {
      section().replaceChildren(h("p", { class: "notice" }, `There is no episode ${parts.join("/")} in this report.`));
      return;
    }
    section().replaceChildren(h("p", { class: "muted" }, "Loading …"));
    const rows = other ? [row, other] : [row];
    let details;
    try {
      details = await Promise.all(rows.map((entry) => B1K.loadDetail(entry.id)));
    } catch (error) {
      if (mine === wanted) {
        section().replaceChildren(heading(row, other), h("p", { class: "notice" },
          `${error.message}. Keep the folder “${B1K.index.folder}” beside this page.`));
      }
      return;
    }
    if (mine === wanted) {
      build(row, other, rows, details, step);
    }
  }

  function close() {
    wanted += 1;
    if (now) {
      now.player.close();
      now = null;
    }
    section().replaceChildren();
  }

  // --- what is shown ----------------------------------------------------------------------------

  function build(row, other, rows, details, step) {
    const tracks = rows.map((entry, i) => new B1K.Player.Track(entry, details[i]));
    const player = new B1K.Player.Player(tracks);
    const lanes = rows.map((entry, i) => new B1K.Lanes(entry, details[i], `run ${B1K.letter(entry.run)}`, player.length));
    const panes = rows.map((entry, i) => pane(entry, details[i], tracks[i], lanes[i], other !== null, player));
    const bar = transport(player);
    section().replaceChildren(heading(row, other), h("div", { class: `bench ${other ? "pair" : "single"}` }, panes), bar.element);
    now = { row, other, player, lanes };
    player.onplay = bar.playing;
    player.onstep = (at) => {
      for (const lane of lanes) {
        lane.show(at);
      }
      bar.show(at);
      remember();
    };
    for (const lane of lanes) {
      lane.onseek = (at) => player.seek(at);
    }
    player.seek(step);
  }

  let timer = 0;
  /** Keep the address at the cursor, not more often than browsers allow. */
  function remember() {
    clearTimeout(timer);
    const then = location.hash;
    timer = setTimeout(() => {
      // One that changed since leads elsewhere, and is not to be taken back.
      if (now && !now.player.playing && location.hash === then) {
        B1K.replaceHash(B1K.list.address(now.row, keep(now.player.step)));
      }
    }, 250);
  }

  function keep(step) {
    const query = {};
    if (now && now.other) {
      query.vs = now.other.run;
    }
    if (step) {
      query.step = step;
    }
    return query;
  }

  function heading(row, other) {
    const [place, count] = B1K.list.place(row.id);
    const rollout = row.rollout ? `, rollout ${row.rollout}` : "";
    const title = h("h1", { tabindex: "-1" }, B1K.runMark(row.run), other ? [" ", B1K.runMark(other.run)] : null,
      ` Instance ${row.instance}${rollout} `, other ? null : B1K.outcome(row.outcome));
    const nav = h("div", { class: "steps-through" },
      step("‹ Previous", "p", -1), h("span", { class: "muted" }, place ? `${place} of ${count}` : "not in the list as filtered"), step("Next ›", "n", 1));
    return h("div", { class: "episode-head" },
      h("a", { class: "back", href: B1K.makeHash("episodes", [], B1K.list.query()) }, "‹ Episodes"), title, beside(row, other), nav);
  }

  function step(text, key, by) {
    const button = h("button", { type: "button", class: "quiet", "aria-keyshortcuts": key }, text);
    button.addEventListener("click", () => go(by));
    return button;
  }

  /** The same episode of another run, to be shown beside this one. */
  function beside(row, other) {
    const same = B1K.index.episodes.filter((entry) => entry.name === row.name && entry.run !== row.run);
    if (!same.length) {
      return null;
    }
    const select = h("select", null, h("option", { value: "" }, "alone"), same.map((entry) =>
      h("option", { value: entry.run, selected: entry === other }, `${B1K.letter(entry.run)}  ${B1K.index.runs[entry.run].name}`)));
    select.addEventListener("change", () => {
      const query = select.value ? { vs: select.value } : {};
      if (now && now.player.step) {
        query.step = now.player.step;
      }
      location.hash = B1K.list.address(row, query);
    });
    return h("label", { class: "beside" }, "Beside ", select);
  }

  function pane(row, detail, track, lanes, pair, player) {
    const screen = h("div", { class: "screen" });
    const missing = row.problems.find((text) => text.startsWith("The video")) || "This episode has no video.";
    screen.append(track.video || h("p", { class: "muted" }, missing));
    track.onfail = (text) => screen.replaceChildren(h("p", { class: "notice" }, text));
    if (track.video) {
      track.video.addEventListener("click", () => player.toggle());
    }
    const caption = pair
      ? h("h2", null, B1K.runMark(row.run), ` ${B1K.index.runs[row.run].name} `, B1K.outcome(row.outcome))
      : null;
    const problems = track.index && row.problems.length && detail.course
      ? h("p", { class: "notice" }, row.problems.join(" "))
      : null;
    return h("article", { class: "pane" }, caption,
      h("div", { class: "left" }, screen, pair ? null : why(row, detail, player)),
      h("div", { class: "right" }, pair ? h("p", { class: "whose", "aria-hidden": "true" }, B1K.runMark(row.run)) : null, problems, lanes.element, pair ? why(row, detail, player) : null, facts(row, detail, player)));
  }

  /** What came of it, and where to look. */
  function why(row, detail, player) {
    const lines = [];
    if (detail.failure) {
      lines.push(h("p", null, h("strong", null, detail.failure.words), ". ", detail.failure.seen, " ",
        jump(player, detail.failure.step)));
    }
    if (detail.message && !(detail.failure && detail.failure.seen.includes(detail.message))) {
      const reason = detail.failure_reason ? `${detail.failure_reason}: ` : "";
      lines.push(h("p", null, `${reason}${detail.message}`));
    }
    if (detail.traceback) {
      lines.push(h("details", null, h("summary", null, "Traceback"), h("pre", { tabindex: "0" }, detail.traceback)));
    }
    return lines.length ? h("div", { class: `why ${row.outcome}` }, lines) : null;
  }

  function jump(player, step) {
    const button = h("button", { type: "button", class: "jump" }, `step ${step}`);
    button.addEventListener("click", () => player.seek(step));
    return button;
  }

  function facts(row, detail, player) {
    const pairs = [
      ["Outcome", B1K.outcome(row.outcome)],
      ["q-score", B1K.number(row.q, 3), "q_score"],
      ["Length", `${row.steps} steps, ${B1K.clock(row.simulated_s)} simulated, ${B1K.seconds(row.wall_s)} wall time`, "steps"],
      ["Inferences", `${row.inferences}, ${B1K.seconds(row.latency_s)} each`, "latency"],
      ["Base path", row.distance_m === null || row.distance_m === undefined ? "-" : `${row.distance_m.toFixed(2)} m`, "distance"],
      ["Seed", String(detail.seed)],
    ];
    const goal = Object.entries(detail.final_predicates).map(([name, holds]) =>
      h("li", null, holds ? "✓ " : "✕ ", name, holds !== detail.initial_predicates[name] ? " (changed)" : ""));
    if (goal.length) {
      pairs.push(["Goal at the end", h("ul", null, goal)]);
    }
    const steps = Object.entries(detail.subgoal_steps);
    if (steps.length) {
      const course = new Map((detail.course ? detail.course.subgoals : []).map((entry) => [entry.name, entry]));
      const label = (name) => (course.has(name) ? course.get(name).label : name);
      const holds = (name) => course.has(name) && course.get(name).spans.some(([, last]) => last >= row.steps);
      const summary = `${row.reached.length} of ${row.subgoals} reached, ${steps.filter(([name]) => holds(name)).length} hold at the end`;
      const line = ([name, first]) => h("li", null, label(name), " ", first === null ? h("span", { class: "muted" }, "never") : jump(player, first),
        first !== null && holds(name) ? " holds at the end" : "");
      pairs.push(["Sub-goals", [summary, h("ul", null, steps.map(line))], "subgoals"]);
    }
    return h("details", { class: "facts-box" }, h("summary", null, "Figures"),
      h("dl", { class: "facts" }, pairs.map(([name, value, tip]) => [h("dt", tip ? { title: B1K.index.tips[tip] } : null, name), h("dd", null, value)])));
  }

  // --- transport --------------------------------------------------------------------------------

  function transport(player) {
    const make = (text, label, keys, action) => {
      const button = h("button", { type: "button", "aria-label": label, title: `${label} (${keys})` }, text);
      button.addEventListener("click", action);
      return button;
    };
    const play = make("▶", "Play", "space", () => player.toggle());
    play.classList.add("primary");
    const place = h("output", { class: "place", "aria-live": "off" });
    const rate = h("select", { "aria-label": "Speed" }, RATES.map((value) =>
      h("option", { value, selected: value === 1 }, `${value}×`)));
    rate.addEventListener("change", () => player.setRate(Number(rate.value)));
    const element = h("div", { class: "transport", role: "toolbar", "aria-label": "Playback" },
      play, make("‹", "One picture back", "←", () => player.frames(-1)), make("›", "One picture on", "→", () => player.frames(1)),
      place, rate,
      h("span", { class: "zoom" },
        make("−", "Timelines wider", "-", () => zoom(0.5)), make("+", "Timelines closer", "+", () => zoom(2)), make("All", "All of the timelines", "0", () => zoom(0))));
    return {
      element,
      show(step) {
        place.textContent = `step ${step} of ${player.length}   ${B1K.clock(step / B1K.RATE)}`;
      },
      playing(on) {
        play.textContent = on ? "❚❚" : "▶";
        play.setAttribute("aria-label", on ? "Pause" : "Play");
      },
    };
  }

  function zoom(factor) {
    for (const lane of now.lanes) {
      lane.zoom(factor);
    }
  }

  /** To another episode of the list; the run beside stays, where it has that episode, too. */
  function go(by) {
    const { parts, query } = B1K.readHash(); // not `now`, which may still be loading
    const row = find(Number(parts[0]), parts[1]);
    const next = row && B1K.list.neighbour(row.id, by);
    if (next) {
      const vs = query.get("vs");
      const same = vs !== null && Number(vs) !== next.run && find(Number(vs), next.name);
      location.hash = B1K.list.address(next, same ? { vs } : {});
    }
  }

  const SECOND = B1K.RATE;
  const VIEW_KEYS = {
    n: () => go(1),
    p: () => go(-1),
    Escape: () => (location.hash = B1K.makeHash("episodes", [], B1K.list.query())),
  };
  const PLAYER_KEYS = {
    " ": (player) => player.toggle(),
    ArrowLeft: (player, shift) => (shift ? player.seek(player.step - SECOND) : player.frames(-1)),
    ArrowRight: (player, shift) => (shift ? player.seek(player.step + SECOND) : player.frames(1)),
    Home: (player) => player.seek(0),
    End: (player) => player.seek(player.length),
    "+": () => zoom(2),
    "-": () => zoom(0.5),
    0: () => zoom(0),
  };

  /** Whether the key was one of ours. */
  function key(event) {
    if (VIEW_KEYS[event.key]) {
      VIEW_KEYS[event.key]();
    } else if (now && PLAYER_KEYS[event.key]) {
      PLAYER_KEYS[event.key](now.player, event.shiftKey);
    } else {
      return false;
    }
    return true;
  }

  return { open, close, key };
})();

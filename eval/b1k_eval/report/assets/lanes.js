// The timelines of one episode. Time runs in control steps; what is drawn is stretched by the SVG's
// own coordinates, so that nothing has to be drawn again when the window or the zoom changes.
"use strict";
B1K.Lanes = (function () {
  const h = B1K.h;

  /**
   * Lanes of an episode: `element` to show, `show(step)` to move the cursor, `onseek(step)`. They are
   * `length` steps long, so that those of two episodes can be read off one another.
   */
  class Lanes {
    constructor(row, detail, name, length) {
      this.row = row;
      this.steps = Math.max(1, length);
      this.course = detail.course;
      this.readers = [];
      this.svgs = [];
      this.onseek = () => {};
      this.cursor = h("div", { class: "cursor" });
      this.area = h("div", { class: "lanes", role: "group", "aria-label": `Timelines, ${name}` });
      this.ticks = h("div", {
        class: "plot axis-ticks", role: "slider", tabindex: "0", "aria-label": `Control step, ${name}`,
        "aria-valuemin": "0", "aria-valuemax": String(row.steps),
      });
      this.area.append(h("div", { class: "lane axis" },
        h("div", { class: "lane-name" }, "Time"), this.ticks, h("div", { class: "lane-value" })));
      this.build(row, detail);
      this.area.style.setProperty("--end", row.steps);
      this.area.append(this.cursor);
      this.element = this.area;
      this.readers.push((step) => {
        this.area.querySelector(".axis .lane-value").textContent = B1K.clock(step / B1K.RATE);
      });
      this.window(0, this.steps);
      this.listen();
    }

    build(row, detail) {
      if (!this.course) {
        const why = row.problems.length ? row.problems.join(" ") : "No step was executed.";
        this.area.append(h("p", { class: "notice" }, why));
        return;
      }
      const course = this.course;
      if (course.skills.length) {
        this.add("skill", "Skill", "skill", this.skillBand(course.skills), (step) => {
          const found = course.skills.find(([from, to]) => from <= step && step <= to);
          const sure = B1K.at(course.skill_prob, step);
          return found ? `${skillName(found)}${sure === null ? "" : ` ${Math.round(100 * sure)} %`}` : "-";
        });
      }
      for (const [name, { label, changes }] of Object.entries(course.curves)) {
        if (changes.some(([, value]) => value !== null)) {
          this.add("curve", label, name, this.curve(changes, name), (step) => B1K.number(B1K.at(changes, step), 2));
        }
      }
      for (const entry of course.predicates) {
        this.truth(entry, "predicate", detail.initial_predicates[entry.name]);
      }
      for (const entry of course.subgoals) {
        this.truth(entry, "subgoal", detail.subgoal_steps[entry.name] === 0);
      }
      this.latency(course.latency);
      if (detail.failure) {
        const mark = h("div", { class: "mark", "--at": detail.failure.step, title: detail.failure.seen });
        this.area.append(mark);
      }
    }

    add(kind, label, key, plot, read) {
      const value = h("div", { class: "lane-value" });
      this.area.append(h("div", { class: `lane ${kind}`, "data-lane": key },
        h("div", { class: "lane-name", title: label }, label), h("div", { class: "plot" }, plot), value));
      if (read) {
        this.readers.push((step) => {
          const text = read(step);
          if (value.textContent !== text) {
            value.textContent = text;
          }
        });
      }
    }

    svg(top, height, ...children) {
      const element = h("svg", { preserveAspectRatio: "none", "aria-hidden": "true" }, children);
      this.svgs.push([element, top, height]);
      return element;
    }

    skillBand(skills) {
      const rects = skills.map(([from, to, name, number]) =>
        h("rect", { x: from - 1, y: 0, width: to - from + 1, height: 1, class: `skill-${shade(name, number)}` }));
      // A label needs room: those of short stretches only show in the value at the cursor.
      const labels = skills
        .filter(([from, to]) => (to - from + 1) / this.steps > 0.004)
        .map((skill) => h("span", { class: "band-label", "--from": skill[0] - 1, "--to": skill[1] }, skillName(skill)));
      return [this.svg(0, 1, rects), ...labels];
    }

    curve(changes, kind) {
      let path = "";
      let open = false;
      const most = Math.max(1, ...changes.map(([, value]) => value ?? 0));  // shares have the whole height
      changes.forEach(([step, value], i) => {
        const end = i + 1 < changes.length ? changes[i + 1][0] - 1 : this.row.steps;
        if (value === null) {
          open = false;
          return;
        }
        path += `${open ? "L" : "M"}${step - 1} ${1 - value / most}H${end}`;
        open = true;
      });
      return [this.svg(-0.06, 1.12, h("path", { class: `line ${kind}`, d: path }))];
    }

    truth(entry, kind, initially) {
      const rects = entry.spans.map(([from, to]) =>
        h("rect", { x: from - 1, y: 0.12, width: to - from + 1, height: 0.76 }));
      this.add(`truth ${kind}`, entry.label, `${kind}:${entry.name}`, [this.svg(0, 1, rects)], (step) => {
        const holds = step === 0 ? initially : entry.spans.some(([from, to]) => from <= step && step <= to);
        return holds ? "yes" : "no";
      });
    }

    latency(inferences) {
      if (!inferences.length) {
        return;
      }
      const known = inferences.filter(([, value]) => value !== null);
      const most = Math.max(1e-9, ...known.map(([, value]) => value));
      const stems = known.map(([step, value]) => `M${step - 1} 1V${1 - value / most}`).join("");
      if (known.length) {
        this.add("curve", `Latency ≤ ${B1K.seconds(most)}`, "latency",
          [this.svg(-0.06, 1.06, h("path", { class: "line stems", d: stems }))],
          (step) => B1K.seconds(B1K.at(inferences, step)));
      }
      const marks = inferences.map(([step]) => `M${step - 1} 0V1`).join("");
      this.add("ticks", "Inferences", "inference", [this.svg(0, 1, h("path", { class: "line ticks", d: marks }))],
        (step) => String(inferences.filter(([at]) => at <= step).length));
    }

    // --- zoom and cursor ------------------------------------------------------------------------

    /** Show the steps from `start`, as many as `span`. */
    window(start, span) {
      this.span = Math.min(this.steps, Math.max(30, span));
      this.from = Math.min(Math.max(0, start), this.steps - this.span);
      this.area.style.setProperty("--x0", this.from);
      this.area.style.setProperty("--span", this.span);
      for (const [svg, top, height] of this.svgs) {
        svg.setAttribute("viewBox", `${this.from} ${top} ${this.span} ${height}`);
      }
      const seconds = this.span / B1K.RATE;
      const every = [0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600].find((s) => seconds / s <= 8) || 1200;
      const ticks = [];
      for (let t = Math.ceil(this.from / B1K.RATE / every) * every; t * B1K.RATE <= this.from + this.span; t += every) {
        ticks.push(h("span", { class: "tick", "--at": t * B1K.RATE }, every < 1 ? B1K.clock(t) : B1K.clock(t).replace(/\.0$/, "")));
      }
      this.ticks.replaceChildren(...ticks);
    }

    /** Zoom around the cursor; 0 shows everything. */
    zoom(factor) {
      const span = factor === 0 ? this.steps : this.span / factor;
      const share = (this.step - this.from) / this.span;
      this.window(this.step - share * span, span);
      this.show(this.step);
    }

    /** Move the cursor. */
    show(step) {
      this.step = Math.min(step, this.steps);
      if (this.span < this.steps && (this.step < this.from || this.step > this.from + this.span)) {
        this.window(this.step - this.span / 10, this.span);
      }
      this.area.style.setProperty("--at", this.step);
      const here = Math.min(this.step, this.row.steps); // it stays as it ended
      this.ticks.setAttribute("aria-valuenow", String(here));
      const time = B1K.clock(this.step / B1K.RATE);
      this.ticks.setAttribute("aria-valuetext", `step ${here} of ${this.row.steps}, ${time}`);
      for (const read of this.readers) {
        read(here);
      }
    }

    listen() {
      let dragging = false;
      const seek = (event) => {
        const box = this.ticks.getBoundingClientRect();
        const share = (event.clientX - box.left) / box.width;
        const step = Math.round(this.from + share * this.span);
        this.onseek(Math.min(Math.max(step, 0), this.steps));
      };
      this.area.addEventListener("pointerdown", (event) => {
        const box = this.ticks.getBoundingClientRect();
        if (event.button === 0 && event.clientX >= box.left - 4 && event.clientX <= box.right + 4) {
          dragging = true;
          this.area.setPointerCapture(event.pointerId);
          seek(event);
        }
      });
      this.area.addEventListener("pointermove", (event) => dragging && seek(event));
      for (const kind of ["pointerup", "pointercancel"]) {
        this.area.addEventListener(kind, () => (dragging = false));
      }
    }
  }

  function skillName([, , name, number]) {
    return name === null ? `skill ${number}` : name;
  }

  /** One of the style sheet's shades, the same for the same skill in every episode. */
  function shade(name, number) {
    return (name === null ? number : B1K.index.skills.indexOf(name)) % 8;
  }

  return Lanes;
})();

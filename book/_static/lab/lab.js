/* The Momentum Lab: drag step size and momentum, and see at once what four methods do.
 *
 * Every <figure class="momentum-lab lab-begin-NAME"> becomes a Lab that begins with the example
 * NAME; its picture stays for paper and for browsers without scripts. It rests on examples.js,
 * arithmetic.js and plots.js.
 */
"use strict";

(function () {
  const { natural: NATURAL, examples: EXAMPLES } = NGS_LAB_EXAMPLES;
  const { html, svg, Plot, linear, logarithmic, pretty } = NgsPlots;
  const NAMES = {
    gradient_descent: "Gradient descent",
    heavy_ball: "Heavy ball",
    nesterov: "Nesterov",
    ngs: "NGS with its factor",
  };
  const IN_TEXT = Object.assign({}, NAMES, {
    gradient_descent: "gradient descent", heavy_ball: "heavy ball",
  });
  const FUNCTIONS = {
    quadratic: "Quadratic valley",
    rosenbrock: "Rosenbrock's bent valley",
    lessard: "Lessard, Recht and Packard's",
  };
  const RESTARTS = { none: "never", function: "when the value rises", gradient: "when it moves uphill" };
  const SCHEDULES = { constant: "constant, from the slider", nesterov: "Nesterov's sequence" };
  const WINDOWS = {
    quadratic: { x: [-2.4, 2.4], y: [-1.6, 1.6], scale: 0.02 },
    rosenbrock: { x: [-2, 2], y: [-1, 3], scale: 0.3 },
    lessard: { x: [-4.2, 4.2], y: [-20, 170], scale: 1 },
  };
  const LIMITS = {
    kappa: [1, 1000], eta: [0.001, 4], beta: [0, 0.995], noise: [0, 3], steps: [10, 500], seed: [0, 99999],
  };
  const dark = () => document.documentElement.dataset.theme === "dark";
  const clamp = (name, value) => Math.min(LIMITS[name][1], Math.max(LIMITS[name][0], value));
  const DIGIT = [3, 10, 30, 100, 300, 1000];
  const DIGIT_COLORS = [
    [253, 231, 37], [160, 218, 57], [74, 193, 109], [31, 161, 135], [39, 127, 142], [54, 92, 141],
    [70, 50, 126],
  ];
  const diverging = () => (dark() ? [58, 62, 70] : [214, 216, 221]);
  const BANDS = 15;

  function bandColors() {
    const ends = dark() ? [[74, 98, 128], [20, 25, 32]] : [[255, 255, 255], [160, 186, 217]];
    return Array.from({ length: BANDS }, (_, i) => {
      const share = i / (BANDS - 1);
      return [0, 1, 2].map((c) => ends[0][c] + share * (ends[1][c] - ends[0][c])).concat(255);
    });
  }

  const isoline = () => (dark() ? [104, 130, 163, 255] : [128, 158, 194, 255]);

  let count = 0;

  class Lab {
    constructor(figure, example) {
      this.id = "lab-" + ++count;
      this.figure = figure;
      this.box = html("div", { class: "lab", role: "group", "aria-label": "Momentum Lab" });
      this.head();
      this.grid = html("div", { class: "lab-grid-box" });
      this.box.append(this.grid);
      const plot = (options) => new Plot(this.grid, options);
      this.path = plot({
        name: "path", title: "Path", x: "θ₁", y: "θ₂", aspect: 0.72, shaded: true,
      });
      this.loss = plot({ name: "loss", title: "Gap", x: "step", y: "f(θ) − f*", aspect: 0.72 });
      this.controls();
      this.map = plot({
        name: "map", title: "Rate", x: "step size, in units of 1/L", y: "momentum β", aspect: 0.66,
        shaded: true,
      });
      this.key = html("ul", { class: "lab-key", "aria-label": "Steps for one more digit" });
      this.map.box.append(this.key);
      this.parts = plot({
        name: "parts", title: "Components", x: "step", y: "distance", aspect: 0.66,
      });
      this.rate = plot({
        name: "rate", title: "Learning rate that NGS takes", x: "step", y: "η · factor", aspect: 0.5,
      });
      this.rows = html("div", { class: "lab-rows lab-plot", tabindex: "0", role: "group" });
      this.rows.setAttribute("aria-label", "Results as a table");
      this.grid.append(this.rows);
      this.said = html("output", { class: "lab-said", "aria-live": "polite" });
      this.box.append(this.said);
      this.path.handle("Start of all paths", (x, y) => this.change({ x, y }));
      this.map.handle("Step size and momentum", (x, y) =>
        this.change({ eta: clamp("eta", x), beta: clamp("beta", y) })
      );
      figure.prepend(this.box);
      figure.classList.add("lab-alive");
      this.begin(example);
      new ResizeObserver(() => this.later()).observe(this.box);
      new MutationObserver(() => this.later()).observe(document.documentElement, {
        attributes: true, attributeFilter: ["data-theme"],
      });
    }

    // --- what is seen above and below the plots -------------------------------------------------

    head() {
      this.example = this.choice("Example", {});
      this.example.select.replaceChildren(
        ...Object.entries(EXAMPLES).map(([name, { title }]) => html("option", { value: name }, title))
      );
      this.example.select.addEventListener("change", () => this.begin(this.example.select.value));
      this.example.label.className = "lab-said";
      this.link = html("button", { type: "button" }, "Copy link");
      this.link.addEventListener("click", () => this.share());
      const again = html("button", { type: "button" }, "Start again");
      again.addEventListener("click", () => this.begin(this.began));
      this.play = html("button", { type: "button" }, "Play");
      this.play.addEventListener("click", () => this.playing());
      this.play.hidden = matchMedia("(prefers-reduced-motion: reduce)").matches;
      const name = html("p", { class: "lab-name" }, "Momentum Lab");
      this.story = html("p", { class: "lab-story" });
      this.box.append(
        html(
          "div", { class: "lab-head" },
          name, this.example.label, this.example.select, this.play, again, this.link
        ),
        this.story
      );
    }

    choice(text, options, changed) {
      const id = this.id + "-" + text.toLowerCase().replace(/[^a-z]+/g, "-");
      const select = html("select", { id });
      for (const [value, words] of Object.entries(options)) {
        select.append(html("option", { value }, words));
      }
      if (changed) select.addEventListener("change", () => changed(select.value));
      return { select, label: html("label", { for: id }, text) };
    }

    controls() {
      const box = html("div", { class: "lab-controls" });
      const add = (...children) => box.append(html("div", { class: "lab-control" }, ...children));
      const slider = (name, text, scale, say) => {
        const id = this.id + "-" + name;
        const input = html("input", { type: "range", id, min: 0, max: 1000, step: 1 });
        const output = html("output", { for: id });
        input.addEventListener("input", () => {
          this.change({ [name]: scale.round(scale.value(input.value / 1000)) });
        });
        add(html("label", { for: id }, text), output, input);
        return {
          show: (value) => {
            input.value = Math.round(1000 * scale.place(value));
            output.textContent = say(value);
            input.setAttribute("aria-valuetext", say(value));
          },
          input,
        };
      };
      const digits = (n) => (x) => Number(x.toPrecision(n));
      const scaleOf = (kind, name, round) => Object.assign(kind(...LIMITS[name]), { round });
      const choose = (name, text, options) => {
        const { select, label } = this.choice(text, options, (value) => this.change({ [name]: value }));
        add(label, select);
        return { show: (value) => (select.value = value), input: select };
      };
      const places = (n) => (x) => Number(x.toFixed(n));
      this.fields = {
        eta: slider("eta", "Step size η", scaleOf(logarithmic, "eta", digits(3)), (v) => this.sayStep(v)),
        beta: slider("beta", "Momentum β", scaleOf(linear, "beta", places(3)), (v) => places(3)(v)),
        kappa: slider("kappa", "Condition κ", scaleOf(logarithmic, "kappa", digits(2)), (v) => pretty(v, 3)),
        noise: slider("noise", "Gradient noise σ", scaleOf(linear, "noise", places(2)), (v) => places(2)(v)),
        steps: slider("steps", "Steps", scaleOf(logarithmic, "steps", Math.round), (v) => Math.round(v)),
        f: choose("f", "Function", FUNCTIONS),
        schedule: choose("schedule", "Momentum (Nesterov, NGS)", SCHEDULES),
        restart: choose("restart", "Restart", RESTARTS),
        show: choose("show", "Rate and components of", {
          gradient_descent: NAMES.gradient_descent, heavy_ball: NAMES.heavy_ball, nesterov: NAMES.nesterov,
        }),
      };
      const dice = html("button", { type: "button" }, "Draw new noise");
      dice.addEventListener("click", () => this.change({ seed: (this.state.seed + 1) % 1000 }));
      this.fields.noise.input.after(dice);
      dice.style.gridColumn = "1 / -1";
      this.dice = dice;
      this.boxes = {};
      const methods = html("fieldset", { class: "lab-methods" }, html("legend", {}, "Methods"));
      for (const [name, words] of Object.entries(NAMES)) {
        const input = html("input", { type: "checkbox" });
        input.addEventListener("change", () => {
          const on = Object.keys(NAMES).filter((n) => this.boxes[n].checked);
          this.change({ on });
        });
        this.boxes[name] = input;
        const line = svg("line", { class: "lab-line lab-of-" + name, x1: 0, x2: 34, y1: 6, y2: 6 });
        methods.append(html("label", {}, input, svg("svg", { "aria-hidden": "true" }, line), words));
      }
      box.append(methods);
      this.grid.append(box);
    }

    // --- state ----------------------------------------------------------------------------------

    begin(name) {
      this.began = Object.hasOwn(EXAMPLES, name) ? name : "valley";
      const example = EXAMPLES[this.began];
      this.example.select.value = this.began;
      this.story.textContent = example.story;
      this.state = Object.assign({}, NATURAL, example.set);
      this.later();
    }

    change(values) {
      if (values.f && values.f !== this.state.f) {
        const at = { quadratic: [-1.8, 0.9], rosenbrock: [-1.2, 1], lessard: [3.3, 0] }[values.f];
        values = Object.assign({ x: at[0], y: at[1] }, values);
      }
      this.stop();
      this.state = Object.assign({}, this.state, values);
      this.later();
    }

    /** Draw before the next frame, once, however much has changed. */
    later() {
      if (!this.due) this.due = requestAnimationFrame(() => this.draw());
    }

    playing() {
      if (this.shown !== undefined) return this.stop(true);
      this.shown = 0;
      this.play.textContent = "Stop";
      const tick = () => {
        if (this.shown === undefined) return;
        this.shown += Math.max(1, Math.round(this.state.steps / 150));
        if (this.shown >= this.state.steps) return this.stop(true);
        this.draw();
        requestAnimationFrame(tick);
      };
      return requestAnimationFrame(tick);
    }

    stop(draw) {
      this.shown = undefined;
      this.play.textContent = "Play";
      if (draw) this.later();
    }

    /** The values as they stand in a link. */
    words() {
      const words = new URLSearchParams();
      for (const name of Object.keys(NATURAL)) {
        const value = this.state[name];
        words.set(name, Array.isArray(value) ? value.join(".") : String(value));
      }
      return "#lab:" + words.toString();
    }

    /** Take values from a link; what does not fit is left out. */
    read(words) {
      const given = new URLSearchParams(words.replace(/^#lab:/, ""));
      const found = {};
      const among = { f: FUNCTIONS, schedule: SCHEDULES, restart: RESTARTS, show: NAMES };
      for (const [name, value] of given) {
        if (among[name] && Object.hasOwn(among[name], value)) found[name] = value;
        const number = Number(value);
        if (LIMITS[name] && value !== "" && Number.isFinite(number)) found[name] = clamp(name, number);
        if ((name === "x" || name === "y") && value !== "" && Number.isFinite(number)) found[name] = number;
        if (name === "on") found.on = value.split(".").filter((n) => Object.hasOwn(NAMES, n));
      }
      if (found.show === "ngs") delete found.show;
      this.story.textContent = "Values from a link.";
      this.state = Object.assign({}, this.state, found);
      const window = WINDOWS[this.state.f];
      this.state.x = Math.min(window.x[1], Math.max(window.x[0], this.state.x));
      this.state.y = Math.min(window.y[1], Math.max(window.y[0], this.state.y));
      for (const name of ["steps", "seed"]) this.state[name] = Math.round(this.state[name]);
      this.later();
    }

    async share() {
      const words = this.words();
      let said = "The address bar has the link";
      history.replaceState(null, "", words);
      try {
        await navigator.clipboard.writeText(location.href);
        said = "Link copied";
      } catch (error) {
        // A browser that allows no copying still has the link in its address bar.
      }
      this.link.textContent = said;
      setTimeout(() => (this.link.textContent = "Copy link"), 2500);
    }

    // --- drawing --------------------------------------------------------------------------------

    sayStep(eta) {
      const f = this.problem();
      return `${pretty(eta, 3)}/L = ${pretty(eta / f.spectrum[1], 3)}`;
    }

    problem() {
      return NgsLab.problem(this.state.f, this.state.kappa);
    }

    run(name) {
      const { state, f } = this;
      return NgsLab.run({
        method: name,
        f,
        theta: f.dimension === 1 ? [state.x] : [state.x, state.y],
        lr: state.eta / f.spectrum[1],
        momentum:
          state.schedule === "nesterov" && name !== "heavy_ball" ? "nesterov" : state.beta,
        steps: state.steps,
        restart: state.restart,
        noise: state.noise,
        seed: state.seed,
      });
    }

    draw() {
      cancelAnimationFrame(this.due);
      this.due = 0;
      const { state } = this;
      this.f = this.problem();
      this.runs = {};
      for (const name of state.on) this.runs[name] = this.run(name);
      this.fields.kappa.input.disabled = state.f !== "quadratic";
      const kappa = this.f.spectrum[1] / this.f.spectrum[0];
      for (const [name, field] of Object.entries(this.fields)) {
        field.show(name === "kappa" ? Math.min(1000, kappa) : state[name]);
      }
      this.dice.hidden = !(state.noise > 0);
      for (const [name, input] of Object.entries(this.boxes)) input.checked = state.on.includes(name);
      const learns = state.on.includes("ngs");
      this.rate.box.hidden = !learns;
      this.grid.classList.toggle("lab-without-rate", !learns);
      this.drawPath();
      this.drawLoss();
      this.drawMap();
      this.drawParts();
      if (learns) this.drawRate();
      this.drawRows();
      this.tell();
    }

    /** The part of a course that is shown; all of it unless it is being played. */
    part(course) {
      return this.shown === undefined ? course : course.slice(0, this.shown + 1);
    }

    drawPath() {
      const { state, f, path } = this;
      const window = WINDOWS[state.f];
      const line = f.dimension === 1;
      path.options.x = line ? "θ" : "θ₁";
      path.options.y = line ? "f(θ)" : "θ₂";
      path.title.textContent = line ? "Function and iterates" : "Path on the map of f";
      if (!path.frame(linear(...window.x), linear(...window.y))) return;
      const worst = Math.log1p(120 / window.scale);
      const band = (value) =>
        Math.min(BANDS - 1, Math.floor((BANDS * Math.log1p(value / window.scale)) / worst));
      const flat = dark() ? [20, 24, 30, 255] : [255, 255, 255, 255];
      if (line) path.shade("line", () => 0, [flat]);
      else path.shade(state.f + state.kappa, (x, y) => band(f.value([x, y])), bandColors(), isoline());
      const curve = (x) => [x, f.value([x])];
      if (line) {
        const all = Array.from({ length: 121 }, (_, i) => curve(-4.2 + 0.07 * i));
        path.path(all, "lab-guide");
      }
      for (const [name, run] of Object.entries(this.runs)) {
        const points = this.part(run.iterates).map((p) => (line ? curve(p[0]) : p));
        path.path(points, "lab-of-" + name, 40);
      }
      path.sign("star", ...(line ? [0, 0] : f.minimizer), "lab-best", "minimum");
      const at = line ? curve(state.x) : [state.x, state.y];
      const where = at.slice(0, f.dimension).map((v) => v.toFixed(2)).join(", ");
      path.put(at[0], at[1], `start at ${where}`);
      path.svg.setAttribute(
        "aria-label",
        `Paths from ${where} on ${FUNCTIONS[state.f]}: ${this.inWords()}`
      );
    }

    /** The proved bounds of what is shown: [method, bound of k steps, what it asks for, whether so]. */
    bounds() {
      const { state, f } = this;
      if (f.L === null) return [];
      const start = f.dimension === 1 ? [state.x] : [state.x, state.y];
      const apart = NgsLab.subtract(start, f.minimizer);
      const R = Math.sqrt(NgsLab.dot(apart, apart));
      const exact = Math.abs(state.eta - 1) < 0.005 && state.noise === 0;
      const found = [];
      const add = (name, kind, asks, holds) =>
        found.push({
          name, asks, holds: exact && holds, at: (k) => NgsLab.BOUNDS[kind](k, f.L, R, f.mu),
        });
      if (state.on.includes("gradient_descent")) {
        add("gradient_descent", "gradient_descent", "η = 1/L", true);
      }
      if (state.on.includes("nesterov") && state.schedule === "nesterov") {
        add("nesterov", "nesterov", "η = 1/L, no restart", state.restart === "none");
      } else if (state.on.includes("nesterov")) {
        const beta = NgsLab.stronglyConvexMomentum(f.L / f.mu);
        const near = Math.abs(state.beta - beta) < 0.003 && state.restart === "none";
        add("nesterov", "strongly_convex", `η = 1/L, β = ${beta.toFixed(3)}`, near);
      }
      return found;
    }

    drawLoss() {
      const { state, loss } = this;
      const gaps = Object.values(this.runs).map((run) => run.values);
      const first = gaps.length ? gaps[0][0] : 1;
      const smallest = Math.min(first / 10, ...gaps.map((g) => Math.min(...g.filter((v) => v > 0))));
      const low = Math.max(smallest / 2, first * 1e-16, 1e-300);
      const high = Math.min(
        1e3 * first,
        3 * Math.max(first, ...gaps.map((g) => Math.max(...g.map((v) => (Number.isFinite(v) ? v : 0)))))
      );
      loss.title.textContent = "Gap to the minimum, step by step";
      if (!loss.frame(linear(0, state.steps), logarithmic(low, high))) return;
      for (const bound of this.bounds()) {
        const points = [];
        for (let k = 1; k <= state.steps; k++) points.push([k, bound.at(k)]);
        const pale = bound.holds ? "" : " lab-elsewhere";
        loss.path(points, `lab-of-${bound.name} lab-bound${pale}`);
        const k = Math.max(2, Math.round(state.steps * 0.97));
        const said = bound.holds ? "proved bound" : `bound for ${bound.asks}`;
        if (bound.at(k) > low) loss.note(said, k, bound.at(k), pale);
      }
      for (const [name, run] of Object.entries(this.runs)) {
        const values = this.part(run.values);
        loss.path(values.map((v, t) => [t, v > 0 ? v : low / 10]), "lab-of-" + name);
        for (const t of run.restarts.filter((t) => t + 1 < values.length).slice(0, 60)) {
          loss.sign("triangle", t + 1, values[t + 1], "lab-of-" + name, `restart after step ${t}`);
        }
      }
      loss.svg.setAttribute("aria-label", `Gap against the step: ${this.inWords()}`);
    }

    drawMap() {
      const { state, f, map } = this;
      const kappa = f.spectrum[1] / f.spectrum[0];
      const exact = state.f === "quadratic" ? "" : " (a guide only: this is no quadratic)";
      map.title.textContent = `Rate of ${IN_TEXT[state.show]} on quadratics, κ = ${pretty(kappa, 3)}${exact}`;
      if (!map.frame(logarithmic(...LIMITS.eta), linear(0, 1))) return;
      const unit = [1 / kappa, 1];
      const level = (eta, beta) => {
        const rho = NgsLab.rate(state.show, unit, eta, beta);
        if (rho >= 1) return DIGIT.length + 1;
        const steps = -Math.LN10 / Math.log(rho);
        const place = DIGIT.findIndex((limit) => steps <= limit);
        return place < 0 ? DIGIT.length : place;
      };
      const colors = [...DIGIT_COLORS, diverging()].map((c) => [...c, 255]);
      map.shade(state.show + kappa, level, colors);
      const best = NgsLab.heavyBallOptimum(1, 1 / kappa);
      if (state.show === "heavy_ball") map.sign("star", best.lr, best.momentum, "lab-best", "best pair");
      if (state.show === "nesterov") {
        const pair = NgsLab.stronglyConvexMomentum(kappa);
        map.sign("star", 1, pair, "lab-best", "the pair with the proof");
      }
      const rho = NgsLab.rate(state.show, unit, state.eta, state.beta);
      const said = rho < 1 ? `rate ${rho.toFixed(4)} a step` : "diverges";
      map.put(state.eta, state.beta, `step size ${pretty(state.eta, 3)} over L, momentum ${state.beta}: ${said}`);
      map.svg.setAttribute("aria-label", `Map of the rate of ${IN_TEXT[state.show]}; here it ${rho < 1 ? "has the " + said : said}`);
      const words = [...DIGIT.map((n) => "≤ " + n), "more", "diverges"];
      this.key.replaceChildren(
        html("li", {}, "steps a digit:"),
        ...words.map((word, i) => {
          const swatch = html("i", { "aria-hidden": "true" });
          swatch.style.background = `rgb(${colors[i].slice(0, 3).join(" ")})`;
          return html("li", {}, swatch, word);
        })
      );
    }

    drawParts() {
      const { state, f, parts } = this;
      const name = state.show;
      const run = this.runs[name] || this.run(name);
      const course = this.part(run.iterates).map((p) => {
        const apart = NgsLab.subtract(p, f.minimizer);
        return f.axes.map((axis) => Math.abs(NgsLab.dot(axis, apart)));
      });
      const all = course.flat().filter((v) => v > 0 && Number.isFinite(v));
      const first = Math.max(...course[0], 1e-3);
      const low = Math.max(1e-12, Math.min(first / 10, ...all));
      const high = Math.min(1e3 * first, 3 * Math.max(first, ...all));
      parts.title.textContent =
        f.dimension === 1
          ? `Distance to the minimiser: ${IN_TEXT[name]}`
          : `Along the flat and the steep direction: ${IN_TEXT[name]}`;
      if (!parts.frame(linear(0, state.steps), logarithmic(low, high))) return;
      const kinds = f.dimension === 1 ? ["lab-flat"] : ["lab-flat", "lab-steep"];
      kinds.forEach((kind, i) => {
        parts.path(course.map((c, t) => [t, Math.max(c[i], low / 10)]), kind);
      });
      if (f.dimension === 2) {
        const at = (share) => Math.min(course.length - 1, Math.round(share * state.steps));
        const [a, b] = [at(0.3), at(0.12)];
        parts.note("flat, λ = " + pretty(f.spectrum[0], 3), a, Math.max(course[a][0], low), "", "start");
        parts.note("steep, λ = " + pretty(f.spectrum[1], 3), b, Math.max(course[b][1], low), "", "start");
      }
      parts.svg.setAttribute("aria-label", parts.title.textContent);
    }

    drawRate() {
      const { state, f, rate } = this;
      const taken = this.part(this.runs.ngs.rates).filter((v) => v > 0);
      const given = state.eta / f.spectrum[1];
      const edge = 2 / f.spectrum[1];
      const ends = [...taken, given, edge];
      if (!rate.frame(linear(0, state.steps), logarithmic(Math.min(...ends) / 2, 2 * Math.max(...ends)))) {
        return;
      }
      for (const [value, words] of [[given, "η of the slider"], [edge, "2/L"]]) {
        rate.path([[0, value], [state.steps, value]], "lab-guide");
        rate.note(words, state.steps, value, "");
      }
      rate.path(taken.map((v, t) => [t, v]), "lab-of-ngs");
      const last = taken.length ? pretty(taken[taken.length - 1], 2) : "0";
      rate.svg.setAttribute("aria-label", `Learning rate of NGS against the step; at the end ${last}`);
    }

    ending(run) {
      return run.diverged || !(run.values[run.values.length - 1] < Infinity)
        ? "diverges"
        : pretty(run.values[run.values.length - 1], 2);
    }

    drawRows() {
      const { state } = this;
      const head = ["Method", `Gap after ${state.steps} steps`, "Steps to a millionth", "Rate a step"];
      const table = html(
        "table", {},
        html("caption", {}, "What came of it"),
        html("thead", {}, html("tr", {}, ...head.map((h) => html("th", { scope: "col" }, h))))
      );
      const body = html("tbody", {});
      for (const [name, run] of Object.entries(this.runs)) {
        const arrived = run.values.findIndex((v) => v <= 1e-6 * run.values[0]);
        const fixed = name !== "ngs" && state.schedule === "constant" && state.f !== "rosenbrock";
        const known = fixed || name === "heavy_ball" || name === "gradient_descent";
        const rho = known && NgsLab.rate(name, this.f.spectrum, state.eta / this.f.spectrum[1], state.beta);
        const cells = [
          this.ending(run),
          arrived < 0 ? "–" : String(arrived),
          !known || state.f !== "quadratic" ? "–" : rho < 1 ? rho.toFixed(4) : "≥ 1",
        ];
        body.append(
          html("tr", {}, html("th", { scope: "row" }, NAMES[name]), ...cells.map((c) => html("td", {}, c)))
        );
      }
      table.append(body);
      this.rows.replaceChildren(table);
    }

    inWords() {
      const parts = Object.entries(this.runs).map(([name, run]) => {
        const end = this.ending(run);
        return `${IN_TEXT[name]} ${end === "diverges" ? end : "ends at a gap of " + end}`;
      });
      return parts.length ? parts.join(", ") : "no method is chosen";
    }

    /** Say to a screen reader what came of it, when the hand has come to rest. */
    tell() {
      clearTimeout(this.telling);
      this.telling = setTimeout(() => {
        const { state } = this;
        this.said.textContent = `After ${state.steps} steps with step size ${pretty(state.eta, 3)} over L and momentum ${state.beta}: ${this.inWords()}.`;
      }, 700);
    }
  }

  function wake() {
    const labs = [];
    for (const figure of document.querySelectorAll("figure.momentum-lab")) {
      const named = [...figure.classList].find((name) => name.startsWith("lab-begin-"));
      labs.push(new Lab(figure, named ? named.slice("lab-begin-".length) : "valley"));
    }
    const read = (scroll) => {
      if (!labs.length || !location.hash.startsWith("#lab:")) return;
      labs[0].read(location.hash);
      if (scroll) labs[0].figure.scrollIntoView();
    };
    read(true);
    addEventListener("hashchange", () => read(true));
    NgsLab.labs = labs;
  }

  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", wake);
  else wake();
})();

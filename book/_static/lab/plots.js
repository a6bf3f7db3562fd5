/* What the Momentum Lab draws with: axes, lines, shaded maps, and a point that can be dragged.
 *
 * Lines are SVG, maps of colour a canvas beneath it; colours come from lab.css, which knows light
 * and dark. It rests on the browser alone.
 */
"use strict";

var NgsPlots = (function () {
  const SVG = "http://www.w3.org/2000/svg";

  /** Make an HTML element: attributes, then children (elements or strings). */
  function html(tag, attributes, ...children) {
    return fill(document.createElement(tag), attributes, children);
  }

  function svg(tag, attributes, ...children) {
    return fill(document.createElementNS(SVG, tag), attributes, children);
  }

  function fill(element, attributes, children) {
    for (const [name, value] of Object.entries(attributes || {})) {
      if (value !== null && value !== false) element.setAttribute(name, value === true ? "" : value);
    }
    element.append(...children);
    return element;
  }

  const linear = (from, to) => ({
    from, to,
    place: (x) => (x - from) / (to - from),
    value: (share) => from + share * (to - from),
  });
  const logarithmic = (from, to) => ({
    from, to, log: true,
    place: (x) => Math.log(x / from) / Math.log(to / from),
    value: (share) => from * Math.pow(to / from, share),
  });

  /** A number as people write it: 0.0019, 1.5, 2·10⁻⁷. */
  function pretty(x, digits = 2) {
    if (x === 0) return "0";
    if (!Number.isFinite(x)) return "∞";
    const power = Math.floor(Math.log10(Math.abs(x)) + 1e-12);
    if (power >= -3 && power < 5) {
      return String(Number(x.toPrecision(Math.max(digits, Math.min(power + 1, 5)))));
    }
    const front = Number((x / Math.pow(10, power)).toPrecision(digits));
    return (front === 1 ? "" : front + "·") + "10" + superscript(power);
  }

  const superscript = (power) =>
    String(power).replace(/[-0-9]/g, (c) => (c === "-" ? "⁻" : "⁰¹²³⁴⁵⁶⁷⁸⁹"[Number(c)]));

  /** Marks of an axis: about `wanted` round numbers, or powers of ten. */
  function marks(scale, wanted) {
    const found = [];
    if (scale.log) {
      const [low, high] = [Math.log10(scale.from), Math.log10(scale.to)];
      const every = Math.max(1, Math.ceil((high - low) / wanted));
      for (let p = Math.ceil(low / every - 1e-9) * every; p <= high + 1e-9; p += every) {
        found.push(Math.pow(10, p));
      }
      return found;
    }
    const raw = (scale.to - scale.from) / wanted;
    const power = Math.pow(10, Math.floor(Math.log10(raw)));
    const every = [0.5, 1, 2, 5, 10]
      .map((m) => m * power)
      .filter((step) => step < 1.6 * raw)
      .pop();
    for (let x = Math.ceil(scale.from / every - 1e-9) * every; x <= scale.to + 1e-9 * every; x += every) {
      found.push(Math.abs(x) < every / 1e6 ? 0 : x);
    }
    return found;
  }

  let made = 0;

  /** A plot: call `frame` with its scales, then add lines and points in their units. */
  class Plot {
    constructor(parent, options) {
      this.options = options;
      this.title = html("p", { class: "lab-plot-title" }, options.title);
      this.svg = svg("svg", { role: "img", "aria-label": options.title });
      this.canvas = options.shaded ? html("canvas", { "aria-hidden": "true" }) : null;
      this.stage = html("div", { class: "lab-stage" }, ...[this.canvas, this.svg].filter(Boolean));
      this.box = html("div", { class: "lab-plot lab-" + options.name }, this.title, this.stage);
      parent.append(this.box);
      this.clip = "lab-clip-" + made++;
    }

    /** Clear the plot and draw its axes; returns false where it has no room yet. */
    frame(x, y) {
      const width = this.stage.clientWidth;
      if (!width) return false;
      const height = Math.round(Math.min(340, Math.max(190, width * this.options.aspect)));
      const inside = { left: 54, right: 10, top: 8, bottom: 36 };
      Object.assign(this, { x, y, width, height, inside });
      this.spanX = width - inside.left - inside.right;
      this.spanY = height - inside.top - inside.bottom;
      this.svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
      this.svg.style.height = height + "px";
      const { left, top } = inside;
      const [right, bottom] = [left + this.spanX, top + this.spanY];
      const room = { x: left, y: top, width: this.spanX, height: this.spanY };
      this.svg.replaceChildren(
        svg("clipPath", { id: this.clip }, svg("rect", room)),
        svg("rect", Object.assign({ class: "lab-paper" + (this.canvas ? " lab-clear" : "") }, room))
      );
      for (const mark of marks(x, Math.max(3, this.spanX / 70))) {
        const at = this.atX(mark);
        if (!this.canvas) this.line("lab-grid", at, top, at, bottom);
        this.word(pretty(mark), at, bottom + 15, "middle");
      }
      for (const mark of marks(y, Math.max(3, this.spanY / 38))) {
        const at = this.atY(mark);
        if (!this.canvas) this.line("lab-grid", left, at, right, at);
        this.word(pretty(mark), left - 6, at + 4, "end");
      }
      this.word(this.options.x, left + this.spanX / 2, height - 4, "middle", "lab-axis");
      const label = this.word(this.options.y, 0, 0, "middle", "lab-axis");
      label.setAttribute("transform", `translate(11 ${top + this.spanY / 2}) rotate(-90)`);
      this.layer = svg("g", { "clip-path": `url(#${this.clip})` });
      this.svg.append(this.layer);
      return true;
    }

    atX(x) { return this.inside.left + this.x.place(x) * this.spanX; }
    atY(y) { return this.inside.top + (1 - this.y.place(y)) * this.spanY; }

    line(kind, x1, y1, x2, y2) {
      this.svg.append(svg("line", { class: kind, x1, y1, x2, y2 }));
    }

    word(text, x, y, anchor, kind = "lab-mark") {
      const made = svg("text", { class: kind, x, y, "text-anchor": anchor }, text);
      this.svg.append(made);
      return made;
    }

    /** A line through points [x, y]; a value that a logarithm cannot take ends it. */
    path(points, kind, dots) {
      const far = 20000; // of pixels: an iterate that has left the window stays a number
      const places = points
        .map(([x, y]) => [this.atX(x), this.atY(y)])
        .map((place) => place.map((v) => (v === Infinity ? far : v === -Infinity ? -far : v)))
        .map(([x, y]) => [Math.max(-far, Math.min(far, x)), Math.max(-far, Math.min(far, y))])
        .filter(([x, y]) => !Number.isNaN(x) && !Number.isNaN(y));
      const text = places.map(([x, y]) => x.toFixed(1) + "," + y.toFixed(1)).join(" ");
      this.layer.append(svg("polyline", { class: "lab-line " + kind, points: text }));
      if (dots) {
        for (const [cx, cy] of places.slice(0, dots)) {
          this.layer.append(svg("circle", { class: "lab-dot " + kind, cx, cy, r: 2.2 }));
        }
      }
    }

    /** A sign at a point: "star", "cross", "diamond" or "triangle". */
    sign(shape, x, y, kind, title) {
      const [cx, cy] = [this.atX(x), this.atY(y)];
      const d = {
        star: "M0-7 1.8-2.2 6.7-2.2 2.7.9 4.1 5.7 0 2.8-4.1 5.7-2.7.9-6.7-2.2-1.8-2.2Z",
        cross: "M-5-5 5 5M-5 5 5-5",
        diamond: "M0-6 6 0 0 6-6 0Z",
        triangle: "M0 1 5 9-5 9Z",
      }[shape];
      const made = svg("path", { class: "lab-sign " + kind, d, transform: `translate(${cx} ${cy})` });
      if (title) made.append(svg("title", {}, title));
      this.layer.append(made);
    }

    note(text, x, y, kind, anchor = "end") {
      this.layer.append(
        svg("text", { class: "lab-note " + kind, x: this.atX(x), y: this.atY(y) - 5, "text-anchor": anchor }, text)
      );
    }

    /** Colour the inside: `level(x, y)` gives the index of a colour; lines may part the levels.
     *
     * What is coloured already under the same name stays: a dragged point changes no map.
     */
    shade(name, level, colors, isoline) {
      const now = [name, this.width, this.height, colors, isoline].join("|");
      if (now === this.shaded) return;
      this.shaded = now;
      const fine = isoline ? 1 : 0.5; // a line is as thin as a pixel
      const [w, h] = [Math.round(this.spanX * fine), Math.round(this.spanY * fine)];
      this.canvas.width = w;
      this.canvas.height = h;
      Object.assign(this.canvas.style, {
        left: this.inside.left + "px",
        top: this.inside.top + "px",
        width: this.spanX + "px",
        height: this.spanY + "px",
      });
      const context = this.canvas.getContext("2d");
      const image = context.createImageData(w, h);
      let above = [];
      for (let row = 0; row < h; row++) {
        const y = this.y.value(1 - (row + 0.5) / h);
        const levels = [];
        for (let column = 0; column < w; column++) {
          levels.push(level(this.x.value((column + 0.5) / w), y));
          const here = levels[column];
          const edge = (row && above[column] !== here) || (column && levels[column - 1] !== here);
          image.data.set(edge && isoline ? isoline : colors[here], 4 * (row * w + column));
        }
        above = levels;
      }
      context.putImageData(image, 0, 0);
    }

    /** Add a point that mouse, touch and keyboard move; `moved(x, y)` is told where it is wanted. */
    handle(label, moved) {
      const knob = html("div", {
        class: "lab-knob", role: "slider", tabindex: "0", "aria-label": label,
        "aria-valuemin": "0", "aria-valuemax": "100", "aria-valuenow": "0",
      });
      this.stage.append(knob);
      this.knob = knob;
      const go = (event) => {
        const box = this.stage.getBoundingClientRect();
        const share = (at, span) => Math.min(1, Math.max(0, at / span));
        moved(
          this.x.value(share(event.clientX - box.left - this.inside.left, this.spanX)),
          this.y.value(1 - share(event.clientY - box.top - this.inside.top, this.spanY))
        );
      };
      let held = false;
      const take = (event) => {
        held = true;
        knob.setPointerCapture(event.pointerId);
        knob.classList.add("lab-held");
        event.preventDefault();
        knob.focus({ preventScroll: true });
      };
      const leave = () => {
        held = false;
        knob.classList.remove("lab-held");
      };
      knob.addEventListener("pointerdown", take);
      knob.addEventListener("pointermove", (event) => held && go(event));
      knob.addEventListener("pointerup", leave);
      knob.addEventListener("pointercancel", leave);
      // Beside the point a mouse takes it along; a finger may want to scroll, so it has to tap.
      this.svg.addEventListener("pointerdown", (event) => {
        if (event.pointerType === "mouse") {
          go(event);
          take(event);
        }
      });
      this.svg.addEventListener("click", (event) => event.pointerType !== "mouse" && go(event));
      knob.addEventListener("keydown", (event) => {
        const way = {
          ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1],
          PageUp: [0, 5], PageDown: [0, -5], Home: [-5, 0], End: [5, 0],
        }[event.key];
        if (!way || !this.x) return;
        event.preventDefault();
        const step = event.shiftKey ? 0.05 : 0.01;
        const within = (share) => Math.min(1, Math.max(0, share));
        this.held = [
          this.x.value(within(this.x.place(this.held[0]) + step * way[0])),
          this.y.value(within(this.y.place(this.held[1]) + step * way[1])),
        ]; // at once: the next key may come before the next drawing
        moved(...this.held);
      });
    }

    /** Put the point that is dragged where it belongs; say where that is. */
    put(x, y, said) {
      this.held = [x, y];
      const inside = (share) => Math.min(1, Math.max(0, share));
      const [sx, sy] = [inside(this.x.place(x)), inside(this.y.place(y))];
      this.knob.style.left = this.inside.left + sx * this.spanX + "px";
      this.knob.style.top = this.inside.top + (1 - sy) * this.spanY + "px";
      this.knob.setAttribute("aria-valuenow", String(Math.round(100 * sx)));
      this.knob.setAttribute("aria-valuetext", said);
    }
  }

  return { html, svg, Plot, linear, logarithmic, pretty };
})();

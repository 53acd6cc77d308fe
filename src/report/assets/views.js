// Photo, depth and confidence of one view after the other.

import { maps, palette } from "./unpack.js";

// Decoded maps that are kept.
const KEPT = 6;

export class ViewBrowser {
  constructor(data, bytes, lookFrom) {
    this.views = data.views;
    this.bytes = bytes;
    this.palettes = data.palettes.map(palette);
    this.element = (id) => document.getElementById(id);
    this.decoded = new Map();
    this.at = -1;
    this.cross = [0.5, 0.5];
    const panes = this.element("panes");
    // The page of a cloud alone.
    if (!panes) return;
    this.element("browser").hidden = false;
    this.element("previous").addEventListener("click", () => this.open(this.at - 1));
    this.element("next").addEventListener("click", () => this.open(this.at + 1));
    const look = this.element("look");
    if (data.cloud) look.addEventListener("click", () => lookFrom(this.at));
    else look.hidden = true;
    this.element("strip").addEventListener("click", ({ target }) => {
      const button = target.closest("[data-view]");
      if (button) this.open(Number(button.dataset.view));
    });
    for (const input of document.querySelectorAll("[name=compare]")) {
      input.addEventListener("change", () => this.mode(input.value));
    }
    this.mode(document.querySelector("[name=compare]:checked")?.value ?? "all");
    this.element("divider").addEventListener("input", ({ target }) => this.divide(Number(target.value)));
    this.divide(Number(this.element("divider").value));
    for (const pane of panes.querySelectorAll(".pane")) this.follow(pane);
    panes.addEventListener("keydown", (event) => this.key(event));
    if (this.views.length > 0) this.open(0);
  }

  mode(mode) {
    this.element("panes").dataset.mode = mode;
    this.element("divider-row").hidden = mode === "all";
  }

  divide(percent) {
    this.element("panes").style.setProperty("--cut", `${percent}%`);
  }

  // The pointer moves the cross, and drags the divider where there is one.
  follow(pane) {
    pane.append(Object.assign(document.createElement("i"), { className: "cross" }));
    const moved = (event) => {
      const box = pane.getBoundingClientRect();
      const [x, y] = [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
      if (x < 0 || x >= 1 || y < 0 || y >= 1) return;
      this.point(x, y);
      if (event.buttons === 1 && this.element("panes").dataset.mode !== "all") {
        this.element("divider").value = 100 * x;
        this.divide(100 * x);
      }
    };
    pane.addEventListener("pointermove", moved);
    pane.addEventListener("pointerdown", moved);
  }

  key(event) {
    const { size } = this.views[this.at] ?? {};
    const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (!size || !steps) return;
    const by = event.shiftKey ? 10 : 1;
    const place = [0, 1].map((i) => {
      const pixel = Math.floor(this.cross[i] * size[i]) + by * steps[i];
      return (Math.min(size[i] - 1, Math.max(0, pixel)) + 0.5) / size[i];
    });
    this.point(...place);
    event.preventDefault();
  }

  async open(at) {
    if (at < 0 || at >= this.views.length) return;
    this.at = at;
    const view = this.views[at];
    this.element("view-name").textContent = `${view.name} (${at + 1} of ${this.views.length})`;
    this.element("previous").disabled = at === 0;
    this.element("next").disabled = at === this.views.length - 1;
    for (const button of this.element("strip").querySelectorAll("[data-view]")) {
      button.setAttribute("aria-current", String(Number(button.dataset.view) === at));
    }
    const found = await this.maps(at);
    if (this.at !== at) return;
    await this.draw(view, found);
    this.point(...this.cross);
  }

  async maps(at) {
    if (!this.decoded.has(at)) {
      const view = this.views[at];
      const [width, height] = view.size;
      const bytes = await this.bytes(`maps-${at}`);
      // A server says with the maps what the page of a report has said before.
      const head = bytes.length - 3 * width * height;
      if (head > 0) {
        const numbers = new DataView(bytes.buffer, bytes.byteOffset, head);
        view.depth = [numbers.getFloat64(0, true), numbers.getFloat64(8, true)];
      }
      this.decoded.set(at, maps(bytes.subarray(head), width, height));
      if (this.decoded.size > KEPT) this.decoded.delete(this.decoded.keys().next().value);
    }
    return this.decoded.get(at);
  }

  async draw(view, { width, height, steps, confidence }) {
    const panes = ["photo-pane", "depth-pane", "confidence-pane"].map((id) => this.element(id));
    for (const pane of panes) [pane.width, pane.height] = [width, height];
    this.element("panes").style.setProperty("--aspect", `${width} / ${height}`);
    const [photo, depth, sure] = panes.map((pane) => pane.getContext("2d"));
    const picture = this.element(`photo-${this.at}`);
    if (picture) {
      // A picture that nobody has scrolled to.
      picture.loading = "eager";
      await picture.decode();
      photo.drawImage(picture, 0, 0, width, height);
    }
    const [near, far] = this.range(view, steps);
    const from = (value) => Math.round(255 * Math.min(1, Math.max(0, value)));
    // The colour of each step, once.
    const shades = new Int32Array(65536).fill(-1);
    const shade = (step) => {
      if (shades[step] < 0) shades[step] = from((this.depth(view, step) - near) / (far - near));
      return shades[step];
    };
    this.paint(depth, width, height, (i) => (steps[i] === 0 ? -1 : shade(steps[i])), this.palettes[0]);
    this.paint(sure, width, height, (i) => confidence[i], this.palettes[1]);
    const digits = (v) => v.toPrecision(4);
    this.scale("depth-scale", "Depth", [digits(near), digits(far)], this.palettes[0]);
    this.scale("confidence-scale", "Confidence", ["0", "1"], this.palettes[1]);
  }

  paint(context, width, height, shade, colours) {
    const image = context.createImageData(width, height);
    const pixels = new Uint32Array(image.data.buffer);
    const table = new Uint32Array(colours.buffer);
    // No depth is grey, in no colour of the maps.
    const grey = new Uint32Array(Uint8Array.of(150, 152, 156, 255).buffer)[0];
    for (let i = 0; i < pixels.length; i++) {
      const at = shade(i);
      pixels[i] = at < 0 ? grey : table[at];
    }
    context.putImageData(image, 0, 0);
  }

  scale(id, name, [low, high], colours) {
    const stops = [];
    for (let i = 0; i < 256; i += 15) stops.push(`rgb(${colours.slice(4 * i, 4 * i + 3).join(" ")})`);
    const word = (text) => Object.assign(document.createElement("span"), { textContent: text });
    const ramp = Object.assign(document.createElement("span"), { className: "ramp" });
    ramp.style.background = `linear-gradient(to right, ${stops.join(", ")})`;
    this.element(id).replaceChildren(word(name), word(low), ramp, word(high));
  }

  depth({ depth: [near, step] }, steps) {
    return near * Math.exp((steps - 1) * step);
  }

  // The 2nd to 98th percentile of the depths, never empty.
  range(view, steps) {
    const counts = new Uint32Array(65536);
    let seen = 0;
    for (const step of steps) {
      if (step > 0) {
        counts[step]++;
        seen++;
      }
    }
    const at = (share) => {
      let [left, step] = [share * seen, 0];
      while (step < 65535 && (left -= counts[step]) >= 0) step++;
      return this.depth(view, Math.max(1, step));
    };
    const [near, far] = [at(0.02), at(0.98)];
    const missing = Math.max(0, 0.01 * near - (far - near)) / 2;
    return [near - missing, far + missing];
  }

  // Says what the maps hold at a place, 0 to 1 across and down.
  point(x, y) {
    this.cross = [x, y];
    const panes = this.element("panes");
    panes.style.setProperty("--x", `${100 * x}%`);
    panes.style.setProperty("--y", `${100 * y}%`);
    const found = this.decoded.get(this.at);
    const view = this.views[this.at];
    if (!found || !view) return;
    const pixel = [Math.floor(x * found.width), Math.floor(y * found.height)];
    const at = pixel[1] * found.width + pixel[0];
    // Of the map as the run has it: the pixel in the middle of the area.
    const of = [0, 1].map((i) => Math.floor(((2 * pixel[i] + 1) * view.map_size[i]) / (2 * view.size[i])));
    const step = found.steps[at];
    const depth = step === 0 ? null : this.depth(view, step);
    const confidence = found.confidence[at] / 255;
    this.read = { pixel: of, depth, confidence };
    const said = depth === null ? "none" : depth.toPrecision(5);
    const parts = [["pixel", of.join(", ")], ["depth", said], ["confidence", confidence.toFixed(3)]];
    this.element("readout").replaceChildren(...parts.map(([name, value]) => {
      const part = document.createElement("span");
      part.append(`${name} `, Object.assign(document.createElement("b"), { textContent: value }));
      return part;
    }));
  }
}

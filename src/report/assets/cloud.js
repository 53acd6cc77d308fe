// The viewer of the cloud: what the controls say, the cameras, and when something is drawn.

import { listen } from "./gestures.js";
import { add, cross, dot, Pose } from "./pose.js";
import { Renderer, TANGENT } from "./renderer.js";
import { isDark } from "./theme.js";
import { palette, vertices } from "./unpack.js";

const MODES = ["photo", "confidence", "views", "normal", "height"];
// Of a camera's pyramid, in pixels: near enough for a click.
const CATCH = 18;
const REST = 200;

export class CloudViewer {
  constructor(data, sources, openView) {
    this.data = data;
    this.cloud = data.cloud;
    this.bytes = sources.bytes;
    this.openView = openView;
    this.element = (id) => document.getElementById(id);
    this.canvas = this.element("scene");
    this.renderer = new Renderer(this.canvas, palette(data.palettes[1]));
    this.histogram = new Float64Array(256);
    this.loaded = 0;
    this.chosen = -1;
    this.hovered = -1;
    this.look = {
      mode: 0, size: 1, sizes: [1, 40], least: 0, shading: true, cameras: true, spacing: 1.8 * this.cloud.spacing,
      viewRange: [255, 0], heights: this.heights(), up: this.cloud.up, ground: [0, 0, 0],
    };
    this.pyramid = this.pyramidSize();
    this.pose = this.home();
    this.progress = 0;
    this.movedAt = -REST;
    this.isUntouched = true;
    this.bindControls();
    this.themeChanged();
    listen(this.canvas, {
      turn: (yaw, pitch) => this.moves((pose) => pose.turn(yaw, pitch, this.cloud.up)),
      move: (across, up) => this.moves((pose) => pose.move(across, up, TANGENT)),
      zoom: (factor) => this.moves((pose) => { pose.distance *= factor; }),
      home: () => this.flyTo(this.home()),
      click: (x, y) => this.choose(this.cameraAt(x, y)),
      hover: (x, y) => this.hover(this.cameraAt(x, y)),
      key: (name) => this.key(name),
    });
    new ResizeObserver(() => {
      if (this.isUntouched) this.pose = this.home();
      this.changed();
    }).observe(this.canvas);
    this.stream = sources.stream?.(this);
    this.ready = this.stream ? this.stream.load() : this.load();
    this.wake();
  }

  // Unpacks part after part; each is drawn as soon as it is there.
  async load() {
    const { origin, quantum, tiles, shown } = this.cloud;
    let [part, bytes] = [-1, null];
    for (const [of, start, count, x, y, z, shift] of tiles) {
      if (of !== part) {
        [part, bytes] = [of, await this.bytes(`part-${of}`)];
        // The letters are no longer needed.
        this.element(`part-${of}`).textContent = "";
        this.say(`Unpacking ${Math.round((100 * this.loaded) / shown)} %`);
      }
      const made = vertices(bytes, start, count);
      this.renderer.add(add(origin, [x, y, z], quantum), quantum * 2 ** shift, count, made);
      this.count(made.out, count);
      this.changed();
    }
    this.say("");
    this.tellCount();
    this.tellLegend();
  }

  count(out, count) {
    const range = this.look.viewRange;
    for (let i = 0; i < count; i++) {
      this.histogram[out[16 * i + 7]]++;
      const views = out[16 * i + 6];
      if (views < range[0]) range[0] = views;
      if (views > range[1]) range[1] = views;
    }
    this.loaded += count;
  }

  say(text) {
    const status = this.element("status");
    status.textContent = text;
    status.hidden = text === "";
  }

  bindControls() {
    const bind = (id, event, act) => this.element(id).addEventListener(event, ({ target }) => {
      act(target);
      this.changed();
    });
    const controls = this.element("controls");
    controls.addEventListener("submit", (event) => event.preventDefault());
    controls.addEventListener("change", ({ target }) => {
      if (target.name !== "colour") return;
      this.look.mode = MODES.indexOf(target.value);
      this.tellLegend();
      this.changed();
    });
    bind("confidence", "input", ({ value }) => {
      this.element("confidence-said").textContent = Number(value).toFixed(2);
      this.look.least = Number(value) * 255 - 0.5;
      this.tellCount();
    });
    bind("size", "input", ({ value }) => {
      this.element("size-said").textContent = Number(value).toFixed(1);
      this.look.size = Number(value);
    });
    bind("cameras", "change", ({ checked }) => { this.look.cameras = checked; });
    bind("shading", "change", ({ checked }) => { this.look.shading = checked; });
    this.element("reset").addEventListener("click", () => this.flyTo(this.home()));
    this.element("card").querySelector(".close").addEventListener("click", () => {
      this.choose(-1);
      this.canvas.focus();
    });
    // What a browser keeps of a form over a reload.
    for (const id of ["confidence", "size"]) this.element(id).dispatchEvent(new Event("input"));
    for (const id of ["cameras", "shading"]) this.element(id).dispatchEvent(new Event("change"));
    const checked = controls.querySelector("[name=colour]:checked");
    this.look.mode = Math.max(0, MODES.indexOf(checked?.value));
  }

  key(name) {
    if (name === "c" || name === "C") this.element("cameras").click();
    else if (name === "Escape") this.choose(-1);
    else return false;
    return true;
  }

  themeChanged() {
    this.look.ground = isDark() ? [0.055, 0.06, 0.07] : [0.955, 0.955, 0.945];
    this.changed();
  }

  tellCount() {
    const least = Math.max(0, Math.ceil(this.look.least));
    let shown = 0;
    for (let value = least; value < 256; value++) shown += this.histogram[value];
    const number = (n) => n.toLocaleString("en").replaceAll(",", "\u202f");
    this.shown = shown;
    this.element("count").textContent = shown === this.loaded
      ? `${number(shown)} points` : `${number(shown)} of ${number(this.loaded)} points`;
  }

  tellLegend() {
    const legend = this.element("legend");
    const { mode, viewRange, heights } = this.look;
    const digits = (v) => v.toPrecision(4);
    const ends = [null, ["0", "1", "confidence"], [...viewRange.map(String), "views that agree"],
      ["", "", "normal: x red, y green, z blue"], [...heights.map(digits), "height, scene units"]][mode];
    legend.hidden = !ends;
    if (!ends) return;
    const colours = this.data.palettes[1].match(/.{6}/g).filter((_, i) => i % 15 === 0).map((c) => `#${c}`);
    const bar = Object.assign(document.createElement("div"), { className: "ramp" });
    bar.style.background = `linear-gradient(to right, ${colours.join(", ")})`;
    const words = ends.map((text) => Object.assign(document.createElement("span"), { textContent: text }));
    legend.replaceChildren(...(mode === 3 ? [words[2]] : [words[2], words[0], bar, words[1]]));
  }

  // Least and greatest height of the inner box's corners.
  heights() {
    const { inner, up } = this.cloud;
    const sum = (take) => [0, 1, 2].reduce((all, axis) =>
      all + take(up[axis] * inner[0][axis], up[axis] * inner[1][axis]), 0);
    const [low, high] = [sum(Math.min), sum(Math.max)];
    return high > low ? [low, high] : [low, low + 1e-9 * (1 + Math.abs(low))];
  }

  // From beside the photos, a little above and behind them, so that the inner points fill the picture, with the cameras
  // where that does not make them small.
  home() {
    const { inner, up, origin, quantum, sample } = this.cloud;
    const backs = this.data.views.map(({ rotation }) => rotation.slice(6).map((v) => -v));
    let back = backs.reduce((sum, one) => add(sum, one), [0, 0, 0]);
    // Photos from all around have no mean: the first one's then; none have neither.
    if (Math.hypot(...back) <= 0.3 * backs.length) back = backs[0] ?? cross(up, [up[1], up[2], up[0]]);
    const length = Math.hypot(...back) || 1;
    const pose = Pose.upright([0, 0, 0], 1, back.map((v) => v / length), up);
    pose.turn(0.45, 0.25, up);
    const aspect = (this.canvas.clientWidth || 16) / (this.canvas.clientHeight || 9);
    const isInner = (point) => point.every((v, axis) => v >= inner[0][axis] && v <= inner[1][axis]);
    const inside = sample.map((place) => add(origin, place, quantum)).filter(isInner);
    if (inside.length === 0) inside.push(inner[0], inner[1]);
    for (const axis of [pose.right, pose.up, pose.back]) {
      const along = inside.map((point) => dot(point, axis));
      pose.target = add(pose.target, axis, (Math.min(...along) + Math.max(...along)) / 2);
    }
    // How far back a point is in the picture.
    const away = (point) => {
      const at = add(point, pose.target, -1);
      const beside = Math.max(Math.abs(dot(at, pose.up)), Math.abs(dot(at, pose.right)) / aspect);
      return dot(at, pose.back) + (1.1 * beside) / TANGENT;
    };
    const near = Math.max(...inside.map(away)) || 1;
    const all = Math.max(near, ...this.data.views.map((view) => 1.02 * away(view.centre)));
    pose.distance = all < 1.7 * near ? all : near;
    return pose;
  }

  // The sides of the cameras' pyramids, in scene units.
  pyramidSize() {
    const centres = this.data.views.map((view) => view.centre);
    const nearest = centres.map((a, i) => Math.min(...centres.map((b, j) =>
      i === j ? Infinity : Math.hypot(...add(a, b, -1)))));
    nearest.sort((a, b) => a - b);
    const { inner } = this.cloud;
    const diagonal = Math.hypot(...add(inner[1], inner[0], -1)) || 1;
    const apart = nearest[nearest.length >> 1];
    return Math.min(0.06 * diagonal, apart > 0 && apart < Infinity ? 0.5 * apart : Infinity);
  }

  // The tip of a view's pyramid and the corners of its photo.
  corners({ centre, rotation, k, map_size: [width, height] }) {
    const [fx, fy, cx, cy] = k;
    const longest = Math.max(width / fx, height / fy);
    const world = (x, y, z) => add(centre, [0, 1, 2].map((axis) =>
      rotation[axis] * x + rotation[3 + axis] * y + rotation[6 + axis] * z), this.pyramid / longest);
    // Pixel centres are integers, so that the photo ends half a pixel before the first and after the last.
    const corner = (u, v) => world((u - cx) / fx, (v - cy) / fy, 1);
    return [centre, corner(-0.5, -0.5), corner(width - 0.5, -0.5), corner(width - 0.5, height - 0.5),
      corner(-0.5, height - 0.5), corner(width / 2 - 0.5, -0.5 - 0.18 * height)];
  }

  // The tiles that a pose may see; of a stream, those that are there.
  tilesOf(pose) {
    return this.stream ? this.stream.follow(pose) : this.renderer.seen(pose);
  }

  // Around everything that may be drawn.
  balls() {
    const cameras = this.data.views.map(({ centre }) => ({ middle: centre, radius: 2 * this.pyramid }));
    return this.look.cameras ? [...this.renderer.tiles, ...cameras] : this.renderer.tiles;
  }

  cameraLines() {
    if (!this.look.cameras) return new Float32Array(0);
    const eye = this.pose.eye();
    const usual = isDark() ? [1, 1, 1, 0.45] : [0.1, 0.12, 0.15, 0.45];
    const edges = [0, 1, 0, 2, 0, 3, 0, 4, 1, 2, 2, 3, 3, 4, 4, 1, 1, 5, 2, 5];
    const numbers = [];
    this.data.views.forEach((view, at) => {
      const corners = this.corners(view).map((corner) => add(corner, eye, -1));
      const tint = at === this.chosen ? [1, 0.55, 0.1, 1] : at === this.hovered ? [1, 0.7, 0.35, 1] : usual;
      for (const corner of edges) numbers.push(...corners[corner], ...tint);
    });
    return new Float32Array(numbers);
  }

  // Where a point lies on the canvas, in pixels of the page; nothing behind the viewer.
  onCanvas(point) {
    const at = add(point, this.pose.eye(), -1);
    const depth = -dot(at, this.pose.back);
    if (depth <= 0) return null;
    const half = this.canvas.clientHeight / 2 / TANGENT / depth;
    return [this.canvas.clientWidth / 2 + half * dot(at, this.pose.right),
      this.canvas.clientHeight / 2 - half * dot(at, this.pose.up)];
  }

  cameraAt(x, y) {
    if (!this.look.cameras) return -1;
    let [best, nearest] = [-1, CATCH];
    this.data.views.forEach((view, at) => {
      const corners = this.corners(view);
      const middle = [0, 1, 2].map((axis) => (corners[1][axis] + corners[3][axis]) / 2);
      for (const point of [corners[0], middle]) {
        const place = this.onCanvas(point);
        const off = place ? Math.hypot(place[0] - x, place[1] - y) : Infinity;
        if (off < nearest) [best, nearest] = [at, off];
      }
    });
    return best;
  }

  hover(view) {
    if (view === this.hovered) return;
    this.hovered = view;
    this.canvas.style.cursor = view < 0 ? "" : "pointer";
    this.canvas.title = view < 0 ? "" : this.data.views[view].name;
    this.changed();
  }

  // Shows a view's photo; -1 shows none.
  choose(view) {
    this.chosen = view;
    const card = this.element("card");
    card.hidden = view < 0;
    this.changed();
    if (view < 0) return;
    const { name } = this.data.views[view];
    const picture = card.querySelector("img");
    const photo = this.element(`photo-${view}`);
    picture.hidden = !photo;
    if (photo) [picture.src, picture.alt] = [photo.src, `Photo of view ${name}`];
    const button = (text, act) => {
      const made = Object.assign(document.createElement("button"), { type: "button", textContent: text });
      made.addEventListener("click", act);
      return made;
    };
    card.querySelector("figcaption").replaceChildren(
      Object.assign(document.createElement("span"), { textContent: name }),
      button("Look from here", () => this.lookFrom(view)),
      button("Show its maps", () => this.openView(view)),
    );
  }

  // From where a photo was taken, turned as it is.
  lookFrom(view) {
    const { centre, rotation, k, map_size: [, height] } = this.data.views[view];
    const [right, down, forward] = [0, 3, 6].map((at) => rotation.slice(at, at + 3));
    const { inner } = this.cloud;
    const middle = [0, 1, 2].map((axis) => (inner[0][axis] + inner[1][axis]) / 2);
    const distance = Math.max(dot(add(middle, centre, -1), forward), 0.05 * Math.hypot(...add(inner[1], inner[0], -1)));
    const [up, back] = [down.map((v) => -v), forward.map((v) => -v)];
    // As much of the scene as the photo shows.
    const nearer = height / 2 / k[1] / TANGENT;
    const target = add(centre, forward, distance);
    this.flyTo(new Pose(target, distance * Math.max(1, nearer), right, up, back));
  }

  flyTo(goal) {
    this.flight = null;
    if (matchMedia("(prefers-reduced-motion: reduce)").matches) {
      this.pose = goal;
      this.changed();
    } else {
      this.flight = { from: this.pose.copy(), goal, began: performance.now() };
      this.wake();
    }
  }

  moves(change) {
    this.flight = null;
    change(this.pose);
    this.movedAt = performance.now();
    this.isUntouched = false;
    this.changed();
  }

  changed() {
    this.progress = 0;
    this.wake();
  }

  // Frames follow each other only while there is something to draw.
  wake() {
    if (this.awake) return;
    this.awake = true;
    requestAnimationFrame((now) => this.frame(now));
  }

  frame(now) {
    this.awake = false;
    if (this.flight) {
      const { from, goal, began } = this.flight;
      const t = Math.min(1, Math.max(0, (now - began) / 600));
      this.moves((pose) => Object.assign(pose, from.towards(goal, t * t * (3 - 2 * t))));
      if (t < 1) this.flight = { from, goal, began };
      else this.pose = goal.copy();
    }
    const isMoving = now - this.movedAt < REST || Boolean(this.flight);
    if (this.canvas.clientWidth && this.renderer.isFree(performance.now())) {
      if (this.renderer.resize()) this.progress = 0;
      if (this.progress < 1) this.advance(isMoving);
    }
    if (this.progress < 1 || isMoving || this.renderer.fence) this.wake();
  }

  // The next piece of the picture.
  advance(isMoving) {
    const { renderer, pose } = this;
    if (this.progress === 0) {
      const tiles = this.tilesOf(pose);
      const points = tiles.reduce((sum, tile) => sum + tile.count, 0);
      this.drawing = { tiles, range: renderer.range(pose, this.balls()), points };
    }
    const { tiles, range, points } = this.drawing;
    // At rest nobody waits for the next frame.
    const share = Math.min(1, ((isMoving ? 1 : 4) * renderer.budget) / Math.max(1, points));
    const end = Math.min(1, this.progress + share);
    const look = { ...this.look };
    if (isMoving) look.size *= Math.min(2.5, 1 / Math.sqrt(share));
    renderer.piece(pose, tiles, [this.progress, end], look, range);
    if (isMoving || end === 1) renderer.show(pose, look, range, this.cameraLines());
    renderer.given(performance.now(), points * (end - this.progress));
    // A moving picture is begun anew with the next frame, and once more at rest.
    this.progress = isMoving && share < 1 ? 0 : end;
  }

  // The picture as it would be at rest, at once: for printing, and for checks (`exact`: points of one pixel, nothing
  // else). Gives red, green, blue and alpha, the lowest row first, and what a program needs to draw the same.
  still(exact = false) {
    const { renderer, pose } = this;
    renderer.resize();
    const tiles = this.tilesOf(pose);
    const range = renderer.range(pose, this.balls());
    const look = exact ? { ...this.look, sizes: [1, 1], shading: false } : this.look;
    renderer.piece(pose, tiles, [0, 1], look, range);
    renderer.show(pose, look, range, exact ? new Float32Array(0) : this.cameraLines());
    const { gl, canvas: { width, height } } = renderer;
    const pixels = new Uint8Array(4 * width * height);
    if (exact) gl.readPixels(0, 0, width, height, gl.RGBA, gl.UNSIGNED_BYTE, pixels);
    this.changed();
    const { right, up, back } = pose;
    return { width, height, pixels, eye: pose.eye(), right, up, back, tangent: TANGENT, range, ground: look.ground };
  }
}

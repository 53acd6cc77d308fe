// A cloud that its server keeps: a tree of tiles, of which those are fetched that a pose needs. A tile of the tree has
// every so-many-th point of its cell; the tiles below it have more of the same points, and take its place.

import { add, dot } from "./pose.js";
import { TANGENT } from "./renderer.js";
import { vertices } from "./unpack.js";

// Points that are drawn at most; of a cloud with no more, all are.
const MOST_DRAWN = 4e6;
// Points that are kept, drawn or not: 16 bytes each on the card.
const MOST_KEPT = 12e6;
// Neighbours of a tile may be so many pixels apart before the tiles below it are fetched.
const APART = 1.5;
// Requests at a time: what browsers send to one server.
const AT_ONCE = 6;
// Of coordinates, and of steps within a tile (src/report/tiles.rs).
const BITS = 21;
const STEP_BITS = 16;

export class Stream {
  constructor(viewer, fetched) {
    const { cloud, look, histogram, renderer } = viewer;
    Object.assign(this, { viewer, fetched, renderer, cloud, under: 0, kept: 0, clock: 0, failed: false });
    this.nodes = cloud.served.nodes.map((row, at) => this.node(row, at));
    this.refined = new Set(this.nodes.filter((node) => node.below > 0));
    this.wanted = [...this.nodes.slice(0, 1), ...this.nodes.slice(1).filter((node) => node.below === 0)];
    this.needed = new Set(this.wanted);
    histogram.set(cloud.served.histogram);
    [look.viewRange[0], look.viewRange[1]] = cloud.served.views;
    viewer.loaded = cloud.shown;
    this.settled = new Promise((done) => { this.settle = done; });
  }

  node([count, x, y, z, level, first, below, every], at) {
    const { origin, quantum, spacing } = this.cloud;
    const side = quantum * 2 ** (BITS - level);
    const shift = Math.max(0, BITS - STEP_BITS - level);
    const corner = add(origin, [x, y, z], quantum);
    const middle = corner.map((v) => v + side / 2);
    // Surfaces have the square of as many points where these are half as far apart.
    const step = quantum * 2 ** shift;
    const apart = Math.max(Math.sqrt(every) * spacing, step);
    const radius = (side * Math.sqrt(3)) / 2;
    return {
        at, count, corner, step, middle, radius, first, below, every, apart,
        tile: null, usedAt: 0, isUnderWay: false,
    };
  }

  below({ first, below }) {
    return this.nodes.slice(first, first + below);
  }

  // Done when all is there that the first pose needs.
  load() {
    this.renderer.resize();
    this.viewer.tellCount();
    this.viewer.tellLegend();
    if (this.nodes.length === 0) this.settle();
    this.follow(this.viewer.pose);
    return this.settled;
  }

  // Fetches what a pose needs, and gives the tiles that can be drawn meanwhile.
  follow(pose) {
    if (this.nodes.length === 0) return [];
    const sees = this.renderer.sees(pose);
    this.choose(pose, sees);
    this.clock++;
    const tiles = this.drawn(this.nodes[0], sees) ?? [];
    this.pump();
    return tiles;
  }

  // Which tiles give way to those below them, those first whose points are farthest apart in the picture.
  choose(pose, sees) {
    if (this.cloud.shown <= MOST_DRAWN) return;
    const eye = pose.eye();
    const pixels = this.renderer.canvas.height / 2 / TANGENT;
    const error = ({ middle, radius, apart }) => {
      const depth = -dot(add(middle, eye, -1), pose.back) - radius;
      return (pixels * apart) / Math.max(depth, 0.01 * radius);
    };
    const refined = new Set();
    const root = this.nodes[0];
    let points = root.count;
    const front = [[error(root), root]];
    const cut = new Map([[root, error(root)]]);
    while (front.length > 0) {
      let best = 0;
      for (let i = 1; i < front.length; i++) if (front[i][0] > front[best][0]) best = i;
      const [[worst, node]] = front.splice(best, 1);
      if (worst < APART) break;
      if (node.below === 0) continue;
      const below = this.below(node).filter(sees);
      const more = below.reduce((sum, one) => sum + one.count, -node.count);
      if (points + more > MOST_DRAWN) continue;
      points += more;
      refined.add(node);
      cut.delete(node);
      for (const one of below) {
        const of = error(one);
        front.push([of, one]);
        cut.set(one, of);
      }
    }
    this.refined = refined;
    const order = [...cut].sort((a, b) => b[1] - a[1]).map(([node]) => node);
    // The coarsest one first, so that there is something to see.
    this.wanted = [root, ...order.filter((node) => node !== root)];
    this.needed = new Set(this.wanted);
  }

  // The tiles that stand for a node: those below it where all of them are there, else its own; null where neither.
  drawn(node, sees) {
    if (!sees(node)) return [];
    if (this.refined.has(node)) {
      const parts = this.below(node).map((one) => this.drawn(one, sees));
      if (!parts.includes(null)) return parts.flat();
      if (!node.tile) return parts.some((part) => part?.length) ? parts.flat().filter(Boolean) : null;
    }
    if (!node.tile) return null;
    node.usedAt = this.clock;
    return [node.tile];
  }

  pump() {
    for (const node of this.wanted) {
      if (this.under >= AT_ONCE) break;
      if (!node.tile && !node.isUnderWay) this.fetch(node);
    }
    const missing = this.wanted.filter((node) => !node.tile).length;
    if (missing === 0) this.settle();
    if (!this.failed) this.say(missing > 0 ? `Fetching ${missing} tile${missing > 1 ? "s" : ""}` : "");
  }

  // Those who listen hear it once.
  say(text) {
    if (text !== this.said) this.viewer.say(text);
    this.said = text;
  }

  async fetch(node) {
    node.isUnderWay = true;
    this.under++;
    try {
      const made = vertices(await this.fetched(`tile-${node.at}`), 0, node.count);
      node.tile = this.renderer.add(node.corner, node.step, node.count, made);
      node.tile.apart = Math.sqrt(node.every);
      node.usedAt = this.clock;
      this.kept += node.count;
      this.failed = false;
      this.makeRoom();
    } catch (error) {
      this.failed = true;
      this.say(`The server does not answer: ${error.message}.`);
    }
    this.under--;
    // Asked for again when something moves, not at once.
    node.isUnderWay = this.failed;
    if (this.failed) setTimeout(() => { node.isUnderWay = false; }, 2000);
    this.viewer.changed();
  }

  // Gives back what has not been drawn for longest.
  makeRoom() {
    if (this.kept <= MOST_KEPT) return;
    const idle = this.nodes.filter((node) => node.tile && node.at > 0 && !this.needed.has(node));
    idle.sort((a, b) => a.usedAt - b.usedAt);
    for (const node of idle) {
      if (this.kept <= MOST_KEPT) return;
      this.renderer.remove(node.tile);
      node.tile = null;
      this.kept -= node.count;
    }
  }
}

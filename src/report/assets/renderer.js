// Draws tiles of points, then lines. While something moves, as many points are drawn as the card manages in time: each
// tile's vertices are in an order of which every beginning is an even part. At rest the others follow, piece by piece,
// and the picture changes when it is whole.

import { add, dot } from "./pose.js";
import { LINES, PICTURE, POINTS, program } from "./shaders.js";
import { VERTEX } from "./unpack.js";

// Half of the field of view's height: 50 degrees in all.
export const TANGENT = Math.tan((25 * Math.PI) / 180);
// A frame may take so many milliseconds while something moves.
const FRAME = 33;
const SHADING = 25;

export class Renderer {
  constructor(canvas, palette) {
    const gl = canvas.getContext("webgl2", { antialias: false, alpha: false, powerPreference: "high-performance" });
    if (!gl) throw new Error("no WebGL 2");
    Object.assign(this, { canvas, gl, tiles: [], budget: 1.5e6, frames: [], fence: null });
    this.points = program(gl, POINTS);
    this.picture = program(gl, PICTURE);
    this.lines = program(gl, LINES);
    this.empty = gl.createVertexArray();
    this.lineBuffer = gl.createBuffer();
    this.lineArray = gl.createVertexArray();
    gl.bindVertexArray(this.lineArray);
    gl.bindBuffer(gl.ARRAY_BUFFER, this.lineBuffer);
    gl.enableVertexAttribArray(0);
    gl.vertexAttribPointer(0, 3, gl.FLOAT, false, 28, 0);
    gl.enableVertexAttribArray(1);
    gl.vertexAttribPointer(1, 4, gl.FLOAT, false, 28, 12);
    this.palette = this.texture(gl.RGBA8, 256, 1, gl.RGBA, gl.UNSIGNED_BYTE, palette);
    this.target = gl.createFramebuffer();
  }

  texture(format, width, height, of, type, data) {
    const { gl } = this;
    const made = gl.createTexture();
    gl.bindTexture(gl.TEXTURE_2D, made);
    gl.texImage2D(gl.TEXTURE_2D, 0, format, width, height, 0, of, type, data);
    gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MIN_FILTER, gl.NEAREST);
    gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MAG_FILTER, gl.NEAREST);
    return made;
  }

  // A tile: the place of its corner and its steps in scene units, and its vertices.
  add(corner, quantum, count, { out, low, high }) {
    const { gl } = this;
    const array = gl.createVertexArray();
    const buffer = gl.createBuffer();
    gl.bindVertexArray(array);
    gl.bindBuffer(gl.ARRAY_BUFFER, buffer);
    gl.bufferData(gl.ARRAY_BUFFER, out, gl.STATIC_DRAW);
    for (const place of [0, 1, 2]) gl.enableVertexAttribArray(place);
    gl.vertexAttribIPointer(0, 4, gl.UNSIGNED_SHORT, VERTEX, 0);
    gl.vertexAttribPointer(1, 4, gl.UNSIGNED_BYTE, true, VERTEX, 8);
    gl.vertexAttribPointer(2, 4, gl.UNSIGNED_BYTE, true, VERTEX, 12);
    gl.bindVertexArray(null);
    const middle = [0, 1, 2].map((axis) => corner[axis] + (quantum * (low[axis] + high[axis])) / 2);
    const radius = (quantum * Math.hypot(...[0, 1, 2].map((axis) => high[axis] - low[axis]))) / 2;
    const tile = { corner, quantum, count, array, buffer, middle, radius };
    this.tiles.push(tile);
    return tile;
  }

  remove(tile) {
    this.gl.deleteVertexArray(tile.array);
    this.gl.deleteBuffer(tile.buffer);
    this.tiles.splice(this.tiles.indexOf(tile), 1);
  }

  // Takes the canvas's size on the page; whether that is another one.
  resize() {
    const { gl, canvas } = this;
    const scale = Math.min(devicePixelRatio || 1, 2);
    const [width, height] = [canvas.clientWidth, canvas.clientHeight].map((n) => Math.max(1, Math.round(n * scale)));
    if (this.colours && canvas.width === width && canvas.height === height) return false;
    [canvas.width, canvas.height] = [width, height];
    gl.deleteTexture(this.colours ?? null);
    gl.deleteTexture(this.depths ?? null);
    this.colours = this.texture(gl.RGBA8, width, height, gl.RGBA, gl.UNSIGNED_BYTE, null);
    this.depths = this.texture(gl.DEPTH_COMPONENT24, width, height, gl.DEPTH_COMPONENT, gl.UNSIGNED_INT, null);
    gl.bindFramebuffer(gl.FRAMEBUFFER, this.target);
    gl.framebufferTexture2D(gl.FRAMEBUFFER, gl.COLOR_ATTACHMENT0, gl.TEXTURE_2D, this.colours, 0);
    gl.framebufferTexture2D(gl.FRAMEBUFFER, gl.DEPTH_ATTACHMENT, gl.TEXTURE_2D, this.depths, 0);
    return true;
  }

  // The tiles that a pose may see: their balls against the picture's four sides.
  seen(pose) {
    return this.tiles.filter(this.sees(pose));
  }

  // Whether a pose may see something of a ball.
  sees(pose) {
    const eye = pose.eye();
    const aspect = this.canvas.width / this.canvas.height;
    const beyond = (across, depth, tangent) =>
      (Math.abs(across) - depth * tangent) / Math.hypot(1, tangent);
    return ({ middle, radius }) => {
      const at = add(middle, eye, -1);
      const depth = -dot(at, pose.back);
      return depth > -radius && beyond(dot(at, pose.right), depth, TANGENT * aspect) < radius
        && beyond(dot(at, pose.up), depth, TANGENT) < radius;
    };
  }

  // Nearest and farthest depth of balls with a middle and a radius.
  range(pose, balls) {
    const eye = pose.eye();
    let [near, far] = [Infinity, 0];
    for (const { middle, radius } of balls) {
      const depth = -dot(add(middle, eye, -1), pose.back);
      near = Math.min(near, depth - radius);
      far = Math.max(far, depth + radius);
    }
    far = Math.max(far, 2 * pose.distance);
    // 24 bits of depth tell a ten-thousandth of the distance where far is ten thousand times near.
    return [Math.max(Math.min(near, pose.distance), far / 1e4, pose.distance / 1e3), 1.01 * far];
  }

  // Draws the pieces of the tiles from one share to another; `look` says how.
  piece(pose, tiles, [from, to], look, [near, far]) {
    const { gl, canvas, points: { made, places } } = this;
    const eye = pose.eye();
    gl.bindFramebuffer(gl.FRAMEBUFFER, this.target);
    gl.viewport(0, 0, canvas.width, canvas.height);
    gl.enable(gl.DEPTH_TEST);
    if (from === 0) {
      gl.clearColor(0, 0, 0, 1);
      gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
    }
    gl.useProgram(made);
    gl.activeTexture(gl.TEXTURE0);
    gl.bindTexture(gl.TEXTURE_2D, this.palette);
    gl.uniform1i(places.palette, 0);
    gl.uniformMatrix4fv(places.clip, false, pose.clip(canvas.width / canvas.height, TANGENT, near, far));
    const reach = (look.size * look.spacing * canvas.height) / (2 * TANGENT);
    gl.uniform2f(places.sizes, ...look.sizes);
    gl.uniform1f(places.least, look.least);
    gl.uniform2f(places.viewRange, ...look.viewRange);
    gl.uniform1i(places.mode, look.mode);
    const [bottom, top] = look.heights;
    for (const tile of tiles) {
      const [first, end] = [Math.floor(from * tile.count), Math.floor(to * tile.count)];
      if (end === first) continue;
      const share = tile.quantum / (top - bottom);
      // Of a coarse tile, points stand for several.
      gl.uniform1f(places.reach, reach * (tile.apart ?? 1));
      gl.uniform3f(places.corner, ...add(tile.corner, eye, -1));
      gl.uniform1f(places.quantum, tile.quantum);
      gl.uniform1f(places.rise, (dot(tile.corner, look.up) - bottom) / (top - bottom));
      gl.uniform3f(places.up, look.up[0] * share, look.up[1] * share, look.up[2] * share);
      gl.bindVertexArray(tile.array);
      gl.drawArrays(gl.POINTS, first, end - first);
    }
  }

  // Shows what was drawn, and lines over it: nine numbers... x y z relative to the eye, red green blue alpha.
  show(pose, look, [near, far], lines) {
    const { gl, canvas, picture: { made, places } } = this;
    gl.bindFramebuffer(gl.FRAMEBUFFER, null);
    gl.viewport(0, 0, canvas.width, canvas.height);
    gl.enable(gl.DEPTH_TEST);
    gl.depthFunc(gl.ALWAYS);
    gl.useProgram(made);
    [this.colours, this.depths].forEach((texture, unit) => {
      gl.activeTexture(gl.TEXTURE0 + unit);
      gl.bindTexture(gl.TEXTURE_2D, texture);
    });
    gl.uniform1i(places.colours, 0);
    gl.uniform1i(places.depths, 1);
    gl.uniform3f(places.ground, ...look.ground);
    gl.uniform2f(places.range, near, far);
    gl.uniform1f(places.strength, look.shading ? SHADING : 0);
    gl.uniform1i(places.radius, Math.max(1, Math.round(canvas.height / canvas.clientHeight)));
    gl.bindVertexArray(this.empty);
    gl.drawArrays(gl.TRIANGLES, 0, 3);
    gl.depthFunc(gl.LEQUAL);
    if (lines.length > 0) {
      gl.useProgram(this.lines.made);
      const clip = pose.clip(canvas.width / canvas.height, TANGENT, near, far);
      gl.uniformMatrix4fv(this.lines.places.clip, false, clip);
      gl.bindVertexArray(this.lineArray);
      gl.bindBuffer(gl.ARRAY_BUFFER, this.lineBuffer);
      gl.bufferData(gl.ARRAY_BUFFER, lines, gl.STREAM_DRAW);
      gl.enable(gl.BLEND);
      gl.blendFunc(gl.SRC_ALPHA, gl.ONE_MINUS_SRC_ALPHA);
      gl.drawArrays(gl.LINES, 0, lines.length / 7);
      gl.disable(gl.BLEND);
    }
    gl.bindVertexArray(null);
  }

  // Whether the card is done with what it was given; learns from how long that took.
  isFree(now) {
    const { gl, fence } = this;
    if (!fence) return true;
    const state = gl.clientWaitSync(fence.sync, gl.SYNC_FLUSH_COMMANDS_BIT, 0);
    if (state === gl.TIMEOUT_EXPIRED) return false;
    gl.deleteSync(fence.sync);
    this.fence = null;
    const took = now - fence.began;
    this.frames.push(took);
    if (this.frames.length > 240) this.frames.shift();
    // Only a frame of about the budget says something about it.
    if (fence.points > 0.5 * this.budget) {
      this.budget = Math.min(2e7, Math.max(4e4, this.budget * Math.min(1.3, Math.max(0.5, FRAME / took))));
    }
    return true;
  }

  given(now, points) {
    this.fence = { sync: this.gl.fenceSync(this.gl.SYNC_GPU_COMMANDS_COMPLETE, 0), began: now, points };
  }
}

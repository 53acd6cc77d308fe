// Where the viewer stands, in the scene's own units and in doubles: the graphics card only sees what is relative to it.

export const add = (a, b, by = 1) => [a[0] + by * b[0], a[1] + by * b[1], a[2] + by * b[2]];
export const dot = (a, b) => a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
export const cross = (a, b) =>
  [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]];
export const unit = (a) => { const by = 1 / Math.hypot(...a); return [by * a[0], by * a[1], by * a[2]]; };

// Rodrigues' formula.
function turned(a, axis, angle) {
  const [c, s] = [Math.cos(angle), Math.sin(angle)];
  const along = (1 - c) * dot(axis, a);
  return add(add([c * a[0], c * a[1], c * a[2]], cross(axis, a), s), axis, along);
}

export class Pose {
  // Looks at the target from a distance; right, up and back are the axes of the picture, at right angles.
  constructor(target, distance, right, up, back) {
    Object.assign(this, { target, distance, right, up, back });
  }

  // Upright as the axis says, from the direction `back`.
  static upright(target, distance, back, axis) {
    const aside = Math.abs(dot(back, axis)) > 0.999 ? [axis[1], axis[2], axis[0]] : axis;
    const right = unit(cross(aside, back));
    return new Pose(target, distance, right, cross(back, right), unit(back));
  }

  eye() {
    return add(this.target, this.back, this.distance);
  }

  copy() {
    return new Pose(this.target, this.distance, this.right, this.up, this.back);
  }

  // Around the axis, then up and down, not beyond the poles.
  turn(yaw, pitch, axis) {
    const around = (a) => turned(a, axis, yaw);
    [this.right, this.up, this.back] = [around(this.right), around(this.up), around(this.back)];
    const least = 0.02;
    const height = Math.acos(Math.min(1, Math.max(-1, dot(this.back, axis))));
    // The angle from the pole goes down where the eye goes up.
    const allowed = Math.min(Math.max(height - pitch, least), Math.PI - least);
    const by = -(height - allowed);
    this.up = turned(this.up, this.right, by);
    this.back = turned(this.back, this.right, by);
    // Rounding must not add up.
    this.back = unit(this.back);
    this.right = unit(cross(this.up, this.back));
    this.up = cross(this.back, this.right);
  }

  // By shares of the picture's height.
  move(across, up, tangent) {
    const by = 2 * this.distance * tangent;
    this.target = add(add(this.target, this.right, -across * by), this.up, up * by);
  }

  // From this pose to another; t from 0 to 1.
  towards(other, t) {
    const mix = (a, b) => add([a[0] * (1 - t), a[1] * (1 - t), a[2] * (1 - t)], b, t);
    const back = unit(mix(this.back, other.back));
    const right = mix(this.right, other.right);
    const sideways = unit(add(right, back, -dot(right, back)));
    const distance = this.distance * (other.distance / this.distance) ** t;
    return new Pose(mix(this.target, other.target), distance, sideways, cross(back, sideways), back);
  }

  // Column by column, for positions relative to the eye: first the turn, then the projection of WebGL.
  clip(aspect, tangent, near, far) {
    const [fx, fy] = [1 / (tangent * aspect), 1 / tangent];
    const [a, b] = [(far + near) / (near - far), (2 * far * near) / (near - far)];
    const { right: r, up: u, back: k } = this;
    const matrix = [];
    for (let axis = 0; axis < 3; axis++) matrix.push(fx * r[axis], fy * u[axis], a * k[axis], -k[axis]);
    return new Float32Array([...matrix, 0, 0, b, 0]);
  }
}

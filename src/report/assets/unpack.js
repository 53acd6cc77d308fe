// What the page has packed: base64, in it zlib, in it differences. The formats stand in src/report/tiles.rs (points)
// and src/report/views.rs (maps).

// Bytes of a vertex: x y z (16 bits each), views, confidence, red, green, blue, one to spare, the normal, two to spare.
export const VERTEX = 16;

export async function unpacked(id) {
  const letters = atob(document.getElementById(id).textContent);
  const bytes = new Uint8Array(letters.length);
  for (let i = 0; i < letters.length; i++) bytes[i] = letters.charCodeAt(i);
  return inflated(bytes);
}

export async function inflated(bytes) {
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

// The vertices of a tile, in an order of which every beginning is an even part, and the box around them in steps.
export function vertices(bytes, start, count) {
  const out = new Uint8Array(VERTEX * count);
  const places = new Uint16Array(out.buffer);
  const low = [65535, 65535, 65535];
  const high = [0, 0, 0];
  const place = [0, 0, 0];
  const stride = coprimeNear(0.618 * count, count);
  const plane = (p) => start + p * count;
  let green = 0, redness = 0, blueness = 0, confidence = 0, u = 0, v = 0, slot = 0;
  for (let i = 0; i < count; i++) {
    for (let axis = 0; axis < 3; axis++) {
      const zigzag = bytes[plane(2 * axis) + i] | (bytes[plane(2 * axis + 1) + i] << 8);
      const at = (place[axis] + ((zigzag >> 1) ^ -(zigzag & 1))) & 65535;
      place[axis] = at;
      places[(VERTEX / 2) * slot + axis] = at;
      if (at < low[axis]) low[axis] = at;
      if (at > high[axis]) high[axis] = at;
    }
    green += bytes[plane(6) + i];
    redness += bytes[plane(7) + i];
    blueness += bytes[plane(8) + i];
    confidence += bytes[plane(9) + i];
    u += bytes[plane(11) + i];
    v += bytes[plane(12) + i];
    const at = VERTEX * slot;
    // Arrays of bytes take what is left modulo 256.
    out[at + 6] = bytes[plane(10) + i];
    out[at + 7] = confidence;
    out[at + 8] = redness + green;
    out[at + 9] = green;
    out[at + 10] = blueness + green;
    out[at + 12] = u;
    out[at + 13] = v;
    slot = (slot + stride) % count;
  }
  return { out, low, high };
}

function coprimeNear(wanted, count) {
  const divisor = (a, b) => (b === 0 ? a : divisor(b, a % b));
  let stride = Math.max(1, Math.round(wanted));
  while (divisor(stride, count) !== 1) stride++;
  return stride;
}

// The maps of a view: depth as steps (0: none), confidence 0 to 255.
export function maps(bytes, width, height) {
  const count = width * height;
  const steps = new Uint16Array(count);
  const confidence = new Uint8Array(count);
  for (let i = 0; i < count; i++) {
    const before = i % width === 0 ? i - width : i - 1;
    const of = (array) => (before < 0 ? 0 : array[before]);
    steps[i] = of(steps) + (bytes[i] | (bytes[count + i] << 8));
    confidence[i] = of(confidence) + bytes[2 * count + i];
  }
  return { width, height, steps, confidence };
}

// Six hexadecimal digits a colour, as bytes.
export function palette(digits) {
  const bytes = new Uint8Array((digits.length / 6) * 4);
  for (let i = 0; i < digits.length / 6; i++) {
    const colour = parseInt(digits.slice(6 * i, 6 * i + 6), 16);
    bytes.set([colour >> 16, (colour >> 8) & 255, colour & 255, 255], 4 * i);
  }
  return bytes;
}

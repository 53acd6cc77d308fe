// The programs of the graphics card.

export const POINTS = [`#version 300 es
// Formats that every card takes as they are: others would be converted, buffer by buffer.
layout(location = 0) in uvec4 packed; // x y z, and views + 256 confidence
layout(location = 1) in vec4 photo;
layout(location = 2) in vec4 octahedral;
uniform mat4 clip;
uniform vec3 corner;    // of the tile, relative to the eye
uniform float quantum;  // of the tile
uniform float reach;    // pixels of a point at distance 1
uniform vec2 sizes;     // fewest and most pixels of a point
uniform float least;    // confidence, 0 to 255
uniform float rise;     // height of the tile's corner
uniform vec3 up;        // from steps to height
uniform vec2 viewRange;
uniform int mode;
uniform sampler2D palette;
out vec3 colour;
flat out float size;

vec3 normal() {
  if (octahedral.xy == vec2(0.0)) return vec3(0.0);
  vec2 o = (octahedral.xy * 255.0 - 128.0) / 127.0;
  float z = 1.0 - abs(o.x) - abs(o.y);
  float fold = max(-z, 0.0);
  return normalize(vec3(o.x - (o.x < 0.0 ? -fold : fold), o.y - (o.y < 0.0 ? -fold : fold), z));
}

vec3 shade(float t) {
  return texelFetch(palette, ivec2(int(clamp(t, 0.0, 1.0) * 255.0 + 0.5), 0), 0).rgb;
}

void main() {
  vec3 place = vec3(packed.xyz);
  float views = float(packed.w & 255u);
  float confidence = float(packed.w >> 8u);
  if (confidence < least) {
    gl_Position = vec4(2.0, 2.0, 2.0, 1.0);
    gl_PointSize = 1.0;
    return;
  }
  gl_Position = clip * vec4(corner + quantum * place, 1.0);
  size = clamp(reach / gl_Position.w, sizes.x, sizes.y);
  gl_PointSize = size;
  if (mode == 0) colour = photo.rgb;
  else if (mode == 1) colour = shade(confidence / 255.0);
  else if (mode == 2) colour = shade((views - viewRange.x) / max(viewRange.y - viewRange.x, 1.0));
  else if (mode == 3) colour = 0.5 + 0.5 * normal();
  else colour = shade(rise + dot(up, place));
}`, `#version 300 es
precision mediump float;
in vec3 colour;
flat in float size;
out vec4 pixel;
void main() {
  vec2 off = gl_PointCoord - 0.5;
  if (size > 3.0 && dot(off, off) > 0.25) discard;
  pixel = vec4(colour, 1.0);
}`];

// Puts the picture of the points on the page: edges between near and far are shaded (eye-dome lighting: a pixel is
// darker the farther it lies behind its neighbours, in logarithms of depth).
export const PICTURE = [`#version 300 es
void main() {
  vec2 corner = vec2(gl_VertexID == 1 ? 3.0 : -1.0, gl_VertexID == 2 ? 3.0 : -1.0);
  gl_Position = vec4(corner, 0.0, 1.0);
}`, `#version 300 es
precision highp float;
uniform sampler2D colours;
uniform highp sampler2D depths;
uniform vec3 ground;
uniform vec2 range; // near, far
uniform float strength;
uniform int radius;
out vec4 pixel;

float logarithm(ivec2 at) {
  float depth = texelFetch(depths, clamp(at, ivec2(0), textureSize(depths, 0) - 1), 0).r;
  return log2(range.x * range.y / (range.y - depth * (range.y - range.x)));
}

void main() {
  ivec2 at = ivec2(gl_FragCoord.xy);
  gl_FragDepth = texelFetch(depths, at, 0).r;
  if (gl_FragDepth == 1.0) {
    pixel = vec4(ground, 1.0);
    return;
  }
  vec3 colour = texelFetch(colours, at, 0).rgb;
  if (strength > 0.0) {
    float own = logarithm(at);
    float behind = 0.0;
    for (int i = 0; i < 4; i++) {
      ivec2 step = radius * ivec2(i < 2 ? 1 - 2 * i : 0, i < 2 ? 0 : 5 - 2 * i);
      behind += clamp(own - logarithm(at + step), 0.0, 0.1);
    }
    colour *= exp(-strength * behind);
  }
  pixel = vec4(colour, 1.0);
}`];

export const LINES = [`#version 300 es
layout(location = 0) in vec3 place;
layout(location = 1) in vec4 tint;
uniform mat4 clip;
out vec4 colour;
void main() {
  gl_Position = clip * vec4(place, 1.0);
  colour = tint;
}`, `#version 300 es
precision mediump float;
in vec4 colour;
out vec4 pixel;
void main() { pixel = colour; }`];

export function program(gl, [vertex, fragment]) {
  const made = gl.createProgram();
  for (const [kind, text] of [[gl.VERTEX_SHADER, vertex], [gl.FRAGMENT_SHADER, fragment]]) {
    const shader = gl.createShader(kind);
    gl.shaderSource(shader, text);
    gl.compileShader(shader);
    gl.attachShader(made, shader);
  }
  gl.linkProgram(made);
  if (!gl.getProgramParameter(made, gl.LINK_STATUS)) {
    const logs = gl.getAttachedShaders(made).map((shader) => gl.getShaderInfoLog(shader));
    throw new Error(`${gl.getProgramInfoLog(made)} ${logs.join(" ")}`);
  }
  const places = {};
  for (let i = 0; i < gl.getProgramParameter(made, gl.ACTIVE_UNIFORMS); i++) {
    const { name } = gl.getActiveUniform(made, i);
    places[name] = gl.getUniformLocation(made, name);
  }
  return { made, places };
}

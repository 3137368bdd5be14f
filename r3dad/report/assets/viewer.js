"use strict";
// CloudView: one point cloud in raw WebGL2, lit in screen space from its depth, turned by a trackball.
// Points arrive in random order, so any prefix is a fair thinning: while the view moves, only as many are drawn as keep it smooth.

const POINT_VERTEX = `#version 300 es
in vec3 position; in vec3 shift; in float value; in float kept;
uniform mat3 turn; uniform vec3 extent, target; uniform float shiftScale, morph, distance, lens, aspect, near, far, size, cut;
uniform sampler2D colours; uniform float row;
out vec3 colour;
void main() {
  vec3 e = turn * (position * extent + shift * shiftScale * morph - target);
  float depth = distance - e.z;
  gl_Position = vec4(e.x * lens / aspect, e.y * lens, (depth * (far + near) - 2.0 * far * near) / (far - near), depth);
  gl_PointSize = clamp(size / depth, 1.5, 64.0);
  if (kept < cut) gl_Position = vec4(2.0, 2.0, 2.0, 1.0);
  colour = texture(colours, vec2((value * 255.0 + 0.5) / 256.0, row)).rgb;
}`;
const POINT_FRAGMENT = `#version 300 es
precision mediump float;
in vec3 colour; out vec4 pixel;
void main() {
  vec2 d = gl_PointCoord - 0.5;
  if (dot(d, d) > 0.25) discard;
  pixel = vec4(colour, 1.0);
}`;
const LIGHT_VERTEX = `#version 300 es
void main() { gl_Position = vec4(vec2(gl_VertexID & 1, gl_VertexID >> 1) * 4.0 - 1.0, 0.0, 1.0); }`;
// The plane through 16 depths around a pixel gives its slope and how deep it lies below them: light and shade without normals in the data.
const LIGHT_FRAGMENT = `#version 300 es
precision highp float;
uniform sampler2D image, depths; uniform ivec2 bounds; uniform float near, far, reach, unitsPerDepth;
out vec4 pixel;
float depthAt(ivec2 p) {
  float z = texelFetch(depths, clamp(p, ivec2(0), bounds - 1), 0).r;
  return z >= 1.0 ? -1.0 : far * near / (far - z * (far - near));
}
void main() {
  ivec2 p = ivec2(gl_FragCoord.xy);
  float here = depthAt(p);
  if (here < 0.0) { pixel = vec4(0.0); return; }
  float step = here * unitsPerDepth, below = 0.0, weight = 0.01;
  vec2 slope = vec2(0.0);
  for (int ring = 1; ring <= 2; ring++) for (int k = 0; k < 8; k++) {
    float a = 0.785398 * (float(k) + 0.5 * float(ring)), r = reach * float(2 * ring - 1);
    vec2 to = round(r * vec2(cos(a), sin(a)));
    float there = depthAt(p + ivec2(to)), rise = (there - here) / (step * r);
    if (there < 0.0) continue;
    below += clamp(-rise, -1.5, 1.5);
    if (abs(rise) < 3.0) { slope += to / r * rise; weight += 0.5; }
  }
  vec3 normal = normalize(vec3(slope / weight, 1.0));
  float lit = max(dot(normal, vec3(-0.451, 0.551, 0.702)), 0.0);
  pixel = vec4(texelFetch(image, p, 0).rgb * min((0.5 + 0.58 * lit) * exp(-0.05 * max(below - 1.5, 0.0)), 1.08), 1.0);
}`;

class CloudView {
  // canvas: where to draw; colours: Uint8Array of rows * 256 * 3 (rgb), one row per colour map.
  constructor(canvas, colours) {
    this.canvas = canvas;
    this.gl = canvas.getContext("webgl2", { alpha: true, antialias: false, preserveDrawingBuffer: true, premultipliedAlpha: true });
    if (!this.gl) throw new Error("WebGL 2 is not available");
    this.rows = colours.length / 768;
    this.sizeFactor = 1; this.morph = 0; this.cut = 0; this.share = 1; this.row = 0; this.moving = false; this.onFrame = () => {};
    this.#build(colours);
    this.#listen();
    new ResizeObserver(() => this.draw()).observe(canvas);
  }

  // cloud: {count, position: Uint16Array 3n, extent [3], spacing, values: {name: Uint8Array n}, shift: Int8Array 3n | null, shiftScale, toward [3]}
  show(cloud) {
    const gl = this.gl;
    this.cloud = cloud;
    this.radius = 0.5 * Math.hypot(...cloud.extent) || 1;
    this.buffers?.forEach((b) => gl.deleteBuffer(b));
    this.buffers = [];
    this.#attribute("position", cloud.position, 3, gl.UNSIGNED_SHORT);
    this.#attribute("shift", cloud.shift, 3, gl.BYTE);
    this.#attribute("kept", cloud.values.score, 1, gl.UNSIGNED_BYTE);
    this.reset();
  }

  colourBy(name, row) {
    this.#attribute("value", this.cloud.values[name], 1, this.gl.UNSIGNED_BYTE);
    this.row = row;
    this.draw();
  }

  reset() {
    this.#face(this.cloud.toward);
    this.target = this.cloud.extent.map((v) => v / 2);
    this.#frameAll();
    this.draw();
  }

  #face(toward) {
    const length = Math.hypot(...toward) || 1, [x, y, z] = toward.map((v) => v / length), flat = Math.hypot(x, y);
    if (flat < 1e-3) { this.turn = [1, 0, 0, 0, Math.sign(z) || 1, 0, 0, 0, Math.sign(z) || 1]; return; }
    const right = [-y / flat, x / flat, 0], up = [-z * x / flat, -z * y / flat, flat];
    this.turn = [...right, ...up, x, y, z];       // rows: screen right, screen up, towards the eye
  }

  rotate(dx, dy) {
    const t = this.turn, [cx, sx, cy, sy] = [Math.cos(dy), Math.sin(dy), Math.cos(dx), Math.sin(dx)];
    for (let k = 0; k < 3; k++) {
      const r = t[k], u = t[3 + k], f = t[6 + k], r2 = cy * r + sy * f, f2 = -sy * r + cy * f;
      t[k] = r2; t[3 + k] = cx * u - sx * f2; t[6 + k] = sx * u + cx * f2;
    }
    this.#moved();
  }

  pan(dx, dy) {
    const step = this.distance / (this.#lens() * this.canvas.clientHeight / 2);
    for (let k = 0; k < 3; k++) this.target[k] -= (dx * this.turn[k] - dy * this.turn[3 + k]) * step;
    this.#moved();
  }

  zoom(factor) {
    this.distance = Math.min(Math.max(this.distance * factor, this.radius * 0.05), this.radius * 40);
    this.#moved();
  }

  // Index of the nearest drawn point within `reach` CSS pixels of (x, y), or -1.
  pick(x, y, reach = 9) {
    const c = this.cloud, t = this.turn, w = this.canvas.clientWidth, h = this.canvas.clientHeight, f = this.#lens() * h / 2;
    let best = -1, bestDepth = Infinity;
    for (let i = 0; i < c.count; i++) {
      if (c.values.score[i] < this.cut) continue;
      const p = this.place(i), a = p[0] - this.target[0], b = p[1] - this.target[1], g = p[2] - this.target[2];
      const depth = this.distance - (t[6] * a + t[7] * b + t[8] * g);
      if (depth <= 0 || depth >= bestDepth) continue;
      const px = w / 2 + f * (t[0] * a + t[1] * b + t[2] * g) / depth - x, py = h / 2 - f * (t[3] * a + t[4] * b + t[5] * g) / depth - y;
      if (px * px + py * py < reach * reach) { best = i; bestDepth = depth; }
    }
    return best;
  }

  // Position of point i as drawn, relative to the cloud's corner.
  place(i) {
    const c = this.cloud, m = c.shift ? this.morph * c.shiftScale / 127 : 0;
    return [0, 1, 2].map((k) => c.position[3 * i + k] / 65535 * c.extent[k] + (m ? c.shift[3 * i + k] * m : 0));
  }

  // Where a place (relative to the cloud's corner) is on the canvas: [x, y, whether it lies in the far half].
  project(place) {
    const t = this.turn, v = place.map((p, k) => p - this.target[k]), depth = this.distance - (t[6] * v[0] + t[7] * v[1] + t[8] * v[2]);
    const w = this.canvas.clientWidth, h = this.canvas.clientHeight, f = this.#lens() * h / 2 / depth;
    return [w / 2 + f * (t[0] * v[0] + t[1] * v[1] + t[2] * v[2]), h / 2 - f * (t[3] * v[0] + t[4] * v[1] + t[5] * v[2]), depth > 0 ? depth : 0];
  }

  // Look at a place against a direction, so that `size` fills about a third of the view.
  lookAt(place, toward, size) {
    this.#face(toward);
    this.target = [...place];
    this.distance = Math.max(1.5 * size, 0.25 * this.radius) * this.#lens() / 0.8 + this.radius * 0.3;
    this.#moved();
  }

  centreOn(i) { this.target = this.place(i); this.#moved(); }

  // Length in scan units that one CSS pixel spans at the centre of the view.
  unitsPerPixel() { return this.distance / (this.#lens() * this.canvas.clientHeight / 2); }

  draw() {
    if (!this.cloud || this.pending) return;
    this.pending = requestAnimationFrame((now) => { this.pending = 0; this.#frame(now); });
  }

  // Moves target and distance so that the cloud, seen from this direction, fills nine tenths of the view.
  #frameAll() {
    const c = this.cloud, t = this.turn, low = [Infinity, Infinity], high = [-Infinity, -Infinity], step = Math.max(1, c.count >> 13);
    for (let i = 0; i < c.count; i += step) {
      const p = this.place(i);
      for (let k = 0; k < 2; k++) {
        const v = t[3 * k] * (p[0] - this.target[0]) + t[3 * k + 1] * (p[1] - this.target[1]) + t[3 * k + 2] * (p[2] - this.target[2]);
        low[k] = Math.min(low[k], v); high[k] = Math.max(high[k], v);
      }
    }
    for (let k = 0; k < 3; k++) this.target[k] += (low[0] + high[0]) / 2 * t[k] + (low[1] + high[1]) / 2 * t[3 + k];
    const aspect = this.canvas.clientWidth / Math.max(1, this.canvas.clientHeight);
    this.distance = Math.max((high[1] - low[1]) / 2, (high[0] - low[0]) / 2 / aspect, this.radius * 0.1) * this.#lens() / 0.8 + this.radius * 0.3;
  }

  #lens() { return 3.4; }

  #moved() {
    this.moving = true;
    this.draw();
  }

  #attribute(name, data, width, type) {
    const gl = this.gl, at = gl.getAttribLocation(this.points, name);
    if (!data) { gl.disableVertexAttribArray(at); gl.vertexAttrib3f(at, 0, 0, 0); return; }
    const buffer = gl.createBuffer();
    this.buffers.push(buffer);
    gl.bindBuffer(gl.ARRAY_BUFFER, buffer);
    gl.bufferData(gl.ARRAY_BUFFER, data, gl.STATIC_DRAW);
    gl.enableVertexAttribArray(at);
    gl.vertexAttribPointer(at, width, type, true, 0, 0);
  }

  #build(colours) {
    const gl = this.gl;
    const program = (vertex, fragment) => {
      const p = gl.createProgram();
      for (const [kind, text] of [[gl.VERTEX_SHADER, vertex], [gl.FRAGMENT_SHADER, fragment]]) {
        const s = gl.createShader(kind);
        gl.shaderSource(s, text); gl.compileShader(s);
        if (!gl.getShaderParameter(s, gl.COMPILE_STATUS)) throw new Error(gl.getShaderInfoLog(s));
        gl.attachShader(p, s);
      }
      gl.linkProgram(p);
      if (!gl.getProgramParameter(p, gl.LINK_STATUS)) throw new Error(gl.getProgramInfoLog(p));
      p.at = new Proxy({}, { get: (known, n) => known[n] ??= gl.getUniformLocation(p, n) });
      return p;
    };
    this.points = program(POINT_VERTEX, POINT_FRAGMENT);
    this.light = program(LIGHT_VERTEX, LIGHT_FRAGMENT);
    [this.buffer, this.litBuffer] = [gl.createFramebuffer(), gl.createFramebuffer()];
    [this.image, this.depths, this.map, this.lit] = [0, 1, 2, 3].map((unit) => {
      const t = gl.createTexture();
      gl.activeTexture(gl.TEXTURE0 + unit); gl.bindTexture(gl.TEXTURE_2D, t);
      for (const [k, v] of [[gl.TEXTURE_MIN_FILTER, gl.NEAREST], [gl.TEXTURE_MAG_FILTER, gl.NEAREST],
        [gl.TEXTURE_WRAP_S, gl.CLAMP_TO_EDGE], [gl.TEXTURE_WRAP_T, gl.CLAMP_TO_EDGE]]) gl.texParameteri(gl.TEXTURE_2D, k, v);
      return t;
    });
    gl.activeTexture(gl.TEXTURE2);
    gl.pixelStorei(gl.UNPACK_ALIGNMENT, 1);
    gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGB, 256, this.rows, 0, gl.RGB, gl.UNSIGNED_BYTE, colours);
  }

  #fit() {
    const gl = this.gl, c = this.canvas, ratio = Math.min(window.devicePixelRatio || 1, 2);
    const w = Math.max(1, Math.round(c.clientWidth * ratio)), h = Math.max(1, Math.round(c.clientHeight * ratio));
    this.ratio = ratio;
    if (c.width === w && c.height === h && this.fitted) return;
    c.width = w; c.height = h; this.fitted = true;
    gl.activeTexture(gl.TEXTURE0); gl.bindTexture(gl.TEXTURE_2D, this.image);
    gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA8, w, h, 0, gl.RGBA, gl.UNSIGNED_BYTE, null);
    gl.activeTexture(gl.TEXTURE1); gl.bindTexture(gl.TEXTURE_2D, this.depths);
    gl.texImage2D(gl.TEXTURE_2D, 0, gl.DEPTH_COMPONENT24, w, h, 0, gl.DEPTH_COMPONENT, gl.UNSIGNED_INT, null);
    gl.activeTexture(gl.TEXTURE3); gl.bindTexture(gl.TEXTURE_2D, this.lit);
    gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA8, w, h, 0, gl.RGBA, gl.UNSIGNED_BYTE, null);
    gl.bindFramebuffer(gl.FRAMEBUFFER, this.litBuffer);
    gl.framebufferTexture2D(gl.FRAMEBUFFER, gl.COLOR_ATTACHMENT0, gl.TEXTURE_2D, this.lit, 0);
    gl.bindFramebuffer(gl.FRAMEBUFFER, this.buffer);
    gl.framebufferTexture2D(gl.FRAMEBUFFER, gl.COLOR_ATTACHMENT0, gl.TEXTURE_2D, this.image, 0);
    gl.framebufferTexture2D(gl.FRAMEBUFFER, gl.DEPTH_ATTACHMENT, gl.TEXTURE_2D, this.depths, 0);
  }

  #frame(now) {
    const gl = this.gl, c = this.cloud;
    this.#fit();
    if (this.moving && this.last) {                // hold about 50 frames a second while turning
      const gap = now - this.last;
      this.share = Math.min(1, Math.max(0.04, this.share * (gap > 60 ? 0.5 : gap > 24 ? 0.85 : gap < 18 ? 1.06 : 1)));
    }
    this.last = this.moving ? now : 0;
    // A part of the points goes with the same part of the pixels, so the cost falls with the share.
    const share = this.moving ? this.share : 1, detail = Math.sqrt(share), count = Math.ceil(c.count * share);
    const [w, h] = [this.canvas.width, this.canvas.height].map((v) => Math.max(1, Math.round(v * detail))), lens = this.#lens();
    const reach = this.radius * 1.3 + Math.hypot(...this.target.map((v, k) => v - c.extent[k] / 2));
    const far = this.distance + reach, near = Math.max(this.distance - reach, far * 1e-3);
    const splat = this.sizeFactor * 3.0 * c.spacing / Math.sqrt(share) * lens * h / 2;   // diameter in pixels at depth 1
    gl.bindFramebuffer(gl.FRAMEBUFFER, this.buffer);
    gl.viewport(0, 0, w, h);
    gl.clearColor(0, 0, 0, 0); gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
    gl.enable(gl.DEPTH_TEST);
    gl.useProgram(this.points);
    const at = this.points.at;
    gl.uniformMatrix3fv(at.turn, true, this.turn);
    gl.uniform3fv(at.extent, c.extent); gl.uniform3fv(at.target, this.target);
    for (const [name, v] of Object.entries({ shiftScale: c.shiftScale || 0, morph: this.morph, distance: this.distance, lens, aspect: w / h, near, far,
      size: splat, cut: this.cut / 255, row: (this.row + 0.5) / this.rows })) gl.uniform1f(at[name], v);
    gl.uniform1i(at.colours, 2);
    gl.drawArrays(gl.POINTS, 0, count);
    gl.bindFramebuffer(gl.FRAMEBUFFER, detail < 1 ? this.litBuffer : null);
    gl.disable(gl.DEPTH_TEST);
    gl.useProgram(this.light);
    gl.uniform1i(this.light.at.image, 0); gl.uniform1i(this.light.at.depths, 1);
    gl.uniform2i(this.light.at.bounds, w, h);
    for (const [name, v] of Object.entries({ near, far, reach: Math.min(Math.max(0.5 * splat / this.distance, 1.2), 10), unitsPerDepth: 2 / (lens * h) })) gl.uniform1f(this.light.at[name], v);
    gl.drawArrays(gl.TRIANGLES, 0, 3);
    if (detail < 1) {
      gl.bindFramebuffer(gl.READ_FRAMEBUFFER, this.litBuffer);
      gl.bindFramebuffer(gl.DRAW_FRAMEBUFFER, null);
      gl.blitFramebuffer(0, 0, w, h, 0, 0, this.canvas.width, this.canvas.height, gl.COLOR_BUFFER_BIT, gl.LINEAR);
    }
    this.drawn = count;
    clearTimeout(this.settle);                     // armed by the frame, not the move: a slow frame must not end the movement
    if (this.moving) this.settle = setTimeout(() => { if (!this.pending) { this.moving = false; this.draw(); } }, 200);
    this.onFrame(this);
  }

  #listen() {
    const c = this.canvas, held = new Map();
    c.addEventListener("pointerdown", (e) => { c.setPointerCapture(e.pointerId); held.set(e.pointerId, [e.clientX, e.clientY]); });
    for (const end of ["pointerup", "pointercancel"]) c.addEventListener(end, (e) => held.delete(e.pointerId));
    c.addEventListener("pointermove", (e) => {
      const was = held.get(e.pointerId);
      if (!was) return;
      const dx = e.clientX - was[0], dy = e.clientY - was[1];
      if (held.size === 1) (e.shiftKey || e.buttons & 6) ? this.pan(dx, dy) : this.rotate(dx * 0.008, dy * 0.008);
      else {
        const other = [...held].find(([id]) => id !== e.pointerId)[1];
        const before = Math.hypot(was[0] - other[0], was[1] - other[1]), after = Math.hypot(e.clientX - other[0], e.clientY - other[1]);
        this.pan(dx / 2, dy / 2); this.zoom(before / Math.max(after, 1));
      }
      held.set(e.pointerId, [e.clientX, e.clientY]);
    });
    c.addEventListener("contextmenu", (e) => e.preventDefault());
    c.addEventListener("wheel", (e) => { e.preventDefault(); this.zoom(Math.exp(Math.max(-60, Math.min(60, e.deltaY)) * 0.003)); }, { passive: false });
    c.addEventListener("dblclick", (e) => { const i = this.pick(e.offsetX, e.offsetY, 14); if (i >= 0) this.centreOn(i); });
    c.addEventListener("keydown", (e) => {
      const act = { ArrowLeft: () => this.rotate(-0.12, 0), ArrowRight: () => this.rotate(0.12, 0), ArrowUp: () => this.rotate(0, -0.12),
        ArrowDown: () => this.rotate(0, 0.12), "+": () => this.zoom(0.85), "=": () => this.zoom(0.85), "-": () => this.zoom(1.18), Home: () => this.reset() }[e.key];
      if (act) { e.preventDefault(); act(); }
    });
  }
}

// Mouse, touch and keys, as turns, moves and steps towards something.

const TURN = 0.006;
const KEY_TURN = 0.08;

// `on` has turn(yaw, pitch), move(across, up) in shares of the picture's height, zoom(factor), click(x, y),
// hover(x, y), home() and key(name).
export function listen(canvas, on) {
  const fingers = new Map();
  let moved = 0;
  const height = () => canvas.clientHeight || 1;

  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    fingers.set(event.pointerId, [event.offsetX, event.offsetY]);
    moved = fingers.size > 1 ? Infinity : 0;
  });
  canvas.addEventListener("pointermove", (event) => {
    const before = fingers.get(event.pointerId);
    const now = [event.offsetX, event.offsetY];
    if (!before) {
      on.hover(...now);
      return;
    }
    const [dx, dy] = [now[0] - before[0], now[1] - before[1]];
    moved += Math.hypot(dx, dy);
    if (fingers.size === 2) {
      const other = [...fingers].find(([id]) => id !== event.pointerId)[1];
      const apart = (a) => Math.max(1, Math.hypot(a[0] - other[0], a[1] - other[1]));
      on.zoom(apart(before) / apart(now));
      // Each of two fingers moves the picture by half of its way.
      on.move(dx / 2 / height(), dy / 2 / height());
    } else if (event.shiftKey || event.buttons & 6) {
      on.move(dx / height(), dy / height());
    } else {
      on.turn(-dx * TURN, dy * TURN);
    }
    fingers.set(event.pointerId, now);
  });
  const up = (event) => {
    const at = fingers.get(event.pointerId);
    fingers.delete(event.pointerId);
    // A click may tremble.
    if (event.type === "pointerup" && at && moved < 5) on.click(...at);
  };
  canvas.addEventListener("pointerup", up);
  canvas.addEventListener("pointercancel", up);
  canvas.addEventListener("contextmenu", (event) => event.preventDefault());
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    // Lines and pages as pixels.
    const pixels = event.deltaY * [1, 16, 400][event.deltaMode];
    on.zoom(Math.exp(Math.min(300, Math.max(-300, pixels)) * 0.0015));
  }, { passive: false });

  canvas.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const arrows = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
    const arrow = arrows[event.key];
    if (arrow && event.shiftKey) on.move(-arrow[0] * 0.05, arrow[1] * 0.05);
    else if (arrow) on.turn(arrow[0] * KEY_TURN, arrow[1] * KEY_TURN);
    else if (event.key === "+" || event.key === "=") on.zoom(1 / 1.15);
    else if (event.key === "-" || event.key === "_") on.zoom(1.15);
    else if (event.key === "Home") on.home();
    else if (!on.key(event.key)) return;
    event.preventDefault();
  });
}

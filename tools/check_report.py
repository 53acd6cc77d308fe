#!/usr/bin/env python3
"""Opens a report in a headless Chromium and tells what is there: for tests/report, and to look at.

    tools/check_report.py PAGE [--into FOLDER] [--shots] [--fluent SECONDS] [--size 1360x900]

PAGE is a report's file, or the address of `engine view`. Prints one JSON object: what the console said, what was asked
of the net, what the viewer drew and by which pose, what the slider, a key, a click and the pointer did. The drawn
pixels go to FOLDER/pixels.rgba (rows from below). --shots adds pictures in dark, light and at a phone's width, and a
PDF; --fluent turns the cloud for so many seconds and tells the times between frames.

It needs Chromium (ENGINE_CHROMIUM, or `chromium` and the like in the path) and nothing else: the DevTools protocol is
spoken over a pipe.
"""

import argparse
import base64
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

NAMES = ["chromium", "chromium-browser", "google-chrome", "chrome"]
# Software graphics: the same pixels on every machine, with or without a graphics card.
FLAGS = [
    "--headless=new", "--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader",
    "--remote-debugging-pipe", "--no-first-run", "--disable-extensions", "--disable-background-networking",
    "--disable-component-update", "--hide-scrollbars", "--force-color-profile=srgb", "--disable-dev-shm-usage",
]
PATIENCE = 120


def browser():
    """The browser's path, or None."""
    named = os.environ.get("ENGINE_CHROMIUM")
    return named or next(filter(None, map(shutil.which, NAMES)), None)


class Session:
    """One page of one browser."""

    def __init__(self, program, size):
        self.folder = tempfile.mkdtemp(prefix="engine-report-")
        (read, to_browser), (from_browser, write) = os.pipe(), os.pipe()
        command = [program, *FLAGS, f"--user-data-dir={self.folder}", f"--window-size={size[0]},{size[1]}"]

        def pipes():
            # The browser reads from 3 and writes to 4; both ends first go out of the way.
            high = [os.dup2(read, 63), os.dup2(write, 62)]
            os.dup2(high[0], 3)
            os.dup2(high[1], 4)

        quiet = subprocess.DEVNULL
        self.process = subprocess.Popen(command, preexec_fn=pipes, close_fds=False, stdout=quiet, stderr=quiet)
        os.close(read)
        os.close(write)
        self.write, self.read = to_browser, from_browser
        self.buffer, self.number, self.events, self.session = b"", 0, [], None
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ["Page", "Runtime", "Log", "Network"]:
            self.ask(f"{domain}.enable")
        self.resize(size)

    def message(self):
        while b"\0" not in self.buffer:
            piece = os.read(self.read, 1 << 20)
            if not piece:
                raise SystemExit("the browser has ended")
            self.buffer += piece
        text, self.buffer = self.buffer.split(b"\0", 1)
        return json.loads(text)

    def ask(self, method, **parameters):
        self.number += 1
        asked = {"id": self.number, "method": method, "params": parameters}
        if self.session:
            asked["sessionId"] = self.session
        os.write(self.write, json.dumps(asked).encode() + b"\0")
        while True:
            answer = self.message()
            if answer.get("id") == self.number:
                if "error" in answer:
                    raise SystemExit(f"{method}: {answer['error']}")
                return answer["result"]
            if "method" in answer:
                self.events.append(answer)

    def run(self, script):
        """The value of an expression, awaited."""
        found = self.ask("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in found:
            details = found["exceptionDetails"]
            raise SystemExit(f"{script}: {details.get('exception', {}).get('description', details['text'])}")
        return found["result"].get("value")

    def resize(self, size, phone=False):
        width, height = size
        self.ask("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=2 if phone else 1,
                 mobile=phone)

    def theme(self, theme):
        self.ask("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": theme}])

    def open(self, page):
        self.ask("Page.navigate", url=page)
        until = time.monotonic() + PATIENCE
        while not self.run("document.readyState === 'complete' && 'engineReport' in globalThis"):
            if time.monotonic() > until:
                raise SystemExit(f"the page is not there after {PATIENCE} s: {self.complaints()}")
            time.sleep(0.05)
        self.run("engineReport.cloud ? engineReport.cloud.ready.then(() => true) : true")

    def complaints(self):
        """What the console said, and what went wrong in scripts."""
        said = []
        for event in self.events:
            parameters = event["params"]
            if event["method"] == "Runtime.exceptionThrown":
                details = parameters["exceptionDetails"]
                said.append(details.get("exception", {}).get("description", details["text"]))
            elif event["method"] == "Log.entryAdded" and parameters["entry"]["level"] in ("error", "warning"):
                said.append(parameters["entry"]["text"])
            elif event["method"] == "Runtime.consoleAPICalled":
                said.append(" ".join(str(arg.get("value", arg.get("description"))) for arg in parameters["args"]))
        return said

    def asked_of_the_net(self):
        sent = [event["params"]["request"]["url"] for event in self.events
                if event["method"] == "Network.requestWillBeSent"]
        return [url[:200] for url in sent if not url.startswith(("data:", "blob:"))]

    def mouse(self, kind, x, y, **more):
        self.ask("Input.dispatchMouseEvent", type=kind, x=x, y=y, **more)

    def picture(self, file, whole=False):
        found = self.ask("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        file.write_bytes(base64.b64decode(found["data"]))

    def close(self):
        self.process.terminate()
        self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


STILL = """(() => {
  const still = engineReport.cloud.still(true);
  let letters = "";
  for (let i = 0; i < still.pixels.length; i += 32768) {
    letters += String.fromCharCode(...still.pixels.subarray(i, i + 32768));
  }
  return { ...still, pixels: btoa(letters), shown: engineReport.cloud.shown };
})()"""
SETTLE = """new Promise((done) => {
  const wait = () => engineReport.cloud.progress >= 1 && !engineReport.cloud.flight
    ? requestAnimationFrame(() => requestAnimationFrame(done)) : requestAnimationFrame(wait);
  setTimeout(wait, 250);
})"""


def drawn_by(session):
    """What the viewer draws, without its pixels, and these."""
    still = session.run(STILL)
    pixels = base64.b64decode(still.pop("pixels"))
    ground = [round(255 * value) for value in still["ground"]]
    rows = memoryview(pixels).cast("B")
    covered = sum(any(abs(rows[i + c] - ground[c]) > 1 for c in range(3)) for i in range(0, len(rows), 4))
    return {**still, "covered": covered}, pixels


def check_cloud(session, into):
    """Pixels, slider, keys, a click on a camera."""
    found = {}
    found["still"], pixels = drawn_by(session)
    if into:
        (into / "pixels.rgba").write_bytes(pixels)
    set_slider = ("(value) => { const s = document.getElementById('confidence'); s.value = value;"
                  " s.dispatchEvent(new Event('input', { bubbles: true })); }")
    found["slider"] = []
    for value in ["0.5", "0.95", "1", "0"]:
        session.run(f"({set_slider})({value})")
        state, _ = drawn_by(session)
        found["slider"].append({"value": float(value), "shown": state["shown"], "covered": state["covered"]})
    session.run("document.getElementById('scene').focus()")
    before = session.run("engineReport.cloud.pose.eye()")
    for kind in ["keyDown", "keyUp"]:
        session.ask("Input.dispatchKeyEvent", type=kind, key="ArrowRight", code="ArrowRight")
    found["key_moved"] = session.run("engineReport.cloud.pose.eye()") != before
    place = session.run("""(() => {
      const { cloud } = engineReport;
      cloud.flight = null;
      cloud.pose = cloud.home();
      document.getElementById("viewer").scrollIntoView({ block: "center", behavior: "instant" });
      const box = cloud.canvas.getBoundingClientRect();
      // A view's tip that is seen and that no other is nearer to, from farther back where there is none.
      for (let step = 0; step < 6; step++, cloud.pose.distance *= 1.5) {
        for (const view of cloud.data.views.keys()) {
          const at = cloud.onCanvas(cloud.data.views[view].centre);
          if (!at || at[0] < 8 || at[1] < 8 || at[0] > box.width - 8 || at[1] > box.height - 8) continue;
          if (cloud.cameraAt(...at) === view) return [view, box.left + at[0], box.top + at[1]];
        }
      }
      return null;
    })()""")
    if place:
        view, x, y = place
        for kind in ["mousePressed", "mouseReleased"]:
            session.mouse(kind, x, y, button="left", clickCount=1)
        found["clicked"] = session.run(f"""document.querySelector("#card img").decode().catch(() => null).then(() => ({{
          wanted: {view}, chosen: engineReport.cloud.chosen, card: !document.getElementById("card").hidden,
          named: document.querySelector("#card figcaption span")?.textContent,
          photo: document.querySelector("#card img").naturalWidth
        }}))""")
        session.run("engineReport.cloud.choose(-1)")
    return found


def check_views(session):
    """What the pointer reads in a map."""
    return session.run("""engineReport.browser.open(0).then(() => {
      const { browser } = engineReport;
      const reads = [];
      for (const [x, y] of [[0.1, 0.2], [0.5, 0.5], [0.83, 0.67]]) {
        browser.point(x, y);
        reads.push({ ...browser.read, text: document.getElementById("readout").textContent });
      }
      return reads;
    })""")


def fluency(session, seconds):
    """Turns the cloud by the mouse, and gives the milliseconds between frames."""
    box = session.run("""(() => {
      document.getElementById("viewer").scrollIntoView({ block: "center", behavior: "instant" });
      const b = engineReport.cloud.canvas.getBoundingClientRect();
      return [b.left + b.width / 2, b.top + b.height / 2, b.width, b.height];
    })()""")
    session.run("""(() => {
      globalThis.frameTimes = [];
      let last = performance.now();
      const tick = () => {
        const now = performance.now();
        frameTimes.push(now - last);
        last = now;
        requestAnimationFrame(tick);
      };
      requestAnimationFrame(tick);
      engineReport.cloud.renderer.frames.length = 0;
    })()""")
    x, y = box[0], box[1]
    session.mouse("mousePressed", x, y, button="left", clickCount=1)
    until, step = time.monotonic() + seconds, 0
    while time.monotonic() < until:
        step += 1
        session.mouse("mouseMoved", x + 120 * (step % 40 - 20) / 20, y + (step % 9), button="left", buttons=1)
    session.mouse("mouseReleased", x, y, button="left", clickCount=1)
    times = sorted(session.run("frameTimes")[1:])
    drawn = sorted(session.run("engineReport.cloud.renderer.frames"))
    share = lambda list, part: round(list[min(len(list) - 1, int(part * len(list)))], 1) if list else None
    return {
        "points": session.run("engineReport.cloud.loaded"), "frames": len(times),
        "between_ms": {"median": share(times, 0.5), "90%": share(times, 0.9), "longest": share(times, 1)},
        "drawn_in_ms": {"median": share(drawn, 0.5), "90%": share(drawn, 0.9)},
        "points_while_moving": round(session.run("engineReport.cloud.renderer.budget")),
    }


def shots(session, into, size):
    """Pictures to look at."""
    has_cloud = session.run("engineReport.cloud !== null")
    settle = lambda: session.run(SETTLE if has_cloud else "new Promise((done) => setTimeout(done, 400))")
    for theme in ["dark", "light"]:
        session.theme(theme)
        session.run("document.documentElement.scrollTo({ top: 0, behavior: 'instant' })")
        settle()
        session.picture(into / f"{theme}.png")
        session.picture(into / f"{theme}_page.png", whole=True)
    session.resize((390, 844), phone=True)
    settle()
    session.picture(into / "phone.png")
    session.picture(into / "phone_page.png", whole=True)
    session.resize(size)
    settle()
    pdf = session.ask("Page.printToPDF", printBackground=True, preferCSSPageSize=True)
    (into / "print.pdf").write_bytes(base64.b64decode(pdf["data"]))


def main():
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("page")
    words.add_argument("--into", type=pathlib.Path)
    words.add_argument("--shots", action="store_true")
    words.add_argument("--fluent", type=float, metavar="SECONDS")
    words.add_argument("--size", default="1360x900")
    told = words.parse_args()
    program = browser()
    if not program:
        raise SystemExit("no Chromium: install it, or say where it is with ENGINE_CHROMIUM")
    if told.into:
        told.into.mkdir(parents=True, exist_ok=True)
    size = tuple(int(side) for side in told.size.split("x"))
    page = told.page if "://" in told.page else pathlib.Path(told.page).resolve().as_uri()
    session = Session(program, size)
    try:
        session.theme("light")
        session.open(page)
        found = {}
        if session.run("engineReport.cloud !== null"):
            found.update(check_cloud(session, told.into))
        if session.run("engineReport.browser.views.length > 0"):
            found["reads"] = check_views(session)
        if told.fluent:
            found["fluent"] = fluency(session, told.fluent)
        if told.shots and told.into:
            shots(session, told.into, size)
        found["console"] = session.complaints()
        found["asked"] = session.asked_of_the_net()
        json.dump(found, sys.stdout)
        print()
    finally:
        session.close()


if __name__ == "__main__":
    main()

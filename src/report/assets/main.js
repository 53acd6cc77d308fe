// Brings the page to life; without scripts it still has its tables and photos.

import { CloudViewer } from "./cloud.js";
import { startTheme } from "./theme.js";
import { ViewBrowser } from "./views.js";

// `sources.bytes` gives what is packed under a name; `sources.stream`, where it is there, makes of the viewer what
// fetches the cloud's tiles.
export function start(sources) {
  const data = JSON.parse(document.getElementById("data").textContent);
  let cloud = null;
  const browser = new ViewBrowser(data, sources.bytes, (view) => {
    document.getElementById("viewer").scrollIntoView({ block: "center" });
    cloud?.choose(view);
    cloud?.lookFrom(view);
  });
  if (data.cloud) {
    try {
      cloud = new CloudViewer(data, sources, (view) => {
        browser.open(view);
        document.getElementById("browser").scrollIntoView({ block: "center" });
      });
    } catch (error) {
      document.getElementById("status").textContent = `The cloud cannot be shown: ${error.message}.`;
    }
  }
  startTheme(() => cloud?.themeChanged());
  printed(cloud);
  // For the console, and for whoever checks the page.
  globalThis.engineReport = { cloud, browser };
}

// A canvas of WebGL prints empty: a picture takes its place meanwhile.
function printed(cloud) {
  if (!cloud) return;
  const picture = Object.assign(document.createElement("img"), { className: "printed", alt: "The point cloud" });
  addEventListener("beforeprint", () => {
    cloud.still();
    picture.src = cloud.canvas.toDataURL("image/png");
    cloud.canvas.after(picture);
  });
  addEventListener("afterprint", () => picture.remove());
}

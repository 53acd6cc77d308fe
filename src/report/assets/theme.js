// Dark or light: what the system says, until the button says otherwise.

const STORED = "engine-report-theme";

export function isDark() {
  const chosen = document.documentElement.dataset.theme;
  return chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
}

// Calls back whenever it changes.
export function startTheme(changed) {
  const button = document.getElementById("theme");
  button.hidden = false;
  // A page from a file may not be allowed to keep anything.
  const storage = (work) => { try { return work(localStorage); } catch { return null; } };
  const kept = storage((store) => store.getItem(STORED));
  if (kept === "dark" || kept === "light") document.documentElement.dataset.theme = kept;
  button.addEventListener("click", () => {
    const theme = isDark() ? "light" : "dark";
    document.documentElement.dataset.theme = theme;
    storage((store) => store.setItem(STORED, theme));
    changed();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", changed);
}

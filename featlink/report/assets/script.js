"use strict";
(() => {
  const root = document.documentElement;
  const plots = [...document.querySelectorAll("script[data-plot]")].map((script) => ({
    element: document.getElementById(script.dataset.plot),
    ...JSON.parse(script.textContent),
  }));

  // Plotly wants plain colours: the browser works out what "var(--feature)" is in the theme of the moment.
  const probe = document.createElement("span");
  probe.hidden = true;
  document.body.append(probe);
  const resolve = (colour) => {
    probe.style.color = colour;
    return getComputedStyle(probe).color;
  };
  const themed = (value) => {
    if (typeof value === "string") return value.startsWith("var(--") ? resolve(value) : value;
    if (Array.isArray(value)) return value.map(themed);
    if (value !== null && typeof value === "object") {
      return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, themed(item)]));
    }
    return value;
  };

  const axis = (given, narrow) => ({
    ...given,
    gridcolor: resolve("var(--line)"),
    zerolinecolor: resolve("var(--line)"),
    linecolor: resolve("var(--muted)"),
    title: { ...given.title, standoff: 12, font: { size: narrow ? 12 : 13 } },
  });

  const draw = ({ element, data, layout }) => {
    const narrow = element.clientWidth < 640;
    const base = {
      font: { family: getComputedStyle(document.body).fontFamily, size: narrow ? 11 : 12, color: resolve("var(--ink)") },
      paper_bgcolor: "rgba(0, 0, 0, 0)",
      plot_bgcolor: "rgba(0, 0, 0, 0)",
      margin: { t: narrow ? 10 : 34, r: 10, b: 50, l: narrow ? 45 : 60 }, // above, room for the tool bar
      hoverlabel: {
        bgcolor: resolve("var(--raised)"),
        bordercolor: resolve("var(--line)"),
        font: { color: resolve("var(--ink)") },
        align: "left",
      },
      legend: narrow
        ? { orientation: "h", y: -0.2, yanchor: "top", x: 0, groupclick: "togglegroup" }
        : { x: 1.02, y: 1, groupclick: "togglegroup" },
    };
    const full = { ...base, ...themed(layout) };
    for (const name of Object.keys(full).filter((key) => /^[xy]axis\d*$/.test(key))) full[name] = axis(full[name], narrow);
    if (narrow) element.style.height = `${parseInt(element.style.getPropertyValue("--height")) + 10 * data.filter((trace) => trace.showlegend !== false).length}px`;
    else element.style.height = "";
    const config = { responsive: true, displaylogo: false, displayModeBar: narrow ? false : "hover" };
    window.Plotly.react(element, themed(data), full, config);
  };
  const shown = ({ element }) => !element.closest("details:not([open])");
  const drawAll = () => plots.filter(shown).forEach(draw);
  for (const details of document.querySelectorAll("details")) {
    details.addEventListener("toggle", () => plots.filter((plot) => details.contains(plot.element) && shown(plot)).forEach(draw));
  }
  const unfold = () => {
    const target = location.hash && document.getElementById(location.hash.slice(1));
    if (!target) return;
    const details = target.querySelector(":scope > details");
    if (details) details.open = true;
    target.scrollIntoView();
  };
  window.addEventListener("hashchange", unfold);
  document.querySelectorAll("nav a").forEach((link) => link.addEventListener("click", () => setTimeout(unfold)));
  window.addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((details) => (details.open = true)));

  const modes = ["auto", "light", "dark"];
  const button = document.getElementById("theme");
  let mode = "auto";
  button.hidden = false;
  button.addEventListener("click", () => {
    mode = modes[(modes.indexOf(mode) + 1) % modes.length];
    button.textContent = `Theme: ${mode}`;
    root.style.colorScheme = mode === "auto" ? "" : mode;
    drawAll();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
  matchMedia("(max-width: 45rem)").addEventListener("change", drawAll);
  drawAll();
  unfold();
})();

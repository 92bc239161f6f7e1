"use strict";
(() => {
  const root = document.documentElement;
  const darkSystem = matchMedia("(prefers-color-scheme: dark)");
  const dark = () => (root.dataset.theme ? root.dataset.theme === "dark" : darkSystem.matches);

  // Figures: the specification names its colours, the style sheet knows them.
  const COLOURED = new Set(["color", "bgcolor", "fillcolor", "gridcolor", "linecolor"]);
  const source = document.getElementById("_figures");
  const figures = source ? JSON.parse(source.textContent) : {};
  const plots = [...document.querySelectorAll(".plot")];

  function themed(value, look, key) {
    if (Array.isArray(value)) return value.map((item) => themed(item, look));
    if (value !== null && typeof value === "object")
      return Object.fromEntries(Object.entries(value).map(([name, item]) => [name, themed(item, look, name)]));
    const named = COLOURED.has(key) && typeof value === "string" && /^var\((--[\w-]+)\)$/.exec(value);
    return named ? look(named[1]) : value;
  }

  function specification(div) {
    const style = getComputedStyle(root);
    const look = (name) => style.getPropertyValue(name).trim();
    const spec = themed(figures[div.dataset.figure], look);
    for (const button of div.closest(".figure").querySelectorAll(".legend [aria-pressed=false]"))
      for (const trace of JSON.parse(button.dataset.traces)) spec.data[trace].visible = false;
    const axis = (own) => ({ automargin: true, zeroline: false, ticks: "outside", ticklen: 4, tickcolor: look("--rule"), showline: true, ...own, title: { standoff: 10, font: { size: 13 }, ...own.title } });
    const layout = {
      ...spec.layout,
      title: { text: "" },
      font: { family: look("--sans"), size: 13, color: look("--ink") },
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)",
      margin: { l: 12, r: 16, t: 26 + 15 * spec.layout.annotations.length, b: 12 },
      showlegend: false,
      autosize: true,
      uirevision: "keep",
      dragmode: matchMedia("(pointer: coarse)").matches ? false : "zoom",
      hoverlabel: { namelength: -1, align: "left", bgcolor: look("--raised"), bordercolor: look("--rule"), font: { color: look("--ink") } },
      modebar: { bgcolor: "rgba(0,0,0,0)", color: look("--soft-ink"), activecolor: look("--ink") },
      xaxis: axis(spec.layout.xaxis),
      yaxis: axis(spec.layout.yaxis),
    };
    return { data: spec.data, layout };
  }

  function download(div) {
    const { data, layout } = specification(div);
    const picture = {
      ...layout,
      title: { text: figures[div.dataset.figure].layout.title.text, x: 0.02, font: { size: 16 } },
      showlegend: data.length > 1,
      legend: { orientation: "h", y: -0.18, yanchor: "top" },
      paper_bgcolor: getComputedStyle(root).getPropertyValue("--paper").trim(),
      margin: { l: 24, r: 30, t: 50 + layout.margin.t, b: 20 },
    };
    Plotly.downloadImage({ data, layout: picture }, { format: "png", width: 900, height: 560, scale: 2, filename: div.dataset.figure });
  }

  function draw(div, size = {}) {
    const { data, layout } = specification(div);
    const save = { name: "save", title: "Save as PNG", icon: Plotly.Icons.camera, click: () => download(div) };
    const config = { responsive: true, displaylogo: false, typesetMath: false, modeBarButtons: [["zoomIn2d", "zoomOut2d", "resetScale2d", save]] };
    Plotly.react(div, data, { ...layout, ...size }, config);
  }

  const drawAll = () => plots.forEach((div) => draw(div));

  for (const button of document.querySelectorAll(".legend button"))
    button.addEventListener("click", () => {
      const visible = button.getAttribute("aria-pressed") === "false";
      button.setAttribute("aria-pressed", String(visible));
      Plotly.restyle(button.closest(".figure").querySelector(".plot"), { visible }, JSON.parse(button.dataset.traces));
    });

  // Theme: as the system has it until the reader chooses.
  const toggle = document.querySelector(".theme");
  const label = () => { toggle.textContent = dark() ? "Light" : "Dark"; };
  toggle.hidden = false;
  toggle.addEventListener("click", () => {
    root.dataset.theme = dark() ? "light" : "dark";
    try { localStorage.setItem("widthwise-theme", root.dataset.theme); } catch (blocked) { /* this visit only */ }
    label();
    drawAll();
  });
  darkSystem.addEventListener("change", () => { label(); drawAll(); });

  // Print: light, unfolded, in the width of the paper.
  let before = null;
  addEventListener("beforeprint", () => {
    if (before) return;
    before = { theme: root.dataset.theme, folds: [...document.querySelectorAll("details:not([open])")] };
    root.dataset.theme = "light";
    before.folds.forEach((fold) => { fold.open = true; });
    for (const div of plots) draw(div, { autosize: false, width: 640, height: div.matches(".dot") ? div.clientHeight : 320 });
  });
  addEventListener("afterprint", () => {
    if (!before) return;
    if (before.theme) root.dataset.theme = before.theme; else delete root.dataset.theme;
    before.folds.forEach((fold) => { fold.open = false; });
    before = null;
    drawAll();
  });

  // Contents: folded on narrow windows, always open beside the text; the section in view is marked.
  const contents = document.querySelector(".contents details");
  const wide = matchMedia("(min-width: 66rem)");
  const unfold = () => { contents.open = wide.matches; };
  wide.addEventListener("change", unfold);
  unfold();
  contents.addEventListener("click", (event) => { if (event.target.closest("a") && !wide.matches) contents.open = false; });
  const links = new Map([...contents.querySelectorAll("a")].map((link) => [link.hash.slice(1), link]));
  const seen = new IntersectionObserver((entries) => {
    for (const entry of entries.filter((item) => item.isIntersecting)) {
      links.forEach((link) => link.removeAttribute("aria-current"));
      links.get(entry.target.id).setAttribute("aria-current", "true");
    }
  }, { rootMargin: "-15% 0px -75% 0px" });
  document.querySelectorAll("section[id]").forEach((section) => { if (links.has(section.id)) seen.observe(section); });

  label();
  drawAll();
})();

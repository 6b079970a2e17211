"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const byId = (id) => document.getElementById(id);
  const rows = [...document.querySelectorAll("#all tbody tr")];
  const picked = [];

  // Numbers as the page writes them.
  const percent = (v) => v ? `${(100 * v[0]).toFixed(1)} % (${(100 * v[1]).toFixed(1)} to ${(100 * v[2]).toFixed(1)})` : "not known";
  const ratio = (v) => !v ? "not known" : v[1] === v[2] ? `${v[0]} (by definition)` : `${v[0].toFixed(3)} (${v[1].toFixed(3)} to ${v[2].toFixed(3)})`;
  const count = (v) => v >= 1e9 ? `${(v / 1e9).toPrecision(3)} G` : `${(v / 1e6).toPrecision(3)} M`;
  const share = (v) => v === null ? "not compared" : `${Math.round(100 * v)} %`;

  function describe(number) {
    const trial = data.trials[number];
    const lines = [trial.name, `${data.metric}: ${percent(trial.accuracy)}`];
    if (data.backend) lines.push(`latency ratio, ${data.backend}: ${ratio(trial.ratio)}`);
    lines.push(`MACs: ${count(trial.macs)}`, `on the front in ${share(trial.probability)}`);
    return lines.join("\n");
  }

  // Points of the front: the nth drawn belongs to the nth compared trial.
  const points = new Map();
  document.querySelectorAll("#figure-front [id$='-points'] use").forEach((use, i) => {
    const number = data.points[i];
    points.set(number, use);
    use.dataset.n = number;
    use.setAttribute("role", "button");
    use.setAttribute("aria-label", describe(number));
    if (data.trials[number].front) use.setAttribute("tabindex", "0");
    use.addEventListener("pointerenter", () => showTip(number, use));
    use.addEventListener("focus", () => showTip(number, use));
    use.addEventListener("pointerleave", hideTip);
    use.addEventListener("blur", hideTip);
    use.addEventListener("click", () => toggle(number));
    use.addEventListener("keydown", (event) => {
      if (event.key === "Enter" || event.key === " ") { event.preventDefault(); toggle(number); }
    });
  });

  function showTip(number, target) {
    const tip = byId("tip");
    tip.textContent = describe(number);
    tip.hidden = false;
    const box = target.getBoundingClientRect();
    const left = Math.min(Math.max(box.left + 14, 8), innerWidth - tip.offsetWidth - 8);
    const top = box.top + tip.offsetHeight + 14 < innerHeight ? box.top + 14 : box.top - tip.offsetHeight - 8;
    tip.style.left = `${left}px`;
    tip.style.top = `${top}px`;
  }

  function hideTip() { byId("tip").hidden = true; }

  // At most two trials are picked; a third pushes out the first.
  function toggle(number) {
    const at = picked.indexOf(number);
    if (at >= 0) picked.splice(at, 1); else picked.push(number);
    if (picked.length > 2) picked.shift();
    for (const row of rows) {
      const is = picked.includes(Number(row.dataset.n));
      row.classList.toggle("picked", is);
      row.querySelector("input").checked = is;
    }
    for (const [n, use] of points) use.classList.toggle("picked", picked.includes(n));
    showComparison();
  }

  // The ratio of two ratios: their logs' half-widths add like independent errors.
  function quotient(a, b) {
    if (!a || !b) return null;
    const half = (v) => Math.log(v[2] / v[1]) / 2;
    const estimate = a[0] / b[0], width = Math.exp(Math.hypot(half(a), half(b)));
    return [estimate, estimate / width, estimate * width];
  }

  function difference(a, b) {
    if (!a || !b) return "not known";
    const half = (v) => (v[2] - v[1]) / 2;
    const estimate = 100 * (a[0] - b[0]), width = 100 * Math.hypot(half(a), half(b));
    return `${estimate.toFixed(1)} points (${(estimate - width).toFixed(1)} to ${(estimate + width).toFixed(1)})`;
  }

  function showComparison() {
    const panel = byId("compare");
    panel.hidden = picked.length === 0;
    panel.replaceChildren();
    if (picked.length === 0) return;
    if (picked.length === 1) {
      panel.append(element("p", `${data.trials[picked[0]].name} is picked; pick another to compare.`), clearButton());
      return;
    }
    const [a, b] = picked.map((number) => data.trials[number]);
    const lines = [["", a.name, b.name, "first against second"], [data.metric, percent(a.accuracy), percent(b.accuracy), difference(a.accuracy, b.accuracy)]];
    if (data.backend) {
      lines.push([`latency ratio, ${data.backend}`, ratio(a.ratio), ratio(b.ratio), ratio(quotient(a.ratio, b.ratio))]);
      if (a.ms || b.ms) ["p50", "p90", "p99"].forEach((name, i) => lines.push([`${name} ms`, a.ms ? a.ms[i].toFixed(2) : "not known", b.ms ? b.ms[i].toFixed(2) : "not known", a.ms && b.ms ? (a.ms[i] / b.ms[i]).toFixed(3) : ""]));
    }
    lines.push(["MACs", count(a.macs), count(b.macs), (a.macs / b.macs).toFixed(3)]);
    lines.push(["parameters", count(a.parameters), count(b.parameters), (a.parameters / b.parameters).toFixed(3)]);
    lines.push(["on the front in", share(a.probability), share(b.probability), ""]);
    const table = element("table");
    lines.forEach((cells, i) => {
      const row = element("tr");
      cells.forEach((cell, j) => row.append(element(i === 0 || j === 0 ? "th" : "td", cell)));
      table.append(row);
    });
    const scroll = element("div");
    scroll.className = "scroll";
    scroll.append(table);
    panel.append(scroll, clearButton());
  }

  function clearButton() {
    const button = element("button", "Close");
    button.type = "button";
    button.addEventListener("click", () => { while (picked.length) toggle(picked[0]); });
    return button;
  }

  function element(name, text) {
    const made = document.createElement(name);
    if (text !== undefined) made.textContent = text;
    return made;
  }

  for (const row of rows) {
    row.querySelector("input").addEventListener("change", () => toggle(Number(row.dataset.n)));
  }

  // Sort: numbers by value, text by itself, what is missing always last.
  document.querySelectorAll("#all th button").forEach((button) => {
    button.addEventListener("click", () => {
      const header = button.parentElement;
      const column = Number(button.dataset.column);
      const sign = header.getAttribute("aria-sort") === "ascending" ? -1 : 1;
      document.querySelectorAll("#all th").forEach((other) => other.removeAttribute("aria-sort"));
      header.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
      const isText = rows.every((row) => row.cells[column].dataset.v === undefined);
      const key = (row) => isText ? row.cells[column].textContent : row.cells[column].dataset.v;
      rows.sort((a, b) => {
        const x = key(a), y = key(b);
        if (x === undefined || y === undefined) return (x === undefined) - (y === undefined);
        return sign * (isText ? x.localeCompare(y) : x - y);
      });
      document.querySelector("#all tbody").append(...rows);
    });
  });

  function filter() {
    const words = byId("find").value.toLowerCase(), state = byId("state").value;
    let shown = 0;
    for (const row of rows) {
      row.hidden = !(row.textContent.toLowerCase().includes(words) && (!state || row.classList.contains(state)));
      shown += !row.hidden;
    }
    byId("shown").textContent = `${shown} of ${rows.length}`;
  }
  byId("find").addEventListener("input", filter);
  byId("state").addEventListener("change", filter);
  document.querySelector(".filter").addEventListener("submit", (event) => event.preventDefault());

  // A reader who doubts a ratio can have it computed again from the medians of its processes.
  // Of several devices the worst counts; see the method.
  function recompute(sessions) {
    const each = sessions.map(recomputeOne);
    return [0, 1, 2].map((i) => Math.exp(Math.max(...each.map((bounds) => bounds[i]))));
  }

  function recomputeOne(blocks) {
    const all = blocks.map(([before, candidate, after]) => {
      const [r0, c, r1] = [before, candidate, after].map((i) => Math.log(data.medians_ns[i]));
      return c - (r0 + r1) / 2;
    });
    const logs = all.filter((_, i) => blocks[i][3]);
    const mean = logs.reduce((sum, v) => sum + v, 0) / logs.length;
    const deviation = Math.sqrt(logs.reduce((sum, v) => sum + (v - mean) ** 2, 0) / (logs.length - 1));
    let low = mean - data.low_half_width_factors[logs.length] * deviation;
    let high = mean + data.half_width_factors[logs.length] * deviation;
    if (all.length - logs.length > data.max_dropped_share * all.length) {
      const sorted = all.toSorted((a, b) => a - b);
      low = Math.min(low, sorted[data.low_median_ranks[all.length] - 1]);
      high = Math.max(high, sorted[all.length - data.median_ranks[all.length]]);
    }
    return [mean, low, high];
  }

  if (byId("check")) {
    byId("check").addEventListener("click", () => {
      let worst = 0, checked = 0;
      for (const [number, sessions] of Object.entries(data.blocks)) {
        const shown = data.trials[number].ratio;
        if (shown[1] === shown[2]) continue;
        recompute(sessions).forEach((value, i) => { worst = Math.max(worst, Math.abs(value - shown[i])); });
        checked += 1;
      }
      byId("checked").textContent = `${checked} ratios with their bounds recomputed; the largest difference is ${worst.toFixed(6)}`;
    });
    byId("save").addEventListener("click", () => {
      const link = element("a");
      link.href = URL.createObjectURL(new Blob([byId("data").textContent], { type: "application/json" }));
      link.download = "report-data.json";
      link.click();
      URL.revokeObjectURL(link.href);
    });
  }
})();

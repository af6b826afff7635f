// Charts, drawn as SVG elements.
function svg(name, attributes, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes || {})) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

const one = number => Math.round(number * 10) / 10;

// Path through points [x, y]; null begins a new part.
function path(points) {
  let text = "",
    begins = true;
  for (const point of points) {
    if (point) text += (begins ? "M" : "L") + one(point[0]) + " " + one(point[1]);
    begins = !point;
  }
  return text;
}

// Small chart of admitted and denied requests per second over the last five minutes.
function spark(box, figures, now) {
  const series = figures && figures.series;
  if (!series || series.at.length < 2)
    return box.replaceChildren(el("span", { class: "dim" }, figures ? "…" : "–"));
  const width = 170,
    height = 34,
    from = now - 300000;
  const most = Math.max(1, ...(series.admitted || []), ...(series.denied || []));
  const line = values =>
    path(
      values.map((value, index) => {
        const gap = index > 0 && series.at[index] - series.at[index - 1] > 15000;
        return gap || series.at[index] < from
          ? null
          : [((series.at[index] - from) / 300000) * width, height - 1 - (value / most) * (height - 3)];
      }),
    );
  const label = "up to " + rate(most) + " per second";
  const chart = svg("svg", {
    viewBox: `0 0 ${width} ${height}`,
    height,
    role: "img",
    "aria-label": label,
    class: "spark",
    preserveAspectRatio: "none",
  });
  chart.append(svg("path", { class: "axis", d: `M0 ${height - 0.5}H${width}` }));
  if (series.admitted) chart.append(svg("path", { class: "admitted-line", d: line(series.admitted) }));
  chart.append(svg("path", { class: "denied-line", d: line(series.denied) }));
  chart.append(svg("title", {}, label + "; green: admitted, red: denied"));
  box.replaceChildren(chart);
}

// Chart of what is left in one window over the last ten minutes, with denials per second below.
function levels(box, samples, window, denials, now) {
  const width = Math.max(260, box.clientWidth || 600),
    top = 14,
    bottom = 120,
    bars = 44,
    x0 = 44;
  const height = bottom + (denials ? bars + 20 : 0) + 18,
    from = now - 600000;
  const left = samples.left[window] || [],
    capacity = samples.capacity[window] || [];
  const most = Math.max(1, ...capacity.filter(it => it !== null));
  const x = at => x0 + ((at - from) / 600000) * (width - x0 - 8);
  const y = value => bottom - (Math.min(value, most) / most) * (bottom - top);
  const points = samples.at.flatMap((at, index) => {
    if (at < from) return [];
    const point = left[index] === null || left[index] === undefined ? null : [x(at), y(left[index])];
    return index > 0 && at - samples.at[index - 1] > 5000 ? [null, point] : [point];
  });
  const chart = svg("svg", {
    viewBox: `0 0 ${width} ${height}`,
    height,
    role: "img",
    "aria-label": "left over the last ten minutes",
  });
  const text = (px, py, value, anchor) => svg("text", { x: px, y: py, "text-anchor": anchor || "end" }, value);
  chart.append(svg("path", { class: "axis", d: `M${x0} ${top}V${bottom}H${width - 8}` }));
  chart.append(text(x0 - 5, top + 4, count(most)), text(x0 - 5, bottom + 3, "0"));
  const last = height - 4;
  for (const minutes of width < 420 ? [8, 4] : [8, 6, 4, 2])
    chart.append(text(x(now - minutes * 60000), last, `−${minutes} min`, "middle"));
  chart.append(text(width - 8, last, "now"));
  let part = [];
  const parts = [part];
  for (const point of points) point ? part.push(point) : parts.push((part = []));
  for (const each of parts.filter(it => it.length > 1)) {
    const area = path(each) + `L${one(each.at(-1)[0])} ${bottom}L${one(each[0][0])} ${bottom}Z`;
    chart.append(svg("path", { class: "area", d: area }), svg("path", { class: "left", d: path(each) }));
  }
  if (denials) {
    const foot = bottom + 16 + bars,
      highest = Math.max(1, ...denials.denied);
    chart.append(svg("path", { class: "axis", d: `M${x0} ${foot}H${width - 8}` }));
    chart.append(text(x0 - 5, foot - bars + 8, count(highest)), text(x0 - 5, foot, "0"));
    const wide = Math.max(1, (width - x0) / 600);
    denials.at.forEach((at, index) => {
      if (at < from) return;
      const tall = (denials.denied[index] / highest) * (bars - 4);
      chart.append(
        svg("rect", { class: "denied", x: one(x(at)), y: one(foot - tall), width: one(wide), height: one(tall) }),
      );
    });
    chart.append(text(width - 8, bottom + 13, "denied per second, by events"));
  }
  box.replaceChildren(chart);
}

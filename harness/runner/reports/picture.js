// A picture of lanes over time, which can be zoomed, and walked through with the arrow keys.
//
// A lane is {label, note, rows, ending}; a row of it is {height, marks}; a mark is
// {from, to, kind, tip, open, run}: times in ms, a class for its colour, the lines of its tooltip,
// whether it never ended, and what to do when it is chosen. An ending is {at, kind, sign, text,
// reason}.

const AXIS_HEIGHT = 22;
const LANE_GAP = 8;
const MIN_MARK_WIDTH = 2;
const MIN_BAD_WIDTH = 4; // one failure among thousands of tests must catch the eye
const MILLISECONDS = { name: "ms", ms: 1 };
const SECONDS = { name: "s", ms: 1000 };
const tip = document.getElementById("tip");

function picture({ label, lanes, to, about, zooms = [], unit = MILLISECONDS }) {
  const whole = { from: 0, to: to > 0 ? to : 1 };
  const state = { ...whole };
  const root = svg("svg", { role: "group", "aria-label": label });
  const zoom = (from, until) => {
    const least = (whole.to - whole.from) / 1e6;
    const length = Math.min(Math.max(until - from, least), whole.to - whole.from);
    state.from = Math.min(Math.max(from, whole.from), whole.to - length);
    state.to = state.from + length;
    draw();
  };
  const tools = zoomTools(state, whole, zoom, zooms);
  const frame = html("div", { class: "picture" }, root);
  const draw = () => {
    if (!frame.clientWidth) return;
    drawLanes(root, lanes, state, frame.clientWidth, unit);
    tools.update();
  };
  new ResizeObserver(draw).observe(frame);
  selectToZoom(root, state, zoom);
  return html("div", {}, frame, html("div", { class: "under" }, about, tools.node));
}

function zoomTools(state, whole, zoom, zooms) {
  const button = (text, title, deed) => html("button", { type: "button", title, "aria-label": title, onclick: deed }, text);
  const scaled = (factor) => () => {
    const middle = (state.from + state.to) / 2;
    const half = ((state.to - state.from) * factor) / 2;
    zoom(middle - half, middle + half);
  };
  const moved = (share) => () => {
    const by = (state.to - state.from) * share;
    zoom(state.from + by, state.to + by);
  };
  const out = button("−", "zoom out", scaled(2));
  const left = button("◀", "earlier", moved(-0.5));
  const right = button("▶", "later", moved(0.5));
  const all = button("all", "the whole time", () => zoom(whole.from, whole.to));
  const ranges = zooms.map(({ text, title, from, to }) => button(text, title, () => zoom(from, to)));
  const node = html("div", { class: "tools" }, ...ranges, button("+", "zoom in", scaled(0.5)), out, left, right, all);
  const update = () => {
    out.disabled = all.disabled = state.from <= whole.from && state.to >= whole.to;
    left.disabled = state.from <= whole.from;
    right.disabled = state.to >= whole.to;
  };
  return { node, update };
}

function layout(width, lanes) {
  const narrow = width < 560;
  const ended = lanes.some((lane) => lane.ending);
  return { left: narrow ? 66 : 84, right: width - (ended && !narrow ? 108 : 16), narrow };
}

function drawLanes(root, lanes, state, width, unit) {
  const { left, right, narrow } = layout(width, lanes);
  const x = (ms) => left + ((ms - state.from) / (state.to - state.from)) * (right - left);
  const heights = lanes.map((lane) => lane.rows.reduce((sum, row) => sum + row.height + 3, 5));
  const height = AXIS_HEIGHT + heights.reduce((sum, each) => sum + each + LANE_GAP, 0);
  root.replaceChildren(axis(state, x, unit, { left, right, width, height, narrow }));
  root.plot = { left, right };
  root.setAttribute("viewBox", `0 0 ${width} ${height}`);
  root.setAttribute("height", height);
  let top = AXIS_HEIGHT;
  lanes.forEach((lane, index) => {
    root.append(drawnLane(lane, { top, height: heights[index], left, right, narrow, x, state }));
    top += heights[index] + LANE_GAP;
  });
}

function axis(state, x, unit, { left, right, width, height, narrow }) {
  const group = svg("g", { class: "axis", "aria-hidden": "true" });
  const step = niceStep((state.to - state.from) / unit.ms / Math.max(1, Math.floor((right - left) / (narrow ? 80 : 100))));
  const digits = Math.max(0, -Math.floor(Math.log10(step)));
  for (let n = Math.ceil(state.from / unit.ms / step); n * step * unit.ms <= state.to; n += 1) {
    const at = x(n * step * unit.ms);
    const last = at > width - 24; // there is no room beyond it
    group.append(
      svg("line", { x1: at, x2: at, y1: AXIS_HEIGHT - 4, y2: height - LANE_GAP }),
      svg("text", { x: at, y: 12, "text-anchor": last ? "end" : "middle" }, grouped(n * step, digits)),
    );
  }
  group.append(svg("text", { x: left - 10, y: 12, "text-anchor": "end" }, unit.name));
  return group;
}

function niceStep(least) {
  const power = 10 ** Math.floor(Math.log10(least));
  return [1, 2, 5, 10].map((factor) => factor * power).find((step) => step >= least) ?? least;
}

function drawnLane(lane, place) {
  const { top, height, left, right, x, narrow } = place;
  const group = svg("g", { class: "lane", tabindex: "0", role: "group", "aria-label": plain(spoken(lane)) });
  group.append(
    svg("rect", { class: "lane-back", x: left, y: top, width: right - left, height, rx: 3 }),
    svg("text", { x: left - 10, y: top + 15, "text-anchor": "end" }, lane.label),
  );
  if (lane.note && !narrow && height > 30) {
    group.append(svg("text", { class: "dim", x: left - 10, y: top + 29, "text-anchor": "end" }, lane.note));
  }
  const drawn = [];
  let rowTop = top + 4;
  for (const row of lane.rows) {
    for (const mark of drawnMarks(row, rowTop, place)) {
      drawn.push(mark);
      group.append(mark.node);
    }
    rowTop += row.height + 3;
  }
  if (lane.ending) group.append(...drawnEnding(lane.ending, place));
  walkable(group, drawn.sort((a, b) => a.mark.from - b.mark.from));
  return group;
}

function spoken(lane) {
  const count = lane.rows.reduce((sum, row) => sum + row.marks.length, 0);
  return [lane.label, lane.ending?.text, `${count} marks; arrow keys go through them`].filter(Boolean).join(", ");
}

// Marks of one kind that would cover the same pixel are drawn as one, so that a row never has many
// more of them than pixels.
function drawnMarks(row, top, { left, right, x, state }) {
  const found = [];
  const at = new Map();
  for (const mark of row.marks) {
    if (mark.to < state.from || mark.from > state.to) continue;
    const from = Math.max(x(mark.from), left);
    const least = mark.kind === "failed" ? MIN_BAD_WIDTH : MIN_MARK_WIDTH;
    const width = Math.max(Math.min(x(mark.to), right) - from, least);
    const key = `${mark.kind} ${Math.floor(from)}`;
    const same = width <= least && at.get(key);
    if (same) same.more += 1;
    else {
      const shape = { mark, more: 0, from, width };
      if (width <= least) at.set(key, shape);
      found.push(shape);
    }
  }
  for (const shape of found) shape.node = drawnMark(shape, top, row.height);
  return found;
}

function drawnMark(shape, top, height) {
  const { mark, from, width } = shape;
  const show = (event) => showTip(tipOf(shape), event.clientX, event.clientY);
  const attributes = { class: `${mark.kind}${mark.run ? " clickable" : ""}`, onpointermove: show, onpointerleave: hideTip };
  if (mark.run) attributes.onclick = mark.run;
  if (!mark.open || width < 12) return svg("rect", { ...attributes, x: from, y: top, width, height, rx: width > 6 ? 2 : 0 });
  // It never ended: the far end is torn off.
  const end = from + width;
  const teeth = [0, 1, 2, 3, 4].map((n) => `${end - (n % 2 ? 6 : 0)},${top + (n * height) / 4}`);
  return svg("polygon", { ...attributes, points: [`${from},${top}`, ...teeth, `${from},${top + height}`].join(" ") });
}

function drawnEnding(ending, { top, height, left, right, x, state, narrow }) {
  const seen = ending.at !== null && ending.at >= state.from && ending.at <= state.to;
  const at = seen ? x(ending.at) : right;
  const show = (event) => showTip([ending.text, ending.reason].filter(Boolean), event.clientX, event.clientY);
  const marks = seen ? [svg("line", { class: `ending ${ending.kind}`, x1: at, x2: at, y1: top, y2: top + height })] : [];
  const text = narrow ? "" : `${ending.sign} ${ending.text}`;
  return [
    ...marks,
    svg("text", { class: `ending ${ending.kind}`, x: right + 8, y: top + 15, onpointermove: show, onpointerleave: hideTip }, text),
  ];
}

function tipOf({ mark, more }) {
  return more ? [...mark.tip, `and ${grouped(more)} more too close to tell apart`] : mark.tip;
}

function showTip(lines, x, y) {
  tip.replaceChildren(html("b", {}, plain(lines[0])), lines.slice(1).map(plain).join("\n"));
  tip.hidden = false;
  const box = tip.getBoundingClientRect();
  tip.style.left = `${Math.max(4, Math.min(x + 12, innerWidth - box.width - 4))}px`;
  tip.style.top = `${y + 18 + box.height > innerHeight ? y - box.height - 10 : y + 18}px`;
}

function hideTip() {
  tip.hidden = true;
}

// Left and right go from mark to mark, Enter chooses one.
function walkable(group, drawn) {
  let index = -1;
  const go = (to) => {
    drawn[index]?.node.classList.remove("at");
    index = Math.max(0, Math.min(to, drawn.length - 1));
    const { node } = drawn[index];
    node.classList.add("at");
    const box = node.getBoundingClientRect();
    showTip(tipOf(drawn[index]), box.left, box.bottom - 10);
  };
  group.addEventListener("keydown", (event) => {
    const target = { ArrowRight: index + 1, ArrowLeft: index - 1, Home: 0, End: drawn.length - 1 }[event.key];
    if (event.key === "Enter" && drawn[index]?.mark.run) drawn[index].mark.run();
    if (event.key === "Escape") hideTip();
    if (target === undefined || !drawn.length) return;
    event.preventDefault();
    go(target);
  });
  group.addEventListener("blur", () => {
    drawn[index]?.node.classList.remove("at");
    hideTip();
  });
}

// Dragging over a stretch of time zooms into it; a double click shows all of it again.
function selectToZoom(root, state, zoom) {
  const MIN_DRAG = 6;
  let began = null;
  const within = (event) => event.clientX - root.getBoundingClientRect().left;
  const rect = svg("rect", { class: "selection", y: AXIS_HEIGHT });
  root.addEventListener("pointerdown", (event) => {
    if (event.button === 0 && event.pointerType === "mouse") began = within(event);
  });
  root.addEventListener("pointermove", (event) => {
    if (began === null || Math.abs(within(event) - began) < MIN_DRAG) return;
    root.setPointerCapture(event.pointerId);
    fill(rect, { x: Math.min(began, within(event)), width: Math.abs(within(event) - began), height: root.clientHeight - AXIS_HEIGHT }, []);
    root.append(rect);
  });
  root.addEventListener("pointerup", (event) => {
    const [a, b] = [began, within(event)].sort((one, other) => one - other);
    const { left, right } = root.plot;
    const ms = (x) => state.from + ((x - left) / (right - left)) * (state.to - state.from);
    if (rect.parentNode && b - a >= MIN_DRAG) zoom(ms(a), ms(b));
    rect.remove();
    began = null;
  });
  root.addEventListener("dblclick", () => zoom(0, Infinity));
}

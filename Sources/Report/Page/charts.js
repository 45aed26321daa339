// Charts as SVG, drawn at the width they are shown at, so that text keeps its size. report.css has colours and strokes.

const lineHeight = 16;
const textWidth = (text) => 6.7 * text.length;

// Scales

/** From data to pixels. `kind` is linear or log; ticks are pairs of value and text. */
function scale(kind, [low, high], [start, end], { ticks, format, room = 60 } = {}) {
  const forward = kind === 'log' ? Math.log10 : (value) => value;
  const [a, b] = [forward(low), forward(high)];
  const map = (value) => start + ((forward(value) - a) / (b - a || 1)) * (end - start);
  const wanted = Math.max(2, Math.floor(Math.abs(end - start) / room));
  const values = ticks ?? (kind === 'log' ? logTicks(low, high, wanted) : linearTicks(low, high, wanted));
  const text = format ?? (kind === 'log' ? powerText : magnitude);
  return { map, ticks: values.filter((value) => value >= low && value <= high).map((value) => [value, text(value)]) };
}

function linearTicks(low, high, wanted) {
  const rough = (high - low) / wanted || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((factor) => factor * power).find((size) => size >= rough * 0.999);
  const first = Math.ceil(low / step - 1e-9);
  return Array.from({ length: Math.floor(high / step + 1e-9) - first + 1 }, (_, index) =>
    Number(((first + index) * step).toPrecision(12)));
}

function logTicks(low, high, wanted) {
  const decades = Math.log10(high / low);
  const factors = decades * 3 <= wanted * 1.6 ? [1, 2, 5] : [1];
  if (decades < 0.8) return linearTicks(low, high, Math.min(wanted, 6));
  const every = Math.max(1, Math.ceil(decades / wanted));
  const ticks = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power += 1) {
    if (power % every === 0) ticks.push(...factors.map((factor) => Number(`${factor}e${power}`)));
  }
  return ticks;
}

function powerText(value) {
  if (value >= 0.01 && value < 1e4) return plain(value, 3);
  const power = Math.floor(Math.log10(value) + 1e-9);
  const factor = Number((value / 10 ** power).toPrecision(3));
  return `${factor === 1 ? '' : `${factor}·`}10${superscript(power)}`;
}

/** Least and greatest of some numbers, with a little room around. */
function extent(values, kind = 'linear') {
  const [low, high] = values.reduce(([a, b], value) => [Math.min(a, value), Math.max(b, value)], [Infinity, -Infinity]);
  if (!(low <= high)) return kind === 'log' ? [0.1, 1] : [0, 1];
  if (kind === 'log') return [low / 1.05, high * 1.05];
  const room = (high - low || Math.abs(high) || 1) * 0.04;
  return [low === 0 ? 0 : low - room, high + room];
}

// Pieces

/** The SVG of a chart, which says to a screen reader what it shows. */
function canvas(width, height, title, description) {
  return shape('svg', { class: 'chart', viewBox: `0 0 ${width} ${height}`, width, height, role: 'img',
    'aria-label': `${title}. ${description}` }, shape('title', {}, title), shape('desc', {}, description));
}

function label(x, y, text, attributes = {}) {
  return shape('text', { x: round(x), y: round(y), ...attributes }, text);
}

const round = (value) => Math.round(value * 10) / 10;

/** Grid, ticks and names of both axes around a frame. */
function axes(svg, frame, x, y, names, { isSmall = false } = {}) {
  const grid = shape('g', { class: 'grid' });
  const text = shape('g', { class: isSmall ? 'ticks small' : 'ticks' });
  for (const [value, name] of y.ticks) {
    const at = round(y.map(value));
    grid.append(shape('line', { x1: frame.left, x2: frame.right, y1: at, y2: at }));
    text.append(label(frame.left - 6, at + 4, name, { 'text-anchor': 'end' }));
  }
  for (const [value, name] of x.ticks) {
    const at = round(x.map(value));
    grid.append(shape('line', { x1: at, x2: at, y1: frame.bottom, y2: frame.bottom + 4 }));
    text.append(label(at, frame.bottom + 17, name, { 'text-anchor': 'middle' }));
  }
  grid.append(shape('line', { class: 'base', x1: frame.left, x2: frame.right, y1: frame.bottom, y2: frame.bottom }));
  svg.append(grid, text);
  if (names.x) {
    svg.append(label(frame.right, frame.bottom + 35, names.x, { class: 'axis', 'text-anchor': 'end' }));
  }
  if (names.y) svg.append(label(0, 12, names.y, { class: 'axis' }));
}

function path(points, x, y, attributes) {
  const steps = points.map(([px, py], index) => `${index ? 'L' : 'M'}${round(x.map(px))} ${round(y.map(py))}`);
  return shape('path', { d: steps.join(''), ...attributes });
}

/** A mark whose form belongs to the colour, so that colour is not all that tells series apart. */
function marker(x, y, colour, text) {
  const size = 3.6;
  const forms = [
    () => shape('circle', { cx: round(x), cy: round(y), r: size }),
    () => shape('rect', { x: round(x - size + 0.4), y: round(y - size + 0.4), width: 6.4, height: 6.4 }),
    () => shape('path', { d: `M${round(x)} ${round(y - 4.6)}l4.4 7.8h-8.8z` }),
    () => shape('path', { d: `M${round(x)} ${round(y - 5)}l5 5l-5 5l-5 -5z` }),
  ];
  const node = forms[(Number(colour) || 0) % forms.length]();
  node.setAttribute('class', `mark fill${colour}`);
  if (text) node.append(shape('title', {}, text));
  return node;
}

/** Moves heights apart that are closer than a line of text, and keeps them in the frame. */
function spread(heights, top, bottom, gap = lineHeight - 2) {
  const order = heights.map((y, index) => ({ y, index })).sort((a, b) => a.y - b.y);
  order.forEach((item, place) => { if (place) item.y = Math.max(item.y, order[place - 1].y + gap); });
  const over = (order.at(-1)?.y ?? 0) - bottom;
  if (over > 0) {
    order.at(-1).y -= over;
    for (let place = order.length - 2; place >= 0; place -= 1) {
      order[place].y = Math.min(order[place].y, order[place + 1].y - gap);
    }
  }
  const result = [];
  for (const item of order) result[item.index] = Math.max(top, item.y);
  return result;
}

/** Names of series in rows below a chart that is too narrow for names beside it; returns the height. */
function legend(svg, entries, width, top) {
  let [x, y] = [0, top];
  for (const entry of entries) {
    const text = shortened(entry.label, Math.floor((width - 30) / 6.7));
    const room = 30 + textWidth(text);
    if (x > 0 && x + room > width) [x, y] = [0, y + lineHeight + 2];
    if (!entry.isLoose) {
      svg.append(shape('line', { class: `line stroke${entry.colour}${entry.isDashed ? ' dashed' : ''}`,
        x1: x, x2: x + 18, y1: y - 4, y2: y - 4 }));
    }
    if (entry.hasMarks) svg.append(marker(x + 9, y - 4, entry.colour));
    svg.append(label(x + 23, y, text, { class: 'name' }));
    x += room + 8;
  }
  return y + 8;
}

// Charts

/**
 * Lines over common axes, named where they end or, on a narrow page, below.
 *
 * `x` and `y` are { name, kind, domain, format }, `rules` { x or y, text }. A series is { label, points, colour,
 * isDashed, isFaint, hasMarks, notes }; notes are marks [x, y, text].
 */
function lineChart({ title, description, x, y, series, rules = [], height }, width) {
  const named = series.filter((item) => item.label && item.points.length);
  const longest = Math.max(0, ...named.map((item) => textWidth(shortened(item.label))));
  const isWide = width >= 560 && named.length <= 18;
  const tall = height ?? Math.round(Math.min(430, Math.max(270, width * 0.52)));
  const frame = { left: 46, top: 26, right: round(width - (isWide ? longest + 16 : 8)), bottom: tall - 46 };
  const all = series.flatMap((item) => item.points);
  const across = scale(x.kind, x.domain ?? extent(all.map((point) => point[0]), x.kind), [frame.left, frame.right],
    { format: x.format, room: 70 });
  const up = scale(y.kind, y.domain ?? extent(all.map((point) => point[1]), y.kind), [frame.bottom, frame.top],
    { format: y.format, room: 48 });
  const svg = canvas(width, tall, title, description);
  axes(svg, frame, across, up, { x: x.name, y: y.name });
  for (const rule of rules) drawRule(svg, frame, across, up, rule);
  for (const item of [...series].sort((a, b) => Boolean(b.isFaint) - Boolean(a.isFaint))) {
    const style = `line stroke${item.colour}${item.isDashed ? ' dashed' : ''}${item.isFaint ? ' faint' : ''}`;
    svg.append(path(item.points, across, up, { class: style }));
    if (item.hasMarks) {
      for (const point of item.points) svg.append(marker(across.map(point[0]), up.map(point[1]), item.colour));
    }
  }
  for (const item of series) drawNotes(svg, across, up, item);
  if (isWide) {
    const ends = spread(named.map((item) => up.map(item.points.at(-1)[1]) + 4), frame.top + 4, frame.bottom + 4);
    named.forEach((item, index) => {
      // A line that ends early has its name there.
      const end = across.map(item.points.at(-1)[0]);
      svg.append(label((end < frame.right - longest - 40 ? end : frame.right) + 8, ends[index], shortened(item.label),
        { class: `name halo text${item.colour}` }));
    });
  } else if (named.length) {
    resize(svg, width, legend(svg, named.slice(0, 24), width, tall + 10));
  }
  addReadout(svg, frame, across, series, x, y);
  return svg;
}

function resize(svg, width, height) {
  svg.setAttribute('height', height);
  svg.setAttribute('viewBox', `0 0 ${width} ${height}`);
}

function drawRule(svg, frame, x, y, rule) {
  const at = round(rule.x === undefined ? y.map(rule.y) : x.map(rule.x));
  if (rule.x === undefined) {
    svg.append(shape('line', { class: 'rule', x1: frame.left, x2: frame.right, y1: at, y2: at }),
      label(frame.right - 2, at - 5, rule.text, { class: 'note', 'text-anchor': 'end' }));
  } else {
    const isLeft = at > (frame.left + frame.right) / 2;
    const anchor = isLeft ? 'end' : 'start';
    svg.append(shape('line', { class: 'rule', x1: at, x2: at, y1: frame.top, y2: frame.bottom }),
      label(at + (isLeft ? -5 : 5), frame.top + 8, rule.text, { class: 'note', 'text-anchor': anchor }));
  }
}

/** Marks on a line that say something to the pointer. */
function drawNotes(svg, x, y, item) {
  for (const [px, py, text] of item.notes ?? []) {
    svg.append(marker(x.map(px), y.map(py), item.colour, text));
  }
}

/** A line under the pointer, and what the series are there. */
function addReadout(svg, frame, x, series, xAxis, yAxis) {
  const xs = [...new Set(series.flatMap((item) => item.points.map((point) => point[0])))];
  const line = shape('line', { class: 'pointer', y1: frame.top, y2: frame.bottom, visibility: 'hidden' });
  svg.append(line);
  svg.addEventListener('pointermove', (event) => {
    const box = svg.getBoundingClientRect();
    const at = ((event.clientX - box.left) / box.width) * svg.viewBox.baseVal.width;
    const output = svg.parentElement?.querySelector('.readout');
    if (!output || !xs.length || at < frame.left || at > frame.right) return;
    const near = xs.reduce((best, value) => (Math.abs(x.map(value) - at) < Math.abs(x.map(best) - at) ? value : best));
    furnish(line, { x1: round(x.map(near)), x2: round(x.map(near)), visibility: 'visible' }, []);
    const parts = series.filter((item) => item.label).map((item) => {
      const point = item.points.find((candidate) => candidate[0] === near);
      return point && `${item.label}: ${(yAxis.format ?? plain)(point[1])}`;
    }).filter(Boolean).slice(0, 8);
    output.textContent = `${xAxis.name} ${count(near)} – ${parts.join(' · ')}`;
  });
  svg.addEventListener('pointerleave', () => line.setAttribute('visibility', 'hidden'));
}

/**
 * Small charts side by side. A panel is { title, domain, series, rules }, a series { points, colour, isDashed,
 * hasMarks, isLoose } – loose points are not joined –, and `names` say what the colours mean.
 */
function panelChart({ title, description, x, y, panels, names }, width) {
  const columns = Math.min(panels.length, Math.max(2, Math.floor(width / 215)));
  const gap = 14;
  const each = (width - gap * (columns - 1)) / columns;
  const [tall, head] = [width < 480 ? 150 : 172, 10];
  const rows = Math.ceil(panels.length / columns);
  const svg = canvas(width, head + rows * tall, title, description);
  panels.forEach((panel, index) => {
    const [left, top] = [(index % columns) * (each + gap), head + Math.floor(index / columns) * tall];
    const frame = { left: round(left + 34), top: top + 22, right: round(left + each - 2), bottom: top + tall - 30 };
    const across = scale('linear', x.domain, [frame.left, frame.right], { room: 40, format: x.format });
    const domain = y.domain ?? panel.domain;
    const up = scale(y.kind ?? 'linear', domain, [frame.bottom, frame.top], { room: 34, format: y.format });
    svg.append(label(left, top + 8, panel.title, { class: 'panel' }));
    axes(svg, frame, across, up, {}, { isSmall: true });
    for (const rule of panel.rules ?? []) {
      const at = round(up.map(rule.y));
      svg.append(shape('line', { class: 'rule', x1: frame.left, x2: frame.right, y1: at, y2: at }));
    }
    for (const item of panel.series) {
      const points = item.points.filter((point) => point[1] !== null && point[1] !== undefined);
      if (!item.isLoose) {
        for (const run of unbroken(points)) {
          svg.append(path(run, across, up, { class: `line stroke${item.colour}${item.isDashed ? ' dashed' : ''}` }));
        }
      }
      if (item.hasMarks) {
        for (const [px, py, text] of points) svg.append(marker(across.map(px), up.map(py), item.colour, text));
      }
    }
  });
  resize(svg, width, legend(svg, names, width, head + rows * tall + 12));
  return svg;
}

/** Stretches of points whose x are neighbours. */
function unbroken(points) {
  const runs = [];
  for (const point of points) {
    if (runs.length && point[0] - runs.at(-1).at(-1)[0] <= 1) runs.at(-1).push(point);
    else runs.push([point]);
  }
  return runs;
}

/**
 * Horizontal bars with their names beside or, on a narrow page, above, and their values behind. A row is { label,
 * value, second, text, colour }: the second value goes on from the first. A `group` stands over the rows that share it.
 */
function barChart({ title, description, rows, name }, width) {
  const isWide = width >= 480;
  const left = isWide ? Math.max(...rows.map((row) => textWidth(shortened(row.label)))) + 14 : 0;
  const behind = Math.max(...rows.map((row) => textWidth(row.text))) + 12;
  const longest = Math.max(...rows.map((row) => row.value + (row.second ?? 0)), Number.MIN_VALUE);
  const size = (value) => round((value / longest) * (width - left - behind));
  const svg = canvas(width, 0, title, description);
  svg.append(label(0, 12, name, { class: 'axis' }));
  let top = 24;
  rows.forEach((row, index) => {
    if (row.group && row.group !== rows[index - 1]?.group) {
      top += index ? 8 : 0;
      svg.append(label(0, top + 14, shortened(row.group, 60), { class: 'panel' }));
      top += 22;
    }
    const barTop = top + (isWide ? 3 : 19);
    const [length, second] = [Math.max(1, size(row.value)), size(row.second ?? 0)];
    svg.append(label(0, top + 15, shortened(row.label), { class: 'name' }),
      shape('rect', { class: `fill${row.colour}`, x: left, y: barTop, width: length, height: 16 }),
      shape('rect', { class: `second fill${row.colour}`, x: left + length, y: barTop, width: second, height: 16 }),
      label(left + length + second + 6, barTop + 12, row.text, { class: 'name' }));
    top = barTop + 23;
  });
  resize(svg, width, top);
  return svg;
}

/** Points { x, y, colour, name, text }; those with a label have it beside them. */
function scatterChart({ title, description, x, y, points }, width) {
  const tall = Math.round(Math.min(400, Math.max(280, width * 0.5)));
  const frame = { left: 46, top: 26, right: width - 12, bottom: tall - 46 };
  const domain = (values) => {
    const [low, high] = extent(values);
    return [low - (high - low) * 0.06, high + (high - low) * 0.06];
  };
  const across = scale('linear', domain(points.map((point) => point.x)), [frame.left, frame.right],
    { format: x.format, room: 80 });
  const up = scale('linear', domain(points.map((point) => point.y)), [frame.bottom, frame.top],
    { format: y.format, room: 48 });
  const svg = canvas(width, tall, title, description);
  axes(svg, frame, across, up, { x: x.name, y: y.name });
  for (const point of points) {
    svg.append(marker(across.map(point.x), up.map(point.y), point.colour, `${point.name}: ${point.text}`));
  }
  const named = points.filter((point) => point.label);
  const places = spread(named.map((point) => up.map(point.y)), frame.top, frame.bottom);
  named.forEach((point, index) => {
    const at = across.map(point.x);
    const isLeft = at + textWidth(shortened(point.label)) + 10 > frame.right;
    svg.append(label(at + (isLeft ? -8 : 8), places[index] + 4, shortened(point.label),
      { class: `name halo text${point.colour}`, 'text-anchor': isLeft ? 'end' : 'start' }));
  });
  return svg;
}

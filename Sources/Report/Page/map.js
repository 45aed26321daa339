// The heat map of effective ranks, layer by module, and that of the difference between two runs.

function mapSection() {
  const map = figure({ id: 'map', title: 'Effective rank of every layer and module', caption: mapCaption,
    draw: drawMaps, data: mapData });
  return { id: 'ranks', title: 'Effective ranks', nodes: [map.node], update: () => map.update() };
}

function mapCaption() {
  const quarter = runNamed(state.run).quarter;
  return [`r(${state.alpha}), side ${state.side}: how many directions keep ${state.alpha} of the energy. The colour is `
    + `the share of the largest possible rank${quarter ? `; bold numbers are above d/4 = ${quarter}` : ''}.`
    + `${state.compare ? ' In the difference, brown is fewer and blue is more.' : ''}`,
  element('span', { class: 'screen-only' }, ' Arrow keys move through the map; Enter shows a place’s decay below.')];
}

function drawMaps() {
  const [run, other] = shownRuns();
  const maps = [heatMap('run', run.label, run, (place) => {
    const rank = rankOf(run, place);
    if (rank === null) return null;
    return { text: String(rank), share: rank / place.full, isBold: run.quarter && rank > run.quarter,
      name: `${placeName(place)}: ${rank} of ${place.full}, ${percent(rank / place.full)}`
        + (place.energy === null ? '' : `; d/4 keeps ${fixed(place.energy, 3)}`) };
  })];
  if (other) {
    maps.push(heatMap('difference', `${other.label} minus ${run.label}`, run, (place) => {
      const counterpart = other.at.get(placeKey(place.layer, place.module, place.side));
      const [before, after] = [rankOf(run, place), rankOf(other, counterpart)];
      if (before === null || after === null) return null;
      const change = (after - before) / place.full;
      return { text: signed(after - before), share: Math.min(1, Math.abs(change) * 2),
        tone: change < 0 ? 'less' : 'more', name: `${placeName(place)}: ${before} and ${after}` };
    }));
  }
  return element('div', { class: 'maps' }, maps);
}

const signed = (value) => (value > 0 ? `+${value}` : minus(String(value)));

/** Where the keyboard is in each map. */
const rovingCells = {};

/** A table of coloured cells that arrow keys move through. `describe` says of a place { text, share, tone, name }. */
function heatMap(id, title, run, describe) {
  const modules = run.modules.filter((module) =>
    run.layers.some((layer) => run.at.has(placeKey(layer, module, state.side))));
  if (!modules.length) return nothing(`${run.label}: nothing was measured at the side ${state.side}.`);
  const roving = rovingCells[id] ??= { row: 0, column: 0 };
  roving.row = Math.min(roving.row, run.layers.length - 1);
  roving.column = Math.max(0, Math.min(roving.column, modules.length - 1));
  const chosen = parsedLayers(state.layers, run) ?? [];
  const rows = run.layers.map((layer, row) => element('tr', {}, element('th', { scope: 'row' }, layer),
    modules.map((module, column) => {
      const place = run.at.get(placeKey(layer, module, state.side));
      const cell = place && describe(place);
      const isChosen = module === state.module && chosen.includes(layer);
      const node = element('td', { role: 'gridcell', title: cell?.name, 'aria-label': cell?.name ?? 'not measured',
        tabindex: row === roving.row && column === roving.column ? 0 : -1, 'aria-selected': String(isChosen),
        class: `heat ${cell?.tone ?? ''} ${cell?.isBold ? 'bold' : ''}` }, cell?.text ?? '–');
      if (cell) setShare(node, cell.share, cell.tone);
      return node;
    })));
  const table = element('table', { class: 'map', role: 'grid', 'aria-label': `${title}, layers by modules` },
    element('caption', {}, title), element('thead', {}, element('tr', {}, element('th', { scope: 'col' }, 'layer'),
      modules.map((module) => element('th', { scope: 'col', title: module }, shortName(module))))),
    element('tbody', {}, rows));
  const pick = (row, column) => pickPlace(run.layers[row], modules[column]);
  moveByKeys(table, roving, [run.layers.length, modules.length], pick);
  return element('div', { class: 'scroll map-box' }, table, id === 'run' ? mapKey() : null);
}

/** From which share on the other of black and white is easier to read on a colour of report.css. */
const strongFrom = { more: { light: 0.7, dark: 0.52 }, less: { light: 0.72, dark: 0.57 } };

/** Gives a cell the colour of a share, which report.css mixes. */
function setShare(node, share, tone = 'more') {
  node.style.setProperty('--share', `${Math.round(share * 1000) / 10}%`);
  for (const [theme, limit] of Object.entries(strongFrom[tone])) {
    if (share >= limit) node.classList.add(`strong-${theme}`);
  }
}

function mapKey() {
  const steps = [0, 0.25, 0.5, 0.75, 1].map((share) => {
    const node = element('span', { class: 'heat key-colour' }, percent(share));
    setShare(node, share);
    return node;
  });
  return element('p', { class: 'key' }, element('span', { class: 'key-text' }, 'share of the largest rank '), steps);
}

/** One cell of a map is in the order of the tab key; arrows, Home and End move on from it, Enter and space choose. */
function moveByKeys(table, roving, [rows, columns], pick) {
  const cellAt = (row, column) => table.tBodies[0].rows[row].cells[column + 1];
  const focus = (row, column) => {
    cellAt(roving.row, roving.column).tabIndex = -1;
    Object.assign(roving, { row, column });
    cellAt(row, column).tabIndex = 0;
    cellAt(row, column).focus();
  };
  const clamp = (value, limit) => Math.max(0, Math.min(limit - 1, value));
  table.addEventListener('keydown', (event) => {
    const { row, column } = roving;
    const moves = { ArrowUp: [row - 1, column], ArrowDown: [row + 1, column], ArrowLeft: [row, column - 1],
      ArrowRight: [row, column + 1], Home: [event.ctrlKey ? 0 : row, 0],
      End: [event.ctrlKey ? rows - 1 : row, columns - 1], PageUp: [row - 10, column], PageDown: [row + 10, column] };
    const isPick = event.key === 'Enter' || event.key === ' ';
    if (!isPick && !moves[event.key]) return;
    event.preventDefault();
    if (isPick) pick(row, column);
    else focus(clamp(moves[event.key][0], rows), clamp(moves[event.key][1], columns));
  });
  table.addEventListener('click', (event) => {
    const cell = event.target.closest('td');
    if (!cell) return;
    focus(cell.parentNode.sectionRowIndex, cell.cellIndex - 1);
    pick(roving.row, roving.column);
  });
}

/** Shows a place in the chart below, or takes it out again. */
function pickPlace(layer, module) {
  const layers = parsedLayers(state.layers, runNamed(state.run)) ?? [];
  const isIn = layers.includes(layer);
  const next = state.module === module && isIn && layers.length > 1 ? layers.filter((item) => item !== layer)
    : isIn ? layers : [...layers, layer].sort((a, b) => a - b);
  const grid = document.activeElement?.closest('table.map');
  const index = [...document.querySelectorAll('table.map')].indexOf(grid);
  setState({ module, layers: layersText(next) });
  // The map was drawn anew; the keyboard stays where it was.
  document.querySelectorAll('table.map')[index]?.querySelector('[tabindex="0"]').focus();
}

function mapData() {
  const runs = shownRuns();
  const others = ['entropy rank', 'participation ratio', 'stable rank'];
  return { columns: ['run', 'layer', 'module', 'side', 'features', 'largest rank', `r(${state.alpha})`, 'share',
    'energy at d/4', 'relative error at d/4', ...others],
  rows: runs.flatMap((run) => run.places.filter((place) => place.side === state.side).map((place) => [run.label,
    place.layer, place.module, place.side, place.features, place.full, rankOf(run, place),
    Number((rankOf(run, place) / place.full).toPrecision(4)), place.energy, place.error,
    ...others.map((_, index) => place.others?.[index] ?? null)])) };
}

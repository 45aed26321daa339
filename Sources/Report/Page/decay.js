// The decay of singular values, for the layers of one module.

/** Layers written as `0,5,10-14` or `all`; null for what is not so, or names none of the run's. */
function parsedLayers(text, run) {
  if (text.trim() === 'all') return run.layers;
  const chosen = new Set();
  for (const part of text.split(',')) {
    const match = part.trim().match(/^(\d{1,5})(?:-(\d{1,5}))?$/);
    if (!match) return null;
    for (let layer = Number(match[1]); layer <= Number(match[2] ?? match[1]); layer += 1) chosen.add(layer);
  }
  const layers = run.layers.filter((layer) => chosen.has(layer));
  return layers.length ? layers : null;
}

/** The same the other way, with ranges for three or more in a row. */
function layersText(layers) {
  const runs = [];
  for (const layer of layers) {
    if (runs.length && layer === runs.at(-1).at(-1) + 1) runs.at(-1).push(layer);
    else runs.push([layer]);
  }
  return runs.map((run) => (run.length > 2 ? `${run[0]}-${run.at(-1)}` : run.join(','))).join(',');
}

function decaySection() {
  const modules = [...new Set(data.spectra.flatMap((run) => run.modules))];
  const module = choice('Module', modules.map((name) => [name, shortName(name)]), state.module,
    (value) => setState({ module: value }));
  const axis = choice('Index axis', [['log', 'logarithmic'], ['linear', 'linear']], state.axis,
    (value) => setState({ axis: value }));
  const layers = layersInput();
  const decay = figure({ id: 'decay', title: 'Decay of the singular values', caption: decayCaption, draw: drawDecay,
    data: decayData, controls: [module.node, layers.node, axis.node] });
  return { id: 'decay', title: 'Singular values', nodes: [decay.node], update() {
    module.set(state.module);
    layers.set(state.layers);
    axis.set(state.axis);
    decay.update();
  } };
}

/** A field for layers that says what it takes, and keeps the chart as it is while it holds something else. */
function layersInput() {
  const usual = 'such as 0,5,10-14 or all';
  const hint = element('span', { id: 'layers-hint', class: 'hint', role: 'status' }, usual);
  const say = (isGood) => {
    input.setAttribute('aria-invalid', String(!isGood));
    hint.textContent = isGood ? usual : `the layers are ${layersText(runNamed(state.run).layers)}`;
  };
  const input = element('input', { type: 'text', size: 14, spellcheck: 'false', autocomplete: 'off',
    'aria-describedby': 'layers-hint', onchange: () => {
      const isGood = parsedLayers(input.value, runNamed(state.run)) !== null;
      say(isGood);
      if (isGood) setState({ layers: input.value.trim() });
    } });
  return { node: element('label', { class: 'control' }, element('span', {}, 'Layers'), input, hint), set(text) {
    if (input.value === text) return;
    input.value = text;
    say(true);
  } };
}

function decayCaption() {
  return `${shortName(state.module)}, side ${state.side}: σᵢ as a part of the largest, σ₁. Marks are at `
    + `r = r(${state.alpha}), the number of directions that keep this share of the energy. Values far below the others `
    + 'at the very end are in the table only.';
}

/** The chosen places of the shown runs that have curves. */
function decayPlaces() {
  return shownRuns().flatMap((run, index) => (parsedLayers(state.layers, run) ?? []).map((layer, order) => (
    { run, index, layer, order, place: run.at.get(placeKey(layer, state.module, state.side)) })))
    .filter((item) => item.place?.curve);
}

/** σ at a rank, between the points of a thinned-out curve. */
function valueAt({ run, place }, rank) {
  const indices = run.indices[place.full];
  const after = indices.findIndex((index) => index >= rank);
  if (indices[after] === rank || after < 1) return place.curve[Math.max(0, after)];
  const part = Math.log(rank / indices[after - 1]) / Math.log(indices[after] / indices[after - 1]);
  return place.curve[after - 1] ** (1 - part) * place.curve[after] ** part;
}

function drawDecay(width) {
  const items = decayPlaces();
  if (!items.length) return nothing('There is no spectrum of these layers, this module and side.');
  const isMany = items.length > 14;
  const runs = shownRuns();
  const layers = [...new Set(items.map((item) => item.layer))];
  // The last singular values may be numerical nothing and would press all others together.
  const usual = items.flatMap(({ run, place }) => place.curve.filter((value, index) =>
    value > 0 && run.indices[place.full][index] <= 0.95 * place.full).map((value) => value / place.curve[0]));
  const floor = Math.max(1e-9, Math.min(...usual) / 1.5);
  const series = items.map((item) => {
    const { run, place, layer, index } = item;
    const order = layers.indexOf(layer);
    const rank = rankOf(run, place);
    const points = run.indices[place.full].map((at, point) => [at, place.curve[point] / place.curve[0]])
      .filter((point) => point[1] >= floor);
    // A layer's name stands at the line of its first run, with the ranks of both.
    const own = items.filter((other) => other.layer === layer);
    const ranks = own.map((other) => rankOf(other.run, other.place) ?? '–').join(' and ');
    const isNamed = own[0] === item
      && (!isMany || order % Math.ceil(layers.length / 5) === 0 || order === layers.length - 1);
    const height = rank > 0 ? valueAt(item, rank) / place.curve[0] : 0;
    return { label: isNamed ? `layer ${layer}, r = ${ranks}` : null, points, isDashed: index > 0,
      colour: layers.length > 7 ? `r${Math.round((9 * order) / (layers.length - 1))}` : order,
      notes: height >= floor ? [[rank, height, `layer ${layer}, ${run.label}: r = ${rank}`]] : [] };
  });
  const quarter = runNamed(state.run).quarter;
  const longest = Math.max(...items.map((item) => item.place.full));
  return lineChart({ title: `Singular values of ${shortName(state.module)}`, series,
    description: items.map(({ layer, run, place }) => `layer ${layer}: r(${state.alpha}) = ${rankOf(run, place)}`)
      .join(', '),
    x: { name: 'index i', kind: state.axis, domain: [1, longest] },
    y: { name: runs.length > 1 ? `σᵢ / σ₁, dashed: ${runs[1].label}` : 'σᵢ / σ₁', kind: 'log', domain: [floor, 1] },
    rules: quarter && quarter <= longest ? [{ x: quarter, text: `d/4 = ${quarter}` }] : [] }, width);
}

function decayData() {
  return { columns: ['run', 'layer', 'module', 'side', 'index', 'singular_value'],
    rows: decayPlaces().flatMap(({ run, place }) => run.indices[place.full].map((index, point) =>
      [run.label, place.layer, place.module, place.side, index, place.curve[point]])) };
}

// Spectra: what a run says about its layers, and the summary in words.

const placeKey = (layer, module, side) => `${layer} ${module} ${side}`;
const isLinear = (place) => place.module !== 'residual';

/** Makes places findable, and collects layers. */
function indexRun(run) {
  run.at = new Map(run.places.map((place) => [placeKey(place.layer, place.module, place.side), place]));
  run.layers = [...new Set(run.places.map((place) => place.layer))].sort((a, b) => a - b);
}

const runNamed = (name) => data.spectra.find((run) => run.label === name);
const shownRuns = () => [runNamed(state.run), runNamed(state.compare)].filter(Boolean);

/** r(α) of a place; null where the run was not measured for this α. */
function rankOf(run, place, alpha = state.alpha) {
  const index = run.alphas.findIndex((item) => item.value === Number(alpha));
  return place && index >= 0 ? place.ranks[index] : null;
}

const placeName = (place) => `layer ${place.layer} ${shortName(place.module)}`;

/** What a run says at the chosen α and side about its linear layers. */
function facts(run) {
  const places = run.places.filter((place) => place.side === state.side && isLinear(place));
  const share = (place) => rankOf(run, place) / place.full;
  const lost = (place) => (place.energy === null ? share(place) : 1 - place.energy);
  const ordered = [...places].sort((a, b) => lost(b) - lost(a));
  const widest = places.reduce((best, place) => (best && share(best) >= share(place) ? best : place), null);
  return { places, ordered, worst: ordered[0], widest,
    above: places.filter((place) => run.quarter && rankOf(run, place) > run.quarter).length };
}

// Summary

function summarySection() {
  const cards = element('div', { class: 'cards' });
  const table = element('div');
  const shares = figure({ id: 'modules', title: 'Effective rank by module', draw: drawShares, data: shareData,
    caption: () => (state.compare
      ? 'Mean over the layers. The largest rank that a CoLA layer can have is its bottleneck’s width.'
      : `The share of the largest possible rank that keeps ${state.alpha} of the energy; mean over the layers.`) });
  return { id: 'summary', title: 'In short', nodes: [cards, table, shares.node], update() {
    cards.replaceChildren(...shownRuns().map(summaryCard));
    const run = runNamed(state.run);
    const rows = facts(run).ordered.slice(0, 8).map((place) => [placeName(place), rankOf(run, place), place.full,
      written(rankOf(run, place) / place.full, percent), written(place.energy, (value) => percent(value, 1)),
      written(place.error, (value) => fixed(value, 2))]);
    const columns = ['place', `r(${state.alpha})`, 'largest possible', 'share', 'energy d/4 keeps', 'error of d/4'];
    const caption = `The least compressible layers of ${run.label}, side ${state.side}`;
    table.replaceChildren(...(rows.length ? [tableBox({ columns, rows, caption })] : []));
    shares.update();
  } };
}

function summaryCard(run) {
  const { places, worst, widest, above } = facts(run);
  const card = element('section', { class: 'card' }, element('h3', {}, run.label));
  if (!worst) {
    card.append(element('p', {}, `No linear layer was measured at the side ${state.side}.`));
    return card;
  }
  const [alpha, rank, quarter] = [state.alpha, rankOf(run, worst), run.quarter];
  const strong = (text) => element('strong', {}, text);
  const list = element('dl', { class: 'facts' });
  const add = (name, value, note) => list.append(element('div', {}, element('dt', {}, name),
    element('dd', {}, strong(value), element('span', {}, note))));
  add('Least compressible', placeName(worst), worst.module);
  add(`Rank for α = ${alpha} there`, rank === null ? 'not measured' : count(rank),
    `of ${count(worst.full)} directions`);
  if (quarter && worst.error !== null) {
    add(`Error of rank d/4 = ${count(quarter)} there`, fixed(worst.error, 2),
      `relative; it keeps ${percent(worst.energy, 1)} of the energy`);
    add(`d/4 is too small for`, `${above} of ${places.length}`, `linear layers at α = ${alpha}`);
  }
  card.append(list, element('p', {}, ...inWords(run, worst, widest, rank, quarter)));
  return card;
}

/** The same as sentences. */
function inWords(run, worst, widest, rank, quarter) {
  const isOutput = state.side === 'output';
  const what = { output: 'what leaves it', input: 'what enters it' }[state.side]
    ?? `its ${state.side.replaceAll('_', ' ')}`;
  const parts = [`The ${placeName(worst)} projection is the least compressible of the linear layers`
    + `${quarter ? ': the one of which d/4 directions keep the least energy' : ''}. `];
  if (rank !== null) {
    const share = percent(Number(state.alpha), decimals(state.alpha));
    parts.push(`To keep ${share} of the energy of ${what}, ${isOutput ? 'a bottleneck' : 'one'} needs ${count(rank)} `
      + `of ${count(worst.full)} directions. `);
  }
  if (quarter && worst.energy !== null) {
    const keeps = `The rule of thumb d/4 = ${count(quarter)} keeps ${percent(worst.energy, 1)} there`;
    const error = fixed(worst.error, 2);
    parts.push(isOutput
      ? `${keeps}, so that the output of any bottleneck of this width is off by at least ${error} of its size. `
      : `${keeps}: to leave the others out is a relative error of ${error}. `);
  }
  if (widest && rankOf(run, widest) !== null) {
    parts.push(`Measured by its own largest rank, ${placeName(widest)} asks for most: ${count(rankOf(run, widest))} of `
      + `${count(widest.full)}.`);
  }
  return parts;
}

/** How many decimals the percentage of an α needs. */
const decimals = (alpha) => Math.max(0, (String(Number(alpha)).split('.')[1] ?? '').length - 2);

const mean = (items, value) => items.reduce((sum, item) => sum + value(item), 0) / items.length;

/** Mean rank and share of the largest possible one, by run and module. */
function shareRows() {
  return shownRuns().flatMap((run, index) => run.modules.map((module) => {
    const places = run.places.filter((place) =>
      place.module === module && place.side === state.side && rankOf(run, place) !== null);
    return { run, index, module, n: places.length, share: mean(places, (place) => rankOf(run, place) / place.full),
      rank: mean(places, (place) => rankOf(run, place)) };
  })).filter((row) => row.n > 0);
}

/** One run's bars are shares; two runs are compared by ranks, because a CoLA layer's largest rank is another. */
function drawShares(width) {
  const rows = shareRows();
  if (!rows.length) return nothing(`Nothing was measured at the side ${state.side}.`);
  const isPair = shownRuns().length > 1;
  const ordered = modulesOf(rows).flatMap((module) => rows.filter((row) => row.module === module))
    .map((row) => ({ colour: row.index, value: isPair ? row.rank : row.share,
      group: isPair ? shortName(row.module) : null, label: isPair ? row.run.label : shortName(row.module),
      text: isPair ? `${fixed(row.rank, 1)}, ${percent(row.share)} of the largest` : percent(row.share) }));
  return barChart({ title: 'Effective rank by module', rows: ordered,
    name: `${isPair ? 'mean' : 'share of the largest rank in'} r(${state.alpha})`,
    description: ordered.map((row) => `${row.group ?? ''} ${row.label} ${row.text}`).join('; ') }, width);
}

function shareData() {
  return { columns: ['run', 'module', 'layers', `mean r(${state.alpha})`, 'mean share of the largest rank'],
    rows: shareRows().map((row) => [row.run.label, row.module, row.n, row.rank, row.share]) };
}

// Rank plans and conversions.

const planNamed = (name) => data.plans.find((plan) => plan.label === name);
const conversionNamed = (name) => data.conversions.find((conversion) => conversion.label === name);

function planSection() {
  const which = choice('Plan', data.plans.map((plan) => plan.label), state.plan, (value) => setState({ plan: value }));
  const controls = data.plans.length > 1 ? [which.node] : [];
  const map = figure({ id: 'plan', title: 'Planned rank of each layer', caption: planCaption, draw: drawPlan,
    data: planData, controls });
  const sizes = tableBox({ caption: 'Rank plans', columns: ['plan', 'weighting', 'policy', 'linear parameters kept',
    'layers that stay dense', 'predicted loss increase (nats)'],
  rows: data.plans.map((plan) => [plan.label, plan.weighting, policyText(plan.policy),
    plan.parameters ? written(plan.parameters / plan.denseParameters, (value) => percent(value, 1)) : null,
    plan.layers.filter((row) => row.rank === null).length, written(plan.increase, (value) => fixed(value, 3))]) });
  return { id: 'plans', title: 'Rank plans', nodes: [sizes, map.node], update() {
    which.set(state.plan);
    map.update();
  } };
}

/** { name: budget, keep: 0.6 } as "budget: keep 0.6". */
function policyText(policy) {
  const { name, ...rest } = policy ?? {};
  return [name, recordText(rest)].filter(Boolean).join(': ');
}

/** The spectrum of the output of a layer in the chosen run. */
function outputPlace(row) {
  return data.spectra.length ? runNamed(state.run).at.get(placeKey(row.layer, row.module, 'output')) : undefined;
}

function planCaption() {
  const run = data.spectra.length ? runNamed(state.run) : null;
  const beside = run ? `, beside r(${state.alpha}) of the outputs in ${run.label}` : '';
  const quarter = run?.quarter ? ` and d/4 = ${run.quarter}` : '';
  return `${state.plan}: rank by layer${beside}${quarter}. Layers that stay dense are marked at the upper edge.`;
}

function drawPlan(width) {
  const { layers } = planNamed(state.plan);
  const run = data.spectra.length ? runNamed(state.run) : null;
  const effective = (row) => (run ? rankOf(run, outputPlace(row)) : null);
  const panels = modulesOf(layers).map((module) => {
    const rows = layers.filter((row) => row.module === module);
    const highest = Math.max(1, run?.quarter ?? 0, ...rows.map((row) => Math.max(row.rank ?? 0, effective(row) ?? 0)));
    const rules = run?.quarter ? [{ y: run.quarter }] : [];
    return { title: shortName(module), domain: [0, highest * 1.14], rules, series: [
      { colour: 1, isDashed: true, points: rows.map((row) => [row.layer, effective(row)]) },
      { colour: 0, hasMarks: true, isLoose: true, points: rows.map((row) => [row.layer, row.rank,
        `layer ${row.layer}: ${row.rank}`]) },
      { colour: 2, hasMarks: true, isLoose: true, points: rows.filter((row) => row.rank === null)
        .map((row) => [row.layer, highest * 1.08, `layer ${row.layer} stays dense`]) }] };
  });
  const names = [{ label: 'planned rank', colour: 0, hasMarks: true, isLoose: true },
    { label: 'stays dense', colour: 2, hasMarks: true, isLoose: true }];
  if (run) names.push({ label: `r(${state.alpha}) of the outputs`, colour: 1, isDashed: true });
  if (run?.quarter) names.push({ label: `d/4 = ${run.quarter}`, colour: 'rule', isDashed: true });
  return panelChart({ title: `Ranks of ${state.plan}`, panels, names, y: {},
    description: `Planned ranks from ${Math.min(...layers.map((row) => row.rank ?? Infinity))} to `
      + `${Math.max(...layers.map((row) => row.rank ?? 0))}, by module and layer.`,
    x: { domain: layerDomain(layers), format: String } }, width);
}

const layerDomain = (rows) => {
  const layers = rows.map((row) => row.layer);
  return [Math.min(...layers) - 0.5, Math.max(...layers) + 0.5];
};

function planData() {
  const run = data.spectra.length ? runNamed(state.run) : null;
  return { columns: ['layer', 'module', 'planned rank', 'kept energy', 'relative error', 'loss increase',
    ...(run ? [`r(${state.alpha})`, 'largest rank', 'd/4'] : [])],
  rows: planNamed(state.plan).layers.map((row) => [row.layer, row.module, row.rank ?? 'dense', row.energy, row.error,
    row.increase, ...(run ? [rankOf(run, outputPlace(row)), outputPlace(row)?.full ?? null, run.quarter] : [])]) };
}

// Conversions

function conversionSection() {
  const which = choice('Conversion', data.conversions.map((item) => item.label), state.conversion,
    (value) => setState({ conversion: value }));
  const nodes = [];
  const figuresHere = [];
  if (data.conversions.some((item) => item.report.before)) nodes.push(sizeTable());
  if (lossRows().length) {
    const losses = figure({ id: 'losses', title: 'Loss before and after', draw: drawLosses, data: lossData,
      caption: () => 'Mean loss in nats per token; the perplexity in brackets.' });
    figuresHere.push(losses);
  }
  if (data.conversions.some((item) => item.layers.length)) {
    const errors = figure({ id: 'errors', title: 'Error of each layer', caption: errorCaption, draw: drawErrors,
      data: errorData, controls: data.conversions.length > 1 ? [which.node] : [] });
    figuresHere.push(errors);
  }
  nodes.push(...figuresHere.map((item) => item.node));
  return { id: 'conversions', title: 'Conversions', nodes, update() {
    which.set(state.conversion);
    figuresHere.forEach((item) => item.update());
  } };
}

function sizeTable() {
  const share = (report, key) => written(report.after[key] / report.before[key], (value) => percent(value, 1));
  return tableBox({ caption: 'Size after conversion, as a share of the dense model', columns: ['model', 'parameters',
    'of all', 'of the linear layers', 'FLOPs per token', 'predicted loss increase'],
  rows: data.conversions.filter((item) => item.report.before).map(({ label, report }) => [label,
    report.after.parameters, ...['parameters', 'linear_parameters', 'flops_per_token'].map((key) => share(report, key)),
    written(report.predicted_loss_increase, (value) => fixed(value, 3))]) });
}

/** One row for the dense model and for each conversion, text by text. */
function lossRows() {
  const texts = [...new Set(data.conversions.flatMap((item) => (item.report.losses ?? []).map((loss) => loss.text)))];
  return texts.flatMap((text) => {
    const models = data.conversions.map((item, index) => (
      { model: item.label, colour: index % 7, loss: item.report.losses?.find((row) => row.text === text) }))
      .filter((item) => item.loss);
    return [{ text, model: 'dense', value: models[0].loss.before, colour: 'grey' },
      ...models.map(({ model, colour, loss }) => ({ text, model, colour, value: loss.after }))];
  });
}

/** null where it is larger than any number. */
function perplexity(loss) {
  const value = loss.perplexity ?? Math.exp(loss.nats_per_token);
  return Number.isFinite(value) ? value : null;
}

function drawLosses(width) {
  const rows = lossRows().map(({ text, model, value, colour }) => ({ group: text, label: model, colour,
    value: value.nats_per_token, text: `${fixed(value.nats_per_token, 3)} (${cellText(written(perplexity(value), (number) => plain(number, 4)))})` }));
  return barChart({ title: 'Loss before and after conversion', rows, name: 'nats per token (perplexity)',
    description: rows.map((row) => `${row.group} ${row.label} ${row.text}`).join(', ') }, width);
}

function lossData() {
  return { columns: ['text', 'model', 'tokens', 'nats per token', 'perplexity'],
    rows: lossRows().map(({ text, model, value }) => [text, model, value.tokens ?? null, value.nats_per_token,
      perplexity(value)]) };
}

const errorKinds = [
  ['predicted_relative_error', 'predicted by the plan'], ['relative_error', 'measured alone'],
  ['relative_error_in_place', 'in place'], ['relative_error_in_place_held_out', 'in place, held-out text'],
];

function errorCaption() {
  return `${state.conversion}: relative errors of the outputs, √(E‖y − ŷ‖² / E‖y‖²), by layer. The prediction is in `
    + 'the plan’s weighting. “In place” is where the layer reads what the converted layers before it make. Layers that '
    + 'stay dense have no error.';
}

function drawErrors(width) {
  const { layers } = conversionNamed(state.conversion);
  if (!layers.length) return nothing(`There is no table of the layers of ${state.conversion}.`);
  const kinds = errorKinds.map((kind, colour) => [...kind, colour])
    .filter(([key]) => layers.some((row) => (row[key] ?? null) !== null));
  const highest = Math.max(...kinds.flatMap(([key]) => layers.map((row) => row[key] ?? 0)));
  const panels = modulesOf(layers).map((module) => {
    const rows = layers.filter((row) => row.module === module);
    return { title: shortName(module), series: kinds.map(([key, , colour]) => ({ colour, isDashed: colour === 0,
      points: rows.map((row) => [row.layer, row.rank === null ? null : row[key]]) })) };
  });
  const inPlace = (row) => row.relative_error_in_place ?? 0;
  const worst = layers.reduce((best, row) => (inPlace(row) > inPlace(best) ? row : best));
  return panelChart({ title: `Errors of ${state.conversion}`, panels, y: { domain: [0, highest * 1.05] },
    x: { domain: layerDomain(layers), format: String },
    description: `Largest in place: layer ${worst.layer} ${shortName(worst.module)}, ${plain(inPlace(worst), 3)}.`,
    names: kinds.map(([, label, colour]) => ({ label, colour, isDashed: colour === 0 })) }, width);
}

function errorData() {
  const { layers } = conversionNamed(state.conversion);
  const columns = Object.keys(layers[0] ?? {});
  return { columns: columns.map((column) => column.replaceAll('_', ' ')),
    rows: layers.map((row) => columns.map((column) => row[column])) };
}

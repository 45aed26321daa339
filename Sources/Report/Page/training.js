// Training: losses, healing, ranks over the steps, the arms of a study, costs.

/** Names of lines of which several may be seeds of one arm: the first of them has the arm's. */
function armLabels(runs) {
  const isSeeded = (run) => run.seed !== null && runs.filter((other) => other.arm === run.arm).length > 1;
  return (run) => {
    if (!isSeeded(run)) return run.label;
    return runs.find((other) => other.arm === run.arm) === run ? run.arm : null;
  };
}

/** One colour for each name, in the order of their first appearance. */
function colouring(names) {
  const distinct = [...new Set(names)];
  return (name) => distinct.indexOf(name) % 7;
}

function unitChoice() {
  return choice('Against', ['tokens', 'steps'], state.unit, (unit) => setState({ unit }));
}

const tokenAxis = { name: 'tokens of training', kind: 'linear', format: magnitude };
const unitAxis = () => (state.unit === 'steps' ? { ...tokenAxis, name: 'step' } : tokenAxis);
const unitColumn = () => (state.unit === 'steps' ? 'step' : 'tokens');

// Losses

function trainingSection() {
  const unit = unitChoice();
  const losses = figure({ id: 'training', title: 'Loss during training', caption: trainingCaption, draw: drawTraining,
    data: trainingData, controls: [unit.node] });
  const loss = (value) => fixed(value, 4);
  const end = (run, column) => run.training[column].at(-1) ?? run.evaluation[column].at(-1) ?? null;
  const last = data.training.map((run) => [run.label, end(run, 'step'), end(run, 'tokens'),
    written(run.training.loss.at(-1), loss), written(run.evaluation.loss.at(-1), loss),
    written(run.evaluation.loss.map(Math.exp).at(-1), (value) => fixed(value, 2))]);
  const longest = Math.max(...data.training.map((run) => run.rowsPerPoint));
  const means = longest > 1 ? `; training losses are means over up to ${longest} rows` : '';
  const table = tableBox({ caption: `Where each run ends${means}`, isSortable: true, rows: last,
    columns: ['run', 'step', 'tokens', 'training loss', 'evaluation loss', 'evaluation perplexity'] });
  return { id: 'training', title: 'Training', nodes: [losses.node, table], update() {
    unit.set(state.unit);
    losses.update();
  } };
}

function trainingCaption() {
  const longest = Math.max(...data.training.map((run) => run.rowsPerPoint));
  return 'Loss in nats per token. Marks are the loss on held-out sequences, thin lines that of the training batches'
    + `${longest > 1 ? `, as means over up to ${longest} rows` : ''}.${seedNote(data.training)}`;
}

const seedNote = (runs) => (runs.some((run) => run.seed !== null) ? ' Each seed has a line.' : '');

function drawTraining(width) {
  const colour = colouring(data.training.map((run) => run.arm));
  const name = armLabels(data.training);
  const points = (part) => part[unitColumn()].map((at, index) => [at, part.loss[index]]);
  const series = data.training.flatMap((run) => {
    const hasEvaluation = run.evaluation.loss.length > 0;
    const line = { label: hasEvaluation ? null : name(run), points: points(run.training), colour: colour(run.arm) };
    return [{ ...line, isFaint: hasEvaluation },
      { ...line, label: hasEvaluation ? name(run) : null, points: points(run.evaluation),
        hasMarks: run.evaluation.loss.length <= 40 }];
  }).filter((item) => item.points.length);
  if (!series.length) return nothing('These runs have not made a step yet.');
  const last = (run) => run.evaluation.loss.at(-1) ?? run.training.loss.at(-1) ?? 0;
  return lineChart({ title: 'Loss during training', series, x: unitAxis(),
    y: { name: 'loss (nats per token)', kind: 'log', format: plain },
    description: data.training.map((run) => `${run.label} ends at ${plain(last(run))}`).join(', ') }, width);
}

function trainingData() {
  const rows = (run, part, kind) => part.loss.map((loss, index) =>
    [run.label, kind, part.step[index], part.tokens[index], loss]);
  return { columns: ['run', 'loss of', 'step', 'tokens', 'nats per token'],
    rows: data.training.flatMap((run) =>
      [...rows(run, run.training, 'training'), ...rows(run, run.evaluation, 'evaluation')]) };
}

// Healing

function healingSection() {
  const rows = data.healing.flatMap((table) => unpacked(table).map((row) => ({ ...row,
    arm: data.healing.length > 1 ? `${table.label}: ${row.arm}` : row.arm,
    perplexity: row.perplexity ?? Math.exp(row.loss) })));
  const names = [...new Set(rows.map((row) => `${row.arm}, ${row.text}`))];
  const colour = colouring(rows.map((row) => row.arm));
  const texts = [...new Set(rows.map((row) => row.text))];
  const series = names.map((name) => {
    const own = rows.filter((row) => `${row.arm}, ${row.text}` === name).sort((a, b) => a.tokens - b.tokens);
    return { label: name, points: own.map((row) => [row.tokens, row.perplexity]), hasMarks: true,
      colour: colour(own[0].arm), isDashed: texts.indexOf(own[0].text) > 0 };
  });
  const healing = figure({ id: 'healing', title: 'Perplexity as a converted model is trained on',
    caption: () => `On the test text, by tokens of training; lines are named by arm and by the text trained on${
      texts.length > 1 ? `, and dashed where that is not “${texts[0]}”` : ''}.`,
    draw: (width) => lineChart({ title: 'Perplexity by tokens of healing', series,
      x: tokenAxis, y: { name: 'perplexity', kind: 'log', format: plain },
      description: series.map((item) => `${item.label} ends at ${plain(item.points.at(-1)[1])}`).join(', ') }, width),
    data: () => ({ columns: ['arm', 'text', 'tokens', 'loss', 'perplexity'],
      rows: rows.map((row) => [row.arm, row.text, row.tokens, row.loss, row.perplexity]) }) });
  return { id: 'healing', title: 'Healing', nodes: [healing.node], update: () => healing.update() };
}

// Ranks over the steps

function historySection() {
  const unit = unitChoice();
  const runs = [['all', 'all, mean over layers'], ...data.histories.map((item) => item.label)];
  const run = choice('Run', runs, state.history, (value) => setState({ history: value }));
  const modules = [...new Set(data.histories.flatMap((item) => modulesOf(item.places)))];
  const module = choice('Module', [['all', 'all modules'], ...modules.map((name) => [name, shortName(name)])],
    state.historyModule, (value) => setState({ historyModule: value }));
  const ranks = figure({ id: 'histories', title: 'Effective ranks during training', caption: historyCaption,
    draw: drawHistory, data: historyData,
    controls: [...(data.histories.length > 1 ? [run.node] : []), module.node, unit.node] });
  return { id: 'histories', title: 'Ranks during training', nodes: [ranks.node], update() {
    run.set(state.history);
    module.set(state.historyModule);
    unit.set(state.unit);
    ranks.update();
  } };
}

/** The α of a history that is nearest to the chosen one. */
function historyAlpha(item) {
  const distance = (index) => Math.abs(item.alphas[index].value - Number(state.alpha));
  return item.alphas.reduce((best, _, index) => (distance(index) < distance(best) ? index : best), 0);
}

function historyCaption() {
  const alphas = [...new Set(data.histories.map((item) => item.alphas[historyAlpha(item)].text))];
  return `The share of the largest possible rank that keeps ${alphas.join(' or ')} of the energy, mean over layers`
    + `${state.history !== 'all' && state.historyModule !== 'all' ? '; thin lines are the layers' : ''}.`
    + seedNote(data.histories);
}

/** Lines of the chart: by run, by module of one run, or by layer of one module. */
function historyLines() {
  const runs = data.histories.filter((item) => state.history === 'all' || item.label === state.history);
  const colour = colouring(data.histories.map((item) => item.arm));
  const name = armLabels(data.histories);
  return runs.flatMap((item) => {
    const side = item.places.some((place) => place.side === 'output') ? 'output' : item.places[0].side;
    const module = state.historyModule;
    const places = item.places.filter((place) =>
      place.side === side && (module === 'all' ? isLinear(place) : place.module === module));
    if (runs.length > 1) {
      return [{ label: name(item), name: item.label, item, places, colour: colour(item.arm) }];
    }
    if (state.historyModule === 'all') {
      const modules = modulesOf(places);
      return modules.map((module, index) => ({ label: shortName(module), item, colour: index % 7,
        places: places.filter((place) => place.module === module) }));
    }
    return [{ label: 'mean', item, places, colour: 0 },
      ...places.map((place) => (
        { label: null, name: `layer ${place.layer}`, item, places: [place], colour: 0, isFaint: true }))];
  }).map((line) => ({ ...line, points: historyPoints(line) })).filter((line) => line.points.length);
}

/** Mean share of the full rank at each step. */
function historyPoints({ item, places }) {
  const alpha = historyAlpha(item);
  return item[unitColumn()].map((at, step) => {
    const shares = places.filter((place) => place.ranks[step]).map((place) => place.ranks[step][alpha] / place.full);
    return [at, shares.length ? shares.reduce((sum, share) => sum + share, 0) / shares.length : null];
  }).filter((point) => point[1] !== null);
}

function drawHistory(width) {
  const series = historyLines().map((line) => ({ ...line, hasMarks: !line.isFaint }));
  if (!series.length) return nothing('There are no ranks of this module.');
  const ends = (line) => `${percent(line.points[0][1])} at first, ${percent(line.points.at(-1)[1])} at last`;
  return lineChart({ title: 'Effective ranks during training', series, x: unitAxis(),
    y: { name: 'share of the full rank', kind: 'linear', format: (value) => percent(value, 0) },
    description: series.filter((line) => line.label).map((line) => `${line.label}: ${ends(line)}`).join('; ') }, width);
}

function historyData() {
  return { columns: ['run', 'line', unitColumn(), 'mean share of the full rank'],
    rows: historyLines().flatMap((line) => line.points.map(([at, share]) =>
      [line.item.label, line.name ?? line.label, at, Number(share.toPrecision(5))])) };
}

// Arms of a study

function armsSection() {
  const tables = data.arms.map((table) => tableBox({ caption: `Arms of ${table.label}`, rows: table.rows,
    columns: table.columns.map((name) => name.replaceAll('_', ' ')), isSortable: true }));
  const charts = data.arms.map(armsFigure).filter(Boolean);
  return { id: 'arms', title: 'Arms of the study', nodes: [...tables, ...charts.map((item) => item.node)],
    update: () => charts.forEach((item) => item.update()) };
}

/** Perplexity against cost, where the table has both. */
function armsFigure(table, place) {
  const rows = unpacked(table).filter((row) =>
    typeof row.flops_per_token === 'number' && typeof row.evaluation_perplexity === 'number');
  if (!rows.length) return null;
  const colour = colouring(rows.map((row) => row.arm));
  const points = rows.map((row) => ({ x: row.flops_per_token, y: row.evaluation_perplexity, colour: colour(row.arm),
    label: rows.find((other) => other.arm === row.arm) === row ? row.arm : null, name: row.arm,
    text: `${magnitude(row.flops_per_token)}FLOPs per token, perplexity ${plain(row.evaluation_perplexity)}` }));
  const chart = { title: 'Perplexity against FLOPs per token', points,
    description: points.map((point) => `${point.name}: ${point.text}`).join('; '),
    x: { name: 'FLOPs per token', format: magnitude }, y: { name: 'evaluation perplexity', format: plain } };
  return figure({ id: `arms${place ? `-${place + 1}` : ''}`, title: `Perplexity and cost, ${table.label}`,
    caption: () => 'Evaluation perplexity against FLOPs per token: further down is better, further left is cheaper.',
    draw: (width) => scatterChart(chart, width), data: () => ({ columns: table.columns, rows: table.rows }) });
}

// Costs

/** What is drawn of a cost.csv: columns that are added up, and those that go on from them in a lighter colour. */
const costKinds = [
  { id: 'flops', title: 'FLOPs of a training step', name: 'FLOPs per step', format: magnitude,
    columns: ['flops_per_step'], again: 'recomputed_flops_per_step' },
  { id: 'activations', title: 'Activations kept for the backward pass', name: 'bytes', format: bytes,
    columns: ['kept_activation_bytes'] },
  { id: 'states', title: 'Weights, gradients and the optimiser’s state', name: 'bytes', format: bytes,
    columns: ['weight_bytes', 'gradient_bytes', 'optimizer_bytes'] },
];

function costSection() {
  const charts = data.costs.flatMap((table, place) => costKinds
    .filter((kind) => kind.columns.every((column) => table.columns.includes(column)))
    .map((kind) => costFigure(table, { ...kind, id: `cost-${kind.id}${place ? `-${place + 1}` : ''}` })));
  return { id: 'costs', title: 'Costs', nodes: charts.map((item) => item.node),
    update: () => charts.forEach((item) => item.update()) };
}

function costFigure(table, { id, title, name, format, columns, again }) {
  const rows = unpacked(table);
  const value = (row) => columns.reduce((sum, column) => sum + (row[column] ?? 0), 0);
  const full = rows.find((row) => row.method === 'full-rank') ?? rows[0];
  const bars = rows.map((row) => {
    const factor = row === full ? '' : ` (${fixed(value(row) / value(full), 2)}×)`;
    const second = row[again] ?? 0;
    return { label: row.method, value: value(row), second, colour: /^cola/.test(row.method) ? 0 : 'grey',
      text: `${format(value(row))}${factor}${second ? ` + ${format(second)} again` : ''}` };
  });
  const of = data.costs.length > 1 ? `${table.label}. ` : '';
  const note = bars.some((bar) => bar.second) ? ' The light part, computed again, is not in the factor.' : '';
  return figure({ id, title, caption: () => `${of}By formula; the factor is against ${full.method}.${note}`,
    draw: (width) => barChart({ title, name, rows: bars,
      description: bars.map((bar) => `${bar.label} ${bar.text}`).join(', ') }, width),
    data: () => ({ columns: table.columns, rows: table.rows }) });
}

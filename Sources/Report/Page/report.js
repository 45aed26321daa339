// The page: its state, which the address carries behind #, its parts, and its beginning.

const data = JSON.parse(document.getElementById('data').textContent);
const parts = [];
const defaults = {};
const state = {};

/** Values that the state may have; a value from the address that is none of them is left out. */
const allowed = {
  run: () => data.spectra.map((run) => run.label), compare: () => ['', ...data.spectra.map((run) => run.label)],
  side: () => [...new Set(data.spectra.flatMap((run) => run.sides))],
  alpha: () => alphas().map((alpha) => alpha.text),
  module: () => data.spectra.flatMap((run) => run.modules), axis: () => ['log', 'linear'],
  plan: () => data.plans.map((plan) => plan.label), conversion: () => data.conversions.map((item) => item.label),
  unit: () => ['tokens', 'steps'], history: () => ['all', ...data.histories.map((item) => item.label)],
  historyModule: () => ['all', ...data.histories.flatMap((item) => modulesOf(item.places))],
};

/** All α that something on the page was measured for. */
function alphas() {
  const all = [...data.spectra, ...data.histories].flatMap((item) => item.alphas);
  const distinct = all.filter((alpha, index) => all.findIndex((other) => other.value === alpha.value) === index);
  return distinct.sort((a, b) => a.value - b.value);
}

function chooseDefaults() {
  const known = alphas();
  const alpha = known.find((item) => item.value === 0.95) ?? known[0];
  Object.assign(defaults, {
    run: data.spectra[0]?.label ?? '', compare: data.spectra[1]?.label ?? '', alpha: alpha?.text ?? '',
    side: allowed.side().includes('output') ? 'output' : allowed.side()[0] ?? '', module: '', layers: '', axis: 'log',
    plan: data.plans[0]?.label ?? '', conversion: data.conversions[0]?.label ?? '', unit: 'tokens',
    history: data.histories.length === 1 ? data.histories[0].label : 'all', historyModule: 'all',
  });
  Object.assign(state, defaults);
  if (data.spectra.length) {
    const run = data.spectra[0];
    const worst = facts(run).worst ?? run.places[0];
    const { layers } = run;
    const shown = [layers[0], layers[Math.floor(layers.length / 2)], layers.at(-1), worst.layer];
    defaults.module = worst.module;
    defaults.layers = layersText([...new Set(shown)].sort((a, b) => a - b));
  }
  Object.assign(state, defaults);
}

/** Takes from the address what it says. */
function readFragment() {
  for (const [key, value] of new URLSearchParams(location.hash.slice(1))) {
    if (key === 'layers' && data.spectra.length && parsedLayers(value, runNamed(state.run))) state.layers = value;
    if (key === 'alpha') {
      const alpha = alphas().find((item) => item.value === Number(value));
      if (alpha) state.alpha = alpha.text;
    } else if (Object.hasOwn(allowed, key) && allowed[key]().includes(value)) {
      state[key] = value;
    }
  }
  if (state.compare === state.run) state.compare = '';
}

/** Changes the state, the address and the page. */
function setState(changes) {
  Object.assign(state, changes);
  if (state.compare === state.run) state.compare = '';
  const changed = Object.entries(state).filter(([key, value]) => value !== defaults[key]);
  history.replaceState(null, '', `#${new URLSearchParams(changed)}`);
  update();
}

function update() {
  parts.forEach((part) => part.update());
}

// Parts

/** Which run, side and α the page is about. */
function settingsBar() {
  const runs = data.spectra.map((run) => run.label);
  const wanted = [
    ['run', 'Run', runs, runs.length > 1], ['compare', 'Compare with', [['', 'nothing'], ...runs], runs.length > 1],
    ['side', 'Side', allowed.side(), allowed.side().length > 1],
    ['alpha', 'α, share of the energy', allowed.alpha(), allowed.alpha().length > 0],
  ].filter(([, , , isNeeded]) => isNeeded);
  if (!wanted.length) return null;
  const controls = wanted.map(([key, name, options]) =>
    [key, choice(name, options, state[key], (value) => setState({ [key]: value }))]);
  const node = element('div', { class: 'settings', role: 'group', 'aria-label': 'What the page shows' },
    controls.map(([, control]) => control.node));
  parts.push({ update: () => controls.forEach(([key, control]) => control.set(state[key])) });
  return node;
}

function addSection({ id, title, nodes, update: refresh }) {
  const heading = element('h2', { id: `${id}-title`, tabindex: -1 }, title);
  document.getElementById('main').append(element('section', { id, 'aria-labelledby': `${id}-title` }, heading, nodes));
  parts.push({ id, title, heading, update: refresh ?? (() => {}) });
}

/** Links to the sections, which leave the state in the address alone. */
function contents() {
  const go = (part) => (event) => {
    event.preventDefault();
    part.heading.scrollIntoView();
    part.heading.focus({ preventScroll: true });
  };
  const links = parts.filter((part) => part.heading)
    .map((part) => element('li', {}, element('a', { href: `#${part.id}`, onclick: go(part) }, part.title)));
  return element('nav', { 'aria-label': 'Sections' }, element('ul', {}, links));
}

// Provenance

/** A record in one line: policy {name: budget, keep: 0.6} is "name budget, keep 0.6". */
function recordText(value) {
  if (value === null || value === undefined) return '–';
  if (Array.isArray(value)) return value.map(recordText).join(', ');
  if (value.path && value.sha256) return `${value.path} (${count(value.bytes)} bytes, SHA-256 ${value.sha256})`;
  if (typeof value === 'object') {
    return Object.entries(value).map(([key, part]) => `${key.replaceAll('_', ' ')} ${recordText(part)}`).join(', ');
  }
  return typeof value === 'number' ? plain(value, 5) : String(value);
}

/** Words of a command as one would type them. */
function commandText(words) {
  return words.map((word) => (/^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`)).join(' ');
}

const commandBox = (words) => element('pre', {}, element('code', {}, commandText(words)));

/** What one of the tools' records says of where its results come from. */
function recordNode({ file, command_line: command, ...rest }) {
  const rows = Object.entries(rest).map(([key, value]) =>
    element('div', {}, element('dt', {}, key.replaceAll('_', ' ')), element('dd', {}, recordText(value))));
  return [element('h4', {}, file), command ? commandBox(command) : null, element('dl', { class: 'record' }, rows)];
}

function provenanceSection() {
  const page = element('article', { class: 'source' }, element('h3', {}, 'This page'),
    commandBox(data.page.command_line));
  const sources = data.sources.map((source) => {
    const files = tableBox({ caption: `Files of ${source.path}`, columns: ['file', 'bytes', 'SHA-256'],
      rows: source.files.map((file) => [file.path, file.bytes, file.sha256]) });
    const number = `${source.files.length} file${source.files.length === 1 ? '' : 's'} read`;
    return element('article', { class: 'source' }, element('h3', {}, source.label), source.records.map(recordNode),
      element('details', {}, element('summary', {}, number), files));
  });
  return { id: 'provenance', title: 'Where this comes from', nodes: [page, ...sources] };
}

// Beginning

function start() {
  for (const run of data.spectra) indexRun(run);
  for (const item of [...data.plans, ...data.conversions]) item.layers = unpacked(item.layers);
  chooseDefaults();
  readFragment();
  const header = document.getElementById('header');
  const bar = settingsBar();
  if (data.spectra.length) [summarySection, mapSection, decaySection].forEach((section) => addSection(section()));
  if (data.plans.length) addSection(planSection());
  if (data.conversions.length) addSection(conversionSection());
  if (data.healing.length) addSection(healingSection());
  if (data.training.length) addSection(trainingSection());
  if (data.histories.length) addSection(historySection());
  if (data.arms.length) addSection(armsSection());
  if (data.costs.length) addSection(costSection());
  addSection(provenanceSection());
  header.append(element('h1', {}, data.title),
    element('p', { class: 'made' }, `Made by ${data.page.tool} ${data.page.version} from ${data.sources.length} folder${
      data.sources.length === 1 ? '' : 's'} of results.`), contents());
  if (bar) document.getElementById('main').prepend(bar);
  document.querySelector('.skip').addEventListener('click', (event) => {
    event.preventDefault();
    document.getElementById('main').focus();
  });
  update();
  watchWidths();
  addEventListener('hashchange', () => { readFragment(); update(); });
}

start();

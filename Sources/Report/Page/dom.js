// Elements, numbers and tables. Text of files and folders enters the page as text nodes and attribute values only.
'use strict';

const svgNamespace = 'http://www.w3.org/2000/svg';

/** An element with attributes and children. A function is a listener (`onclick`); strings become text. */
function element(name, attributes = {}, ...children) {
  return furnish(document.createElement(name), attributes, children);
}

/** The same in SVG. */
function shape(name, attributes = {}, ...children) {
  return furnish(document.createElementNS(svgNamespace, name), attributes, children);
}

function furnish(node, attributes, children) {
  for (const [key, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (typeof value === 'function') node.addEventListener(key.slice(2), value);
    else node.setAttribute(key, value === true ? '' : String(value));
  }
  node.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

/** What stands in the place of a chart that has nothing to draw. */
function nothing(text) {
  return element('p', { class: 'nothing' }, text);
}

/** What to say to a reader of the layer's module: `mlp.down_proj` is down. */
function shortName(module) {
  return module.split('.').pop().replace(/_proj$/, '');
}

/** A label that fits beside a chart. */
function shortened(text, length = 26) {
  return text.length <= length ? text : `${text.slice(0, length - 1)}…`;
}

/** The modules of some rows, in their order. */
const modulesOf = (rows) => [...new Set(rows.map((row) => row.module))];

// Numbers

const minus = (text) => text.replace('-', '−');

/** 1234567 as 1,234,567. */
function count(value) {
  return minus(Math.round(value).toString().replace(/\B(?=(\d{3})+$)/g, ','));
}

/** A number with so many decimals. */
function fixed(value, decimals) {
  return minus(value.toFixed(decimals));
}

/** A number with at most so many significant digits, and no more zeros than it needs. */
function plain(value, digits = 4) {
  if (value === 0 || Number.isInteger(value)) return count(value);
  const size = Math.abs(value);
  if (size >= 1e-4 && size < 1e7) return minus(String(Number(value.toPrecision(digits))));
  const [mantissa, exponent] = value.toExponential(digits - 1).split('e');
  return minus(`${Number(mantissa)}·10${superscript(Number(exponent))}`);
}

function superscript(exponent) {
  return [...String(exponent)].map((digit) => (digit === '-' ? '⁻' : '⁰¹²³⁴⁵⁶⁷⁸⁹'[digit])).join('');
}

/** 0.613 as 61 %. */
function percent(value, decimals = 0) {
  return `${fixed(100 * value, decimals)} %`;
}

/** A large number in thousands, millions or more. */
function magnitude(value) {
  const units = [[1e15, ' P'], [1e12, ' T'], [1e9, ' G'], [1e6, ' M'], [1e3, ' k']];
  const [scale, unit] = units.find(([limit]) => Math.abs(value) >= limit) ?? [1, ''];
  return minus(String(Number((value / scale).toPrecision(3)))) + unit;
}

/** Bytes in the unit that keeps the number readable. */
function bytes(value) {
  const units = [[2 ** 40, 'TiB'], [2 ** 30, 'GiB'], [2 ** 20, 'MiB'], [2 ** 10, 'KiB']];
  const [scale, unit] = units.find(([limit]) => value >= limit) ?? [1, 'B'];
  return `${scale === 1 ? count(value) : fixed(value / scale, 1)} ${unit}`;
}

// Tables

/** Rows of a table with a list of columns, as objects. */
function unpacked(table) {
  return table.rows.map((row) => Object.fromEntries(table.columns.map((column, index) => [column, row[index]])));
}

/** A number in a table that is written in its own way. */
const written = (value, text) => (value === null || value === undefined ? null : { value, text: text(value) });

/** What a cell sorts by and is saved as. */
const cellValue = (cell) => (cell !== null && typeof cell === 'object' ? cell.value : cell);

function cellText(cell) {
  if (cell === null || cell === undefined) return '–';
  if (typeof cell === 'object') return cell.text;
  return typeof cell === 'number' ? plain(cell, 6) : String(cell);
}

/**
 * A table in a box of its own, in which it scrolls. The first column heads the rows. With `isSortable` the head of each
 * column is a button.
 */
function tableBox({ caption, columns, rows, isSortable = false }) {
  const isNumeric = columns.map((_, index) => rows.every((row) => typeof (cellValue(row[index]) ?? 0) === 'number'));
  const body = element('tbody');
  const fill = (ordered) => body.replaceChildren(...ordered.map((row) => element('tr', {}, row.map((value, index) =>
    element(index ? 'td' : 'th', { scope: index ? null : 'row', class: isNumeric[index] && 'number' },
      cellText(value))))));
  fill(rows);
  const heads = columns.map((column, index) => element('th', { scope: 'col', class: isNumeric[index] && 'number' },
    isSortable ? element('button', { type: 'button', class: 'sort', onclick: () => sort(index) }, column) : column));
  function sort(index) {
    const isUp = heads[index].getAttribute('aria-sort') !== 'ascending';
    heads.forEach((head) => head.removeAttribute('aria-sort'));
    heads[index].setAttribute('aria-sort', isUp ? 'ascending' : 'descending');
    const isKnown = (row) => row[index] !== null && row[index] !== undefined;
    const order = (first, second) => {
      const [a, b] = [cellValue(first[index]), cellValue(second[index])];
      return (isNumeric[index] ? a - b : String(a).localeCompare(String(b), 'en', { numeric: true })) * (isUp ? 1 : -1);
    };
    const known = rows.filter(isKnown).sort(order);
    fill([...known, ...rows.filter((row) => !isKnown(row))]);
  }
  const table = element('table', { class: 'data' },
    element('caption', {}, element('span', { class: 'shown-caption' }, caption)),
    element('thead', {}, element('tr', {}, heads)), body);
  return scrollBox(caption, table);
}

/** A box that scrolls sideways, with the keyboard too. */
function scrollBox(label, ...children) {
  return element('div', { class: 'scroll', tabindex: 0, role: 'region', 'aria-label': label }, children);
}

/** RFC 4180. */
function csvText({ columns, rows }) {
  const field = (cell) => {
    const text = cell === null || cell === undefined ? '' : String(cellValue(cell));
    return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  return [columns, ...rows].map((row) => `${row.map(field).join(',')}\r\n`).join('');
}

// Controls

/** A select with its label. `options` are texts, or pairs of value and text. */
function choice(label, options, value, onChange) {
  const select = element('select', { onchange: () => onChange(select.value) }, options.map((option) => {
    const [key, text] = Array.isArray(option) ? option : [option, option];
    return element('option', { value: key, selected: key === value }, text);
  }));
  const node = element('label', { class: 'control' }, element('span', {}, label), select);
  return { node, set: (next) => { if (select.value !== next) select.value = next; } };
}

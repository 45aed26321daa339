// Figures: a chart or a map with its caption, its data as a table, and buttons that save it.

/** A figure redraws itself when its width or the page's state changes. */
const figures = [];

/**
 * - `caption()`: nodes or text below the title.
 * - `draw(width)`: the SVG, or any node for a figure whose picture is made when it is saved.
 * - `data()`: { columns, rows } of what is shown.
 */
function figure({ id, title, caption, draw, data, controls = [] }) {
  const plot = element('div', { class: 'plot' });
  const text = element('p', { class: 'caption' });
  const details = element('details', { ontoggle: () => showData() }, element('summary', {}, 'Data as a table'),
    element('div', { class: 'slot' }));
  const readout = element('p', { class: 'readout', 'aria-hidden': 'true' });
  const name = () => `${id}-${document.title}`.replaceAll(/[^A-Za-z0-9._-]+/g, '-').slice(0, 80);
  const button = (label, onclick) => element('button', { type: 'button', onclick }, label);
  const node = element('figure', { id: `figure-${id}` }, element('figcaption', {}, element('h3', {}, title), text),
    controls.length ? element('div', { class: 'controls' }, controls) : null, plot,
    element('div', { class: 'actions' },
      button('Save SVG', () => download(svgText(picture(plot)), 'image/svg+xml', `${name()}.svg`)),
      button('Save PNG', async () => download(await pngBlob(picture(plot)), 'image/png', `${name()}.png`)),
      button('Save CSV', () => download(csvText(data()), 'text/csv', `${name()}.csv`))),
    details);
  function showData() {
    if (details.open) details.lastChild.replaceChildren(tableBox({ caption: title, isSortable: true, ...data() }));
  }
  function update(width) {
    const wide = Math.floor(width ?? node.clientWidth ?? 0) || 680;
    const drawn = draw(wide);
    plot.replaceChildren(drawn, ...(drawn.querySelector('.pointer') ? [readout] : []));
    readout.textContent = '';
    text.replaceChildren(...[caption?.() ?? ''].flat());
    showData();
  }
  const self = { node, update, picture: () => picture(plot), width: 0 };
  figures.push(self);
  return self;
}

/** The figures' new widths after the window's. */
function watchWidths() {
  const observer = new ResizeObserver((entries) => {
    for (const { target } of entries) {
      const self = figures.find((item) => item.node === target);
      if (self && target.clientWidth && target.clientWidth !== self.width) {
        self.width = target.clientWidth;
        self.update();
      }
    }
  });
  for (const { node } of figures) observer.observe(node);
  // On paper a chart has the width of the text, whatever the window had.
  addEventListener('beforeprint', () => figures.forEach((item) => item.update(680)));
  addEventListener('afterprint', () => figures.forEach((item) => item.update()));
}

// Pictures

const drawnProperties = ['fill', 'stroke', 'stroke-width', 'stroke-dasharray', 'stroke-linejoin', 'opacity',
  'font-size', 'font-family', 'font-weight', 'text-anchor', 'paint-order', 'visibility'];

/** A copy of what a plot shows that looks the same outside of this page. */
function picture(plot) {
  const original = plot.querySelector('svg.chart');
  if (!original) return tablePicture(plot);
  const copy = original.cloneNode(true);
  const originals = [original, ...original.querySelectorAll('*')];
  [copy, ...copy.querySelectorAll('*')].forEach((node, index) => {
    const style = getComputedStyle(originals[index]);
    for (const property of drawnProperties) {
      const value = style.getPropertyValue(property);
      if (value) node.setAttribute(property, /^(fill|stroke)$/.test(property) ? plainColour(value) : value);
    }
    node.removeAttribute('class');
  });
  return framed(copy, original.viewBox.baseVal.width, original.viewBox.baseVal.height);
}

/** Tables drawn where they stand, cell by cell. */
function tablePicture(plot) {
  const outer = plot.getBoundingClientRect();
  const copy = shape('svg');
  for (const cell of plot.querySelectorAll('caption, th, td, .key-text, .key-colour')) {
    const [box, style] = [cell.getBoundingClientRect(), getComputedStyle(cell)];
    const [x, y] = [box.left - outer.left, box.top - outer.top];
    const fill = plainColour(style.backgroundColor);
    if (fill !== 'none') copy.append(shape('rect', { x, y, width: box.width, height: box.height, fill }));
    const isEnd = style.textAlign === 'right' || style.textAlign === 'end';
    const isMiddle = style.textAlign === 'center';
    const padding = parseFloat(style.paddingLeft);
    copy.append(label(x + (isMiddle ? box.width / 2 : isEnd ? box.width - padding : padding), y + box.height / 2 + 4,
      cell.textContent, { fill: plainColour(style.color), 'font-size': style.fontSize, 'font-family': style.fontFamily,
        'font-weight': style.fontWeight, 'text-anchor': isMiddle ? 'middle' : isEnd ? 'end' : 'start' }));
  }
  const box = plot.querySelector('.maps') ?? plot;
  return framed(copy, Math.ceil(Math.max(outer.width, box.scrollWidth)), Math.ceil(outer.height));
}

function framed(svg, width, height) {
  const paper = plainColour(getComputedStyle(document.body).backgroundColor);
  svg.setAttribute('viewBox', `-16 -16 ${width + 32} ${height + 32}`);
  svg.setAttribute('width', width + 32);
  svg.setAttribute('height', height + 32);
  svg.prepend(shape('rect', { x: -16, y: -16, width: width + 32, height: height + 32, fill: paper }));
  return svg;
}

const colours = new Map();

/** Any colour of CSS as #rrggbb, which every program that reads SVG knows; none for a transparent one. */
function plainColour(text) {
  if (!colours.has(text)) {
    const context = element('canvas', { width: 1, height: 1 }).getContext('2d', { willReadFrequently: true });
    context.fillStyle = 'rgba(0, 0, 0, 0)';
    if (text !== 'none') context.fillStyle = text;
    context.fillRect(0, 0, 1, 1);
    const [red, green, blue, alpha] = context.getImageData(0, 0, 1, 1).data;
    const digits = [red, green, blue].map((value) => value.toString(16).padStart(2, '0')).join('');
    colours.set(text, alpha === 0 ? 'none' : `#${digits}`);
  }
  return colours.get(text);
}

function svgText(svg) {
  svg.setAttribute('xmlns', svgNamespace);
  return new XMLSerializer().serializeToString(svg);
}

/** The picture in pixels, at twice its size. */
async function pngBlob(svg) {
  const [width, height] = [Number(svg.getAttribute('width')), Number(svg.getAttribute('height'))];
  const image = new Image();
  image.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(svgText(svg))}`;
  await image.decode();
  const canvas = element('canvas', { width: 2 * width, height: 2 * height });
  canvas.getContext('2d').drawImage(image, 0, 0, 2 * width, 2 * height);
  return new Promise((resolve) => { canvas.toBlob(resolve, 'image/png'); });
}

/** Hands a file to the reader. */
function download(content, type, name) {
  const address = URL.createObjectURL(new Blob([content], { type }));
  const link = element('a', { href: address, download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(address), 10000);
}

// Line charts over time in SVG: colours are of the style sheet (classes c0, c1, ...), so that both schemes are right without
// drawing again, and what is drawn can be read in the tree of the page.
import { clock } from './words.js';

const MARGIN_TOP = 6;
const MARGIN_BOTTOM = 20;
const MARGIN_LEFT = 62; // for the scale
const MARGIN_RIGHT = 4;
const HEADROOM = 1.03;
const TICKS = 3;
const known = (v) => v !== null && v !== undefined;
const SVG = 'http://www.w3.org/2000/svg';

const set = (e, attributes) => {
  for (const [k, v] of Object.entries(attributes)) e.setAttribute(k, v);
};

const put = (parent, name, attributes = {}, text = null) => {
  const e = document.createElementNS(SVG, name);
  set(e, attributes);
  if (text !== null) e.textContent = text;
  parent.append(e);
  return e;
};

const html = (parent, name, className = '', text = null) => {
  const e = document.createElement(name);
  if (className) e.className = className;
  if (text !== null) e.textContent = text;
  parent.append(e);
  return e;
};

/** The step between lines of the grid: 1, 2 or 5 times a power of ten. */
export function niceStep(max, ticks, least) {
  const rough = Math.max(max / ticks, least);
  const power = 10 ** Math.floor(Math.log10(rough));
  return [1, 2, 5, 10].map((n) => n * power).find((n) => n >= rough * 0.999);
}

export class Chart {
  /** words: { id, title, least: the lowest top of the scale, format(value), stacked, mirrored: the second
   *  line goes down from zero, empty: words where all is 0 }.
   *  onCursor(time or null): the pointer or a key looks at another second, in all charts. */
  constructor(parent, words, onCursor) {
    this.words = words;
    this.onCursor = onCursor;
    this.figure = html(parent, 'figure', 'chart');
    this.figure.id = `chart-${words.id}`;
    const head = html(this.figure, 'figcaption');
    html(head, 'h2', '', words.title);
    this.time = html(head, 'span', 'quiet time');
    this.plot = html(this.figure, 'div', 'plot');
    this.plot.tabIndex = 0;
    set(this.plot, { role: 'slider', 'aria-label': `${words.title}, time`, 'aria-valuemin': 0, 'aria-valuemax': 0, 'aria-valuenow': 0,
      'aria-valuetext': 'loading' });
    this.svg = put(this.plot, 'svg', { 'aria-hidden': 'true' });
    this.note = html(this.plot, 'p', 'note', 'Loading …');
    this.legend = html(this.figure, 'ul', 'legend');
    this.view = null;
    this.listen();
  }

  listen() {
    new ResizeObserver(() => this.draw()).observe(this.plot);
    this.plot.addEventListener('pointermove', (e) => this.look(e.clientX));
    this.plot.addEventListener('pointerdown', (e) => this.look(e.clientX));
    this.plot.addEventListener('pointerleave', () => this.onCursor(null));
    this.plot.addEventListener('blur', () => this.onCursor(null));
    this.plot.addEventListener('focus', () => this.say());
    this.plot.addEventListener('keydown', (e) => this.key(e));
  }

  look(clientX) {
    if (!this.view) return;
    const box = this.plot.getBoundingClientRect();
    const part = Math.min(1, Math.max(0, (clientX - box.left - MARGIN_LEFT) / (box.width - MARGIN_LEFT - MARGIN_RIGHT)));
    this.onCursor(this.view.until - Math.round((1 - part) * (this.view.length - 1)));
  }

  key(e) {
    if (!this.view) return;
    const { until, length } = this.view;
    const at = this.cursor ?? until;
    const to = { ArrowLeft: at - 1, ArrowRight: at + 1, ArrowDown: at - 1, ArrowUp: at + 1, PageDown: at - 30, PageUp: at + 30,
      Home: until - length + 1, End: until, Escape: null }[e.key];
    if (to === undefined) return;
    e.preventDefault();
    this.onCursor(to === null ? null : Math.min(until, Math.max(until - length + 1, to)));
    this.say();
  }

  /** To a screen reader: only when asked, or it would never be silent. */
  say() {
    if (!this.view) return;
    const { until, length, lines } = this.view;
    const i = this.index();
    set(this.plot, { 'aria-valuemax': length - 1, 'aria-valuenow': i,
      'aria-valuetext': [clock(until - length + 1 + i), ...lines.map((l) => `${l.name} ${this.words.format(l.values[i])}`)].join(', ') });
  }

  index() {
    const { until, length } = this.view;
    const i = known(this.cursor) ? length - 1 - (until - this.cursor) : length - 1;
    return Math.min(length - 1, Math.max(0, i));
  }

  /** view: { until, length, lines: [{ name, colour, values }], note }: values of each second, the last at `until`; null: none. */
  show(view, cursor) {
    this.view = view;
    this.cursor = cursor;
    this.draw();
  }

  draw() {
    if (!this.view) return;
    const { lines, length } = this.view;
    const some = lines.some((l) => l.values.some(known));
    const all0 = some && this.words.empty && lines.every((l) => l.values.every((v) => !v));
    this.note.textContent = this.view.note ?? (!some ? 'Nothing was measured.' : all0 ? this.words.empty : '');
    this.w = this.plot.clientWidth;
    this.h = this.plot.clientHeight;
    this.svg.setAttribute('viewBox', `0 0 ${this.w} ${this.h}`);
    this.svg.replaceChildren();
    const shapes = this.stack(lines);
    const max = HEADROOM * Math.max(0, ...shapes.flatMap((s) => s.top.filter(known).map(Math.abs)));
    const ticks = this.words.mirrored ? TICKS - 1 : TICKS;
    const step = niceStep(Math.max(max, this.words.least), ticks, this.words.least / ticks);
    this.top = Math.max(1, Math.ceil(Math.max(max, this.words.least) / step - 1e-9)) * step;
    this.bottom = this.words.mirrored ? -this.top : 0;
    this.grid(step, some && !all0, length);
    if (some) shapes.forEach((s) => this.line(s, length));
    this.mark(shapes, length);
    this.tell(lines, some && !all0);
  }

  /** Each line with what is below it. */
  stack(lines) {
    let below = null;
    return lines.map((l, n) => {
      const base = below;
      const sign = this.words.mirrored && n === 1 ? -1 : 1;
      const top = sign < 0 ? l.values.map((v) => known(v) ? -v : v) : base ? l.values.map((v, i) => (v ?? 0) + (base[i] ?? 0)) : l.values;
      if (this.words.stacked) below = top;
      return { ...l, top, base };
    });
  }

  x(i, length) {
    return Math.round((MARGIN_LEFT + (i / Math.max(1, length - 1)) * (this.w - MARGIN_LEFT - MARGIN_RIGHT)) * 10) / 10;
  }

  y(v) {
    return Math.round((this.h - MARGIN_BOTTOM - ((v - this.bottom) / (this.top - this.bottom)) * (this.h - MARGIN_TOP - MARGIN_BOTTOM)) * 10) / 10;
  }

  grid(step, labels, length) {
    const g = put(this.svg, 'g', { class: 'grid' });
    for (let v = this.bottom; v <= this.top * 1.001; v += step) {
      const y = Math.round(this.y(v)) + 0.5;
      put(g, 'line', { x1: MARGIN_LEFT, x2: this.w, y1: y, y2: y, class: Math.abs(v) < step / 2 ? 'zero' : '' });
    }
    for (let v = 0; labels && v <= this.top * 1.001; v += step)
      for (const side of this.words.mirrored && v ? [v, -v] : [v])
        put(g, 'text', { x: MARGIN_LEFT - 8, y: Math.max(9, this.y(side) + 4), 'text-anchor': 'end' }, v ? this.words.format(v) : '0');
    const ago = (s) => (s >= 120 ? `${s / 60} min ago` : `${s} s ago`);
    put(g, 'text', { x: MARGIN_LEFT, y: this.h - 5 }, ago(length));
    put(g, 'text', { x: (this.w + MARGIN_LEFT) / 2, y: this.h - 5, 'text-anchor': 'middle' }, ago(length / 2));
    put(g, 'text', { x: this.w, y: this.h - 5, 'text-anchor': 'end' }, clock(this.view.until));
  }

  /** With gaps where there is no value. */
  line({ top, base, colour }, length) {
    const runs = [];
    top.forEach((v, i) => {
      if (!known(v)) return;
      if (i === 0 || !known(top[i - 1])) runs.push([]);
      runs.at(-1).push(i);
    });
    if (!runs.length) return;
    const at = (i, v) => `${this.x(i, length)} ${this.y(v)}`;
    const there = (run) => run.map((i) => at(i, top[i])).join('L');
    const back = (run) => [...run].reverse().map((i) => at(i, base ? base[i] ?? 0 : 0)).join('L');
    put(this.svg, 'path', { class: `area c${colour}`, d: runs.map((run) => `M${there(run)}L${back(run)}Z`).join('') });
    put(this.svg, 'path', { class: `line c${colour}`, d: runs.map((run) => `M${there(run)}h0`).join('') }); // h0: a dot, of one alone
  }

  /** What lies above the lines: the second that is looked at. */
  mark(shapes, length) {
    const g = put(this.svg, 'g', { class: 'marks' });
    const looked = known(this.cursor);
    this.time.textContent = looked ? clock(this.view.until - this.view.length + 1 + this.index()) : '';
    if (!looked) return;
    const x = this.x(this.index(), length);
    put(g, 'line', { x1: x, x2: x, y1: MARGIN_TOP, y2: this.h - MARGIN_BOTTOM, class: 'cursor' });
    for (const s of shapes)
      if (known(s.top[this.index()]))
        put(g, 'circle', { cx: x, cy: this.y(s.top[this.index()]), r: 3.5, class: `dot c${s.colour}` });
  }

  tell(lines, some) {
    const i = this.index();
    while (this.legend.children.length > lines.length) this.legend.lastChild.remove();
    lines.forEach((l, n) => {
      const li = this.legend.children[n] ?? html(this.legend, 'li');
      if (!li.children.length) for (const c of ['swatch', 'name', 'value']) html(li, 'span', c);
      li.children[0].className = `swatch c${l.colour}`;
      li.children[1].textContent = l.name;
      li.children[2].textContent = some || l.values[i] === 0 ? this.words.format(l.values[i]) : '–';
    });
  }
}

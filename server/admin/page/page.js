// The status page: asks the relay once a second, draws, and says how old what it shows is when the relay does not answer.
import { ask, setToken, NeedsToken, Refused, Unreachable } from './api.js';
import { Chart } from './chart.js';
import { Table, kinds } from './tables.js';
import * as words from './words.js';

const RECENT = 10;
const KEPT = 600; // seconds, as many as the relay has
const DROP_COLOURS = [4, 1, 3, 6, 5, 2, 0]; // of the style sheet
const calm = matchMedia('(prefers-reduced-motion: reduce)');
const $ = (id) => document.getElementById(id);

const charts = {};
const tiles = {};
let cursor = null; // the second that is looked at, or null: the newest
let data = null; // { until, columns: { name: values of the last KEPT seconds }, drops }
let node = null;
let nodeSince = null;
let heardAt = null; // when the relay last answered
let paused = false;
let turn = 0;
let timer = null;
const reasons = []; // of drops, in the order of their colours

// ---- series

const COLUMNS = ['bytes_in', 'bytes_out', 'packets_in', 'packets_out', 'tunnels', 'queue_delay_us_p50', 'queue_delay_us_p99', 'rtt_us_p50', 'rtt_us_p99'];
const filled = (values) => [...Array(Math.max(0, KEPT - values.length)).fill(null), ...values].slice(-KEPT);
const joined = (old, values, n) => [...(old ?? Array(KEPT).fill(null)), ...Array(Math.max(0, n - values.length)).fill(null), ...values.slice(-n)].slice(-KEPT);

/** What is new since last time, or all of it. */
async function readSeries() {
  const missing = data ? Math.ceil(Date.now() / 1000 - data.until) + 3 : KEPT;
  const fresh = await ask('series', { last: Math.min(KEPT, Math.max(3, missing)) });
  const n = data ? fresh.until_unix_s - data.until : KEPT;
  const merge = (old, values) => (!data || n >= KEPT || n < 0 ? filled(values) : n === 0 ? old : joined(old, values, n));
  const columns = Object.fromEntries(COLUMNS.map((c) => [c, merge(data?.columns[c], fresh[c] ?? [])]));
  const drops = Object.fromEntries(Object.keys(fresh.drops).map((r) => [r, merge(data?.drops[r], fresh.drops[r])]));
  data = { until: fresh.until_unix_s, columns, drops };
}

// ---- drawing

const CHARTS = [
  { id: 'traffic', title: 'Traffic', format: (n) => words.si(n, 'bit/s'), times: 8, least: 1000, mirrored: true, lines: [['in', 'bytes_in'], ['out', 'bytes_out']] },
  { id: 'packets', title: 'Packets', format: words.packets, least: 3, mirrored: true, lines: [['in', 'packets_in'], ['out', 'packets_out']] },
  { id: 'tunnels', title: 'Tunnels', format: words.count, least: 3, lines: [['connected', 'tunnels']] },
  { id: 'drops', title: 'Drops by reason', format: words.perSecond, least: 3, stacked: true, empty: 'Nothing was dropped.' },
  { id: 'queue', title: 'Queue delay', format: words.micros, least: 300, lines: [['median', 'queue_delay_us_p50'], ['99 %', 'queue_delay_us_p99']] },
  { id: 'rtt', title: 'Round trip to ends', format: words.micros, least: 300, lines: [['median', 'rtt_us_p50'], ['99 %', 'rtt_us_p99']] },
];

/** Reasons that occurred keep their colour; those behind the last are one. */
function dropLines(length) {
  for (const [reason, values] of Object.entries(data.drops))
    if (!reasons.includes(reason) && values.some((v) => v)) reasons.push(reason);
  const line = (reason) => data.drops[reason]?.slice(-length) ?? Array(length).fill(null);
  const most = DROP_COLOURS.length - 1;
  const own = reasons.slice(0, most).map((r, i) => ({ name: words.plain(r), colour: DROP_COLOURS[i], values: line(r) }));
  const rest = reasons.slice(most).map(line);
  if (rest.length) own.push({ name: 'others', colour: DROP_COLOURS[most], values: rest[0].map((_, i) => rest.reduce((sum, l) => sum + (l[i] ?? 0), 0)) });
  const known = data.columns.bytes_in.slice(-length).map((v) => (v === null ? null : 0));
  return own.length ? own : [{ name: 'all', colour: DROP_COLOURS[0], values: known }];
}

function draw() {
  if (!data) return;
  const length = Number($('window').value);
  for (const c of CHARTS) {
    const values = (column) => data.columns[column].slice(-length).map((v) => (v === null ? null : v * (c.times ?? 1)));
    const lines = c.lines?.map(([name, column], i) => ({ name, colour: i, values: values(column) })) ?? dropLines(length);
    const note = data.columns.bytes_in.slice(-length).some((v) => v !== null) ? null : 'The relay has just started.';
    charts[c.id].show({ until: data.until, length, lines, note }, cursor);
  }
  drawTiles(length);
}

function tile(id, name, value, more) {
  if (!tiles[id]) {
    const box = $('tiles').appendChild(document.createElement('div'));
    tiles[id] = ['dt', 'dd', 'dd'].map((tag) => box.appendChild(document.createElement(tag)));
    tiles[id][1].className = 'figure';
    tiles[id][1].id = `now-${id}`;
    tiles[id][2].className = 'quiet';
  }
  [name, value, more].forEach((text, i) => {
    tiles[id][i].textContent = text;
  });
}

function drawTiles(length) {
  const last = (values) => values?.at(-1) ?? null;
  const newest = (values) => values.slice(-RECENT).findLast((v) => v !== null) ?? null; // of a second without packets there is none
  const peak = (values) => Math.max(0, ...values.slice(-length).filter((v) => v !== null));
  const { columns, drops } = data;
  const lost = Object.values(drops).reduce((all, values) => all.map((v, i) => v + (values[i] ?? 0)), Array(KEPT).fill(0));
  const lostNow = lost.slice(-length).reduce((a, b) => a + b, 0);
  tile('tunnels', 'Tunnels', words.count(last(columns.tunnels)), `peak ${words.count(peak(columns.tunnels))}`);
  tile('in', 'In', words.bits(last(columns.bytes_in)), `peak ${words.bits(peak(columns.bytes_in))}`);
  tile('out', 'Out', words.bits(last(columns.bytes_out)), `peak ${words.bits(peak(columns.bytes_out))}`);
  tile('drops', 'Dropped', words.perSecond(last(lost)), `${words.count(lostNow)} in ${words.duration(length)}`);
  tile('queue', 'Queue delay', words.micros(newest(columns.queue_delay_us_p99)), '99 % wait less');
}

function drawNode() {
  const silent = node.workers.filter((w) => !w.answers).length;
  $('node').textContent = node.name;
  document.title = `${node.name}: tunn relay`;
  $('about').textContent = [`version ${node.version}`, `up ${words.duration(node.uptime_s)}`, node.listening.join(', '),
    `${node.workers.length} worker${node.workers.length === 1 ? '' : 's'}${silent ? `, ${silent} not answering` : ''}`].join(' · ');
}

// ---- states

/** kind: ready, wait or bad; words in the badge, and a sentence across the page where something is not as it should be. */
function say(kind, badge, sentence = '') {
  $('state').dataset.state = kind;
  $('state').textContent = badge;
  const news = $('news').firstChild ?? $('news').appendChild(document.createElement('p'));
  news.className = `news ${kind}`;
  if (news.textContent !== sentence) news.textContent = sentence;
  news.hidden = !sentence;
  document.body.classList.toggle('old', kind === 'bad' && data !== null);
}

function fails(error) {
  const since = heardAt ? `what you see is of ${words.clock(heardAt / 1000)}` : 'nothing is known yet';
  if (error instanceof NeedsToken) askToken();
  else if (error instanceof Unreachable) say('bad', 'not reachable', `The relay does not answer; ${since}. It is asked again every few seconds.`);
  else if (error instanceof Refused) say('bad', 'refused', `The relay refused (${error.status}: ${error.message}); ${since}.`);
  else throw error;
}

let triedToken = false;
let needsToken = false;
function askToken() {
  needsToken = true;
  say('wait', 'token needed', '');
  if (triedToken) $('login-words').textContent = 'That was not the token of the relay’s --admin-token-file.';
  if (!$('login').open) $('login').showModal();
}

$('login-form').addEventListener('submit', (e) => {
  e.preventDefault();
  setToken($('token').value.trim());
  $('token').value = '';
  triedToken = true;
  needsToken = false;
  $('login').close();
  step();
});
$('login').addEventListener('close', () => needsToken && $('login').showModal()); // there is nothing behind it to see

// ---- tables

const view = { kind: null, cursors: [''], next: null, table: null, rates: new Map(), asked: 0 };

function withRates(items) {
  const now = performance.now();
  const rates = new Map();
  for (const t of items) {
    const key = kinds.tunnels.key(t);
    const old = view.rates.get(key);
    const ok = old && t.in.bytes >= old.in && t.out.bytes >= old.out;
    const per = ok ? (now - old.at) / 1000 : null;
    t.rate_in = ok ? (t.in.bytes - old.in) / per : null;
    t.rate_out = ok ? (t.out.bytes - old.out) / per : null;
    rates.set(key, { in: t.in.bytes, out: t.out.bytes, at: now });
  }
  view.rates = rates;
  return items;
}

function countWords(n, q, doc) {
  const silent = doc.unanswered?.length ? ` Of worker ${doc.unanswered.join(', ')}, which does not answer, they are missing.` : '';
  const page = view.cursors.length > 1 || doc.next ? `, page ${view.cursors.length}, sorted within the page` : '';
  return `${words.count(n)} ${n === 1 ? view.kind.slice(0, -1) : view.kind}${q ? ` with “${q}”` : ''}${page}.${silent}`;
}

async function readList() {
  const asked = ++view.asked;
  const q = $('q').value.trim();
  let doc;
  try {
    doc = await ask(view.kind, { q, limit: $('rows').value, cursor: view.cursors.at(-1) });
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    doc = { [view.kind]: [], next: null };
    if (asked === view.asked) view.table.show([], `${error.message[0].toUpperCase()}${error.message.slice(1)}.`);
    if (asked === view.asked) $('count').textContent = '\u00a0';
    return;
  }
  if (asked !== view.asked) return; // another question was asked meanwhile
  const items = view.kind === 'tunnels' ? withRates(doc.tunnels) : doc[view.kind];
  view.next = doc.next;
  view.table.show(items, q ? `Nothing has “${q}” in its ${view.kind === 'tunnels' ? 'id, account or address' : 'name'}.` : undefined);
  const text = countWords(items.length, q, doc);
  if ($('count').textContent !== text) $('count').textContent = text;
  $('before').disabled = view.cursors.length < 2;
  $('next').disabled = !doc.next;
}

function listAgain(cursors = ['']) {
  view.cursors = cursors;
  readList().catch(fails);
}

function choose() {
  const kind = location.hash === '#accounts' ? 'accounts' : 'tunnels';
  if (kind === view.kind) return;
  if (view.kind) $('q').value = '';
  view.kind = kind;
  for (const k of Object.keys(kinds)) {
    if (k === kind) $(`to-${k}`).setAttribute('aria-current', 'page');
    else $(`to-${k}`).removeAttribute('aria-current');
  }
  $('q').placeholder = kind === 'tunnels' ? 'id, account or address' : 'name';
  $('table').replaceChildren();
  view.table = new Table($('table'), kinds[kind], (account) => {
    location.hash = '#tunnels';
    choose();
    $('q').value = account;
    $('q').focus();
    listAgain();
  });
  $('count').textContent = '\u00a0';
  listAgain();
}

// ---- time

const pauseMs = () => (calm.matches ? 5000 : 1000);

async function step() {
  clearTimeout(timer);
  if (paused || document.hidden || $('login').open) return;
  try {
    if (turn % 2 === 0 || !node) node = (await ask('nodes')).nodes[0];
    if (nodeSince !== node.started_unix_s) data = null; // another run: its series begin anew
    nodeSince = node.started_unix_s;
    await readSeries();
    if (turn % 2 === 0) await readList();
    heardAt = Date.now();
    turn++;
    drawNode();
    say(node.state === 'ready' ? 'ready' : 'wait', node.state);
    draw();
  } catch (error) {
    node = null; // it may be another one
    turn = 0;
    fails(error);
  } finally {
    clearTimeout(timer);
    timer = setTimeout(step, heardAt && $('state').dataset.state !== 'bad' ? pauseMs() : 2000);
  }
}

// ---- what one can do

function setPaused(is) {
  paused = is;
  $('pause').setAttribute('aria-pressed', String(is));
  if (is) say('wait', 'paused', `Paused at ${words.clock(Date.now() / 1000)}.`);
  else step();
}

let typing = null;
$('q').addEventListener('input', () => {
  clearTimeout(typing);
  typing = setTimeout(() => listAgain(), 200);
});
$('rows').addEventListener('change', () => listAgain());
$('next').addEventListener('click', () => view.next && listAgain([...view.cursors, view.next]));
$('before').addEventListener('click', () => listAgain(view.cursors.slice(0, -1)));
$('window').addEventListener('change', draw);
$('pause').addEventListener('click', () => setPaused(!paused));
addEventListener('hashchange', choose);
document.addEventListener('visibilitychange', step);

for (const c of CHARTS)
  charts[c.id] = new Chart($('charts'), c, (second) => {
    cursor = second;
    draw();
  });
for (const [id, name] of [['tunnels', 'Tunnels'], ['in', 'In'], ['out', 'Out'], ['drops', 'Dropped'], ['queue', 'Queue delay']])
  tile(id, name, '–', '\u00a0');
choose();
$('page').hidden = false; // whole, so that nothing moves
step();

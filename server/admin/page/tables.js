// The two tables: tunnels and accounts. The relay searches and pages; what is on the page is sorted here.
import * as words from './words.js';

const html = (parent, name, className = '', text = null) => {
  const e = document.createElement(name);
  if (className) e.className = className;
  if (text !== null) e.textContent = text;
  parent?.append(e);
  return e;
};

const sum = (counts) => Object.values(counts).reduce((a, b) => a + b, 0);
const peerWords = (p) => `${p.id ? `${p.account}/${p.id}` : p.key} (${words.plain(p.state)})`;
const dropWords = (drops) => Object.entries(drops).map(([reason, n]) => `${words.plain(reason)} ${words.count(n)}`).join(', ');

// A column: head, value to sort by, cell's lines; numbers stand on the right; `from`: how wide the page must be to have it.
const tunnels = {
  name: 'tunnels',
  key: (t) => `${t.account}/${t.id}/${t.address}`,
  empty: 'No tunnel is connected. An end comes with: tunn relay PORT --id ID --peer ID --relay https://…',
  columns: [
    { head: 'Tunnel', sort: (t) => `${t.id}/${t.account}`, lines: (t) => [t.id, t.account] },
    { head: 'Peer', from: 'l', sort: (t) => t.peers[0]?.id ?? '', lines: (t) => [
      t.peers[0] ? t.peers[0].id ?? t.peers[0].key : 'none', [t.peers[0] && words.plain(t.peers[0].state),
        t.n_peers > 1 && `and ${t.n_peers - 1} more`].filter(Boolean).join(', ')] },
    { head: 'Way', from: 'xl', sort: (t) => t.address, lines: (t) => [t.address, `${t.transport}, ${t.role}`] },
    { head: 'In', number: true, sort: (t) => t.rate_in ?? -1, lines: (t) => [words.bits(t.rate_in), words.bytes(t.in.bytes)] },
    { head: 'Out', number: true, sort: (t) => t.rate_out ?? -1, lines: (t) => [words.bits(t.rate_out), words.bytes(t.out.bytes)] },
    { head: 'RTT', number: true, from: 'm', sort: (t) => t.rtt_us ?? -1, lines: (t) => [words.roundTrip(t.rtt_us)] },
    { head: 'Queue', number: true, from: 'l', sort: (t) => t.queue.bytes, lines: (t) => [words.bytes(t.queue.bytes)] },
    { head: 'Drops', number: true, from: 'm', sort: (t) => sum(t.drops), lines: (t) => [words.count(sum(t.drops))] },
    { head: 'Since', number: true, from: 'l', sort: (t) => Date.now() / 1000 - t.since_unix_s + 1, lines: (t) => [words.duration(Date.now() / 1000 - t.since_unix_s)] },
  ],
  details: (t) => [
    ['Account', t.account], ['Address', t.address], ['Transport', `${t.transport}, ${t.role}, worker ${t.worker}`],
    ['Since', words.moment(t.since_unix_s)],
    ['In', `${words.bytes(t.in.bytes)}, ${words.count(t.in.packets)} packets`],
    ['Out', `${words.bytes(t.out.bytes)}, ${words.count(t.out.packets)} packets`],
    ['RTT', words.roundTrip(t.rtt_us)], ['Waiting', `${words.count(t.queue.packets)} packets, ${words.bytes(t.queue.bytes)}`],
    ['Drops', dropWords(t.drops) || 'none'],
    ['Peers', (t.peers.map(peerWords).join(', ') || 'none') + (t.n_peers > t.peers.length ? ` and ${t.n_peers - t.peers.length} more` : '')],
  ],
};

const used = (a) => a.usage.sent_bytes + a.usage.received_bytes;
const most = (v, how) => (v === null || v === undefined ? 'no limit' : how(v));

const accounts = {
  name: 'accounts',
  key: (a) => a.name,
  empty: 'There is no account.',
  columns: [
    { head: 'Account', sort: (a) => a.name, lines: (a) => [a.name, a.suspended ? 'suspended' : ''] },
    { head: 'Tier', from: 'm', sort: (a) => a.tier, lines: (a) => [a.tier, a.tier_known ? '' : 'not in the config'] },
    { head: 'Tunnels', number: true, sort: (a) => a.tunnels_now ?? -1,
      lines: (a) => [words.count(a.tunnels_now), most(a.limits.tunnels, (n) => `of ${words.count(n)}`)] },
    { head: 'Sent', number: true, from: 'm', sort: (a) => a.usage.sent_bytes, lines: (a) => [words.bytes(a.usage.sent_bytes)] },
    { head: 'Received', number: true, from: 'm', sort: (a) => a.usage.received_bytes, lines: (a) => [words.bytes(a.usage.received_bytes)] },
    { head: 'This month', number: true, sort: used, lines: (a) => [words.bytes(used(a)), most(a.limits.volume_bytes, (n) => `of ${words.bytes(n)}`)],
      part: (a) => (a.limits.volume_bytes ? used(a) / a.limits.volume_bytes : null) },
    { head: 'Tokens', number: true, from: 'l', sort: (a) => a.valid_tokens, lines: (a) => [words.count(a.valid_tokens)] },
  ],
  details: (a) => [
    ['Tier', a.tier + (a.tier_known ? '' : ', which the config does not have')], ['State', a.suspended ? 'suspended' : 'active'],
    ['Made', words.moment(a.created_unix_s)], ['Valid tokens', words.count(a.valid_tokens)], ['Month', a.month],
    ['Sent', `${words.bytes(a.usage.sent_bytes)}, ${words.count(a.usage.sent_packets)} packets`],
    ['Received', `${words.bytes(a.usage.received_bytes)}, ${words.count(a.usage.received_packets)} packets`],
    ['May relay', a.limits.relay ? 'yes' : 'no'], ['Most tunnels', most(a.limits.tunnels, words.count)],
    ['Most a second', most(a.limits.rate_bits_per_s, (n) => words.si(n, 'bit/s'))], ['Most a month', most(a.limits.volume_bytes, words.bytes)],
  ],
  tunnelsOf: (a) => a.name,
};

export const kinds = { tunnels, accounts };

export class Table {
  /** onTunnelsOf(account): its tunnels are asked for. */
  constructor(parent, kind, onTunnelsOf) {
    Object.assign(this, { kind, onTunnelsOf, items: [], rows: new Map(), open: new Set(), by: 0, falling: false });
    const table = html(parent, 'table');
    html(table, 'caption', 'unseen', kind.name);
    const row = html(html(table, 'thead'), 'tr');
    this.heads = kind.columns.map((c, i) => {
      const th = html(row, 'th', `${c.number ? 'number' : ''} from-${c.from ?? 's'}`);
      th.scope = 'col';
      const button = html(th, 'button', '', c.head);
      button.type = 'button';
      button.addEventListener('click', () => this.sortBy(i));
      return th;
    });
    this.body = html(table, 'tbody');
    this.none = html(parent, 'p', 'none', 'Loading …');
    this.headsSay();
  }

  sortBy(i) {
    this.falling = this.by === i ? !this.falling : Boolean(this.kind.columns[i].number);
    this.by = i;
    this.headsSay();
    this.order();
  }

  headsSay() {
    this.heads.forEach((th, i) => th.setAttribute('aria-sort', i !== this.by ? 'none' : this.falling ? 'descending' : 'ascending'));
  }

  /** items: of the relay; empty: words where there are none. */
  show(items, empty = this.kind.empty) {
    this.items = items;
    const there = new Set(items.map(this.kind.key));
    for (const [key, row] of this.rows) {
      if (there.has(key)) continue;
      row.main.remove();
      row.more.remove();
      this.rows.delete(key);
    }
    for (const item of items) this.fill(this.rows.get(this.kind.key(item)) ?? this.add(this.kind.key(item)), item);
    this.none.textContent = items.length ? '' : empty;
    this.order();
  }

  say(text) {
    this.none.textContent = text;
  }

  add(key) {
    const main = html(null, 'tr');
    const more = html(null, 'tr', 'more');
    const cells = this.kind.columns.map((c) => html(main, 'td', `${c.number ? 'number' : ''} from-${c.from ?? 's'}`));
    const button = html(cells[0], 'button', 'open');
    const id = `more-${this.kind.name}-${key}`;
    button.type = 'button';
    button.setAttribute('aria-controls', id);
    button.addEventListener('click', () => this.toggle(key));
    more.id = id;
    more.hidden = true;
    const cell = html(more, 'td');
    cell.colSpan = this.kind.columns.length;
    const row = { main, more, cells, button, list: html(cell, 'dl') };
    if (this.kind.tunnelsOf) {
      const to = html(cell, 'button', '', 'Show its tunnels');
      to.type = 'button';
      to.addEventListener('click', () => this.onTunnelsOf(this.kind.tunnelsOf(row.item)));
    }
    this.rows.set(key, row);
    this.openSays(row, false);
    return row;
  }

  toggle(key) {
    const row = this.rows.get(key);
    if (this.open.has(key)) this.open.delete(key);
    else this.open.add(key);
    this.openSays(row, this.open.has(key));
    this.fill(row, row.item);
  }

  openSays(row, is) {
    row.more.hidden = !is;
    row.button.setAttribute('aria-expanded', String(is));
  }

  fill(row, item) {
    row.item = item;
    this.kind.columns.forEach((c, i) => {
      const lines = c.lines(item);
      const cell = i === 0 ? row.button : row.cells[i];
      lines.forEach((text, n) => {
        const line = cell.children[n] ?? html(cell, 'span', n ? 'second' : 'first');
        if (line.textContent !== text) line.textContent = text;
      });
      row.cells[i].classList.toggle('nil', Boolean(c.number) && c.sort(item) <= 0);
      if (c.part) this.part(cell, c.part(item));
    });
    if (row.more.hidden) return;
    this.kind.details(item).forEach(([name, text], n) => {
      const pair = row.list.children[n] ?? html(row.list, 'div');
      if (!pair.children.length) html(pair, 'dt') && html(pair, 'dd');
      pair.children[0].textContent = name;
      pair.children[1].textContent = text;
    });
  }

  part(cell, part) {
    const bar = cell.querySelector('meter') ?? html(cell, 'meter');
    bar.hidden = part === null;
    Object.assign(bar, { min: 0, max: 1, high: 0.8, optimum: 0, value: part ?? 0 });
    bar.setAttribute('aria-label', 'used of this month’s volume');
  }

  order() {
    const { sort } = this.kind.columns[this.by];
    const of = (key) => sort(this.rows.get(key).item);
    const keys = [...this.rows.keys()].sort((a, b) => {
      const [x, y] = [of(a), of(b)];
      const by = typeof x === 'number' ? x - y : String(x).localeCompare(String(y));
      return (this.falling ? -by : by) || a.localeCompare(b);
    });
    const focused = document.activeElement;
    let at = this.body.firstChild;
    for (const key of keys) {
      const { main, more } = this.rows.get(key);
      for (const tr of [main, more])
        if (tr === at) at = at.nextSibling;
        else this.body.insertBefore(tr, at);
    }
    if (focused !== document.activeElement && this.body.contains(focused)) focused.focus({ preventScroll: true });
  }
}

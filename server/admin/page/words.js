// Numbers and times in words for people. Three digits that count, SI prefixes; nothing here touches the page.

const PREFIXES = ['', 'k', 'M', 'G', 'T', 'P'];
const digits = (n) => (n >= 99.95 || Number.isInteger(n) ? n.toFixed(0) : n >= 9.995 ? n.toFixed(1) : n.toFixed(2));

const NO_VALUE = '–';
const known = (n) => n !== null && n !== undefined && !Number.isNaN(n);

/** 12345678, 'bit/s' gives "12.3 Mbit/s". */
export function si(n, unit) {
  if (!known(n)) return NO_VALUE;
  let i = 0;
  while (n >= 999.5 && i < PREFIXES.length - 1) {
    n /= 1000;
    i++;
  }
  return `${digits(n)}\u00a0${PREFIXES[i]}${unit}`;
}

export const bits = (bytesPerSecond) => si(known(bytesPerSecond) ? bytesPerSecond * 8 : null, 'bit/s');
export const bytes = (n) => si(n, 'B');
export const packets = (n) => si(n, 'pkt/s');
export const count = (n) => (known(n) ? n.toLocaleString('en', { maximumFractionDigits: 0 }).replaceAll(',', '\u202f') : NO_VALUE);
export const perSecond = (n) => (known(n) ? `${si(n, '').trim()}/s`.replace('\u00a0/', '/') : NO_VALUE);

export function micros(us) {
  if (!known(us)) return NO_VALUE;
  if (us < 999.5) return `${digits(us)}\u00a0µs`;
  return us < 999500 ? `${digits(us / 1000)}\u00a0ms` : `${digits(us / 1e6)}\u00a0s`;
}

/** Of heartbeats, which are measured in whole milliseconds. */
export const roundTrip = (us) => (us === 0 ? '<\u00a01\u00a0ms' : micros(us));

/** The two largest parts: "3 d 4 h". */
export function duration(seconds) {
  if (!known(seconds)) return NO_VALUE;
  let left = Math.max(0, Math.round(seconds));
  const parts = [];
  for (const [name, length] of [['d', 86400], ['h', 3600], ['min', 60], ['s', 1]]) {
    const n = Math.floor(left / length);
    left -= n * length;
    if (n || (parts.length === 0 && length === 1)) parts.push(`${n}\u00a0${name}`);
    else if (parts.length) break;
    if (parts.length === 2) break;
  }
  return parts.join(' ');
}

export const clock = (unixSeconds) => new Date(unixSeconds * 1000).toLocaleTimeString('en-GB');
export const moment = (unixSeconds) => {
  const d = new Date(unixSeconds * 1000);
  return `${d.toLocaleDateString('sv')} ${d.toLocaleTimeString('en-GB')}`;
};

/** A name of a program for people: over_limit gives "over limit". */
export const plain = (label) => label.replaceAll('_', ' ');

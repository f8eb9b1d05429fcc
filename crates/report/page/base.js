// What every part of the page needs: elements, numbers, the theme, the studies. All text from records goes through text nodes.
'use strict';

/** An element with attributes and children; texts become text nodes. */
function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === true) element.setAttribute(name, '');
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

/** The JSON of a script element, parsed once, when it is first asked for. */
const parsed = new Map();
function data(id) {
  if (!parsed.has(id)) parsed.set(id, JSON.parse(document.getElementById(id).textContent));
  return parsed.get(id);
}

/** A number in so many significant digits; `-` where there is none. */
function digits(value, count = 4) {
  if (value === null || value === undefined || typeof value === 'string') return value || '-';
  if (value !== 0 && (Math.abs(value) < 1e-3 || Math.abs(value) >= 1e6)) return value.toExponential(count - 2);
  return String(Number(value.toPrecision(count)));
}

/** A whole number with thin gaps between thousands. */
function whole(value) {
  return value === null || value === undefined ? '-' : String(Math.round(value)).replace(/\B(?=(\d{3})+(?!\d))/g, '\u202f');
}

/** Seconds since the epoch as a date and time of UTC. */
function moment(seconds) {
  return seconds ? new Date(seconds * 1000).toISOString().replace('T', ' ').slice(0, 16) + ' UTC' : '-';
}

/** `lora r=8`; a method without a rank is its name alone. */
function rowName(variant, rank) {
  return rank ? `${variant} r=${rank}` : variant;
}

/** Studies by place, each with its element and its data. */
const studies = [...document.querySelectorAll('article.study')].map((element, at) => ({
  at,
  element,
  name: element.dataset.name,
  get data() { return data(`study-${at}`); },
  /** Labels that are switched off, and the split that is shown. */
  hidden: new Set(),
  split: 0,
  charts: [],
}));

/** The route of a study or of one of its runs. */
const studyRoute = (study) => `#/study/${encodeURIComponent(study.name)}`;
const runRoute = (study, slug) => `#/run/${encodeURIComponent(study.name)}/${encodeURIComponent(slug)}`;

/** The theme: the system's until the reader chooses. */
const theme = {
  chosen: null,
  printing: false,
  watchers: [],
  get isDark() {
    if (this.printing) return false;
    return this.chosen ? this.chosen === 'dark' : matchMedia('(prefers-color-scheme: dark)').matches;
  },
  show() {
    if (this.chosen) document.documentElement.dataset.theme = this.chosen;
    const button = document.getElementById('theme');
    button.textContent = this.isDark ? 'Light' : 'Dark';
    button.setAttribute('aria-pressed', String(this.isDark));
    this.watchers.forEach((watcher) => watcher());
  },
  toggle() {
    this.chosen = this.isDark ? 'light' : 'dark';
    this.show();
  },
};

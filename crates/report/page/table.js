// Tables: sorting by their headings, the filter, the list of runs.

/** What a cell is sorted by: its number, or its text. */
function sortKey(cell) {
  if (!cell) return '';
  return cell.dataset.value === undefined ? cell.textContent.trim().toLowerCase() : Number(cell.dataset.value);
}

/** Orders numbers before texts and dashes last, whichever way the rest runs. */
function compareKeys(one, other, direction) {
  const kind = (key) => (typeof key === 'number' ? 0 : key === '-' || key === '' ? 2 : 1);
  if (kind(one) !== kind(other)) return kind(one) - kind(other);
  if (kind(one) === 0) return direction * (one - other);
  return direction * String(one).localeCompare(String(other), undefined, { numeric: true });
}

/** Marks a heading as the one that is sorted by; returns 1 for ascending and -1 for descending. */
function turn(heading) {
  const was = heading.getAttribute('aria-sort');
  // Numbers are asked for from the top: the largest score, the dearest row.
  const first = heading.classList.contains('number') ? 'descending' : 'ascending';
  const next = was ? (was === 'ascending' ? 'descending' : 'ascending') : first;
  heading.parentElement.querySelectorAll('th').forEach((other) => other.removeAttribute('aria-sort'));
  heading.setAttribute('aria-sort', next);
  return next === 'ascending' ? 1 : -1;
}

/** Makes the headings of a table sort its rows, each group by itself. */
function makeSortable(table) {
  table.tHead.addEventListener('click', (event) => {
    const heading = event.target.closest('th');
    if (!heading) return;
    const direction = turn(heading);
    const column = heading.cellIndex;
    for (const body of table.tBodies) {
      const titles = [...body.rows].filter((row) => row.classList.contains('block'));
      const rows = [...body.rows].filter((row) => !row.classList.contains('block'));
      const keys = new Map(rows.map((row) => [row, sortKey(row.cells[column])]));
      rows.sort((one, other) => compareKeys(keys.get(one), keys.get(other), direction));
      body.append(...titles, ...rows);
    }
  });
}

/** Whether a text has every word of a filter. */
function hasWords(text, filter) {
  return filter.toLowerCase().split(/\s+/).every((word) => text.includes(word));
}

/** Shows the rows of the main table that the filter and the choice of variants leave. */
function showRows(study) {
  const filter = study.element.querySelector('[data-filter="rows"]');
  if (!filter) return;
  let shown = 0;
  let all = 0;
  for (const part of study.element.querySelectorAll('.split')) {
    const isCurrent = Number(part.dataset.split) === study.split;
    part.hidden = !isCurrent;
    for (const row of part.querySelectorAll('tbody tr')) {
      const { variant, rank } = row.dataset;
      const verdict = row.querySelector('.verdict')?.textContent ?? '';
      const text = `${variant} rank ${rank} r=${rank} ${verdict}`.toLowerCase();
      row.hidden = study.hidden.has(variant) || !hasWords(text, filter.value);
      all += isCurrent ? 1 : 0;
      shown += isCurrent && !row.hidden ? 1 : 0;
    }
  }
  study.element.querySelector('[data-count="rows"]').textContent = `${shown} of ${all} rows`;
}

/** Columns of the list of runs. */
const RUN = { slug: 0, finished: 1, task: 2, variant: 3, rank: 4, seed: 5, value: 6, seconds: 7 };
/** Lines that the list grows by. */
const PAGE = 100;

/** The list of runs: filtered and sorted as data, of which the page holds the first lines. */
class RunTable {
  constructor(study) {
    this.study = study;
    this.table = study.element.querySelector('table.runs');
    this.filter = study.element.querySelector('[data-filter="runs"]');
    this.more = study.element.querySelector('.more');
    this.rows = null;
    this.shown = PAGE;
    this.filter.addEventListener('input', () => { this.shown = PAGE; this.show(); });
    this.more.addEventListener('click', () => { this.shown += PAGE; this.fill(); });
    this.table.tHead.addEventListener('click', (event) => {
      const heading = event.target.closest('th');
      if (heading) this.sort(heading.cellIndex, turn(heading));
    });
  }

  get all() { return this.study.data.runs.rows; }

  /** Runs in the order in which they are listed, for the way from one to the next. */
  get order() { return this.rows || this.all; }

  sort(column, direction) {
    const field = [RUN.slug, RUN.task, RUN.variant, RUN.rank, RUN.seed, RUN.finished, RUN.value, RUN.seconds][column];
    const key = (row) => (field === RUN.seed ? Number(row[field]) : row[field] === null ? '-' : row[field]);
    this.sorted = [...this.all].sort((one, other) => compareKeys(key(one), key(other), direction));
    this.show();
  }

  /** Filters anew. */
  show() {
    const words = this.filter.value.trim();
    const text = (row) => {
      const status = row[RUN.finished] ? 'finished' : 'failed';
      return `${row[RUN.slug]} ${row[RUN.task]} ${row[RUN.variant]} rank ${row[RUN.rank]} seed ${row[RUN.seed]} ${status}`.toLowerCase();
    };
    this.rows = (this.sorted || this.all).filter((row) => hasWords(text(row), words));
    this.fill();
  }

  fill() {
    const { metrics } = this.study.data.runs;
    const line = (row) => {
      const [metric, isShare] = metrics[row[RUN.task]];
      const value = row[RUN.value] === null ? '-' : isShare ? row[RUN.value].toFixed(2) : digits(row[RUN.value]);
      return make('tr', { class: row[RUN.finished] ? null : 'failed' },
        make('td', {}, make('a', { href: runRoute(this.study, row[RUN.slug]) }, row[RUN.slug])),
        make('td', {}, row[RUN.task]),
        make('td', {}, row[RUN.variant]),
        make('td', { class: 'number' }, row[RUN.rank] || '-'),
        make('td', { class: 'number' }, row[RUN.seed]),
        make('td', {}, row[RUN.finished] ? 'finished' : 'failed'),
        make('td', { class: 'number', title: metric }, value),
        make('td', { class: 'number' }, digits(row[RUN.seconds])));
    };
    this.table.tBodies[0].replaceChildren(...this.rows.slice(0, this.shown).map(line));
    this.more.hidden = this.rows.length <= this.shown;
    this.more.textContent = `Show ${Math.min(PAGE, this.rows.length - this.shown)} more`;
    const count = this.study.element.querySelector('[data-count="runs"]');
    count.textContent = `${this.rows.length} of ${this.all.length} runs`;
  }
}

// Charts: which series they have, and how plotly.js draws them. Numbers, intervals and decisions come from the data.

/** Lines of many series are first drawn for this many of them; the legend switches the others on. */
const MOST_LINES = 8;
const DASHES = ['solid', 'dash', 'dot', 'dashdot', 'longdash'];
const SYMBOLS = ['circle', 'square', 'diamond', 'cross', 'triangle-up', 'x', 'star', 'hexagon'];
/** The palette's black, which dark paper hides. */
const BLACK = '#000000';

/** Width of a chart on paper, in pixels of a screen. */
const PAPER = 960;

/** The plotting library reads a few tags in labels; what stands in a record is text. */
function plain(text) {
  return String(text).replace(/&/g, '&amp;').replace(/</g, '&lt;').replace(/>/g, '&gt;');
}

/** Colour, dash and marker of a variant, the same in every chart; its ranks differ in their dashes. */
function look(study, variant, rank, ranks = [rank]) {
  const palette = data('palette');
  const at = Math.max(0, study.data.variants.indexOf(variant));
  const colour = palette[at % palette.length];
  const turn = Math.floor(at / palette.length) + Math.max(0, ranks.indexOf(rank));
  return {
    colour: colour === BLACK && theme.isDark ? '#f0f0f0' : colour,
    dash: DASHES[turn % DASHES.length],
    symbol: SYMBOLS[(at + Math.floor(at / palette.length)) % SYMBOLS.length],
  };
}

/** A colour that lets what is behind it through. */
function faint(colour, opacity = 0.16) {
  const [r, g, b] = [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));
  return `rgba(${r},${g},${b},${opacity})`;
}

/** Titles and axes in the page's colours. */
function layout(more = {}) {
  const style = getComputedStyle(document.body);
  const [ink, line, raised] = theme.printing
    ? ['#000000', '#bbbbbb', '#ffffff']
    : ['--ink', '--line', '--raised'].map((name) => style.getPropertyValue(name).trim());
  const axis = { gridcolor: line, zerolinecolor: line, linecolor: line, automargin: true, title: { standoff: 10 } };
  const { xaxis, yaxis, ...rest } = more;
  return {
    paper_bgcolor: 'rgba(0,0,0,0)',
    plot_bgcolor: 'rgba(0,0,0,0)',
    font: { family: style.fontFamily, size: 12, color: ink },
    margin: { l: 60, r: 16, t: 24, b: 56 },
    hoverlabel: { bgcolor: raised, bordercolor: line, font: { color: ink }, namelength: -1 },
    hovermode: 'closest',
    modebar: { bgcolor: 'rgba(0,0,0,0)', color: line, activecolor: ink },
    ...rest,
    xaxis: { ...axis, ...xaxis },
    yaxis: { ...axis, ...yaxis },
  };
}

/** The legend beside a wide chart, below a narrow one. */
function legend(element, entries) {
  const isNarrow = element.clientWidth < 620;
  if (theme.printing) return { height: 300, legend: { x: 1.01, y: 1, font: { size: 8 }, tracegroupgap: 0 } };
  const height = isNarrow ? 340 + Math.min(14 * entries, 260) : 420;
  return isNarrow
    ? { height, legend: { orientation: 'h', y: -0.25, yanchor: 'top', x: 0, font: { size: 11 } } }
    : { height, legend: { x: 1.01, y: 1, font: { size: 11 } } };
}

/** The library's offer to send a chart to its makers' server has no place in a page that leaves nobody's machine. */
const CONFIG = {
  showSendToCloud: false,
  plotlyServerURL: '',
  displaylogo: false,
  responsive: true,
  modeBarButtonsToRemove: ['lasso2d', 'select2d', 'autoScale2d'],
};

/** A line with its band: the band first, both switched by one entry of the legend. */
function lineWithBand(study, series, ranks, visible, isMarked) {
  const { colour, dash, symbol } = look(study, series.variant, series.rank, ranks);
  const name = plain(ranks.length > 1 ? rowName(series.variant, series.rank) : series.variant);
  const x = series.x.map((place) => (typeof place === 'string' ? plain(place) : place));
  const group = `${series.variant} ${series.rank}`;
  const banded = x.map((_, at) => at).filter((at) => series.low[at] !== null && series.high[at] !== null);
  const back = [...banded].reverse();
  const shown = visible ? true : 'legendonly';
  const band = {
    x: [...banded, ...back].map((at) => x[at]),
    y: [...banded.map((at) => series.high[at]), ...back.map((at) => series.low[at])],
    fill: 'toself', fillcolor: faint(colour), line: { width: 0 }, mode: 'lines', hoverinfo: 'skip',
    legendgroup: group, showlegend: false, visible: shown,
  };
  const ends = series.y.map((_, at) => (series.low[at] === null ? '' : ` [${digits(series.low[at])}, ${digits(series.high[at])}]`));
  const line = {
    x, y: series.y, customdata: ends, name, legendgroup: group, visible: shown,
    mode: isMarked ? 'lines+markers' : 'lines',
    line: { color: colour, dash, width: 1.8 }, marker: { symbol, size: 7, color: colour },
    hovertemplate: `%{x}: %{y:.4~g}%{customdata}<br>n = ${series.n}<extra>${name}</extra>`,
  };
  return banded.length > 1 ? [band, line] : [line];
}

/** Ranks of every variant among some series. */
function ranksOf(series) {
  const ranks = new Map();
  for (const { variant, rank } of series) {
    if (!ranks.has(variant)) ranks.set(variant, []);
    if (!ranks.get(variant).includes(rank)) ranks.get(variant).push(rank);
  }
  return ranks;
}

/** Labels from the best on, by the last metric of the main table: the average, or the only task. The baseline goes first. */
function standing(study) {
  const split = study.data.splits[study.split];
  if (!split) return study.data.variants;
  const column = split.columns.map((each) => each.task !== null).lastIndexOf(true);
  const sign = split.columns[column]?.more_is_better ? -1 : 1;
  const best = new Map();
  for (const row of split.rows) {
    const value = row.cells[column]?.value;
    const score = value === null || value === undefined ? Infinity : sign * value;
    best.set(row.variant, Math.min(score, best.get(row.variant) ?? Infinity));
  }
  const score = (variant) => (variant === split.baseline ? -Infinity : best.get(variant) ?? Infinity);
  return [...study.data.variants].sort((one, other) => score(one) - score(other));
}

/** Lines of a chart of series. */
function lines(study, view, isMarked) {
  const series = view.series.filter((one) => !study.hidden.has(one.variant));
  const ranks = ranksOf(view.series);
  const order = standing(study);
  const first = [...series].sort((one, other) => order.indexOf(one.variant) - order.indexOf(other.variant)).slice(0, MOST_LINES);
  const traces = series.flatMap((one) => lineWithBand(study, one, ranks.get(one.variant), first.includes(one), isMarked));
  return { traces, count: series.length, left: series.length - first.length };
}

/** Whether a chart draws fewer lines than it has, in words. */
const leftOut = (left) => (left > 0 ? ` The baseline and the best by the main table are drawn first; ${left} more wait in the legend.` : '');

/** A logarithmic axis with its ticks at the values that were taken, where these are few. */
function logAxis(values) {
  const taken = [...new Set(values)].sort((one, other) => one - other);
  return taken.length > 12 ? { type: 'log' } : { type: 'log', tickvals: taken, ticktext: taken.map((value) => digits(value, 3)) };
}

/** Rows of the main table that are shown. */
function shownRows(study) {
  return study.data.splits[study.split].rows.filter((row) => !study.hidden.has(row.variant));
}

/** Points that no other is at least as good as in both columns and better in one, in the order of x. */
function front(points, moreX, moreY) {
  const [sx, sy] = [moreX ? 1 : -1, moreY ? 1 : -1];
  const beats = (one, other) => sx * one.x >= sx * other.x && sy * one.y >= sy * other.y
    && (one.x !== other.x || one.y !== other.y);
  return points.filter((point) => !points.some((other) => beats(other, point))).sort((a, b) => a.x - b.x);
}

/** Kinds of charts: the heading, what can be chosen, and what is drawn for a choice. */
const KINDS = [
  {
    name: 'trade-off',
    title: 'Trade-off of two columns',
    choices(study) {
      const columns = study.data.splits[study.split]?.columns ?? [];
      if (columns.length < 2) return null;
      const options = columns.map((column, at) => [String(at), column.name]);
      const metric = columns.map((column) => column.task !== null).lastIndexOf(true);
      return [['Horizontal', options, '0'], ['Vertical', options, String(Math.max(metric, 0))]];
    },
    draw(study, [x, y]) {
      const split = study.data.splits[study.split];
      const [horizontal, vertical] = [split.columns[x], split.columns[y]];
      const rows = shownRows(study);
      const known = (row) => row.cells[x].value !== null && row.cells[y].value !== null;
      const points = rows.filter(known).map((row) => ({ row, x: row.cells[x].value, y: row.cells[y].value }));
      // Costs differ by orders of magnitude; a rise may be negative.
      const isLog = (column) => column.task === null && column.name !== 'forgetting';
      const log = { x: isLog(horizontal), y: isLog(vertical) };
      const best = front(points, horizontal.more_is_better, vertical.more_is_better);
      const stands = (point) => (!log.x || point.x > 0) && (!log.y || point.y > 0);
      const [drawn, apart] = [points.filter(stands), points.filter((point) => !stands(point))];
      const onLine = best.filter(stands);
      const error = (at, point) => point.row.cells[at].half ?? 0;
      const ranks = ranksOf(rows);
      const dots = drawn.map((point) => {
        const { colour, symbol } = look(study, point.row.variant, point.row.rank);
        const name = plain(rowName(point.row.variant, point.row.rank));
        const isBest = best.includes(point);
        return {
          x: [point.x], y: [point.y], name, mode: 'markers', showlegend: false,
          marker: { color: isBest ? colour : faint(colour, 0.45), symbol, size: isBest ? 11 : 8, line: { width: isBest ? 1.5 : 0, color: colour } },
          error_x: { type: 'data', array: [error(x, point)], visible: error(x, point) > 0, thickness: 1, width: 2, color: faint(colour, 0.5) },
          error_y: { type: 'data', array: [error(y, point)], visible: error(y, point) > 0, thickness: 1, width: 2, color: faint(colour, 0.5) },
          hovertemplate: `${plain(horizontal.name)}: ${plain(point.row.cells[x].text)}<br>${plain(vertical.name)}: ${plain(point.row.cells[y].text)}<extra>${name}</extra>`,
        };
      });
      const ink = getComputedStyle(document.body).getPropertyValue('--soft').trim();
      const line = { x: onLine.map((point) => point.x), y: onLine.map((point) => point.y), mode: 'lines', name: 'front', hoverinfo: 'skip', showlegend: false, line: { color: ink, width: 1.5, dash: 'dot' } };
      const name = ({ row }) => rowName(row.variant, row.rank);
      const label = (point) => {
        const { variant, rank } = point.row;
        const at = (value, isLog) => (isLog ? Math.log10(value) : value);
        return {
          x: at(point.x, log.x), y: at(point.y, log.y), yshift: 13, showarrow: false, font: { size: 11 },
          text: plain(ranks.get(variant).length > 1 ? rowName(variant, rank) : variant),
        };
      };
      const without = rows.length - points.length;
      const better = (column) => (column.more_is_better ? 'more' : 'less');
      const names = best.map(name).join(', ');
      return {
        traces: [line, ...dots],
        layout: {
          xaxis: { title: { text: plain(horizontal.name) }, type: log.x ? 'log' : 'linear' },
          yaxis: { title: { text: plain(vertical.name) }, type: log.y ? 'log' : 'linear' },
          annotations: onLine.length <= 14 ? onLine.map(label) : [],
        },
        note: `Front, where ${better(horizontal)} of ${horizontal.name} and ${better(vertical)} of ${vertical.name} is better: ${names || 'none'}. `
          + 'It is drawn through means; bars are 95% Student intervals over seeds, and whether two rows differ is what the table of comparisons says.'
          + (apart.length ? ` A logarithmic axis has no place for 0: ${apart.map(name).join(', ')}.` : '')
          + (without ? ` ${without === 1 ? '1 row has' : `${without} rows have`} no number in one of the columns.` : ''),
      };
    },
  },
  {
    name: 'ranks',
    title: 'Quality over ranks',
    choices(study) {
      const split = study.data.splits[study.split];
      if (!split || ![...ranksOf(split.rows).values()].some((ranks) => ranks.filter((rank) => rank > 0).length > 1)) return null;
      const options = split.columns.map((column, at) => [String(at), column.name]).filter(([at]) => split.columns[at].task !== null);
      return [['Metric', options, options[options.length - 1][0]]];
    },
    draw(study, [metric]) {
      const split = study.data.splits[study.split];
      const series = [];
      for (const [variant, ranks] of ranksOf(shownRows(study).filter((row) => row.rank > 0))) {
        const rows = ranks.sort((one, other) => one - other)
          .map((rank) => split.rows.find((row) => row.variant === variant && row.rank === rank))
          .filter((row) => row.cells[metric].value !== null);
        const ends = (sign) => rows.map(({ cells }) => (cells[metric].half === null ? null : cells[metric].value + sign * cells[metric].half));
        if (rows.length) {
          series.push({ variant, rank: 0, n: 0, x: rows.map((row) => row.rank), y: rows.map((row) => row.cells[metric].value), low: ends(-1), high: ends(1) });
        }
      }
      const { traces, count, left } = lines(study, { series }, true);
      traces.forEach((trace) => { if (trace.hovertemplate) trace.hovertemplate = trace.hovertemplate.replace(/<br>n = [^<]*/, ''); });
      const most = Math.max(...series.flatMap((one) => one.x));
      return {
        traces, count,
        layout: {
          xaxis: { title: { text: 'rank' }, ...(most > 16 ? logAxis(series.flatMap((one) => one.x)) : { dtick: 1 }) },
          yaxis: { title: { text: plain(split.columns[metric].name) } },
        },
        note: `Means with 95% Student intervals over seeds, as in the main table.${leftOut(left)}`,
      };
    },
  },
  {
    name: 'differences',
    title: 'Differences from the baseline',
    choices(study) {
      const split = study.data.splits[study.split];
      if (!split?.comparisons.length) return null;
      const tasks = [...new Set(split.comparisons.map((one) => one.task))];
      const first = tasks.includes('average') ? 'average' : tasks[0];
      return [['Task', tasks.map((task) => [task, task]), first]];
    },
    draw(study, [task]) {
      const split = study.data.splits[study.split];
      const own = split.comparisons.filter((one) => one.task === task && one.difference !== null && !study.hidden.has(one.variant))
        .sort((one, other) => one.difference - other.difference);
      const style = getComputedStyle(document.body);
      const colours = { better: '--good', worse: '--bad', equivalent: '--same', undecided: '--soft' };
      const symbols = { better: 'triangle-up', worse: 'triangle-down', equivalent: 'square', undecided: 'circle-open' };
      const traces = Object.keys(colours).map((verdict) => {
        const members = own.filter((one) => one.verdict === verdict);
        const colour = style.getPropertyValue(colours[verdict]).trim();
        return {
          x: members.map((one) => one.difference), y: members.map((one) => plain(rowName(one.variant, one.rank))),
          name: verdict, mode: 'markers', marker: { color: colour, symbol: symbols[verdict], size: 9 },
          error_x: {
            type: 'data', symmetric: false, color: colour, thickness: 1.2, width: 3,
            array: members.map((one) => (one.high === null ? 0 : one.high - one.difference)),
            arrayminus: members.map((one) => (one.low === null ? 0 : one.difference - one.low)),
          },
          customdata: members.map((one) => plain(one.said)), hovertemplate: '%{customdata}<extra></extra>',
        };
      }).filter((trace) => trace.x.length);
      const direction = own[0]?.more_is_better === false ? 'Less is better.' : 'More is better.';
      return {
        traces, height: 120 + 24 * own.length,
        layout: {
          xaxis: { title: { text: `points against ${plain(split.baseline)}` }, zeroline: true, zerolinewidth: 2 },
          yaxis: { categoryorder: 'array', categoryarray: own.map((one) => plain(rowName(one.variant, one.rank))), tickfont: { size: 11 } },
        },
        note: `Row minus baseline at the same rank where it has one, paired by seed; bars: 95% Student intervals of the difference, not corrected. ${direction} `
          + `Verdicts after Holm's correction within the ${own[0]?.family ?? 'primary'} family, as in the table comparison.`,
      };
    },
  },
  curveKind('training', 'Training loss over steps', 'training', false,
    'No run logged enough steps for a curve.'),
  curveKind('dev', 'Metric over steps', 'dev', true,
    'Runs were evaluated once, so there is no metric over steps; evaluate_every of the recipe asks for more.'),
  curveKind('sensitivity', 'Sensitivity to what was tuned', 'sensitivity', true, null),
  {
    name: 'critical-differences',
    title: 'Critical differences',
    choices(study) {
      return study.data.splits.some((split) => split.ranks) ? [] : null;
    },
    draw(study) {
      const ranks = study.data.splits[study.split].ranks;
      if (!ranks) return { traces: [], layout: {}, note: 'This split has fewer than three tasks or methods, which is too few to rank over tasks.' };
      const at = ranks.names.map((_, place) => place).filter((place) => !study.hidden.has(ranks.names[place])).reverse();
      const names = at.map((place) => plain(ranks.names[place]));
      const style = getComputedStyle(document.body);
      return {
        traces: [{
          x: at.map((place) => ranks.mean_ranks[place]), y: names, mode: 'markers', showlegend: false,
          marker: { size: 9, color: at.map((place) => look(study, ranks.names[place], 0).colour) },
          error_x: { type: 'constant', value: ranks.critical_difference / 2, thickness: 2, width: 0, color: style.getPropertyValue('--soft').trim() },
          hovertemplate: '%{y}: mean rank %{x:.2f}<extra></extra>',
        }],
        height: 110 + 24 * names.length,
        layout: { xaxis: { title: { text: 'mean rank over tasks, 1 the best' } }, yaxis: { tickfont: { size: 11 } } },
        note: ranks.said,
      };
    },
  },
  curveKind('measures', 'Measures of adapters over maps', 'measures', true, null),
];

/** Charts of series that the data hold: one choice, by name. `missing` is said where there are none; null leaves the chart out. */
function curveKind(name, title, field, isMarked, missing) {
  return {
    name,
    title,
    missing,
    choices(study) {
      const views = study.data[field];
      if (!views.length) return null;
      const first = views.findIndex((view) => view.name.includes('amplification'));
      return [[field === 'measures' ? 'Measure' : 'Of', views.map((view, at) => [String(at), view.name]), String(Math.max(0, first))]];
    },
    draw(study, [at]) {
      const view = study.data[field][at];
      const { traces, count, left } = lines(study, view, isMarked);
      return {
        traces, count,
        layout: {
          xaxis: { title: { text: plain(view.x) }, ...(view.is_log ? logAxis(view.series.flatMap((one) => one.x)) : {}) },
          yaxis: { title: { text: plain(view.y) } },
        },
        note: `${view.n}${view.n.endsWith('.') ? '' : '.'}${leftOut(left)}`,
      };
    },
  };
}

/** One chart of a study: its heading, its choices, its plot, drawn when it comes into view. */
class Chart {
  constructor(study, kind, choices) {
    this.study = study;
    this.kind = kind;
    this.isDrawn = false;
    this.plot = make('div', { class: 'plot', role: 'img', 'aria-label': kind.title });
    this.note = make('div', { class: 'notes' });
    this.selects = choices.map(([name, options, chosen]) => {
      const select = make('select', { 'data-choice': name.toLowerCase() },
        options.map(([value, text]) => make('option', { value, selected: value === chosen }, text)));
      select.addEventListener('change', () => this.draw());
      return [name, select];
    });
    const controls = this.selects.filter(([, select]) => select.options.length > 1)
      .map(([name, select]) => make('label', {}, `${name} `, select));
    this.element = make('figure', { 'data-chart': kind.name },
      make('figcaption', {}, make('h3', {}, kind.title)),
      controls.length ? make('div', { class: 'controls screen' }, controls) : null,
      this.plot, this.note);
  }

  /** Draws, or draws anew after something that it shows was changed. */
  draw() {
    this.isDrawn = true;
    const { traces, layout: more, note, count = 1, height } = this.kind.draw(this.study, this.selects.map(([, select]) => select.value));
    const sized = legend(this.plot, count);
    const tall = height ?? sized.height;
    // A chart with a row per method has its few entries above it.
    if (height) sized.legend = { orientation: 'h', x: 0, y: 1.01, yanchor: 'bottom' };
    this.plot.style.height = `${tall}px`;
    this.plot.style.minHeight = '0';
    const width = theme.printing ? PAPER : undefined;
    window.Plotly.react(this.plot, traces, layout({ ...sized, ...more, height: tall, width, autosize: !width }), CONFIG);
    this.note.replaceChildren(make('p', {}, note));
  }

  /** Draws for the first time. */
  show() {
    if (!this.isDrawn) this.draw();
  }

  redraw() {
    if (this.isDrawn) this.draw();
  }
}

/** Makes the charts that a study has; each is drawn when it comes into view. */
function makeCharts(study) {
  const section = study.element.querySelector('[data-section="charts"]');
  const watch = new IntersectionObserver((entries) => {
    for (const entry of entries.filter((each) => each.isIntersecting)) {
      watch.unobserve(entry.target);
      study.charts.find((chart) => chart.plot === entry.target).show();
    }
  }, { rootMargin: '300px' });
  for (const kind of KINDS) {
    const choices = kind.choices(study);
    if (choices) {
      const chart = new Chart(study, kind, choices);
      study.charts.push(chart);
      section.append(chart.element);
      watch.observe(chart.plot);
    } else if (kind.missing) {
      section.append(make('p', { class: 'empty' }, `${kind.title}: ${kind.missing}`));
    }
  }
}

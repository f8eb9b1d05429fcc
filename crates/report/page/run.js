// The page of a run: status, metrics, configuration, curves, what was measured, costs, where it was made.

/** A table with headings. Columns of numbers alone stand to the right, unless `isFixed` says that it is a list of names and values. */
function plainTable(header, rows, { isFixed = true, changed = () => false } = {}) {
  const isNumber = (value) => typeof value === 'number' || value === '-' || /^[-+]?[\d.\u202f]+(e[-+]?\d+)?$/.test(value);
  const right = header.map((_, at) => isFixed && at > 0 && rows.every((row) => isNumber(row[at])));
  const side = (at) => (right[at] ? 'number' : null);
  const cell = (value, at) => (at === 0
    ? make('th', { scope: 'row' }, String(value))
    : make('td', { class: side(at) }, String(value)));
  const heading = (text, at) => make('th', { scope: 'col', class: side(at) }, make('span', { class: 'head' }, text));
  const head = header.length ? make('thead', {}, make('tr', {}, header.map(heading))) : null;
  const body = make('tbody', {}, rows.map((row, at) => make('tr', { class: changed(at) ? 'changed' : null }, row.map(cell))));
  return make('div', { class: isFixed ? 'scroll' : 'scroll list', tabindex: '0' }, make('table', {}, head, body));
}

/** Names and values; what has none is left out. */
function pairs(entries) {
  const known = entries.filter(([, value]) => value !== null && value !== undefined && value !== '' && value !== '-');
  return plainTable([], known, { isFixed: false });
}

/** A part of the page under a heading. */
function part(title, ...content) {
  return make('section', {}, make('h2', {}, title), ...content);
}

/** Metrics as tables have them: shares in points. */
function scored(study, task, name, value) {
  const [primary, isShare] = study.data.runs.metrics[task] ?? ['', true];
  if (typeof value !== 'number') return value === null ? '-' : String(value);
  const isPoints = name === primary ? isShare : Math.abs(value) <= 1;
  return isPoints ? (100 * value).toFixed(2) : digits(value);
}

/** The evaluations that tables report. */
function evaluations(study, task, views) {
  const names = [...new Set(views.flatMap((view) => Object.keys(view.metrics)))];
  const rows = views.map((view) => [
    view.readout, view.split, view.step, ...names.map((name) => scored(study, task, name, view.metrics[name] ?? null)),
    digits(view.loss), whole(view.examples),
  ]);
  const reasons = views.flatMap((view) => Object.entries(view.undefined).map(([name, reason]) => `${name} is undefined on ${view.split}: ${reason}`));
  return [
    plainTable(['readout', 'split', 'step', ...names, 'loss', 'examples'], rows),
    ...[...new Set(reasons)].map((reason) => make('p', { class: 'reason' }, reason)),
  ];
}

/** Curves of the run, one plot for each. */
function runCurves(study, run) {
  const palette = data('palette');
  const order = ['loss', 'gradient norm', 'penalty', 'components'].filter((name) => run.curves[name]);
  const named = [...order.map((name) => [name, run.curves[name]]), ...run.dev.map(([name, curve]) => [`metric on ${name}`, curve])];
  return named.filter(([, curve]) => curve.y.length > 1).map(([name, curve]) => {
    const plot = make('div', { class: 'plot', style: 'height: 300px', role: 'img', 'aria-label': `${name} over steps` });
    const x = typeof curve.x === 'number' ? study.data.runs.steps[curve.x] : curve.x;
    const draw = () => window.Plotly.react(plot, [{
      x, y: curve.y, mode: curve.y.length > 40 ? 'lines' : 'lines+markers', line: { color: palette[0], width: 1.4 },
      hovertemplate: 'step %{x}: %{y:.4~g}<extra></extra>',
    }], layout({ height: 300, xaxis: { title: { text: 'step' } }, yaxis: { title: { text: plain(name) } }, ...(theme.printing ? { width: 470 } : {}) }), CONFIG);
    return { element: make('figure', {}, plot), draw };
  });
}

/** Ranks that the run's maps ended with. */
function finalRanks(run, rank) {
  if (typeof run.final_ranks === 'number') {
    return run.final_ranks ? make('p', {}, `All ${run.final_ranks} maps ended with rank ${rank}.`) : null;
  }
  return plainTable(['map', 'rank'], Object.entries(run.final_ranks));
}

/** The list of routers with what they weigh experts by. */
function routers(run) {
  const spread = (values) => values.map((value) => value.toFixed(2)).join(' ');
  const rows = Object.entries(run.routers).map(([map, router]) => [
    map, router.evenness === null ? '-' : router.evenness.toFixed(2), spread(router.weights), spread(router.load),
  ]);
  return rows.length ? plainTable(['map', 'evenness', 'mean weights of experts', 'share of tokens'], rows) : null;
}

/** What the run cost. */
function costsOf(run) {
  const { costs } = run;
  const mebibytes = (bytes) => (bytes ? `${digits(bytes / 2 ** 20)} MiB` : null);
  return pairs([
    ['trained parameters', whole(costs.trainable_params)],
    ['of the head', whole(costs.head_params)],
    ['adapter file', costs.adapter_bytes ? `${whole(costs.adapter_bytes)} bytes` : null],
    ['step', `${digits(1e3 * costs.seconds_per_step)} ms`],
    ['tokens per second', whole(costs.tokens_per_second)],
    ['training', `${digits(costs.train_seconds)} s`],
    ['evaluation', `${digits(costs.eval_seconds)} s`],
    ['peak memory of the cohort', mebibytes(run.cohort.peak_bytes)],
    ['merge error', costs.merge_error === null ? null : digits(costs.merge_error)],
    ['forgetting', run.forgetting && `${digits(run.forgetting[1] - run.forgetting[0])} nats a token (${digits(run.forgetting[0])} to ${digits(run.forgetting[1])}, text: ${run.forgetting[2]})`],
  ]);
}

/** Where and from what the run was made. */
function origin(study, run) {
  const made = study.data.runs.environments[run.environment];
  return pairs([
    ['started', moment(run.started)],
    ['finished', moment(run.finished)],
    ['resumed at steps', run.resumed_at.join(', ')],
    ['device', `${made.device} (${made.precision})`],
    ['cohort', `${run.cohort.id} of ${run.cohort.size} runs`],
    ...run.cohort.changes.map(([step, size, reason]) => ['cohort changed', `at step ${step} to ${size} runs: ${reason}`]),
    ['started from', run.start && `${run.start[0]} (${run.start[1]})`],
    ['best checkpoint', run.best && `step ${run.best[0]}, ${run.best[1]} ${digits(run.best[2])}`],
    ['seeds', Object.entries(run.seeds).map(([stream, seed]) => `${stream} ${seed}`).join(', ')],
    ['code', made.code_hash],
    ['commit', made.commit + (made.is_dirty ? ', modified' : '')],
    ['versions', Object.entries(made.versions).map(([name, version]) => `${name} ${version}`).join(', ')],
    ['spec', run.spec_hash],
    ['base', made.model_hash],
    ['data', made.data_hash],
    ['reading of texts', made.reading_hash],
    ['adapter', run.adapter_hash],
  ]);
}

/** The configuration, what departs from the experiment's defaults marked. */
function configuration(study, run) {
  const { rows, set } = study.data.runs.configurations[run.configuration];
  return [
    make('p', { class: 'notes' }, rows.some(([, , isChanged]) => isChanged)
      ? 'Marked: what the task or the variant sets otherwise than the experiment’s defaults. Seeds stand below.'
      : 'Nothing departs from the experiment’s defaults. Seeds stand below.'),
    plainTable(['field', 'value'], rows.map(([path, value]) => [path, value]), { isFixed: false, changed: (at) => rows[at][2] }),
    set.length ? plainTable(['set by the tuning or the command line', 'value'], set, { isFixed: false }) : null,
  ];
}

/** Fills the page of a run; returns what draws its curves. */
function showRun(view, study, list, slug) {
  const at = study.data.runs.rows.findIndex((row) => row[RUN.slug] === slug);
  if (at < 0) {
    view.replaceChildren(make('h1', { id: 'run-title', tabindex: '-1' }, 'No such run'), make('p', {}, make('a', { href: studyRoute(study) }, `Back to ${study.name}`)));
    return { draw() {} };
  }
  const { chunk } = study.data.runs;
  const run = data(`runs-${study.at}-${Math.floor(at / chunk)}`)[at % chunk];
  const [, isFinished, task, variant, rank, seed] = study.data.runs.rows[at];
  const place = list.order.findIndex((row) => row[RUN.slug] === slug);
  const beside = (step) => list.order[place + step]?.[RUN.slug];
  const link = (step, text) => (beside(step) ? make('a', { href: runRoute(study, beside(step)), 'data-step': String(step) }, text) : null);
  const curves = runCurves(study, run);
  view.replaceChildren(...[
    make('nav', { class: 'trail', 'aria-label': 'Way' }, make('a', { href: studyRoute(study), 'data-up': true }, `↑ ${study.name}`), link(-1, '← run before'), link(1, 'run after →')),
    make('h1', { id: 'run-title', tabindex: '-1' }, slug),
    make('p', { class: 'lead' }, `${rowName(variant, rank)} on ${task}, seed ${seed} `,
      make('span', { class: `status ${isFinished ? 'finished' : 'failed'}` }, isFinished ? 'finished' : 'failed')),
    run.failed ? make('p', { class: 'reason' }, `Stopped at step ${run.failed[0]}: ${run.failed[1]}`) : null,
    run.notes.length ? make('ul', { class: 'warnings' }, run.notes.map((note) => make('li', {}, note))) : null,
    part('Metrics', ...(run.evaluations.length ? evaluations(study, task, run.evaluations) : [make('p', { class: 'empty' }, 'It was not evaluated.')])),
    run.earlier.length ? part('Earlier tasks of its sequence, at its end', ...run.earlier.flatMap(([name, one]) => [make('h3', {}, name), ...evaluations(study, name, [one])])) : null,
    curves.length ? part('Curves', make('div', { class: 'panels' }, curves.map((curve) => curve.element)),
      make('p', { class: 'notes' }, 'Of a long curve the ends, and the least and the greatest point of every stretch, stay at their own steps.')) : null,
    make('div', { class: 'panels' },
      part('Configuration', ...configuration(study, run)),
      make('div', {}, part('Costs', costsOf(run)), part('Final ranks', finalRanks(run, rank) ?? make('p', { class: 'empty' }, 'The method adapts no map by a rank.')))),
    routers(run) ? part('Routers', routers(run)) : null,
    ...run.measures.map((table) => part(`Analysis: ${table.name.replace('_', ' ')}`, plainTable(table.header, table.rows))),
    part('Where it was made', origin(study, run)),
  ].filter((child) => child !== null));
  return { draw() { curves.forEach((curve) => curve.draw()); } };
}

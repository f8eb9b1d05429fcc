// The page as a whole: which part is shown, the keyboard, the theme, printing.

const runView = document.getElementById('run');
const lists = studies.map((study) => (study.element.querySelector('table.runs') ? new RunTable(study) : null));
/** What draws the curves of the run that is shown. */
let drawn = { draw() {} };
/** Studies that were shown before: their list and charts are there. */
const opened = new Set();
/** The study that is shown, or whose run is, and how far down each was left. */
let current = null;
const left = new Map();

/** Makes what a study shows when it is first opened. */
function open(study) {
  if (opened.has(study)) return;
  opened.add(study);
  study.element.querySelectorAll('.swatch').forEach((swatch) => {
    const { value } = swatch.parentElement.querySelector('input');
    swatch.style.background = look(study, value, 0).colour;
  });
  const sections = study.element.querySelector('.sections');
  for (const section of study.element.querySelectorAll('[data-section]')) {
    const link = make('a', { href: `${studyRoute(study)}/${section.dataset.section}` }, section.querySelector('h2').textContent);
    sections.append(link);
  }
  study.element.querySelectorAll('table.sortable:not(.runs)').forEach(makeSortable);
  showRows(study);
  lists[study.at]?.show();
  makeCharts(study);
  study.element.addEventListener('input', (event) => {
    if (event.target.dataset.filter === 'rows') showRows(study);
    if (event.target.matches('.choices input')) choose(study);
  });
  study.element.addEventListener('change', (event) => {
    if (event.target.dataset.choice === 'split') {
      study.split = Number(event.target.value);
      showRows(study);
      study.charts.forEach((chart) => chart.redraw());
    }
  });
  study.element.addEventListener('click', (event) => {
    const { choose: how } = event.target.dataset;
    if (!how) return;
    study.element.querySelectorAll('.choices input').forEach((box) => { box.checked = how === 'all'; });
    choose(study);
  });
}

/** Hides the variants that are switched off, in the table and in every chart. */
function choose(study) {
  const boxes = [...study.element.querySelectorAll('.choices input')];
  study.hidden = new Set(boxes.filter((box) => !box.checked).map((box) => box.value));
  study.element.querySelector('.chosen').textContent = String(boxes.length - study.hidden.size);
  showRows(study);
  study.charts.forEach((chart) => chart.redraw());
}

/** Shows what the address names: a study, a section of it, or a run. */
function route() {
  const [, kind, name, rest] = location.hash.split('/').map((text) => {
    try { return decodeURIComponent(text); } catch { return text; }
  });
  const study = studies.find((each) => each.name === name) ?? studies[0];
  const isRun = kind === 'run' && rest !== undefined;
  if (current && runView.hidden) left.set(current, scrollY);
  current = study;
  studies.forEach((each) => { each.element.hidden = isRun || each !== study; });
  runView.hidden = !isRun;
  document.querySelectorAll('.bar nav a').forEach((link, at) => {
    if (at === study.at) link.setAttribute('aria-current', 'page');
    else link.removeAttribute('aria-current');
  });
  open(study);
  if (isRun) {
    drawn = showRun(runView, study, lists[study.at], rest);
    drawn.draw();
    document.title = `${rest}, ${study.name}`;
    scrollTo(0, 0);
    runView.querySelector('h1').focus({ preventScroll: true });
    return;
  }
  document.title = study.name;
  const section = rest && study.element.querySelector(`[data-section="${CSS.escape(rest)}"]`);
  if (section) section.scrollIntoView();
  else scrollTo(0, left.get(study) ?? 0);
}

/** Goes from a run to its study, and puts the focus where the run was opened. */
function up() {
  const link = runView.querySelector('[data-up]');
  const slug = runView.querySelector('h1').textContent;
  if (runView.hidden || !link) return;
  location.hash = link.getAttribute('href');
  setTimeout(() => {
    const row = [...document.querySelectorAll('article.study:not([hidden]) table.runs a')].find((each) => each.textContent === slug);
    row?.focus();
  });
}

document.addEventListener('keydown', (event) => {
  const isTyping = event.target.matches('input, select, textarea');
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === 'Escape') {
    if (isTyping) event.target.blur();
    else up();
  }
  if (isTyping) return;
  if (event.key === '/') {
    const filter = document.querySelector('article.study:not([hidden]) [data-filter="rows"], article.study:not([hidden]) [data-filter="runs"]');
    if (filter) {
      event.preventDefault();
      filter.focus();
    }
  }
  if (event.key === 'd') theme.toggle();
  const step = { ArrowLeft: '-1', ArrowRight: '1' }[event.key];
  if (step && !runView.hidden && !event.target.closest('.scroll')) runView.querySelector(`[data-step="${step}"]`)?.click();
});

document.getElementById('theme').addEventListener('click', () => theme.toggle());
matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => theme.show());
theme.watchers.push(() => {
  studies.forEach((study) => study.charts.forEach((chart) => chart.redraw()));
  opened.forEach((study) => study.element.querySelectorAll('.swatch').forEach((swatch) => {
    swatch.style.background = look(study, swatch.parentElement.querySelector('input').value, 0).colour;
  }));
  if (!runView.hidden) drawn.draw();
});

/** On paper: everything of the study that is shown, in light colours and as wide as a page. */
addEventListener('beforeprint', () => {
  theme.printing = true;
  const study = studies.find((each) => !each.element.hidden);
  study?.charts.forEach((chart) => chart.draw());
  if (!runView.hidden) drawn.draw();
});
addEventListener('afterprint', () => {
  theme.printing = false;
  theme.show();
});

document.querySelectorAll('.bar nav a').forEach((link, at) => { link.href = studyRoute(studies[at]); });
addEventListener('hashchange', route);
theme.show();
route();

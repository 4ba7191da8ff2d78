let texts, panels;
const options = {responsive: true, displaylogo: false, displayModeBar: false};
const all = (selector, root = document) => [...root.querySelectorAll(selector)];
const chosen = {measure: '', only: ''};

function spelled(places) {
  return Array.isArray(places) ? places.map(spelled) : texts[places];
}

function draw(plot) {
  if (plot.data) return Plotly.Plots.resize(plot);
  const {data, layout} = panels[plot.id];
  for (const trace of data) if ('text' in trace) trace.text = spelled(trace.text);
  return Plotly.newPlot(plot, data, layout, options);
}

const visible = () => all('.plot').filter((plot) => plot.offsetParent);
const drawn = () => visible().filter((plot) => plot.data);

function refresh() {
  for (const part of all('[data-measure]')) {
    const own = part.dataset.measure;
    part.hidden = own !== '' && own !== chosen.measure;
  }
  for (const part of all('[data-statistic]')) {
    const own = part.dataset.statistic;
    part.hidden = own !== '' && chosen.only !== '' && own !== chosen.only;
  }
  for (const button of all('[data-show]')) {
    button.setAttribute('aria-pressed', button.dataset.show === chosen.measure);
  }
  for (const button of all('[data-only]')) {
    button.setAttribute('aria-pressed', button.dataset.only === chosen.only);
  }
  if (panels) visible().forEach(draw);
}

function choose(change) {
  Object.assign(chosen, change);
  refresh();
}

const number = (text) => Number(text.trim().replace('−', '-') || NaN);

function sortBy(table, column, direction) {
  const key = (row) => row.cells[column].dataset.sort ?? row.cells[column].textContent;
  const rows = [...table.tBodies[0].rows];
  const numeric = rows.some((row) => !isNaN(number(key(row))))
    && rows.every((row) => !isNaN(number(key(row))) || /^\s*[–-]?\s*$/.test(key(row)));
  rows.sort((a, b) => {
    if (!numeric) return direction * key(a).localeCompare(key(b), 'en', {numeric: true});
    const [x, y] = [number(key(a)), number(key(b))];
    if (isNaN(x) || isNaN(y)) return isNaN(x) - isNaN(y);
    return direction * (x - y);
  });
  table.tBodies[0].append(...rows);
  all('thead th', table).forEach((head, index) => {
    const now = direction > 0 ? 'ascending' : 'descending';
    head.setAttribute('aria-sort', index === column ? now : 'none');
  });
}

for (const table of all('table.sortable')) {
  all('thead th', table).forEach((head, column) => {
    const button = document.createElement('button');
    button.type = 'button';
    button.append(...head.childNodes);
    head.append(button);
    head.setAttribute('aria-sort', 'none');
    button.addEventListener('click', () => {
      const up = head.getAttribute('aria-sort') !== 'ascending';
      sortBy(table, column, up ? 1 : -1);
    });
  });
}

async function copy(button) {
  const source = document.getElementById(button.dataset.copy);
  const label = button.textContent;
  try {
    await navigator.clipboard.writeText(source.innerText.trim());
    button.textContent = 'Copied';
  } catch {
    getSelection().selectAllChildren(source);
    button.textContent = 'Selected: press Ctrl+C';
  }
  setTimeout(() => { button.textContent = label; }, 2500);
}

for (const button of all('[data-show]')) {
  button.addEventListener('click', () => choose({measure: button.dataset.show}));
}
for (const button of all('[data-only]')) {
  button.addEventListener('click', () => choose({only: button.dataset.only}));
}
for (const button of all('[data-copy]')) {
  button.addEventListener('click', () => copy(button));
}

// A plot has the width that it was drawn at: for print it is drawn at paper's.
addEventListener('beforeprint', () => {
  document.body.classList.add('printing');
  for (const plot of drawn()) Plotly.relayout(plot, {width: plot.clientWidth});
});
addEventListener('afterprint', () => {
  document.body.classList.remove('printing');
  for (const plot of drawn()) Plotly.relayout(plot, {width: null, autosize: true});
});

async function unpack(base64) {
  const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
  const json = new Blob([bytes]).stream().pipeThrough(new DecompressionStream('gzip'));
  return new Response(json).json();
}

chosen.measure = document.querySelector('[data-show]')?.dataset.show ?? '';
refresh();
unpack(document.getElementById('panels').textContent).then((found) => {
  ({texts, panels} = found);
  refresh();
}, (error) => {
  for (const plot of all('.plot')) plot.textContent = 'Not drawn: see the PDF or PNG.';
  throw error;
});

'use strict';
// The gallery and the pages of pictures. Names of files and classes become text nodes only, never markup.
(() => {
  const data = JSON.parse(document.getElementById('data').textContent);
  const $ = (id) => document.getElementById(id);
  const SVG = 'http://www.w3.org/2000/svg';
  const state = { model: 0, list: [], open: null, back: null };

  /** An element with attributes, and texts or elements in it. */
  function node(tag, attributes = {}, ...children) {
    const drawn = ['svg', 'path', 'text', 'g', 'title'].includes(tag);
    const made = drawn ? document.createElementNS(SVG, tag) : document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) if (value !== undefined && value !== null) made.setAttribute(name, value);
    made.append(...children.filter((child) => child !== null && child !== undefined && child !== ''));
    return made;
  }
  const bdi = (text, attributes) => node('bdi', attributes, text);

  /** A value of a measure, as in the tables. */
  function shown(value, measure) {
    if (value === null || value === undefined) return '–';
    const text = value.toFixed(measure.digits);
    return (Number(text) === 0 ? text.replace('-', '') : text.replace('-', '−')) + (measure.unit ? ` ${measure.unit}` : '');
  }

  // Light and dark
  const root = document.documentElement, scheme = matchMedia('(prefers-color-scheme: dark)');
  const recall = () => { try { return localStorage.getItem('onnxcam-theme'); } catch { return null; } };
  if (['light', 'dark'].includes(recall())) root.dataset.theme = recall();
  $('theme').addEventListener('click', () => {
    root.dataset.theme = (root.dataset.theme ?? (scheme.matches ? 'dark' : 'light')) === 'dark' ? 'light' : 'dark';
    try { localStorage.setItem('onnxcam-theme', root.dataset.theme); } catch { /* kept until the page is closed */ }
  });

  // The overlay: as onnxcam draws it, grey where the map is, the map's colours over it.
  const table = Uint8Array.from(atob(data.colours), (c) => c.charCodeAt(0));
  async function load(source) {
    const image = new Image();
    image.src = source;
    await image.decode();
    return image;
  }
  function pixels(width, height, paint) {
    const canvas = new OffscreenCanvas(width, height), context = canvas.getContext('2d', { willReadFrequently: true });
    context.imageSmoothingQuality = 'high';
    paint(context);
    return context.getImageData(0, 0, width, height);
  }
  /** The map drawn smoothly into its place; alpha there tells inside from outside. */
  function placed(map, image, width, height) {
    const [left, top, right, bottom] = map.box ?? [0, 0, 1, 1];
    return pixels(width, height, (context) => context.drawImage(image, left * width, top * height, (right - left) * width, (bottom - top) * height));
  }
  function blend(photo, values, alpha) {
    const out = photo.data;
    for (let i = 0; i < out.length; i += 4) {
      const grey = 0.299 * out[i] + 0.587 * out[i + 1] + 0.114 * out[i + 2];
      if (values[i + 3] < 128) {
        out[i] = out[i + 1] = out[i + 2] = 20 + 0.45 * grey;
        continue;
      }
      const value = values[i], weight = alpha * Math.sqrt(value / 255);
      for (let c = 0; c < 3; c++) {
        const muted = out[i + c] + alpha * (grey - out[i + c]);
        out[i + c] = muted + weight * (table[3 * value + c] - muted);
      }
    }
  }
  function heat(values) {
    for (let i = 0; i < values.length; i += 4) for (let c = 2; c >= 0; c--) values[i + c] = table[3 * values[i] + c];
  }
  function outline(context, box, width, height) {
    const [left, top, right, bottom] = [box[0] * width, box[1] * height, box[2] * width, box[3] * height];
    context.lineWidth = Math.max(1, Math.max(width, height) / 400);
    context.strokeStyle = '#fff';
    if (left > 1 || top > 1 || right < width - 1 || bottom < height - 1) context.strokeRect(left - 0.5, top - 0.5, right - left + 1, bottom - top + 1);
  }
  /** Draws the picture with the map over it; either may be missing. */
  async function draw(canvas, picture, map) {
    const turn = (canvas.turn = (canvas.turn ?? 0) + 1), alpha = $('strength').value / 100;
    const [photo, saliency] = await Promise.all([picture.image && load(picture.image.source), map && load(map.source)]);
    if (turn !== canvas.turn) return;
    const width = photo ? photo.naturalWidth : 3 * saliency.naturalWidth, height = photo ? photo.naturalHeight : 3 * saliency.naturalHeight;
    canvas.width = width;
    canvas.height = height;
    const context = canvas.getContext('2d');
    if (!map) context.drawImage(photo, 0, 0);
    else if (!photo || !map.box) {
      const values = placed({ box: null }, saliency, width, height);
      heat(values.data);
      context.putImageData(values, 0, 0);
    } else {
      const under = pixels(width, height, (paper) => paper.drawImage(photo, 0, 0));
      blend(under, placed(map, saliency, width, height).data, alpha);
      context.putImageData(under, 0, 0);
      outline(context, map.box, width, height);
    }
    canvas.dataset.drawn = 'true';
  }
  function frame(picture, map, label) {
    const aspect = picture.image ? picture.image.width / picture.image.height : 1;
    const made = node('span', { class: 'frame' });
    made.style.setProperty('--a', aspect);
    if (!picture.image && !map) made.append(node('span', { class: 'why' }, node('span', {}, picture.why)));
    else {
      const canvas = node('canvas', { role: 'img', 'aria-label': label });
      canvas.paint = () => draw(canvas, picture, map);
      made.append(canvas);
    }
    return made;
  }
  const watcher = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (!entry.isIntersecting) continue;
      watcher.unobserve(entry.target);
      entry.target.paint();
    }
  }, { rootMargin: '400px' });
  const watch = (root) => root.querySelectorAll('canvas').forEach((canvas) => watcher.observe(canvas));
  let pending = 0;
  $('strength').addEventListener('input', () => {
    cancelAnimationFrame(pending);
    pending = requestAnimationFrame(() => document.querySelectorAll('canvas[data-drawn]').forEach((canvas) => canvas.paint()));
  });

  // What is chosen
  const model = () => data.models[state.model];
  const method = () => Number($('method').value), measure = () => Number($('measure').value);
  const result = (picture) => picture.results[state.model];
  const value = (picture, m = method(), k = measure()) => result(picture)?.values[m]?.[k] ?? null;
  function spread(picture) {
    const values = model().methods.map((one, m) => (one.baseline ? null : value(picture, m))).filter((one) => one !== null);
    return values.length < 2 ? null : Math.max(...values) - Math.min(...values);
  }
  const unlike = (picture) => result(picture)?.unlike ?? null;
  const ORDERS = {
    worst: (picture) => value(picture) === null ? null : value(picture) * (model().measures[measure()].better === 'lower' ? 1 : -1),
    best: (picture) => value(picture) === null ? null : value(picture) * (model().measures[measure()].better === 'lower' ? -1 : 1),
    spread, unlike, name: null,
  };
  const SHOWS = {
    all: () => true,
    agree: (picture) => result(picture)?.agrees === true,
    differ: (picture) => result(picture)?.agrees === false,
    undefined: (picture) => value(picture) === null,
    error: (picture) => Object.keys(result(picture)?.errors ?? {}).length + (result(picture)?.failed.length ?? 0) > 0,
  };
  function choices(select, entries) {
    const before = select.value;
    select.replaceChildren(...entries.map(([key, text]) => node('option', { value: key }, text)));
    if (entries.some(([key]) => String(key) === before)) select.value = before;
  }
  const measureName = (one) => `${one.title}${one.protocol ? ` (${one.protocol})` : ''}${one.options ? ` ${one.options}` : ''} ${one.arrow}`.trim();
  function fill() {
    const { methods, measures } = model();
    choices($('method'), methods.map((one, m) => [m, one.name]));
    const mapped = data.pictures.some((picture) => Object.keys(result(picture)?.maps ?? {}).length > 0);
    $('method-name').textContent = mapped ? 'Map and value of' : 'Value of';
    $('slide').hidden = !mapped;
    choices($('measure'), measures.map((one, k) => [k, measureName(one)]));
    const neither = measures[measure()]?.better === 'neither', results = data.pictures.map(result).filter(Boolean);
    choices($('order'), [
      ['worst', neither ? 'highest first' : 'worst first'], ['best', neither ? 'lowest first' : 'best first'], ['spread', 'methods disagree: values'],
      ...(results.some((one) => one.unlike !== null) ? [['unlike', 'methods disagree: maps']] : []), ['name', 'name'],
    ]);
    const groups = [...new Set(data.pictures.map((one) => one.group).filter(Boolean))].sort();
    choices($('show'), [
      ['all', 'all pictures'],
      ...(results.some((one) => one.agrees !== null) ? [['agree', 'explained class is the label'], ['differ', 'explained class is not the label']] : []),
      ['undefined', 'without a value'], ['error', 'with an error'], ...(groups.length > 1 ? groups.map((group) => [`group:${group}`, `of ${group}`]) : []),
    ]);
  }

  // Gallery
  function kept() {
    const show = $('show').value, test = show.startsWith('group:') ? (picture) => `group:${picture.group}` === show : SHOWS[show];
    const words = $('find').value.trim().toLowerCase();
    const bound = (id, otherwise) => ($(id).value === '' ? otherwise : Number($(id).value));
    const [low, high] = [bound('low', -Infinity), bound('high', Infinity)], limited = low > -Infinity || high < Infinity;
    const text = (picture) => [picture.key, picture.group, result(picture)?.target, result(picture)?.label].join(' ').toLowerCase();
    return data.pictures.filter((picture) => result(picture) && test(picture) && (!words || text(picture).includes(words)) &&
      (!limited || (value(picture) !== null && value(picture) >= low && value(picture) <= high)));
  }
  function sorted(pictures) {
    const order = ORDERS[$('order').value];
    if (!order) return pictures.toSorted((one, other) => one.key.localeCompare(other.key, undefined, { numeric: true }));
    const places = new Map(pictures.map((picture) => [picture, order(picture)]));
    return pictures.toSorted((one, other) => {
      const [a, b] = [places.get(one), places.get(other)];
      return a === null || b === null ? (a === null) - (b === null) : b - a;
    });
  }
  const link = (picture) => `#${new URLSearchParams(data.models.length > 1 ? { picture: picture.key, model: state.model } : { picture: picture.key })}`;
  /** The range of a measure over the gallery, for the strips. */
  function range() {
    const values = data.pictures.flatMap((picture) => model().methods.map((_, m) => value(picture, m))).filter((one) => one !== null);
    const low = values.reduce((a, b) => Math.min(a, b), Infinity), high = values.reduce((a, b) => Math.max(a, b), -Infinity);
    return [low, high > low ? high - low : 1];
  }
  function strip(picture, [low, width]) {
    const made = node('span', { class: 'strip', 'aria-hidden': 'true' });
    model().methods.forEach((one, m) => {
      const its = value(picture, m);
      if (its === null) return;
      const dot = node('i', { class: `c-${one.colour}${m === method() ? ' chosen' : ''}`, title: `${one.name}: ${shown(its, model().measures[measure()])}` });
      dot.style.left = `${(100 * (its - low)) / width}%`;
      made.append(dot);
    });
    return made;
  }
  function card(picture, limits) {
    const its = result(picture), one = model().measures[measure()], order = $('order').value;
    const number = order === 'spread' ? `Δ ${shown(spread(picture), one)}` : order === 'unlike' && unlike(picture) !== null ? `unlike ${unlike(picture).toFixed(2)}` : shown(value(picture), one);
    const made = node('a', { class: 'card', href: link(picture), 'data-key': picture.key, title: picture.key });
    made.style.setProperty('--a', picture.image ? picture.image.width / picture.image.height : 1);
    made.append(
      frame(picture, its.maps[method()], `${picture.key}: ${model().methods[method()].name}`),
      node('span', { class: 'caption' }, bdi(its.target || picture.key, { class: its.agrees === false ? 'wrong' : null }), node('b', {}, number)),
      strip(picture, limits),
    );
    return made;
  }
  function show() {
    const pictures = kept();
    state.list = sorted(pictures);
    const limits = range();
    $('gallery').replaceChildren(...state.list.map((picture) => card(picture, limits)));
    watch($('gallery'));
    const all = data.pictures.filter(result).length;
    $('count').textContent = `${state.list.length === all ? '' : `${state.list.length} of `}${all} ${all === 1 ? 'picture' : 'pictures'}`;
  }
  $('controls').addEventListener('input', (event) => {
    if (event.target.id === 'strength') return;
    fill();
    show();
  });
  $('controls').addEventListener('submit', (event) => event.preventDefault());
  $('gallery').addEventListener('keydown', (event) => {
    const cards = [...$('gallery').children], at = cards.indexOf(document.activeElement);
    if (at < 0) return;
    const to = { ArrowLeft: at - 1, ArrowRight: at + 1, ArrowUp: above(cards, at, -1), ArrowDown: above(cards, at, 1), Home: 0, End: cards.length - 1 }[event.key];
    if (to === undefined || !cards[to]) return;
    event.preventDefault();
    cards[to].focus();
  });
  /** The card of the next row, up or down, whose middle is nearest. */
  function above(cards, at, step) {
    const boxes = cards.map((one) => one.getBoundingClientRect()), here = boxes[at], middle = here.left + here.width / 2;
    const rows = boxes.map((box) => Math.round(box.top));
    const next = rows.filter((top) => step * (top - rows[at]) > 4).sort((a, b) => step * (a - b))[0];
    return rows.map((top, i) => [Math.abs(boxes[i].left + boxes[i].width / 2 - middle), i]).filter(([, i]) => rows[i] === next).sort((a, b) => a[0] - b[0])[0]?.[1];
  }

  // A picture's page
  function told(picture, its) {
    const line = node('p', { class: 'told' }), say = (...parts) => line.append(line.hasChildNodes() ? ' · ' : '', ...parts);
    if (its.target) say('explained ', node('b', {}, bdi(its.target)), its.probability === null ? '' : ` ${its.probability.toFixed(3)}`);
    if (its.agrees) say('as labelled');
    else if (its.label !== null) say('label ', node('b', { class: its.agrees === false ? 'wrong' : null }, bdi(its.label)));
    if (picture.group) say(bdi(picture.group));
    if (its.unlike !== null) say(`maps disagree by ${its.unlike.toFixed(2)}`);
    return line;
  }
  /** What the marks of a picture's page mean: those that are on it. */
  function key(picture, its) {
    const one = model().measures[measure()], has = Object.keys(its.maps).length > 0, made = node('ul', { class: 'note keys-of-page', 'aria-label': 'Legend' });
    const say = (...parts) => made.append(node('li', {}, ...parts));
    if (its.agrees === false) say(node('b', { class: 'wrong' }, 'label in red:'), ' the class that was explained is another than the data’s label');
    if (its.unlike !== null) say(node('b', {}, 'maps disagree by:'), ' 1 less the mean rank correlation (Spearman) of each two methods’ maps: 0 where all rank the pixels alike, about 1 where they have nothing in common');
    if (has) say(node('b', {}, 'maps:'), ` red where the map is high, over yellow, green and blue to ${picture.image ? 'the grey picture where it is low; dark around the white frame is what the model does not see' : 'where it is low'}`, one ? `; the number below is ${measureName(one)}` : '');
    return made.hasChildNodes() ? made : '';
  }
  function maps(picture, its) {
    const one = model().measures[measure()], aspect = picture.image ? picture.image.width / picture.image.height : 1;
    const list = node('div', { class: 'maps' });
    list.style.setProperty('--a', aspect);
    const add = (map, name, number, colour) => {
      const made = node('figure', { class: 'map' }, frame(picture, map, `${picture.key}: ${name}`), node('figcaption', { class: 'caption' }, bdi(name, colour), node('b', {}, number)));
      list.append(made);
    };
    add(null, 'picture', '');
    model().methods.forEach((each, m) => its.maps[m] && add(its.maps[m], each.name, one ? shown(value(picture, m), one) : ''));
    return list;
  }
  function values(picture, its) {
    const { methods, measures } = model(), made = node('table', { class: 'results values' });
    made.append(node('thead', {}, node('tr', {}, node('th', { scope: 'col' }, 'Metric'), ...methods.map((one) => node('th', { scope: 'col' }, bdi(one.name))))));
    const body = node('tbody'), notes = new Map(), marks = new Set();
    measures.forEach((one, k) => {
      const numbers = methods.map((each, m) => (each.baseline ? null : value(picture, m, k))).filter((each) => each !== null);
      const top = one.better === 'neither' || new Set(numbers).size < 2 ? null : one.better === 'lower' ? Math.min(...numbers) : Math.max(...numbers);
      const cells = methods.map((each, m) => {
        const number = value(picture, m, k), why = its.errors[m] ?? its.reasons[`${m},${k}`];
        if (number === null && why && !its.errors[m]) {
          const its = notes.get(why) ?? new Map();
          notes.set(why, its.set(k, [...(its.get(k) ?? []), each.name]));
        }
        const gap = !why ? '–' : its.errors[m] || its.failed.includes(`${m},${k}`) ? 'error' : 'undefined';
        const is = number === null ? gap : number === top && !each.baseline ? 'top' : '';
        marks.add(is);
        return node('td', { 'data-name': each.name, class: is === 'top' ? is : null }, number === null ? node('small', {}, gap) : shown(number, one));
      });
      body.append(node('tr', {}, node('th', { scope: 'row' }, `${one.title} ${one.arrow}`, node('small', {}, one.protocol)), ...cells));
    });
    made.append(body);
    const where = ([k, names]) => `${measures[k].title}${measures[k].protocol ? ` (${measures[k].protocol})` : ''}${names.length === methods.length ? '' : ` of ${names.join(', ')}`}`;
    const reasons = [...notes].map(([why, places]) => node('li', {}, bdi(why), node('span', {}, bdi([...places].map(where).join('; ')))));
    const legend = node('p', { class: 'note' });
    if (marks.has('top')) legend.append(node('span', { class: 'key' }, node('b', { class: 'top' }, 'bold in colour:'), ' the best of the methods, baselines left out'));
    if (marks.has('undefined')) legend.append(node('span', { class: 'key' }, node('b', {}, 'undefined:'), ' the metric has no value here'));
    if (marks.has('error')) legend.append(node('span', { class: 'key' }, node('b', {}, 'error:'), ' it could not be computed'));
    if (reasons.length) legend.append('The reasons are below the table.');
    return [legend.hasChildNodes() ? legend : '', node('div', { class: 'scroll', tabindex: 0, role: 'region', 'aria-label': 'Values' }, made), reasons.length ? node('ul', { class: 'list reasons' }, ...reasons) : ''];
  }
  function curves(its) {
    const { methods, measures } = model(), size = data.size, list = node('div', { class: 'lines' });
    const x = (share) => size.left + share * (size.width - size.left - size.right);
    measures.forEach((one, k) => {
      const lines = methods.flatMap((each, m) => (its.curves[`${m},${k}`] ? [[each, its.curves[`${m},${k}`], m]] : []));
      if (!lines.length) return;
      const scores = lines.flatMap(([, line]) => line).filter((score) => score !== null), [low, high] = [Math.min(0, ...scores), Math.max(...scores, 1)];
      const y = (score) => size.height - size.bottom - ((score - low) / (high - low)) * (size.height - size.bottom - size.top);
      const drawn = node('svg', { viewBox: `0 0 ${size.width} ${size.height}`, role: 'img', 'aria-label': `Curves of ${measureName(one)}` });
      for (const score of [low, (low + high) / 2, high]) drawn.append(node('path', { class: 'grid', d: `M${size.left} ${y(score)}H${size.width - size.right}` }), node('text', { class: 'up', x: size.left - 6, y: y(score) + 3.5 }, (score / 1000).toFixed(2)));
      for (const share of [0, 0.5, 1]) drawn.append(node('text', { class: 'across', x: x(share), y: size.height - size.bottom + 17 }, `${100 * share} %`));
      for (const [each, line, m] of lines) drawn.append(node('g', { class: `c-${each.colour} d${each.dash}`, 'data-method': m }, node('path', { class: 'line', d: `M${line.flatMap((score, i) => (score === null ? [] : [`${x(i / (line.length - 1)).toFixed(1)} ${y(score).toFixed(1)}`])).join('L')}` }, node('title', {}, each.name))));
      list.append(node('figure', {}, node('figcaption', {}, measureName(one)), drawn));
    });
    return list;
  }
  function legend(its) {
    const drawn = model().methods.map((one, m) => [one, m]).filter(([, m]) => Object.keys(its.curves).some((place) => place.startsWith(`${m},`)));
    const swatch = (one) => node('svg', { class: `swatch c-${one.colour} d${one.dash}`, viewBox: '0 0 18 8' }, node('path', { d: 'M1 4H17' }));
    const made = node('ul', { class: 'legend', 'aria-label': 'Methods' }, ...drawn.map(([one, m]) => node('li', {}, node('button', { type: 'button', 'aria-pressed': 'false', 'data-method': m }, swatch(one), bdi(one.name)))));
    setApart(made);
    return made;
  }
  /** A name in a legend sets its lines apart from the others, which grow faint. */
  function setApart(list) {
    list.addEventListener('click', (event) => {
      const button = event.target.closest('button');
      if (!button) return;
      button.ariaPressed = String(button.ariaPressed !== 'true');
      const chosen = [...list.querySelectorAll('[aria-pressed=true]')].map((one) => one.dataset.method);
      list.nextElementSibling.querySelectorAll('g[data-method]').forEach((lines) => {
        lines.classList.toggle('faint', chosen.length > 0 && !chosen.includes(lines.dataset.method));
        lines.classList.toggle('apart', chosen.includes(lines.dataset.method));
      });
    });
  }
  document.querySelectorAll('.legend').forEach(setApart);
  function page(picture) {
    const its = result(picture), body = [node('h2', { id: 'page-title' }, bdi(picture.key))];
    if (!its) body.push(node('p', { class: 'empty' }, 'This model was not measured on this picture.'));
    else {
      body.push(told(picture, its), key(picture, its), maps(picture, its));
      if (its.mapsWhy) body.push(node('p', { class: 'note' }, bdi(its.mapsWhy)));
      else if (!Object.keys(its.maps).length && $('maps-note')) body.push(node('p', { class: 'note' }, ...$('maps-note').cloneNode(true).childNodes));
      const errors = new Map(), count = model().methods.length;
      for (const [m, text] of Object.entries(its.errors)) errors.set(text, [...(errors.get(text) ?? []), model().methods[m].name]);
      const failures = [...errors].map(([text, names]) => node('li', {}, bdi(names.length === count ? 'every method' : names.join(', ')), node('span', {}, bdi(text))));
      if (failures.length) body.push(node('h3', {}, 'Errors'), node('ul', { class: 'list' }, ...failures));
      body.push(node('h3', {}, 'Values'), ...values(picture, its));
      if (Object.keys(its.curves).length) body.push(node('h3', {}, 'Curves'), legend(its), curves(its));
    }
    $('page-body').replaceChildren(...body.filter(Boolean));
    watch($('page-body'));
    const at = state.list.indexOf(picture);
    $('page-place').textContent = at < 0 ? '' : `${at + 1} of ${state.list.length}`;
    $('previous').disabled = at <= 0;
    $('next').disabled = at < 0 || at >= state.list.length - 1;
  }
  function absent(key) {
    $('page-body').replaceChildren(node('h2', { id: 'page-title' }, bdi(key)), node('p', { class: 'empty' }, 'This picture is not in the gallery of this report.'));
    $('page-place').textContent = '';
    $('previous').disabled = $('next').disabled = true;
  }
  /** Shows what the address names: the model, and a picture's page or none. */
  function follow() {
    const named = new URLSearchParams(location.hash.slice(1)), key = named.get('picture');
    if (named.has('model')) choose(Number(named.get('model')));
    state.open = key === null ? null : data.pictures.find((picture) => picture.key === key) ?? null;
    document.body.classList.toggle('paged', key !== null);
    if (key === null) {
      if ($('page').open) $('page').close();
      return;
    }
    if (state.open) page(state.open);
    else absent(key);
    if (!$('page').open) {
      $('page').showModal();
      document.documentElement.style.overflow = 'hidden';
    }
    $('page').scrollTop = 0;
  }
  function step(by) {
    const next = state.list[state.list.indexOf(state.open) + by];
    if (!state.open || !state.list.includes(state.open) || !next) return;
    history.replaceState(null, '', link(next)); // unlike location.replace(), before the next key
    follow();
  }
  $('page').addEventListener('close', () => {
    document.documentElement.style.overflow = '';
    document.body.classList.remove('paged');
    if (new URLSearchParams(location.hash.slice(1)).has('picture')) history.replaceState(null, '', location.pathname + location.search);
    const key = state.open?.key;
    state.open = null;
    [...$('gallery').children].find((one) => one.dataset.key === key)?.focus();
  });
  $('close').addEventListener('click', () => $('page').close());
  $('previous').addEventListener('click', () => step(-1));
  $('next').addEventListener('click', () => step(1));
  $('page').addEventListener('keydown', (event) => {
    if (event.key === 'ArrowLeft') step(-1);
    else if (event.key === 'ArrowRight') step(1);
  });
  addEventListener('hashchange', follow);

  // Several models
  const radios = [...document.querySelectorAll('[role=radio]')];
  function choose(index) {
    if (!data.models[index]) return;
    state.model = index;
    document.querySelectorAll('.model').forEach((part) => { part.hidden = Number(part.dataset.model) !== index; });
    radios.forEach((radio, i) => { radio.ariaChecked = String(i === index); radio.tabIndex = i === index ? 0 : -1; });
    fill();
    show();
  }
  radios.forEach((radio, i) => {
    radio.addEventListener('click', () => choose(i));
    radio.addEventListener('keydown', (event) => {
      const by = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
      if (!by) return;
      event.preventDefault();
      const to = (i + by + radios.length) % radios.length;
      choose(to);
      radios[to].focus();
    });
  });

  // Tables sort by a column: the best first, then the other way round.
  document.querySelectorAll('.sort').forEach((button) => button.addEventListener('click', () => {
    const head = button.closest('th'), body = head.closest('table').tBodies[0], column = Number(button.dataset.column);
    const number = (row) => { const text = row.cells[column + 1].dataset.value.replace('−', '-'); return text === '' ? null : Number(text); };
    const usual = button.dataset.better === 'lower' ? 'ascending' : 'descending', other = usual === 'ascending' ? 'descending' : 'ascending';
    const order = head.ariaSort === usual ? other : usual;
    const sign = order === 'descending' ? -1 : 1, first = body.original ?? (body.original = [...body.rows]);
    const rows = column < 0 ? first : [...first].sort((one, other) => {
      const [a, b] = [number(one), number(other)];
      return a === null || b === null ? (a === null) - (b === null) : sign * (a - b);
    });
    head.parentElement.querySelectorAll('th').forEach((one) => one.removeAttribute('aria-sort'));
    if (column >= 0) head.ariaSort = order;
    body.append(...rows);
  }));

  // Print: everything is open and drawn.
  addEventListener('beforeprint', () => {
    document.querySelectorAll('details').forEach((one) => { one.open = true; });
    document.querySelectorAll('canvas:not([data-drawn])').forEach((canvas) => canvas.paint());
  });

  if (data.models.length) {
    choose(0);
    follow();
  } else $('controls').hidden = true;
  root.dataset.ready = 'true';
})();

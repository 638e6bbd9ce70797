// Uses the page as a person would, in headless Chromium, and prints as JSON what was seen.
//   node page.mjs CONFIG.json      {url, chromium, modules, pictures: {name: path}, models: {name: path}}
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';

const config = JSON.parse(readFileSync(process.argv[2], 'utf8'));
const { chromium } = createRequire(`${config.modules}/`)('playwright-core');
const browser = await chromium.launch({
  executablePath: config.chromium,
  args: [
    '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update',
    '--disable-sync', '--use-fake-ui-for-media-stream', '--use-fake-device-for-media-stream',
  ],
});
const report = { console: [], outside: [] };
const WAIT = { timeout: 240_000 };

async function open(options) {
  const context = await browser.newContext(options), page = await context.newPage();
  context.on('request', (request) => {
    const { protocol, origin } = new URL(request.url());
    if (protocol !== 'blob:' && protocol !== 'data:' && origin !== new URL(config.url).origin) report.outside.push(request.url());
  });
  page.on('console', (message) => ['error', 'warning'].includes(message.type()) && report.console.push(message.text()));
  page.on('pageerror', (error) => report.console.push(String(error)));
  await page.goto(config.url);
  await page.waitForFunction(() => window.onnxcamPage?.state.seen, null, WAIT);
  return { context, page };
}

/** What is shown: the map, its class, and the words. */
const shown = (page) => page.evaluate(() => {
  const { state } = window.onnxcamPage, text = (id) => document.getElementById(id).textContent;
  return {
    map: [...state.map.values], box: state.map.box, target: state.target, probabilities: [...state.seen.probabilities], answer: text('answer'),
    sentence: text('sentence'), listed: [...document.querySelectorAll('.class .name')].map((name) => name.firstChild.textContent),
    scored: state.sharper?.scored ?? 0, total: state.sharper?.total ?? 0, file: text('file-name'), state: text('state'),
    doubt: document.getElementById('doubt').hidden ? '' : text('doubt'), label: document.getElementById('stage').ariaLabel,
  };
});

/** Waits for another explanation than the one that `action` begins with. */
async function after(page, action) {
  await page.evaluate(() => (window.before = window.onnxcamPage.state.seen));
  await action();
  await page.waitForFunction(() => window.onnxcamPage.state.seen && window.onnxcamPage.state.seen !== window.before, null, WAIT);
}

async function drop(page, path, event = 'drop') {
  const [bytes, name] = [readFileSync(path).toString('base64'), path.split('/').pop()];
  await page.evaluate(({ bytes, name, event }) => {
    const transfer = new DataTransfer();
    transfer.items.add(new File([Uint8Array.from(atob(bytes), (c) => c.charCodeAt(0))], name));
    const init = { bubbles: true, cancelable: true };
    document.body.dispatchEvent(event === 'drop' ? new DragEvent(event, { ...init, dataTransfer: transfer }) : new ClipboardEvent(event, { ...init, clipboardData: transfer }));
  }, { bytes, name, event });
}

async function problem(page, action) {
  await action();
  await page.locator('#problem[open]').waitFor(WAIT);
  const words = { text: await page.locator('#problem-text').textContent(), hint: await page.locator('#problem-hint code').textContent() };
  await page.keyboard.press('Escape');
  return words;
}

async function explain(page) {
  report.start = await shown(page);
  await page.locator('[data-method=grad-cam]').click();
  await after(page, () => page.setInputFiles('#file', config.pictures.coffee));
  report.gradCam = await shown(page);
  await page.locator('.class[aria-checked=true]').focus();
  await after(page, () => page.keyboard.press('ArrowDown'));
  report.another = await shown(page);
  report.focused = await page.evaluate(() => document.activeElement.getAttribute('aria-checked'));
  await page.locator('#search').fill('tabby');
  report.search = await shown(page).then((all) => all.listed);
  await page.locator('#search').press('Escape');
}

async function sharpen(page) {
  await after(page, () => drop(page, config.pictures.chelsea, 'paste'));
  report.pasted = await shown(page);
  await page.locator('[data-method=score-cam]').click();
  await page.waitForFunction(() => window.onnxcamPage.state.sharper, null, WAIT);
  report.preview = await shown(page);
  await page.waitForFunction(() => window.onnxcamPage.state.sharper?.scored === window.onnxcamPage.state.sharper?.total, null, WAIT);
  report.exact = await shown(page);
  await page.locator('.class').nth(1).click();
  await page.waitForFunction((old) => window.onnxcamPage.state.sharper?.target === window.onnxcamPage.state.target && window.onnxcamPage.state.target !== old, report.exact.target, WAIT);
  report.exactOfAnother = await shown(page);
}

async function look(page) {
  await page.locator('#stage').focus();
  await page.keyboard.down(' ');
  report.peek = await page.evaluate(() => document.getElementById('stage').classList.contains('peek'));
  await page.keyboard.up(' ');
  report.peekEnds = await page.evaluate(() => document.getElementById('stage').classList.contains('peek'));
  const ground = () => page.evaluate(() => [document.documentElement.dataset.theme, getComputedStyle(document.body).getPropertyValue('color-scheme'), getComputedStyle(document.documentElement).colorScheme]);
  report.light = await ground();
  await page.locator('#theme').click();
  report.dark = await ground();
  await page.locator('[data-name=viridis]').click();
  report.legend = await page.evaluate(() => document.getElementById('legend').style.background);
  report.nameless = await page.evaluate(() => [...document.querySelectorAll('button, input, a, [role]')]
    .filter((node) => !(node.getAttribute('aria-label') || node.textContent.trim() || node.title || node.labels?.length || node.id === 'status'))
    .map((node) => node.outerHTML));
}

async function files(page) {
  report.notCompiled = await problem(page, () => drop(page, config.models.plain));
  report.notAModel = await problem(page, () => drop(page, config.models.text));
  report.notAPicture = await problem(page, () => page.setInputFiles('#file', config.models.text));
  report.cut = await problem(page, () => page.setInputFiles('#file', config.cut));
  report.own = {};
  for (const [name, path] of Object.entries(config.models.own)) {
    await after(page, () => drop(page, path));
    report.own[name] = await shown(page);
  }
  await after(page, () => page.setInputFiles('#file', config.pictures.grey));
  report.unlikely = { ...(await shown(page)), eyebrow: await page.locator('#eyebrow').textContent() };
  await after(page, () => page.locator('#bundled').click());
  report.back = await shown(page);
}

async function film(page) {
  const thumbs = await page.locator('.thumb').count();
  await after(page, () => page.locator('#camera').click());
  await after(page, async () => {});
  report.live = { visible: await page.locator('#live').isVisible(), classes: (await shown(page)).listed.length };
  await after(page, () => page.locator('#shutter').click());
  await page.waitForFunction((count) => document.querySelectorAll('.thumb').length > count, thumbs, WAIT);
  report.taken = { live: await page.locator('#live').isVisible() };
}

const { context, page } = await open({ viewport: { width: 1440, height: 900 }, colorScheme: 'light' });
await explain(page);
await sharpen(page);
await look(page);
await files(page);
await film(page);
await page.evaluate(() => navigator.serviceWorker.ready);
await context.setOffline(true);
await page.reload();
await page.waitForFunction(() => window.onnxcamPage?.state.seen, null, WAIT);
report.offline = await shown(page);
await context.close();

report.widths = {};
for (const width of [320, 390, 768, 1024, 1440]) {
  const { context: narrow, page: phone } = await open({ viewport: { width, height: 844 }, isMobile: width < 800, hasTouch: width < 800, colorScheme: 'dark' });
  report.widths[width] = await phone.evaluate(() => document.documentElement.scrollWidth);
  await narrow.close();
}
await browser.close();
console.log(JSON.stringify(report));

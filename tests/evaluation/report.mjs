// Uses a report as a person would, in headless Chromium, and prints as JSON what was seen.
//   node report.mjs CONFIG.json      {file, bare, chromium, modules, hostile}     bare: a report without maps
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';

const config = JSON.parse(readFileSync(process.argv[2], 'utf8'));
const { chromium } = createRequire(`${config.modules}/`)('playwright-core');
const browser = await chromium.launch({ executablePath: config.chromium, args: ['--no-sandbox', '--disable-gpu', '--no-first-run', '--disable-background-networking'] });
const seen = { console: [], requests: [], alerts: 0 };
const address = `file://${config.file}`;

async function open(options, hash = '', place = address) {
  const context = await browser.newContext(options), page = await context.newPage();
  context.on('request', (request) => !request.url().startsWith('data:') && request.url().split('#')[0] !== place && seen.requests.push(request.url()));
  page.on('console', (message) => ['error', 'warning'].includes(message.type()) && seen.console.push(message.text()));
  page.on('pageerror', (error) => seen.console.push(String(error)));
  page.on('dialog', (dialog) => { seen.alerts += 1; dialog.dismiss(); });
  await page.goto(place + hash);
  await page.waitForSelector('html[data-ready]');
  return { context, page };
}
const keys = (page) => page.evaluate(() => [...document.querySelectorAll('.card')].map((card) => card.dataset.key));
const values = (page) => page.evaluate(() => [...document.querySelectorAll('.card .caption b')].map((value) => value.textContent));
const choose = (page, id, label) => page.locator(`#${id}`).selectOption({ label });
/** What is drawn: the colours of a canvas once it is painted, as a list of bytes. */
const painted = async (page, selector) => {
  await page.locator(selector).scrollIntoViewIfNeeded();
  await page.waitForFunction((selector) => document.querySelector(selector)?.dataset.drawn, selector);
  return page.evaluate((selector) => {
    const canvas = document.querySelector(selector), { width, height } = canvas;
    const copy = new OffscreenCanvas(width, height).getContext('2d', { willReadFrequently: true });
    copy.drawImage(canvas, 0, 0);
    return { width, height, bytes: [...copy.getImageData(0, 0, width, height).data] };
  }, selector);
};
const dialog = (page) => page.evaluate(() => ({
  open: document.getElementById('page').open, title: document.getElementById('page-title')?.textContent, place: document.getElementById('page-place').textContent,
  failures: [...document.querySelectorAll('#page h3 + .list li')].map((one) => [...one.children].map((part) => part.textContent)), red: [...document.querySelectorAll('#page .told .wrong')].map((one) => getComputedStyle(one).color),
  curved: [...document.querySelectorAll('#page .legend button')].map((one) => one.textContent),
  text: document.getElementById('page-body').textContent, legend: [...document.querySelectorAll('#page .keys-of-page li, #page .key')].map((one) => one.textContent), maps: document.querySelectorAll('#page .map').length, curves: document.querySelectorAll('#page .lines figure').length,
  rows: [...document.querySelectorAll('#page .values tbody tr')].map((row) => [...row.cells].map((cell) => cell.textContent)), hash: location.hash,
}));

const controls = (page) => page.evaluate(() => [document.getElementById('method-name').textContent, document.getElementById('slide').offsetHeight > 0]);

const { context, page } = await open({ viewport: { width: 1400, height: 900 }, colorScheme: 'light' });
seen.hostile = await page.evaluate(() => window.hostile ?? null);
seen.title = await page.locator('h1').textContent();
seen.models = await page.locator('[role=radio]').allTextContents();

seen.controls = await controls(page);

// Order and filters
await choose(page, 'measure', 'Insertion (blur-rise) ↑');
seen.worst = { keys: await keys(page), values: await values(page) };
await choose(page, 'order', 'best first');
seen.best = await keys(page);
await choose(page, 'order', 'methods disagree: values');
seen.disagree = { keys: await keys(page), values: await values(page) };
await choose(page, 'order', 'methods disagree: maps');
seen.unlike = await values(page);
await choose(page, 'method', 'rise');
await choose(page, 'order', 'worst first');
seen.rise = { keys: await keys(page), values: await values(page) };
await page.locator('#low').fill('0.15');
await page.locator('#high').fill('0.17');
seen.ranged = await keys(page);
await page.locator('#low').fill('');
await page.locator('#high').fill('');
await page.locator('#find').fill('CLASS-5');
seen.found = await keys(page);
seen.count = await page.locator('#count').textContent();
await page.locator('#find').fill('');
for (const [name, label] of [['errors', 'with an error'], ['group', 'of train'], ['differ', 'explained class is not the label']]) {
  await choose(page, 'show', label);
  seen[name] = await keys(page);
}
await choose(page, 'show', 'all pictures');
await choose(page, 'order', 'name');
await choose(page, 'method', 'cam');
seen.named = await keys(page);
seen.overlay = await painted(page, '[data-key="3.png"] canvas');
await page.locator('#strength').fill('0');
await page.waitForTimeout(300);
seen.bare = await painted(page, '[data-key="3.png"] canvas');
await page.locator('#strength').fill('60');

// Table
const table = () => page.evaluate(() => [...document.querySelectorAll('.model:not([hidden]) .results tbody th')].map((head) => head.innerText.trim().split('\n')[0]));
seen.table = await table();
await page.locator('.model:not([hidden]) .sort[data-column="0"]').click();
seen.sorted = await table();
const direction = () => page.evaluate(() => {
  const heads = [...document.querySelectorAll('.model:not([hidden]) .results thead th')];
  return heads.map((head) => [head.getAttribute('aria-sort'), getComputedStyle(head.querySelector('.sort'), '::before').content.slice(0, 3)]);
});
seen.directions = [await direction()];
await page.locator('.model:not([hidden]) .sort[data-column="0"]').click();
seen.reversed = await table();
seen.directions.push(await direction());
await page.locator('.model:not([hidden]) .sort[data-column="-1"]').click();
seen.directions.push(await direction());

// Keyboard
await page.locator('.card').first().focus();
await page.keyboard.press('ArrowRight');
await page.keyboard.press('ArrowRight');
await page.keyboard.press('ArrowRight');
seen.focused = await page.evaluate(() => ({ key: document.activeElement.dataset.key, outline: getComputedStyle(document.activeElement).outlineStyle }));
await page.keyboard.press('Enter');
await page.waitForSelector('dialog[open]');
seen.page = await dialog(page);
await page.keyboard.press('ArrowRight');
await page.waitForFunction((before) => location.hash !== before, seen.page.hash);
seen.nextPage = await dialog(page);
await page.keyboard.press('ArrowLeft');
await page.keyboard.press('Escape');
await page.waitForSelector('dialog', { state: 'hidden' });
await page.waitForFunction(() => !location.hash); // the dialog's close event comes after it is hidden
seen.closed = await page.evaluate(() => ({ key: document.activeElement.dataset.key, hash: location.hash }));

// The other model, light and dark
await page.locator('[role=radio]').nth(1).click();
seen.second = await page.evaluate(() => [...document.querySelectorAll('.model')].filter((part) => part.offsetHeight > 0).map((part) => part.dataset.model));
const ground = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
seen.light = await ground();
await page.locator('#theme').click();
seen.dark = await ground();
seen.nameless = await page.evaluate(() => [...document.querySelectorAll('button, input, select, a[href], [role=img], [role=region]')]
  .filter((one) => !(one.ariaLabel || one.textContent.trim() || one.labels?.length)).map((one) => one.outerHTML));
await context.close();

// An address opens a page: of a hostile name, of the second model, and of none
for (const [name, hash] of [['second.png', '#picture=2.png'], ['addressed', `#${new URLSearchParams({ picture: config.hostile, model: 1 })}`], ['absent', '#picture=nowhere.png']]) {
  const { context: other, page: opened } = await open({ colorScheme: 'dark' }, hash);
  await opened.waitForSelector('dialog[open]');
  seen[name] = { ...(await dialog(opened)), ground: await opened.evaluate(() => getComputedStyle(document.body).backgroundColor), hostile: await opened.evaluate(() => window.hostile ?? null) };
  await other.close();
}
{
  const { context: other, page: bare } = await open({}, '#picture=2.png', `file://${config.bare}`);
  await bare.waitForSelector('dialog[open]');
  seen.bareControls = await controls(bare);
  seen.barePage = await dialog(bare);
  await bare.keyboard.press('Escape');
  await choose(bare, 'show', 'with an error');
  seen.bareErrors = await keys(bare);
  await other.close();
}
seen.widths = {};
for (const width of [320, 390, 768, 1400]) {
  const { context: other, page: narrow } = await open({ viewport: { width, height: 844 }, isMobile: width < 800, hasTouch: width < 800 });
  const home = await narrow.evaluate(() => document.documentElement.scrollWidth);
  await narrow.locator('.card').nth(3).click();
  await narrow.waitForSelector('dialog[open]');
  seen.widths[width] = [home, await narrow.evaluate(() => document.getElementById('page').scrollWidth)];
  await other.close();
}
await browser.close();
console.log(JSON.stringify(seen));

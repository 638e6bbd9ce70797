/**
 * Measures the page in headless Chromium, a visit a round, and prints milliseconds as JSON lines.
 *
 *     node time.mjs http://localhost:8000/ [rounds]      CHROMIUM names the browser, if it is not /usr/bin/chromium
 *
 * loaded: from the visit to the first picture's Grad-CAM. gradCam, preview: from a further picture's pixels to its Grad-CAM, and to
 * its first Score-CAM map.
 */
import { chromium } from 'playwright-core';

const [url, rounds = '3'] = process.argv.slice(2);
const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', args: ['--no-sandbox', '--disable-gpu'] });
for (let round = 0; round < Number(rounds); round++) {
  const context = await browser.newContext(), page = await context.newPage();
  const sharpened = () => page.waitForFunction(() => window.onnxcamPage?.state.sharper, null, { timeout: 120_000 });
  await page.goto(url);
  await sharpened();
  await page.evaluate(() => (window.onnxcamPage.state.sharper = null));
  await page.locator('.thumb').nth(1).click();
  await page.waitForFunction(() => !window.onnxcamPage.state.seen);
  await sharpened();
  console.log(JSON.stringify(await page.evaluate(() => window.onnxcamPage.timings)));
  await context.close();
}
await browser.close();

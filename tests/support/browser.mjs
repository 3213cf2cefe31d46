// Drives a browser: reads one JSON object a line, answers each with one. browser.rs speaks to it.
//
//   node browser.mjs DIR PROGRAM    DIR holds playwright-core
import { createRequire } from "node:module";
import { createInterface } from "node:readline";

const [dir, executablePath] = process.argv.slice(2);
const { chromium } = createRequire(`${dir}/`)("playwright-core");
const browser = await chromium.launch({
  executablePath,
  args: [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
  ],
});

let page;
let told;

const calls = {
  // Opens a page in a fresh profile; keeps what it says and asks for from the first request on.
  async open({ url, javascript = true, width = 1280, height = 800, dark = false, password }) {
    await page?.context().close();
    const context = await browser.newContext({
      javaScriptEnabled: javascript,
      viewport: { width, height },
      colorScheme: dark ? "dark" : "light",
      ...(password && { httpCredentials: { username: "viewer", password } }),
    });
    page = await context.newPage();
    told = { console: [], requests: [] };
    page.on("console", (message) => told.console.push(`${message.type()}: ${message.text()}`));
    page.on("pageerror", (error) => told.console.push(`error: ${error.message}`));
    page.on("request", (request) => told.requests.push(request.url()));
    const answer = await page.goto(url, { waitUntil: "load" });
    return answer.status();
  },
  text: ({ selector }) => page.locator(selector).allInnerTexts(),
  count: ({ selector }) => page.locator(selector).count(),
  visible: ({ selector }) => page.locator(selector).isVisible(),
  evaluate: ({ script }) => page.evaluate(script),
  // Waits until something that the selector finds says this.
  async wait({ selector, text, seconds = 20 }) {
    await page.locator(selector).filter({ hasText: text }).first().waitFor({ timeout: seconds * 1000 });
    return true;
  },
  async shot({ file }) {
    await page.screenshot({ path: file, fullPage: true });
    return true;
  },
  told: () => told,
};

for await (const line of createInterface({ input: process.stdin })) {
  const { call, ...options } = JSON.parse(line);
  let answer;
  try {
    answer = { value: await calls[call](options) };
  } catch (error) {
    answer = { error: error.message };
  }
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}
await browser.close();

"""How the page looks, and the few lines of script it has: style sheet and script, as text.

Not needed to read it: without the script nothing sorts, without the style it is plain.
"""

STYLE = """
:root { color-scheme: light dark; --paper: #fff; --ink: #1b1f24; --soft: #555c66; --line: #c9ced6; --band: #f2f4f7;
  --link: #0a58a5; --good: #11663c; --bad: #a3211b; --heat: #e0662b; --series-1: #0b62a8; --series-2: #b3470b;
  --series-3: #14754f; --series-4: #8a3f8f; --series-5: #7a6200; --series-6: #4d5560; --series-7: #a82a5b; --series-8: #00707a }
@media (prefers-color-scheme: dark) { :root { --paper: #14171b; --ink: #e6e9ed; --soft: #a6aeb9; --line: #434b56;
  --band: #1e2329; --link: #7cb8f5; --good: #63d19a; --bad: #ff8f86; --heat: #c8501c; --series-1: #6db3f2;
  --series-2: #ff9a5c; --series-3: #5fd3a3; --series-4: #d59be0; --series-5: #e0c04a; --series-6: #b6bec9;
  --series-7: #f78fb3; --series-8: #5ccfd8 } }
* { box-sizing: border-box }
html { -webkit-text-size-adjust: 100% }
body { margin: 0; background: var(--paper); color: var(--ink); font: 1rem/1.5 system-ui, -apple-system, "Segoe UI",
  Roboto, "DejaVu Sans", sans-serif }
header, nav, main, footer { max-width: 58rem; margin: 0 auto; padding: 0 1rem }
h1 { font-size: 1.5rem; line-height: 1.25; margin: 1.5rem 0 .75rem; overflow-wrap: anywhere }
h2 { font-size: 1.2rem; margin: 2.5rem 0 .75rem; padding-top: .75rem; border-top: 1px solid var(--line) }
a { color: var(--link) }
.skip { position: absolute; left: -99rem } .skip:focus { left: 1rem; top: .5rem; background: var(--paper); padding: .5rem }
.verdict { margin: 0 0 1rem; padding: .75rem 1rem; border-left: .4rem solid var(--soft); background: var(--band);
  font-size: 1.1rem; overflow-wrap: anywhere }
.verdict strong { text-transform: uppercase; letter-spacing: .03em }
.pass { border-color: var(--good) } .pass strong { color: var(--good) }
.refused, .broken { border-color: var(--bad) } .refused strong, .broken strong { color: var(--bad) }
ul { padding-left: 1.2rem } li, p { overflow-wrap: anywhere }
.facts { list-style: none; padding: 0; color: var(--soft) }
nav ul { columns: 12rem; padding: 0; list-style: none }
figure { margin: 1rem 0 }
figure svg { display: block; width: 100%; height: auto }
figcaption { color: var(--soft); font-size: .9rem; max-width: 44rem; margin-top: .25rem }
.scroll { overflow-x: auto; margin: 1rem 0 }
.scroll:focus-visible, button:focus-visible, summary:focus-visible, a:focus-visible { outline: 2px solid var(--link);
  outline-offset: 1px }
table { border-collapse: collapse; font-size: .875rem; font-variant-numeric: tabular-nums }
caption { text-align: left; font-weight: 600; padding: .25rem 0 }
@media (min-width: 40rem) { caption { white-space: nowrap } }
th, td { padding: .3rem .6rem; border-bottom: 1px solid var(--line); text-align: right; vertical-align: top }
td { white-space: nowrap }
th:first-child, td:first-child { text-align: left; padding-left: 0 }
thead th { vertical-align: bottom; background: var(--band) } thead th:first-child { padding-left: .4rem }
tbody th { font-weight: 500; min-width: 7rem; overflow-wrap: break-word }
.interval { display: block; color: var(--soft); font-size: .8rem; white-space: nowrap }
th button { font: inherit; color: inherit; background: none; border: 0; padding: 0; margin: 0; cursor: pointer;
  text-align: inherit }
th button::after { content: "\\2195"; color: var(--soft); padding-left: .25em }
th[aria-sort=ascending] button::after { content: "\\2191" } th[aria-sort=descending] button::after { content: "\\2193" }
summary { cursor: pointer; color: var(--link); font-size: .9rem }
pre { overflow-x: auto; white-space: pre-wrap; overflow-wrap: anywhere; background: var(--band);
  padding: .75rem 1rem; font-size: .85rem }
footer { color: var(--soft); font-size: .9rem; margin-top: 3rem; padding-bottom: 2rem }
@media print { :root { color-scheme: light; --paper: #fff; --ink: #000; --soft: #333; --line: #aaa; --band: #f2f2f2;
  --link: #000; --good: #0b5a33; --bad: #8d1712; --heat: #e0662b; --series-1: #0b62a8; --series-2: #b3470b;
  --series-3: #14754f; --series-4: #8a3f8f; --series-5: #7a6200; --series-6: #4d5560; --series-7: #a82a5b;
  --series-8: #00707a }
  body { font-size: 10pt; print-color-adjust: exact } nav, .skip, summary, th button::after { display: none }
  header, main, footer { max-width: none; padding: 0 } table { font-size: 7.5pt } th, td { padding: .15rem .3rem }
  tbody th { min-width: 0 } .interval { display: inline; font-size: 6.5pt }
  th button { display: contents } .scroll { overflow: visible }
  figure svg { width: 11cm } figure, tr, .verdict { break-inside: avoid } h2, h2 + p, caption { break-after: avoid }
  thead { display: table-header-group } }
"""

# A head's button sorts its column: by the first number of a cell, else by its text; once more turns it round.
SCRIPT = """
"use strict";
for (const table of document.querySelectorAll("table")) {
  const body = table.tBodies[0], heads = [...table.tHead.rows[0].cells];
  if (body.rows.length < 2) continue;
  const key = (row, column) => {
    const cell = row.cells[column], text = (cell.querySelector("[data-value]") || cell).textContent.trim();
    const number = parseFloat(text.replace(/,/g, ""));
    return [Number.isNaN(number) ? null : number, text];
  };
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending", sign = down ? -1 : 1;
      heads.forEach((each) => each.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const rows = [...body.rows].map((row) => [key(row, column), row]);
      const words = rows.some(([[number, text]]) => number === null && text !== "-");
      rows.sort(([[a, s]], [[b, t]]) => words ? sign * s.localeCompare(t, "en", {numeric: true})
        : a === null || b === null ? (a === null) - (b === null) : sign * (a - b));
      body.append(...rows.map(([, row]) => row));
    });
  });
}
const opened = [];
addEventListener("beforeprint", () => {
  for (const each of document.querySelectorAll("details:not([open])")) { each.open = true; opened.push(each); }
});
addEventListener("afterprint", () => { for (const each of opened.splice(0)) each.open = false; });
"""

/* What the page does beyond its style sheet: tables that sort, a theme to choose, and for each token of the prompt what every branch did with
 * it. Text of the trace is never made into markup here: it stays in the page's own nodes, and what is added is numbers and words. */
"use strict";
(function () {
  const root = document.documentElement;
  root.classList.add("scripts");

  /* ---- theme ---- */
  const themes = ["automatic", "light", "dark"];
  const media = { automatic: "screen and (prefers-color-scheme: dark)", light: "not all", dark: "screen" };
  const dark = document.getElementById("dark");
  const button = document.getElementById("theme");
  let theme = "automatic";
  try {
    theme = themes.includes(localStorage.getItem("kvreport-theme")) ? localStorage.getItem("kvreport-theme") : theme;
  } catch (e) { /* a page from a file may have no storage */ }
  function setTheme(name) {
    theme = name;
    dark.media = media[name];
    root.style.colorScheme = name === "automatic" ? "" : name;
    button.textContent = "Theme: " + name;
    try {
      localStorage.setItem("kvreport-theme", name);
    } catch (e) { /* as above */ }
  }
  button.hidden = false;
  button.addEventListener("click", () => setTheme(themes[(themes.indexOf(theme) + 1) % themes.length]));
  setTheme(theme);

  /* ---- tables ---- */
  function valueOf(cell) {
    const text = cell.textContent.trim();
    const number = Number(cell.dataset.v || text.replace(/(%| tokens)$/, ""));
    return text === "-" || text === "" ? null : Number.isNaN(number) ? text : number;
  }
  function compare(a, b) { /* what is missing comes last, whichever way */
    if (typeof a === "number" && typeof b === "number") return a - b;
    return String(a).localeCompare(String(b), "en", { numeric: true });
  }
  function sortBy(table, head, column) {
    const down = head.getAttribute("aria-sort") ? head.getAttribute("aria-sort") === "ascending" : head.classList.contains("n");
    for (const other of head.parentNode.cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const body = table.tBodies[0];
    const rows = Array.from(body.rows, (row) => ({ row, value: valueOf(row.cells[column]) }));
    rows.sort((a, b) => a.value === null || b.value === null ? (a.value === null) - (b.value === null) : (down ? -1 : 1) * compare(a.value, b.value));
    body.append(...rows.map((r) => r.row));
  }
  for (const table of document.querySelectorAll("main table:not(.choice)")) {
    if (!table.tHead) continue;
    Array.from(table.tHead.rows[0].cells).forEach((head, column) => {
      const sort = document.createElement("button");
      sort.type = "button";
      sort.append(...head.childNodes);
      head.append(sort);
      sort.addEventListener("click", () => sortBy(table, head, column));
    });
  }

  /* ---- the numbers of the tokens ---- */
  async function readNumbers() {
    const packed = Uint8Array.from(atob(document.getElementById("numbers").textContent), (c) => c.charCodeAt(0));
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
    const bytes = new Uint8Array(await new Response(stream).arrayBuffer());
    let at = 0;
    const number = () => { /* LEB128 */
      let v = 0, scale = 1;
      for (;;) {
        const b = bytes[at++];
        v += (b & 127) * scale;
        if (b < 128) return v;
        scale *= 128;
      }
    };
    const signed = () => {
      const v = number();
      return v % 2 ? -(v + 1) / 2 : v / 2;
    };
    const many = (n, next) => Array.from({ length: n }, next);
    const d = { tokens: number(), context: number(), layers: number(), heads: number() };
    const branches = number(), views = number();
    d.mass = number() === 1;
    d.view = many(views, () => ({ one: signed(), col: signed() }));
    d.branch = many(branches, () => ({
      row: number(), col: number(), cells: many(d.context, number), layers: many(d.context, number), guarded: many(d.context, number),
      last: many(d.context, number), from: many(d.context, signed), to: many(d.context, signed)
    }));
    d.token = many(d.tokens, () => ({ id: signed(), mass: number() / 1e4, rank: number() }));
    return d;
  }

  function ready(d) {
    const STEPS = 8;
    const all = d.layers * d.heads;
    const box = document.getElementById("tokens");
    const token = Array.from(box.getElementsByTagName("i"));
    const place = new Map(token.map((el, i) => [el, i]));
    const panel = document.getElementById("token");
    const choice = document.querySelector(".choice");
    const label = d.view.map((v, i) => document.getElementById("v" + i).nextElementSibling);
    const caption = choice.caption.textContent;
    const words = label.map((el) => el.textContent);
    const methods = Array.from(choice.tBodies[0].rows, (row) => row.cells[0].textContent);
    const offset = methods[0] === "methods that keep it" ? 1 : 0;
    const budgets = Array.from(choice.tHead.rows[0].cells, (cell) => cell.textContent).slice(1);
    const size = (col) => d.branch.filter((b) => b.col === col).length;
    const keepers = (col, t) => d.branch.filter((b) => b.col === col && 2 * b.cells[t] > all).length;
    const step = (share) => share > 0 ? Math.min(Math.max(Math.ceil(share * STEPS - 1e-9), 1), STEPS) : 0;
    const moment = (m) => m > 0 ? "step " + m : m < -1 ? "chunk " + (-2 - m) : "prefill\u2019s end";
    const sections = new Map();
    let heading = "";
    for (const el of box.children) {
      if (el.tagName === "H3") heading = el.firstChild.textContent.trim();
      else sections.set(el, heading);
    }
    let shown = -1, pinned = false;

    function shareOf(v, t) {
      if (v.one < 0 && v.col < 0) return 1 - d.token[t].rank / d.tokens;
      if (t >= d.context) return 0;
      return v.one >= 0 ? d.branch[v.one].cells[t] / all : keepers(v.col, t) / size(v.col);
    }
    function say(t) {
      const lines = [];
      const info = d.token[t];
      lines.push("token " + t + ", id " + info.id + (sections.get(token[t].parentNode) ? ", " + sections.get(token[t].parentNode) : ""));
      if (d.mass) lines.push("attention " + info.mass.toFixed(3) + " rows, rank " + (info.rank + 1) + " of " + d.tokens);
      if (t >= d.context) {
        lines.push("Not of the context: fed again after eviction.");
        return lines.join("\n");
      }
      const checked = choice.querySelector("input:checked");
      const view = checked ? d.view[Number(checked.id.slice(1))] : { one: -1, col: -1 };
      for (const b of d.branch) {
        if (view.one >= 0 ? b !== d.branch[view.one] : b.col !== (view.col >= 0 ? view.col : b.col)) continue;
        if (view.one < 0 && view.col < 0) break;
        let line = methods[b.row + offset] + " " + budgets[b.col] + ": " + b.cells[t] + " of " + all + " cells, " + b.layers[t] + " of " + d.layers + " layers";
        if (b.guarded[t]) line += ", by rule in " + b.guarded[t];
        if (b.last[t] !== b.cells[t]) line += "; at the end " + b.last[t] + " cells";
        if (b.cells[t] < all || b.last[t] < all) line += "; left " + (b.from[t] === b.to[t] ? "at " + moment(b.from[t]) : moment(b.from[t]) + " to " + moment(b.to[t]));
        lines.push(line);
      }
      return lines.join("\n");
    }
    function show(t) {
      if (shown >= 0) token[shown].classList.remove("now");
      shown = t;
      if (t >= 0) token[t].classList.add("now");
      panel.textContent = t < 0 ? "" : say(t);
      d.view.forEach((v, i) => {
        const el = label[i];
        el.className = t < 0 ? "" : "s" + step(shareOf(v, t));
        if (t < 0) el.textContent = words[i];
        else if (v.one < 0 && v.col < 0) el.textContent = "rank " + (d.token[t].rank + 1);
        else if (t >= d.context) el.textContent = "-";
        else if (v.one < 0) el.textContent = keepers(v.col, t) + " of " + size(v.col);
        else {
          const b = d.branch[v.one];
          el.textContent = b.cells[t] + (b.last[t] !== b.cells[t] ? "\u2192" + b.last[t] : "");
        }
      });
      choice.caption.textContent = t < 0 ? caption : "Colour by; here: cells of " + all + " that hold token " + t;
    }

    /* Tab stops at one token; arrows go on from there, up and down by lines. */
    let stop = 0;
    token.forEach((el, i) => { el.tabIndex = i ? -1 : 0; });
    function go(t) {
      if (t < 0 || t >= token.length) return;
      token[stop].tabIndex = -1;
      stop = t;
      token[t].tabIndex = 0;
      token[t].focus();
    }
    function line(t, way) {
      const here = token[t].getClientRects()[0];
      let best = t, far = Infinity, row = null;
      for (let i = t + way; i >= 0 && i < token.length; i += way) {
        const box2 = token[i].getClientRects()[0];
        if (!box2 || !here || Math.abs(box2.top - here.top) < 4) continue;
        if (row === null) row = box2.top;
        if (Math.abs(box2.top - row) >= 4) break;
        if (Math.abs(box2.left - here.left) < far) {
          far = Math.abs(box2.left - here.left);
          best = i;
        }
      }
      return best;
    }
    box.addEventListener("keydown", (e) => {
      const t = place.get(e.target);
      if (t === undefined || e.ctrlKey || e.altKey || e.metaKey) return;
      const to = { ArrowRight: t + 1, ArrowLeft: t - 1, Home: 0, End: token.length - 1 }[e.key];
      if (e.key === "Escape") pinned = false;
      else if (to !== undefined) go(to);
      else if (e.key === "ArrowDown" || e.key === "ArrowUp") go(line(t, e.key === "ArrowDown" ? 1 : -1));
      else return;
      e.preventDefault();
    });
    box.addEventListener("focusin", (e) => {
      if (place.has(e.target)) show(place.get(e.target));
    });
    box.addEventListener("pointerover", (e) => {
      if (!pinned && place.has(e.target)) show(place.get(e.target));
    });
    box.addEventListener("pointerleave", () => {
      if (!pinned && !box.contains(document.activeElement)) show(-1);
    });
    box.addEventListener("click", (e) => { /* stays until another click on it, so that the panel can be read */
      const t = place.get(e.target);
      if (t === undefined) return;
      pinned = !(pinned && shown === t);
      go(t);
      show(t);
    });

    /* Views that the page has no classes for are coloured here. */
    function recolour() {
      const checked = choice.querySelector("input:checked");
      const late = checked && checked.parentNode.classList.contains("late");
      box.classList.toggle("recoloured", Boolean(late));
      if (late) {
        const v = d.view[Number(checked.id.slice(1))];
        token.forEach((el, t) => { el.dataset.s = step(shareOf(v, t)); });
      }
      if (shown >= 0) show(shown);
    }
    choice.addEventListener("change", recolour);
    recolour();
    root.classList.add("numbers");
  }

  if (document.getElementById("numbers")) readNumbers().then(ready, () => root.classList.remove("scripts")); /* a browser without DecompressionStream: the page as it is */
})();

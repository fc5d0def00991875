# kvreport's page in a browser: under its own policy its script runs and nothing complains, also where the trace is hostile; tokens, tables and
# theme answer the keyboard. Would catch: a policy that shuts out the page's own parts, a script that fails on a trace that holds less, a
# prompt that isn't wholly reachable.
. "$here/try"
for browser in chromium chromium-browser google-chrome; do
    command -v $browser >/dev/null && break
    browser=
done
[ -n "$browser" ] || skip "no chromium; the page's script was not run"
browse() { HOME=$PWD timeout 60 $browser --headless --no-sandbox --disable-gpu --enable-logging=stderr --virtual-time-budget=4000 --dump-dom "file://$PWD/$1" 2>said; }
complaints() { grep -i 'console' said | sed 's/^[^"]*//'; }

kvreport "$trace" -o page.html --no-pictures

# the policy gone, and at the end a script that does what a reader does
sed 's/<meta http-equiv="Content-Security-Policy"[^>]*>//; s/<\/body>//; s/<\/html>//' page.html >test.html
cat >>test.html <<'S'
<pre id="found"></pre><script>
const found = [];
const say = (...words) => found.push(words.join(" "));
const press = (key) => document.activeElement.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true, cancelable: true }));
window.onerror = (what) => say("error: " + what);
(async function () {
  for (let i = 0; i < 100 && !document.documentElement.classList.contains("numbers"); i++) await new Promise((go) => setTimeout(go, 20));
  const token = Array.from(document.querySelectorAll("#tokens i")), panel = document.getElementById("token");
  say(token.filter((t) => t.tabIndex === 0).length, "stop for the Tab key among", token.length, "tokens");
  token[0].focus();
  say(panel.textContent.split("\n")[0]);
  say(panel.textContent.split("\n").filter((line) => /^snapkv/.test(line)).join());
  press("ArrowRight"); press("ArrowRight"); press("ArrowLeft");
  say("token", token.indexOf(document.activeElement), "has the focus");
  press("ArrowDown");
  const down = token.indexOf(document.activeElement);
  say("a line down:", token[down].getClientRects()[0].top > token[1].getClientRects()[0].top + 4);
  press("ArrowUp");
  say("a line up: token", token.indexOf(document.activeElement));
  press("End");
  say(panel.textContent.split("\n").pop());
  const ground = () => token.map((t) => getComputedStyle(t).backgroundColor).join();
  const seen = new Set(), radio = Array.from(document.querySelectorAll(".choice input"));
  for (const r of radio) { r.click(); seen.add(ground()); }
  say(seen.size > 10 ? "the choices colour the prompt" : seen.size + " colourings of " + radio.length);
  /* words of a token and numbers for the script say the same */
  let same = 0, all = 0;
  radio.forEach((r, v) => { if (/^snapkv/.test(r.closest("tr").cells[0].textContent)) r.click(); });
  for (const t of token) {
    const said = t.dataset.t.match(/snapkv[^\n]* 50%: (\d+)(?: cells)? in (\d+)/);
    if (!said) continue;
    t.focus();
    const line = panel.textContent.match(/snapkv[^\n]* 50%: (\d+) of \d+ cells, (\d+) of/);
    all++;
    same += Boolean(line) && line[1] === said[1] && line[2] === said[2];
  }
  say(same === all && all > 0 ? "words and numbers agree" : same + " of " + all + " tokens agree");
  const table = document.querySelector("#methods table"), head = Array.from(table.tHead.rows[0].cells).findIndex((c) => c.title.startsWith("kv_bytes_mean"));
  const values = () => Array.from(table.tBodies[0].rows, (r) => Number(r.cells[head].dataset.v)).filter((v) => !Number.isNaN(v));
  const button = table.tHead.rows[0].cells[head].firstChild;
  button.click();
  say("falling:", values().every((v, i, a) => !i || a[i - 1] >= v), table.tHead.rows[0].cells[head].getAttribute("aria-sort"));
  button.click();
  say("rising:", values().every((v, i, a) => !i || a[i - 1] <= v), table.tHead.rows[0].cells[head].getAttribute("aria-sort"));
  say(Array.from(document.querySelectorAll("main table:not(.choice) thead th")).filter((h) => h.firstChild.tagName !== "BUTTON").length, "heads without a button");
  const theme = document.getElementById("theme"), page = () => getComputedStyle(document.body).backgroundColor;
  for (let i = 0; i < 3; i++) { theme.click(); say(theme.textContent, page()); }
  const reach = Array.from(document.querySelectorAll("a[href], button, input, summary")).filter((e) => e.tabIndex < 0 || !(e.textContent.trim() || e.closest("label")));
  say(reach.length, "controls without a name or out of the keyboard's reach");
  document.getElementById("found").textContent = found.join("\n");
})();
</script></body></html>
S
browse test.html | sed -n '/<pre id="found">/,/<\/pre>/p' | sed 's/<[^>]*>//g'
complaints

printf '</script><script>document.title="broken"</script><img src=x onerror="document.title=1"> \001 \342\200\256evil\n' >evil.txt
kvtrace -q -m "$model" -f evil.txt --method h2o --keep 50% --maps none --see none -n 2 -o evil.h5 >/dev/null
kvreport evil.h5 -o evil.html --no-pictures
browse evil.html >dom.html
complaints
grep -o '<html[^>]*>' dom.html
grep -o '<title>.*' dom.html

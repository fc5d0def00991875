# kvreport: one page that needs nothing else and in which whatever a trace holds is text. Would catch: markup of a prompt, a model's name, a
# command line or a file's name that gets into the page; an address that a reader's browser would fetch; a policy whose hashes aren't those of
# the page's own parts (then neither style nor script would act); unreadable colours; a section that a poor trace takes away.
. "$here/try"
source=$here/../..

# elements PAGE: which there are, with how many of each; attributes PAGE: which there are
elements() { grep -o '<[a-zA-Z!][a-zA-Z0-9]*' "$1" | sort | uniq -c | awk '{ printf "%s %s, ", $2, $1 } END { print "" }'; }
names() { grep -o '<[a-zA-Z!][a-zA-Z0-9]*' "$1" | sort -u | tr '\n' ' '; echo; }
attributes() { grep -o '<[a-zA-Z][^<>]*>' "$1" | sed 's/="[^"]*"//g' | tr ' ' '\n' | grep -v '^<' | tr -d '>' | sort -u | tr '\n' ' '; echo; }
# hash FILE: base64 of its SHA-256
hash() {
    # shellcheck disable=SC2059  # octal escapes
    printf "$(sha256sum <"$1" | awk '{ for (i = 1; i < 64; i += 2) printf "\\%03o", 16 * (index("0123456789abcdef", substr($1, i, 1)) - 1) + index("0123456789abcdef", substr($1, i + 1, 1)) - 1 }')" | base64
}
# body PAGE ELEMENT N: what stands inside the Nth <style or <script
body() { awk -v open="<$2" -v close_="</$2>" -v want="$3" 'BEGIN { RS = open } NR == want + 1 { s = substr($0, index($0, ">") + 1); printf "%s", substr(s, 1, index(s, close_) - 1) }' "$1"; }

kvreport "$trace" -o page.html --no-pictures
elements page.html | tr , '\n' | grep -E '<(section|h1|i|script|style|img|figure|input) '
attributes page.html
kvreport "$trace" -o again.html --no-pictures
cmp page.html again.html && echo "the same page again"
[ "$(wc -c <page.html)" -lt 5000000 ] && echo "below 5 MB"
grep -o 'https\?://[^ "<)]*' page.html | sort -u
policy=$(grep -o 'content="default-src[^"]*"' page.html)
echo "$policy" | sed 's/sha256-[^&]*/sha256-*/g'
for part in "style 1" "style 2" "script 2"; do
    # shellcheck disable=SC2086  # two words
    body page.html $part >part.txt
    echo "$policy" | grep -qF "$(hash part.txt)" && echo "the policy knows $part"
done

echo
echo "# hostile text"
evil='</script></style></title></pre>--><script>alert(1)</script><img src=x onerror=alert(1)>"'"'"'&lt;'
LC_ALL=C sed 's/tiny random model/<script>"'"'"'\&<b>-->/' "$model" >evil.gguf
printf '%s \001\033[31m QQZZ \342\200\256evil\342\201\246\363\240\201\201 \357\273\277 \303\251\360\237\230\200 ]]>\n\nlast' "$evil" >evil.txt
kvtrace -q -m evil.gguf -f evil.txt --system "$evil" --method 'snapkv[w=4],h2o' --keep 50% -n 3 -o "<b onclick='x'>&.h5" >/dev/null
LC_ALL=C sed 's/QQZZ/\xff\xfe\x9b\x80/' "<b onclick='x'>&.h5" >"bad<i>.h5"
kvreport "bad<i>.h5" -o evil.html --no-pictures
names page.html >plain
names evil.html | diff plain - && echo "the elements of every page"
attributes page.html >plain
attributes evil.html | diff plain - && echo "and their attributes"
grep -c '<script' evil.html
grep -o '<title>.*' evil.html
grep -o 'Trace: .*' evil.html
iconv -f UTF-8 -t UTF-8 evil.html | cmp - evil.html && echo "UTF-8"
tr -d '\n\t' <evil.html | LC_ALL=C tr -d ' -~\200-\377' | wc -c | tr -d ' '
printf '\342\200\256\n\342\201\246\n\357\273\277\n' >hidden
grep -cFf hidden evil.html
grep -o '\[U+[0-9A-F]*\]' evil.html | sort | uniq | tr '\n' ' '

echo
echo "# colours: each pair, its contrast below what WCAG 2 AA asks (4.5 for text, 3 for the mark of the focus)"
for theme in kvreport.css kvreport_dark.css; do
    awk -v theme=$theme '
        function part(h) { h = (16 * (index(d, substr(h, 1, 1)) - 1) + index(d, substr(h, 2, 1)) - 1) / 255; return h <= 0.03928 ? h / 12.92 : ((h + 0.055) / 1.055) ^ 2.4 }
        function light(c) { return 0.2126 * part(substr(c, 2, 2)) + 0.7152 * part(substr(c, 4, 2)) + 0.0722 * part(substr(c, 6, 2)) }
        function check(ink, ground, least,   a, b, r) {
            n++
            a = light(v[ink]); b = light(v[ground]); r = a > b ? (a + 0.05) / (b + 0.05) : (b + 0.05) / (a + 0.05)
            if (v[ink] == "" || v[ground] == "" || r < least) printf "%s: %s on %s: %.2f\n", theme, ink, ground, r
        }
        BEGIN { d = "0123456789abcdef" }
        { line = $0; while (match(line, /--[a-z0-9-]+: #[0-9a-f]+/)) { s = substr(line, RSTART, RLENGTH); split(s, p, ": "); if (!(p[1] in v)) v[p[1]] = p[2]; line = substr(line, RSTART + RLENGTH) } }
        END {
            for (i = 0; i <= 8; i++) check("--ink-" i, "--step-" i, 4.5)
            split("--page --soft --warn", ground, " ")
            for (g in ground) check("--text", ground[g], 4.5)
            check("--quiet", "--page", 4.5); check("--quiet", "--soft", 4.5); check("--link", "--page", 4.5); check("--own", "--page", 4.5); check("--mark-ink", "--mark", 4.5)
            check("--focus", "--page", 3)
            for (i = 2; i <= 8; i++) if ((light(v["--step-" i]) - light(v["--step-" (i - 1)])) * (light(v["--step-2"]) - light(v["--step-1"])) <= 0) print theme ": step " i " breaks the order of lightness"
            print theme ": " n " pairs"
        }' "$source/analyzers/$theme"
done

echo
echo "# traces that hold less"
words >prompt.txt
kvtrace -q -m "$model" -f prompt.txt -n 2 -o full.h5 >/dev/null
kvreport full.h5 -o full.html --no-pictures
kvtrace -q -m "$model" -f prompt.txt --method h2o --keep 50% --maps none --see none -n 2 --decode forced -o one.h5 >/dev/null
kvreport one.h5 -o one.html --no-pictures
kvtrace -q -m "$model" -f prompt.txt --method 'my[score=mass,prefill_chunk=16,protect=sink2]' --keep 50% -n 2 --no-full --decode free -o chunk.h5 >/dev/null
kvreport chunk.h5 -o chunk.html --no-pictures 2>&1
for page in full one chunk; do
    echo "$page: $(grep -c '^<section' $page.html) sections, $(grep -o '<i class' $page.html | wc -l) tokens"
    grep -o '<p class="\(note\|warning\)">[^<]*' $page.html | sed 's/<[^>]*>/  /'
done
grep -o 'left chunk [0-9]*[^;]*' chunk.html | sort -u | head -2
try "no output named" kvreport "$trace"
try "two traces" kvreport "$trace" "$trace" -o x.html
try "a budget that no branch has" kvreport "$trace" --keep 33% -o x.html --no-pictures
try "nowhere to write" kvreport "$trace" -o missing/x.html --no-pictures
ls x.html* missing 2>/dev/null
mkdir alone && cp "$(command -v kvreport)" alone && PATH=/nowhere alone/kvreport one.h5 -o alone.html
grep -o '<li>No picture.*kept.*' alone.html
exit 0

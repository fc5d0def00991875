# Timed runs of kvtrace that are remembered, for scripts that source this: killed and started again they go on where they were.
# Wants $bin, $model, $threads, $wrapper (a command that runs another alone on the machine, or nothing), $t (scratch) and $out, whose
# runs.tsv has a line for each run: key, round, prefill_s, decode_s, wall_s, peak_MB, file_bytes, load. Needs GNU time (Debian's package time).
tab=$(printf '\t')
state=$out/runs.tsv
mkdir -p "$out"
touch "$state"
command -v "${TIME:=/usr/bin/time}" >/dev/null || { echo "$0: no $TIME; install GNU time (Debian's package time)" >&2; exit 3; }

done_before() { awk -F'\t' -v k="$1" -v r="$2" '$1 == k && $2 == r { found = 1 } END { exit !found }' "$state"; }
note() { printf '%s\t' "$@" | sed "s/\$/$(cut -d' ' -f1 /proc/loadavg)/" >> "$state"; echo >> "$state"; }

# timed KEY ROUND OPTION...: one run; a trace goes to $t/run.h5. The process's own seconds, not those that $wrapper waits.
timed() {
    key=$1 round=$2
    shift 2
    done_before "$key" "$round" && return
    echo "$key, round $round" >&2
    rm -f "$t"/run*.h5*
    # shellcheck disable=SC2086  # a command and its arguments
    $wrapper "$TIME" -f '%e %M' -o "$t/time" "$bin/kvtrace" -t "$threads" -m "$model" --ignore-end --force --yes "$@" >/dev/null 2>"$t/err" ||
        { cat "$t/err" >&2; exit 1; }
    bytes=0
    [ ! -e "$t/run.h5" ] || bytes=$(wc -c < "$t/run.h5")
    sed -n 's/^prefill \([0-9.]*\) s.*decode \([0-9.]*\) s.*/\1 \2/p' "$t/err" > "$t/phases"
    # shellcheck disable=SC2046
    note "$key" "$round" $(cat "$t/phases") $(awk '{ print $1, $2 / 1024 }' "$t/time") "$bytes"
    rm -f "$t"/run*.h5*
}

median() { sort -g | awk '{ v[NR] = $1 } END { if (NR) print NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2 }'; }

# of KEY COLUMN: the median over its rounds; 3 prefill_s, 4 decode_s, 5 wall_s, 6 peak_MB, 7 file_bytes
of() { awk -F'\t' -v k="$1" -v c="$2" '$1 == k { print $c }' "$state" | median; }

# cut_to TOKENS FILE: so many tokens of the repository's pages
cut_to() { [ -s "$2" ] || "$bin/cutprompt" "$model" "$1" < "$t/text" > "$2"; }

machine() {
    printf '%s threads; %s; %s; load of the machine while it was measured %s\n' "$threads" "$(awk -F': ' '/^model name/ { print $2; exit }' /proc/cpuinfo)" \
        "$(date +%Y-%m-%d)" "$(awk -F'\t' 'NF > 2 { if (!n++ || $NF < lo) lo = $NF; if ($NF > hi) hi = $NF } END { print lo " to " hi }' "$state")"
}

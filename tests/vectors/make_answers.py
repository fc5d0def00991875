#!/usr/bin/env python3
"""What lm-evaluation-harness makes of outputs: answers.tsv, for tests/unit/test_compare.c.

usage: make_answers.py >answers.tsv      (pip install lm_eval; made with 0.4.13)

The filters and the metric are its own, with the settings of its gsm8k.yaml and bbh/cot_fewshot; the outputs are made up here.
Columns: task, rule, output (line ends as \\n), gold, answer after everything that the metric drops (empty: none), right."""
import re
import sys

import yaml
from lm_eval.api.metrics import exact_match_hf_evaluate
from lm_eval.filters.extraction import RegexFilter
import lm_eval

ROOT = lm_eval.__path__[0] + "/tasks/"

OUTPUTS = [
    (" She sells 16 - 3 - 4 = 9 eggs.\nShe makes 9 * 2 = $18.\n#### 18", "18"),
    (" 18", "18"), ("#### 18.", "18"), ("#### $18", "18"), ("#### 1,234.", "1234"), ("The answer is 1,234.", "1234"), ("The answer is $1,234.00.", "1234"),
    ("It costs $5", "5"), ("It costs $5.", "5"), ("costs $5 or $6", "5"), ("5 apples and 7 pears make 12", "12"), ("#### 12\n#### 13", "12"), ("12 then 13", "12"),
    ("#### -7", "-7"), ("The temperature is -7", "-7"), ("The temperature is -7.5 degrees", "-7.5"), ("7-3", "3"), ("", "5"), ("I can't answer that.", "5"),
    ("I'm sorry, but 5 is not", "5"), ("####18", "18"), ("#### eighteen", "18"), ("#### 18 dollars", "18"), ("### 18", "18"), ("So 18", "18"), ("18%", "18"), ("1/2", "2"),
    ("x = 4.", "4"), ("4..", "4"), ("4...", "4"), (".5", ".5"), ("0.5", "0.5"), ("$.", "5"), ("a.b", "5"), ("1.", "1"), ("1,", "1"), ("1, 2, 3", "3"), ("2024-11-25", "25"),
    ("#### 1,000,000", "1000000"), ("1 000 000", "1000000"), ("#### 3.14159", "3.14159"), ("three", "3"), ("\u0663", "3"), ("#### \u0661\u0662", "12"), ("a\n\n#### 6\n\nb 7", "6"),
    ("Step 1: 2+2=4\nStep 2: 4*3=12\nAnswer: 12", "12"), ("12Question", "12"), ("$$18$$", "18"), ("####   18", "18"), ("#### 0", "0"), ("#### 00", "0"), ("#### 18\u00a0", "18"),
    ("\u201318", "18"), ("1e5", "5"), ("#### ,", ""), ("#### .", ""),
]


def cleaned(text, drops):
    for d in drops:
        text = re.sub(d, "", text)
    return text.lower()


def main():
    conf = yaml.safe_load(open(ROOT + "gsm8k/gsm8k.yaml"))
    metric = next(m for m in conf["metric_list"] if m["metric"] == "exact_match")
    drops = metric["regexes_to_ignore"]
    print("# made by make_answers.py with lm_eval " + __import__("importlib.metadata").metadata.version("lm_eval"))
    for name in ("strict-match", "flexible-extract"):
        f = next(x for x in conf["filter_list"] if x["name"] == name)["filter"][0]
        flt = RegexFilter(regex_pattern=f["regex_pattern"], group_select=f.get("group_select", 0), fallback="[invalid]")
        got = [r[0] for r in flt.apply([[o] for o, _ in OUTPUTS], [{} for _ in OUTPUTS])]
        for (output, gold), answer in zip(OUTPUTS, got):
            right = exact_match_hf_evaluate([answer], ["#### " + gold], regexes_to_ignore=drops, ignore_case=True)["exact_match"]
            none = answer == "[invalid]"
            text = output.replace("\\", "\\\\").replace("\n", "\\n").replace("\t", "\\t")
            sys.stdout.write("\t".join(["gsm8k", "strict" if name == "strict-match" else "flexible", text, gold, "" if none else cleaned(answer, drops), str(int(right))]) + "\n")


if __name__ == "__main__":
    main()

"""Edge cases of BLEU with the scores of sacrebleu 2.6.0: punctuation, white space, uneven references, orders without a match.

Written to crates/data/tests/fixtures/bleu_edge.json.

    python -m venv .venv && .venv/bin/pip install sacrebleu==2.6.0
    .venv/bin/python scripts/oracle/bleu_edge.py
"""

import json
import random
from pathlib import Path

from sacrebleu.metrics import BLEU

OUT = Path(__file__).parents[2] / "crates/data/tests/fixtures/bleu_edge.json"
WORDS = "the a of , . cat dog 3 3.5 big-red U.K. runs \"so\" it's".split()
cases = []


def case(name, tokenize, hypotheses, references):
    bleu = BLEU(tokenize=tokenize).corpus_score(hypotheses, references)
    cases.append({
        "name": f"{name}, {tokenize}", "tokenize": tokenize, "hypotheses": hypotheses, "references": references,
        "score": bleu.score, "counts": [int(n) for n in bleu.counts], "totals": [int(n) for n in bleu.totals],
        "bp": bleu.bp, "sys_len": int(bleu.sys_len), "ref_len": int(bleu.ref_len),
    })


def edit(random_, text):
    """Drops a tenth of the words and draws three tenths anew."""
    kept = (word for word in text.split() if random_.random() < 0.9)
    return " ".join(word if random_.random() < 0.7 else random_.choice(WORDS) for word in kept) or "x"


for t in ("13a", "none"):
    case("same", t, ["The cat sat on the mat."], [["The cat sat on the mat."]])
    case(
        "punctuation", t,
        ["He said: \"1,000.5 dogs-cats, 3-4 & (a/b) don't.\" <skipped>x &quot;q&quot; &amp;amp; &lt;b&gt;",
         "U.S. 5. .5 a,b 1,2,c -5 5- x-y-", "~tilde {brace} [x] `y` $5 50% #1 a@b.c end."],
        [["He said : \" 1,000.5 dogs-cats , 3-4 & ( a / b ) don't . \" x \"q\" & <b>",
          "U.S . 5 . .5 a , b 1,2 , c -5 5 - x-y-", "~ tilde { brace } [ x ] ` y ` $ 5 50 % # 1 a @ b.c end ."]],
    )
    case("no bigram", t, ["a b c d e", "f g h i j"], [["a x c y e", "j z h q f"]])
    case("no match", t, ["a b c d"], [["w x y z"]])
    case("no 3-grams", t, ["a b"], [["a b c d"]])
    case("empty hypothesis", t, ["", "a b c d e"], [["x y", "a b c d e"]])
    case("uneven references", t, ["the cat is on the mat today", "a dog runs fast now"], [
        ["the cat sat on the mat today", "a dog ran fast now"], ["there is a cat on the mat", None],
        [None, "the dog runs very fast now indeed"]])
    case("two nearest lengths", t, ["a b c d e f"], [["a b c d e f g h"], ["a b c d"]])
    case(
        "white space", t,
        ["Der \u00c4pfel\u00a0f\u00e4llt \u2026 \u00abweit\u00bb\u2009vom\x1fStamm , 10\u20ac \u2014 ja\tnein",
         "a\nb-\nc d e  \n"],
        [["Der Apfel f\u00e4llt \u2026 \u00abweit\u00bb vom Stamm, 10 \u20ac \u2014 ja nein", "a b c d e"]],
    )
    r = random.Random(5)
    drawn = [" ".join(r.choice(WORDS) for _ in range(r.randint(1, 14))) for _ in range(40)]
    case("drawn", t, drawn, [[edit(r, text) for text in drawn],
                             [edit(r, text) if r.random() < 0.6 else None for text in drawn],
                             [edit(r, text) if r.random() < 0.4 else None for text in drawn]])

OUT.write_text(json.dumps(cases, indent=1) + "\n")

"""What sacrebleu gives for small corpora, written to crates/data/tests/fixtures/bleu.json.

    corpora   name, tokenize, segments [{hypothesis, references}], score, counts, totals, precisions, bp, sys_len, ref_len
    tokens    text, and its tokens by 13a joined with spaces

A reference that is null is absent; sacrebleu counts an empty string as a reference of no words. Smoothing is `exp`.
"""

import json
from pathlib import Path

from sacrebleu.metrics import BLEU
from sacrebleu.tokenizers.tokenizer_13a import Tokenizer13a

FIXTURE = Path(__file__).resolve().parents[2] / "crates/data/tests/fixtures/bleu.json"

CAT = "the cat sat on the mat and looked at the dog"
E2E = [
    (
        "The Vaults is a pub near Café Adriatic with a 5 star rating. Prices start at £30.",
        ["The Vaults pub near Café Adriatic has a 5 star rating. Prices start at £30.", None, None],
    ),
    (
        "Close to Café Brazil, The Cambridge Blue pub serves delicious Tuscan Beef for £10.50.",
        [
            "Close to Café Brazil, The Cambridge Blue pub serves delicious Tuscan Beef for the cheap price of £10.50. Yum!",
            "The Cambridge Blue is a pub near Café Brazil; it serves Tuscan Beef at £10.50.",
            None,
        ],
    ),
    (
        "The Blue Spice is a low-cost coffee shop - it isn't family-friendly.",
        [
            "The Blue Spice is a low cost coffee shop. It is not family friendly.",
            "A low-cost coffee shop, The Blue Spice, isn't family-friendly.",
            "Not family-friendly: The Blue Spice, a coffee shop.",
        ],
    ),
]

CORPORA = {
    "perfect match": [(CAT, [CAT])],
    "perfect match, several segments": [
        (CAT, [CAT]),
        ("a small red house stands there", ["a small red house stands there"]),
    ],
    "no match": [("one two three four five", ["six seven eight nine ten"])],
    "words match, no pair does": [("mat the on sat cat", ["the cat sat on a mat"])],
    "no four in a row": [("the cat sat down on the mat today", ["the cat sat up on the mat yesterday"])],
    "short hypothesis": [("the cat sat on the mat", [CAT])],
    "long hypothesis": [(CAT + " that slept in the sun all day", [CAT])],
    "clipped counts": [("the the the the the the the", ["the cat is on the mat", "there is a cat on the mat"])],
    "three words": [("the cat sat", ["the cat sat"])],
    "one word": [("yes", ["yes"]), ("no", ["yes"])],
    "empty hypothesis among others": [("", ["the cat sat on the mat"]), (CAT, [CAT])],
    "nothing but empty hypotheses": [("", ["the cat sat"]), ("", ["on the mat"])],
    "closest reference of several": [
        (
            "the cat sat on the mat",
            ["the cat sat", "a cat was sitting on the mat today", "on the mat sat the cat there"],
        ),
    ],
    "closest of two at equal distance": [
        ("the cat sat on the mat", ["the cat sat on mat", "the cat sat on the soft mat"])
    ],
    "a reference for every part": [("the cat sat on the mat", ["the cat sat quietly", "he lay on the mat"])],
    "absent references": E2E,
    "empty references": [(hypothesis, [text or "" for text in references]) for hypothesis, references in E2E],
    "an empty reference is the closest": [("yes", ["one two three four", ""]), (CAT, [CAT, ""])],
    "case": [("The Cat Sat On The Mat .", ["the cat sat on the mat ."])],
    "punctuation": [
        (
            '"Well," he said, "it\'s late (very late); isn\'t it?"',
            ['"Well", he said, "it is late (very late), is it not?"'],
        ),
        ("Stop! Who goes there...?", ["Stop! Who goes there?"]),
    ],
    "numbers": [
        (
            "It costs 3.5 or 1,000.25 dollars, 50% of $7, in 1999-2000.",
            ["It costs 3.5 or 1,000.26 dollars, 50 % of $7, in 1999 - 2000."],
        ),
        ("In the year 2000, rates fell .5 points.", ["In the year 2000 rates fell 0.5 points ."]),
    ],
    "hyphens": [
        (
            "a well-known state-of-the-art method from 5-10 people",
            ["a well known state-of-the-art method from 5 - 10 people"],
        ),
        ("The end-\nof the line", ["The endof the line"]),
    ],
    "unicode": [
        (
            "Das Mädchen aß die Brötchen – „sehr gut“ – für 5 €.",
            ["Das Mädchen aß ein Brötchen – „sehr gut“ – für 5 €."],
        ),
        ("日本 語 の 文 です 。", ["日本 語 の 文 だ 。"]),
        ("naïve cafe\u0301 costs", ["naïve café costs"]),
        ("no\u00a0break and\u2003wide spaces here", ["no break and wide spaces here"]),
    ],
    "entities": [
        ("Tom &amp; Jerry say &quot;a &lt; b&quot; &gt; c", ['Tom & Jerry say "a < b" > c']),
        ("AT&amp;amp;T and &nbsp; stay", ["AT&amp;T and &nbsp; stay"]),
    ],
    "skipped": [
        ("the cat <skipped> sat on the mat", ["the cat sat on the mat"]),
        ("<skipped>all of it", ["all of it"]),
    ],
    "spaces": [("  the   cat\tsat on  the mat  ", ["the cat sat on the mat"])],
    "trailing newline": [("the cat sat on the mat\n", ["the cat sat on\nthe mat"])],
    "many segments, uneven": [
        ("the cat sat", ["the cat sat on the mat"]),
        ("on the mat there was a cat and a dog", ["on the mat was a cat"]),
        ("nothing here", ["something else entirely"]),
        ("a dog barked at the cat", ["the dog barked at the cat"]),
    ],
}


def transposed(segments):
    """One list per reference, as sacrebleu takes them; rows are filled with None."""
    width = max(len(references) for _, references in segments)
    return [[references[i] if i < len(references) else None for _, references in segments] for i in range(width)]


def corpus(name, tokenize, segments):
    score = BLEU(tokenize=tokenize, smooth_method="exp").corpus_score(
        [text for text, _ in segments], transposed(segments)
    )
    return {
        "name": name,
        "tokenize": tokenize,
        "segments": [{"hypothesis": text, "references": references} for text, references in segments],
        "score": score.score,
        "counts": [int(count) for count in score.counts],
        "totals": [int(total) for total in score.totals],
        "precisions": score.precisions,
        "bp": score.bp,
        "sys_len": score.sys_len,
        "ref_len": score.ref_len,
    }


def rows(values):
    """A JSON list with a line per value."""
    return "[\n" + ",\n".join(json.dumps(value, ensure_ascii=False) for value in values) + "\n]"


def main():
    corpora = [corpus(name, tokenize, segments) for name, segments in CORPORA.items() for tokenize in ("13a", "none")]
    tokenizer = Tokenizer13a()
    texts = {text: None for segments in CORPORA.values() for pair in segments for text in (pair[0], *pair[1]) if text}
    tokens = [{"text": text, "tokens": tokenizer(text.rstrip())} for text in texts]
    FIXTURE.parent.mkdir(parents=True, exist_ok=True)
    text = f'{{"corpora": {rows(corpora)}, "tokens": {rows(tokens)}}}\n'
    FIXTURE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()

"""What generate of transformers gives for small tables of logits, written to crates/data/tests/fixtures/decode.json.

    vocabulary   tokens of every table
    cases        seed and scale of the table, end, max_new_tokens, num_beams, length_penalty, no_repeat_ngram_size, prompts,
                 outputs: the tokens after each prompt, without the end token and what pads them

The logits depend on the last two tokens; before the first token stands the id `vocabulary`. Every logit is exact in f32.
"""

import itertools
import json
from pathlib import Path

import torch
from transformers import GenerationMixin, PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutput
from transformers.utils import logging

FIXTURE = Path(__file__).resolve().parents[2] / "crates/data/tests/fixtures/decode.json"
VOCABULARY = 11
PAD = 0  # stands only behind an end token
PROMPTS = [[3], [1, 2], [4, 4, 4], [9, 8, 9, 8, 9], [5, 6, 7, 5, 6], [10, 0, 10, 2, 2, 7, 1]]
MARGIN = 1e-4  # least gap between the best two texts: far above what rounding moves


def draw(seed, older, last, token):
    """24 bits of splitmix64."""
    z = seed
    for value in (older, last, token):
        z = (z + value + 0x9E3779B97F4A7C15) % 2**64
        z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 % 2**64
        z = (z ^ z >> 27) * 0x94D049BB133111EB % 2**64
        z ^= z >> 31
    return z >> 40


class Table(PreTrainedModel, GenerationMixin):
    config_class = PretrainedConfig
    main_input_name = "input_ids"

    def __init__(self, config, seed, scale):
        super().__init__(config)
        self.anchor = torch.nn.Parameter(torch.zeros(1))  # tells generate the device
        ids = range(VOCABULARY + 1)
        rows = [
            [[draw(seed, older, last, token) for token in range(VOCABULARY)] for last in ids] for older in ids
        ]
        self.table = torch.tensor(rows, dtype=torch.float32) / 2**24 * scale

    def prepare_inputs_for_generation(self, input_ids, attention_mask=None, **_):
        return {"input_ids": input_ids, "attention_mask": attention_mask}

    def forward(self, input_ids, attention_mask=None, return_dict=True):
        older = torch.nn.functional.pad(input_ids, (1, 0), value=VOCABULARY)[:, :-1]
        return CausalLMOutput(logits=self.table[older, input_ids])


def search(model, prompt, options):
    """The text after the prompt and its lead over the next best."""
    beams = options["num_beams"]
    out = model.generate(
        torch.tensor([prompt]),
        attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
        do_sample=False,
        eos_token_id=options["end"],
        pad_token_id=PAD,
        use_cache=False,
        num_return_sequences=min(beams, 2),
        return_dict_in_generate=True,
        output_scores=True,
        **{key: value for key, value in options.items() if key != "end"},
    )
    text = out.sequences[0, len(prompt) :].tolist()
    lead = (out.sequences_scores[0] - out.sequences_scores[1]).item() if beams > 1 else 1.0
    return text[: text.index(options["end"])] if options["end"] in text else text, lead


def case(model, seed, scale, options):
    texts = [(prompt, *search(model, prompt, options)) for prompt in PROMPTS]
    kept = [(prompt, text) for prompt, text, lead in texts if lead > MARGIN]
    if options["num_beams"] == 1:
        options = options | {"length_penalty": 1.0}
    return {
        "seed": seed,
        "scale": scale,
        **options,
        "prompts": [prompt for prompt, _ in kept],
        "outputs": [text for _, text in kept],
    }


def main():
    logging.set_verbosity_error()
    beamed = itertools.product([2, 3, 5], [-1.0, 0.0, 0.8, 1.0, 2.0], [0, 2, 4])
    settings = [(1, None, ngram) for ngram in (0, 1, 2, 3)] + list(beamed)
    cases = []
    for seed, scale, end, length in ((1, 8, 6, 12), (2, 4, 3, 20), (3, 16, 9, 5), (4, 2, 6, 8), (5, 8, 0, 1)):
        model = Table(PretrainedConfig(vocab_size=VOCABULARY), seed, scale).eval()
        for beams, penalty, ngram in settings:
            options = {
                "end": end,
                "max_new_tokens": length,
                "num_beams": beams,
                "no_repeat_ngram_size": ngram,
            } | ({} if penalty is None else {"length_penalty": penalty})
            cases.append(case(model, seed, scale, options))
    rows = ",\n".join(json.dumps(each) for each in cases)
    FIXTURE.write_text(f'{{"vocabulary": {VOCABULARY}, "cases": [\n{rows}\n]}}\n')


if __name__ == "__main__":
    main()

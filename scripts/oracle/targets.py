"""What PEFT adapts, at which rank and scale, and what it trains beside, written to crates/models/tests/fixtures/targets.json.

    {<arch>: {"config": config.json, "cases": [
        {"lora": fields of LoraConfig, "maps": {<map>: [r, lora_alpha]}, "trained": [<parameter>, ..]} |
        {"lora": .., "refused": why} ]}}

Names are those of the backbone, without the prefix of a model with a head. `trained` has what trains beside factors and head.
"""

import copy
import json
import os
import warnings
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"

from peft import LoraConfig, TaskType, get_peft_model
from peft.tuners.lora import LoraLayer
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    RobertaConfig,
    RobertaForSequenceClassification,
)
from transformers.utils import logging

FIXTURE = Path(__file__).resolve().parents[2] / "crates/models/tests/fixtures/targets.json"
LAYERS = 3
ENCODER = {
    "vocab_size": 20,
    "hidden_size": 12,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "max_position_embeddings": 12,
}
LLAMA = {
    "vocab_size": 20,
    "hidden_size": 12,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "intermediate_size": 16,
    "max_position_embeddings": 12,
}
GPT2 = {"vocab_size": 20, "n_embd": 12, "n_layer": LAYERS, "n_head": 2, "n_positions": 12}
CLASSIFY, CAUSAL = TaskType.SEQ_CLS, TaskType.CAUSAL_LM

ENCODER_CASES = [
    {"target_modules": ["query", "value"]},
    {"target_modules": "all-linear"},
    {"target_modules": r".*attention\.self\.(query|key)"},
    {"target_modules": ["query", "dense"], "exclude_modules": ["attention.output.dense"]},
    {"target_modules": ["query", "value"], "exclude_modules": r".*layer\.1\..*"},
    {"target_modules": "all-linear", "exclude_modules": ["dense"]},
    {"target_modules": ["query", "dense"], "layers_to_transform": 1},
    {"target_modules": ["query", "value"], "layers_to_transform": [0, 2], "layers_pattern": "layer"},
    {"target_modules": ["query"], "layers_to_transform": [2], "layers_pattern": ["layer", "h"]},
    {"target_modules": ["query"], "layers_to_transform": [0], "layers_pattern": "encoder.layer"},
    {"target_modules": ["query"], "layers_to_transform": [0], "layers_pattern": "blocks"},
    {"target_modules": r".*query", "layers_to_transform": [0]},
    {"target_modules": "all-linear", "layers_to_transform": [0]},
    {"target_modules": ["query"], "layers_pattern": "layer"},
    {"target_modules": ["query", "value"], "exclude_modules": ["query", "value"]},
    {"target_modules": ["quary"]},
    {"target_modules": ["query", "value"], "rank_pattern": {"value": 2}, "alpha_pattern": {"query": 32}},
    {
        "target_modules": ["query", "value", "dense"],
        "rank_pattern": {r"layer\.1\..*": 2, "query": 3, "output.dense": 5},
        "alpha_pattern": {r".*\.0\.attention.*": 7, "attention.self.query|dense": 9},
    },
    {"target_modules": ["query", "word_embeddings"], "rank_pattern": {"word_embeddings": 2}},
    {"target_modules": ["query"], "bias": "all"},
    {"target_modules": ["query", "output.dense"], "bias": "lora_only"},
    {"target_modules": ["query"], "modules_to_save": ["LayerNorm"]},
    {"target_modules": ["query"], "modules_to_save": ["embeddings.word_embeddings", "attention.output"]},
]
CASES = {
    "bert": ENCODER_CASES
    + [
        {"target_modules": ["query"], "modules_to_save": ["pooler"]},
        {"target_modules": ["bert.encoder.layer.0.attention.self.query", "value"], "layers_to_transform": [1]},
        {"target_modules": ["query"], "rank_pattern": {r"^bert\.encoder\.layer\.0.*": 1}},
    ],
    "roberta": ENCODER_CASES,
    "gpt2": [
        {"target_modules": ["c_attn"]},
        {"target_modules": "all-linear"},
        {"target_modules": r".*(attn|mlp)\.c_proj"},
        {"target_modules": ["c_attn", "c_proj"], "exclude_modules": ["mlp.c_proj"]},
        {"target_modules": ["c_attn", "c_proj"], "layers_to_transform": [0, 2]},
        {"target_modules": ["c_attn"], "layers_to_transform": 1, "layers_pattern": "h"},
        {"target_modules": ["c_proj", "c_fc"], "rank_pattern": {"attn.c_proj": 2}, "alpha_pattern": {"c_proj": 4}},
        {"target_modules": ["c_attn"], "bias": "all"},
        {"target_modules": ["c_attn"], "bias": "lora_only"},
        {"target_modules": ["c_fc"], "modules_to_save": ["ln_f", "wpe"]},
        {"target_modules": ["c_fc"], "modules_to_save": ["attn"]},
        {"target_modules": ["c_fc"], "modules_to_save": ["h.1.attn.c_attn"]},
    ],
    "llama": [
        {"target_modules": ["q_proj", "v_proj"]},
        {"target_modules": "all-linear"},
        {"target_modules": "all-linear", "exclude_modules": r".*mlp.*"},
        {"target_modules": ["q_proj", "down_proj"], "layers_to_transform": [1, 2]},
        {"target_modules": ["q_proj"], "layers_to_transform": [1], "layers_pattern": "layers"},
        {"target_modules": ["q_proj", "k_proj"], "rank_pattern": {r"layers\.0\.self_attn\.k_proj": 1}},
        {"target_modules": ["q_proj", "embed_tokens"], "alpha_pattern": {"embed_tokens": 2}},
        {"target_modules": ["q_proj"], "modules_to_save": ["input_layernorm"]},
        {"target_modules": ["q_proj"], "modules_to_save": ["embed_tokens", "up_proj"]},
        {"target_modules": ["q_proj"], "bias": "all"},
    ],
}
MODELS = {
    # Model with a head, configuration, task, prefix of the backbone's names.
    "bert": (BertForSequenceClassification, BertConfig(**ENCODER), CLASSIFY, "bert."),
    "roberta": (RobertaForSequenceClassification, RobertaConfig(**ENCODER), CLASSIFY, "roberta."),
    "gpt2": (GPT2LMHeadModel, GPT2Config(**GPT2), CAUSAL, "transformer."),
    "llama": (LlamaForCausalLM, LlamaConfig(**LLAMA), CAUSAL, "model."),
}
HEADS = ("classifier.", "score.")


def plain(name, prefix):
    """A parameter's or module's name in the backbone, without what PEFT and the head's model put around it."""
    name = name.removeprefix("base_model.model.").replace(".modules_to_save.default", "").replace(".base_layer", "")
    return name.removeprefix(prefix)


def case(kind, config, task, prefix, lora):
    # PEFT adds the heads' names to the list it is given.
    fields = {"r": 4, "lora_alpha": 16, "task_type": task} | copy.deepcopy(lora)
    try:
        model = get_peft_model(kind(config), LoraConfig(**fields))
    except ValueError as error:
        return {"lora": lora, "refused": str(error)}
    maps = {
        plain(name, prefix): [module.r["default"], module.lora_alpha["default"]]
        for name, module in model.named_modules()
        if isinstance(module, LoraLayer)
    }
    trained = {
        plain(name, prefix)
        for name, parameter in model.named_parameters()
        if parameter.requires_grad and ".lora_" not in name
    }
    return {"lora": lora, "maps": maps, "trained": sorted(n for n in trained if not n.startswith(HEADS))}


if __name__ == "__main__":
    logging.set_verbosity_error()
    warnings.simplefilter("ignore")
    found = {
        arch: {"config": model[1].to_dict(), "cases": [case(*model, lora) for lora in CASES[arch]]}
        for arch, model in MODELS.items()
    }
    keep = {
        "model_type", "vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads",
        "intermediate_size", "max_position_embeddings", "type_vocab_size", "hidden_act", "hidden_dropout_prob",
        "attention_probs_dropout_prob", "pad_token_id", "layer_norm_eps", "rms_norm_eps", "rope_theta",
        "n_embd", "n_layer", "n_head", "n_positions", "tie_word_embeddings",
    }
    for arch in found.values():
        arch["config"] = {key: value for key, value in sorted(arch["config"].items()) if key in keep}
    # One case a line.
    lines = []
    for arch, value in found.items():
        cases = ",\n".join(json.dumps(one) for one in value["cases"])
        lines.append(f'{json.dumps(arch)}: {{"config": {json.dumps(value["config"])}, "cases": [\n{cases}\n]}}')
    FIXTURE.write_text("{\n" + ",\n".join(lines) + "\n}\n")

//! Keys of other programs, and what they are called here.

/// Fields of PEFT's configurations that are called otherwise here, or never asked.
const PEFT: [(&str, &str); 8] = [
    ("bias", "which biases train is a field of the variant: write `with: {bias: all}` in its entry"),
    (
        "fan_in_fan_out",
        "how a map is stored follows from the model (GPT-2 keeps its maps' inputs first), so it is never asked; leave it out",
    ),
    ("lora_alpha", "alpha is a field of the variant: write `with: {alpha: 16}` in its entry"),
    ("lora_dropout", "dropout is a field of the variant: write `with: {dropout: 0.1}` in its entry"),
    ("r", "ranks are a list: write `ranks: [8]`"),
    ("target_modules", "the adapted maps are called `targets`"),
    ("use_dora", "DoRA is a preset: write `preset: dora`"),
    ("use_rslora", "rsLoRA is a preset: write `preset: rslora`"),
];

/// Arguments of transformers' `Trainer` that are called otherwise here, or never asked.
const TRAINER: [(&str, &str); 34] = [
    ("adam_beta1", "Adam's decay of the first moment is `beta1` under `train`"),
    ("adam_beta2", "Adam's decay of the second moment is `beta2` under `train`"),
    ("adam_epsilon", "Adam's epsilon is `epsilon` under `train`"),
    ("bf16", "the precision is a field of `train`: write `precision: bf16`"),
    ("dataset_name", "the data are `suite` and `data`: `data: hf://org/name`, or a folder"),
    ("early_stopping_patience", "early stopping is `patience` under `train`"),
    ("eval_steps", "steps between evaluations are `evaluate_every` under `train`"),
    ("eval_strategy", "evaluations are `evaluate_every` under `train`: a number of steps, or `epoch`"),
    ("evaluation_strategy", "evaluations are `evaluate_every` under `train`: a number of steps, or `epoch`"),
    ("fp16", "the precision is a field of `train`: write `precision: bf16`, which needs no loss scaling"),
    ("gradient_accumulation_steps", "micro-batches of a step are `accumulate` under `train`"),
    ("gradient_checkpointing", "activation checkpointing is `recompute: true` under `train`"),
    ("load_best_model_at_end", "which checkpoint is reported is `select` under `train`: `select: best`"),
    ("logging_steps", "steps of an entry of the log are `log_every` under `train`"),
    ("lr", "the learning rate is `learning_rate` under `train`"),
    ("lr_scheduler_type", "the rate over time is `schedule` under `train`: `constant`, `linear` or `cosine`"),
    ("max_grad_norm", "the largest gradient norm is `clip` under `train`"),
    ("max_seq_length", "the longest input in tokens is `max_length` under `train`"),
    ("max_steps", "the number of steps is `steps` under `train`"),
    (
        "metric_for_best_model",
        "a checkpoint is chosen by the task's first metric; leave it out, and write `select: best` under `train`",
    ),
    ("model_name", "the base is `model`"),
    ("model_name_or_path", "the base is `model`: `hf://org/name`, a folder, or a name from `lora-lab list models`"),
    ("num_epochs", "the number of passes is `epochs` under `train`"),
    ("num_train_epochs", "the number of passes is `epochs` under `train`"),
    ("optim", "the optimizer is AdamW with decoupled weight decay; leave it out"),
    ("output_dir", "results go to `results/NAME`: write `name: NAME`, and choose another folder with `--results DIR`"),
    ("per_device_eval_batch_size", "evaluation chooses its own batches, which change no score; leave it out"),
    ("per_device_train_batch_size", "rows of a micro-batch are `batch` under `train`"),
    ("save_steps", "steps between checkpoints are `checkpoint_every` under `train`"),
    ("seed", "seeds are a list: write `seeds: [0, 1, 2]`"),
    ("tokenizer_name", "the tokenizer is the model's own; leave it out"),
    ("train_file", "files are fields of a task: `tasks: [{task: {name: .., train: FILE, dev: FILE, ..}}]`"),
    ("warmup_ratio", "the share of the steps that warm up is `warmup` under `train`"),
    ("warmup_steps", "the warm-up is a share of the steps: `warmup` under `train`, such as `warmup: 0.06`"),
];

/// What a key of another program is called here; case and hyphens do not matter.
pub(crate) fn translated(key: &str) -> Option<&'static str> {
    let key = key.to_ascii_lowercase().replace('-', "_");
    PEFT.iter().chain(&TRAINER).find(|(other, _)| *other == key).map(|(_, way_out)| *way_out)
}

/// Models that had no organisation in their name, as many scripts still call them, and where they are.
const MOVED: [(&str, &str); 16] = [
    ("albert-base-v2", "albert/albert-base-v2"),
    ("bert-base-cased", "google-bert/bert-base-cased"),
    ("bert-base-uncased", "google-bert/bert-base-uncased"),
    ("bert-large-cased", "google-bert/bert-large-cased"),
    ("bert-large-uncased", "google-bert/bert-large-uncased"),
    ("distilbert-base-uncased", "distilbert/distilbert-base-uncased"),
    ("distilgpt2", "distilbert/distilgpt2"),
    ("distilroberta-base", "distilbert/distilroberta-base"),
    ("gpt2", "openai-community/gpt2"),
    ("gpt2-large", "openai-community/gpt2-large"),
    ("gpt2-medium", "openai-community/gpt2-medium"),
    ("gpt2-xl", "openai-community/gpt2-xl"),
    ("roberta-base", "FacebookAI/roberta-base"),
    ("roberta-large", "FacebookAI/roberta-large"),
    ("xlm-roberta-base", "FacebookAI/xlm-roberta-base"),
    ("xlm-roberta-large", "FacebookAI/xlm-roberta-large"),
];

/// How a model of the hub is written whose name lacks its organisation.
pub(crate) fn on_the_hub(name: &str) -> Option<String> {
    let lower = name.to_ascii_lowercase();
    MOVED.iter().find(|(old, _)| *old == lower).map(|(_, new)| format!("hf://{new}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fields::is_of_train;

    #[test]
    fn tables_are_sorted_and_name_nothing_that_is_a_key_here() {
        for table in [&PEFT[..], &TRAINER[..]] {
            assert!(table.windows(2).all(|two| two[0].0 < two[1].0));
        }
        assert!(MOVED.windows(2).all(|two| two[0].0 < two[1].0));
        for (key, _) in &TRAINER {
            assert!(!is_of_train(key), "{key}");
        }
    }

    #[test]
    fn what_they_are_called_here_are_fields_of_train() {
        for (key, way_out) in TRAINER.iter().filter(|(_, way_out)| way_out.ends_with("` under `train`")) {
            let named = way_out.rsplit('`').nth(3).unwrap().split(':').next().unwrap();
            assert!(is_of_train(named), "{key}: {named}");
        }
    }
}

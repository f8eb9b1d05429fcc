//! What a stack plan says of single slots: ranks and scales of their own, and slots that train in full.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

use std::collections::{BTreeMap, BTreeSet};

use burn::tensor::{DType, Device, Int, Tensor, TensorData};
use variants::{
    adapted::AdaptedLinear,
    embedding::AdaptedEmbedding,
    host::{Placement, values},
    norm::AdaptedNorm,
    pass::{Active, DropoutClock, Pass, StackPass},
    preset,
    role::Role,
    slot::{MapPlan, RunPlan, Slot, StackPlan, attach},
    stream::{self, Stream},
};

const D: usize = 6;

fn place() -> Placement {
    Placement::new(&Device::flex(), DType::F64)
}

fn drawn<const N: usize>(name: &str, shape: [usize; N]) -> Tensor<N> {
    let n = shape.iter().product();
    place().tensor(stream::normal(&mut stream::generator(5, Stream::Data, name), n, 0.5), shape)
}

/// Two maps, a norm and a table.
#[derive(Clone)]
struct Slots {
    first: AdaptedLinear,
    second: AdaptedLinear,
    norm: AdaptedNorm,
    table: AdaptedEmbedding,
}

impl Slots {
    fn new() -> Self {
        let map = |name: &str| AdaptedLinear::new(name, drawn(name, [D, D]), Some(drawn("bias", [D])));
        Self {
            first: map("layer.0.query"),
            second: map("layer.0.value"),
            norm: AdaptedNorm::new("layer.0.norm", drawn("gamma", [D]), drawn("beta", [D]), 1e-5),
            table: AdaptedEmbedding::new("words", drawn("words", [9, D])),
        }
    }

    fn with(plan: &StackPlan) -> Self {
        let mut slots = Self::new();
        attach(&mut slots.all(), plan, &place()).unwrap();
        slots
    }

    fn all(&mut self) -> Vec<Slot<'_>> {
        vec![
            Slot::Embedding(&mut self.table),
            Slot::Linear(&mut self.first),
            Slot::Linear(&mut self.second),
            Slot::Norm(&mut self.norm),
        ]
    }

    /// Every tensor: name, role, shape and values.
    fn parameters(&mut self) -> Vec<(String, Role, [usize; 3], Vec<f64>)> {
        let mut all = Vec::new();
        for slot in self.all() {
            let name = slot.name().to_owned();
            let params = slot.into_parameters(0).into_iter();
            all.extend(params.map(|o| (format!("{name}.{}", o.name), o.role, o.tensor.dims(), values(&o.tensor))));
        }
        all
    }

    fn forward(&self) -> Vec<f64> {
        let pass = Pass::evaluation(2);
        let ids = Tensor::<2, Int>::from_data(TensorData::new(vec![3i64, 0, 8, 8], [4, 1]), &place().device);
        let x = self.table.forward(ids, &pass);
        let x = self.norm.forward(self.first.forward(x, &pass), &pass);
        values(&self.second.forward(x, &pass))
    }
}

fn plan(preset: &str, rank: usize, targets: &[&str]) -> StackPlan {
    let variant = (preset::find(preset).unwrap().spec)(rank).check(None).unwrap();
    let runs = vec![RunPlan { init_seed: 3, alpha: 6.0 }, RunPlan { init_seed: 4, alpha: 12.0 }];
    StackPlan::new(variant, runs, targets.iter().map(|name| (*name).to_owned()).collect())
}

#[test]
fn a_map_has_its_own_rank_and_scale_and_the_others_the_stacks() {
    let mut plan = plan("lora", 2, &["layer.0.query", "layer.0.value", "words"]);
    plan.maps.insert("layer.0.query".to_owned(), MapPlan { rank: Some(4), alpha: Some(10.0) });
    plan.maps.insert("words".to_owned(), MapPlan { rank: Some(1), alpha: None });
    let mut slots = Slots::with(&plan);
    let shapes: Vec<_> =
        slots.parameters().into_iter().map(|(name, _, [_, rows, cols], _)| (name, [rows, cols])).collect();
    let wanted = [
        ("words.a", [9, 1]),
        ("words.b", [1, D]),
        ("layer.0.query.a", [D, 4]),
        ("layer.0.query.b", [4, D]),
        ("layer.0.value.a", [D, 2]),
        ("layer.0.value.b", [2, D]),
    ];
    assert_eq!(shapes, wanted.map(|(name, shape)| (name.to_owned(), shape)));
    assert_eq!((slots.first.rank(0), slots.second.rank(0)), (Some(4), Some(2)));
    assert_eq!(slots.first.alphas(0).unwrap(), [10.0, 10.0]);
    assert_eq!(slots.second.alphas(0).unwrap(), [6.0, 12.0]);
    // A component's first values depend on neither its map's rank nor the others'.
    let first =
        |slots: &mut Slots| slots.parameters().into_iter().find(|(name, ..)| name == "layer.0.query.a").unwrap();
    let (_, _, _, wide) = first(&mut slots);
    plan.maps.clear();
    let (_, _, _, narrow) = first(&mut Slots::with(&plan));
    let head = |a: &[f64], rank: usize| a.chunks(rank).flat_map(|row| row[..2].to_vec()).collect::<Vec<_>>();
    assert_eq!(head(&wide, 4), head(&narrow, 2));
}

#[test]
fn a_map_at_its_own_rank_is_the_map_of_a_stack_at_that_rank() {
    let targets = ["layer.0.query", "words"];
    let (mut own, mut shared) = (plan("lora", 2, &targets), plan("lora", 3, &targets));
    for name in targets {
        own.maps.insert(name.to_owned(), MapPlan { rank: Some(3), alpha: Some(5.0) });
    }
    shared.runs.iter_mut().for_each(|run| run.alpha = 5.0);
    let (mut own, mut shared) = (Slots::with(&own), Slots::with(&shared));
    assert_eq!(own.parameters(), shared.parameters());
    // Away from the start, where the scale shows.
    for slots in [&mut own, &mut shared] {
        for slot in slots.all() {
            slot.into_parameters(0).into_iter().for_each(|mut o| o.tensor.set(o.tensor.clone() + 0.3));
        }
    }
    assert_eq!(own.forward(), shared.forward());
}

#[test]
fn a_map_that_is_narrower_than_a_cut_keeps_all_it_has() {
    let mut plan = plan("lora", 4, &["layer.0.query", "layer.0.value", "words"]);
    plan.maps.insert("layer.0.value".to_owned(), MapPlan { rank: Some(2), alpha: None });
    plan.maps.insert("words".to_owned(), MapPlan { rank: Some(1), alpha: None });
    let mut slots = Slots::with(&plan);
    for slot in slots.all() {
        slot.into_parameters(0).into_iter().for_each(|mut o| o.tensor.set(drawn(o.name, o.tensor.dims())));
    }
    let weights = |slots: &Slots, active: &Active| {
        [values(&slots.first.weight(0, active)), values(&slots.second.weight(0, active))]
    };
    let full = weights(&slots, &Active::All);
    let cut = weights(&slots, &Active::Truncated(3));
    assert!(cut[0] != full[0] && cut[1] == full[1]);
    let words = values(&slots.table.merged(0, 1, &Active::All));
    assert_eq!(values(&slots.table.merged(0, 1, &Active::Truncated(3))), words);
    slots.all().iter_mut().for_each(|slot| slot.compress(0, 3));
    assert_eq!((slots.first.rank(0), slots.second.rank(0)), (Some(3), Some(2)));
    let close = |a: &[f64], b: &[f64]| a.iter().zip(b).all(|(a, b)| (a - b).abs() <= 1e-12);
    // An approximation at the full rank is the update itself, up to the rounding of an SVD.
    assert!(close(&weights(&slots, &Active::All)[1], &full[1]));
    assert!(close(&values(&slots.table.merged(0, 1, &Active::All)), &words));
}

/// Each of two runs reads its own rows in the places of three, and the base's elsewhere; so do its table and what it merges to.
#[test]
fn single_rows_of_a_table_train_and_the_others_stay() {
    let mut plan = plan("head_only", 0, &[]);
    plan.trained_rows.insert("words".to_owned(), vec![8, 0, 5]);
    let plain = Slots::with(&StackPlan { trained_rows: BTreeMap::default(), ..plan.clone() });
    let mut slots = Slots::with(&plan);
    assert_eq!(slots.forward(), plain.forward(), "the start is the base, bit by bit");
    let found = slots.parameters();
    let [(name, role, shape, _)] = &found[..] else { panic!("{found:?}") };
    assert_eq!((name.as_str(), *role, *shape), ("words.trainable_tokens", Role::Token, [2, 3, D]));
    let own = drawn("own", [2, 3, D]);
    Slot::Embedding(&mut slots.table).into_parameters(0)[0].tensor.set(own.clone());
    let (base, rows, table) = (values(&slots.table.base()), values(&own), values(&slots.table.table(0)));
    for run in 0..2 {
        let mut wanted = base.clone();
        for (place, id) in [8, 0, 5].into_iter().enumerate() {
            wanted[id * D..][..D].copy_from_slice(&rows[(run * 3 + place) * D..][..D]);
        }
        assert_eq!(values(&slots.table.merged(0, run, &Active::All)), wanted, "run {run}");
        assert_eq!(table[run * 9 * D..][..9 * D], wanted);
        let merged = slots.table.merge(0, run, &Active::All);
        assert_eq!(values(&merged.base()), wanted);
        // Two rows of tokens each: run 0 reads 3 and 0, run 1 reads 8 twice.
        let ids = Tensor::<2, Int>::from_data(TensorData::new(vec![3i64, 0, 8, 8], [4, 1]), &place().device);
        let read = values(&slots.table.forward(ids, &Pass::evaluation(2)));
        for (at, id) in [[3, 0], [8, 8]][run].into_iter().enumerate() {
            assert_eq!(read[(2 * run + at) * D..][..D], wanted[id * D..][..D]);
        }
    }
    // The gradient of a sum is how often a run reads each of its rows.
    let rows = own.autodiff().require_grad();
    Slot::Embedding(&mut slots.table).into_parameters(0)[0].tensor.set(rows.clone());
    let ids = Tensor::<2, Int>::from_data(TensorData::new(vec![3i64, 0, 8, 8], [4, 1]), &place().device);
    let gradients = slots.table.forward(ids, &Pass::evaluation(2)).sum().backward();
    let found = values(&rows.grad(&gradients).unwrap());
    let wanted: Vec<f64> = [0.0, 1.0, 0.0, 2.0, 0.0, 0.0].into_iter().flat_map(|times| [times; D]).collect();
    assert_eq!(found, wanted);
}

#[test]
fn what_trains_fully_is_what_full_fine_tuning_copies_there() {
    let mut full = Slots::with(&plan("full", 0, &[]));
    for slot_name in ["layer.0.query", "layer.0.norm", "words"] {
        let mut plan = plan("lora", 2, &["layer.0.value"]);
        plan.fully_trained = BTreeSet::from([slot_name.to_owned()]);
        let mut slots = Slots::with(&plan);
        let of = |all: Vec<(String, Role, [usize; 3], Vec<f64>)>, prefix: &str| -> Vec<_> {
            all.into_iter().filter(|(name, ..)| name.starts_with(prefix)).collect()
        };
        let here = of(slots.parameters(), slot_name);
        assert_eq!(here, of(full.parameters(), slot_name));
        assert!(!here.is_empty());
        let roles: Vec<_> = slots.parameters().into_iter().filter(|(name, ..)| !name.starts_with(slot_name)).collect();
        assert!(roles.iter().all(|(name, role, ..)| name.starts_with("layer.0.value") && *role < Role::Lambda));
        // The copies start as the base and then act, run by run, on what is merged too.
        // A copy's bias is added after the product, the base's within it: the last bits may differ.
        let close = |y: &[f64], z: &[f64]| y.iter().zip(z).all(|(y, z)| (y - z).abs() <= 1e-12 * (1.0 + z.abs()));
        assert!(close(&slots.forward(), &Slots::with(&self::plan("head_only", 0, &[])).forward()));
        for slot in slots.all() {
            for mut param in slot.into_parameters(0) {
                let noise = drawn(param.name, param.tensor.dims());
                param.tensor.set(param.tensor.clone() + noise);
            }
        }
        let y = slots.forward();
        for run in 0..2 {
            let mut merged = slots.clone();
            merged.all().iter_mut().for_each(|slot| slot.merge(0, run, &Active::All));
            attach(&mut merged.all(), &self::plan("head_only", 0, &[]), &place()).unwrap();
            let z = merged.forward();
            let rows = run * 2 * D..(run + 1) * 2 * D;
            assert!(close(&y[rows.clone()], &z[rows]));
        }
    }
}

#[test]
fn stacks_are_shared_by_equal_plans_alone() {
    let targets = ["layer.0.query", "layer.0.value"];
    let (one, mut other) = (plan("lora", 2, &targets), plan("lora", 2, &targets));
    other.runs.truncate(1);
    assert!(one.is_like(&other));
    let own = MapPlan { rank: None, alpha: Some(1.0) };
    other.maps.insert("layer.0.query".to_owned(), own);
    assert!(!one.is_like(&other));
    let mut trained = plan("lora", 2, &targets);
    trained.fully_trained.insert("layer.0.norm".to_owned());
    assert!(!one.is_like(&trained));
}

/// A slot of any kind passes on what is asked of it: gates, stacks and runs that are kept, merges, and stacks that are taken off.
#[test]
fn every_slot_does_what_the_backbone_asks_of_all() {
    let mut plan = plan("lora", 2, &["layer.0.query", "words"]);
    plan.fully_trained = BTreeSet::from(["layer.0.norm".to_owned()]);
    let mut slots = Slots::with(&plan);
    attach(&mut slots.all(), &self::plan("full", 0, &[]), &place()).unwrap();
    for stack in 0..2 {
        for slot in slots.all() {
            let name = slot.name().to_owned();
            slot.into_parameters(stack)
                .into_iter()
                .for_each(|mut o| o.tensor.set(drawn(&format!("{name}.{}.{stack}", o.name), o.tensor.dims())));
        }
    }
    let active = Active::Truncated(1);
    let [table, first, second, norm] = slots.all().try_into().unwrap();
    let key = (2, vec![6.0_f64.to_bits(), 12.0_f64.to_bits()]);
    for slot in [&table, &first] {
        assert_eq!(slot.gate(0, &active), Some((key.clone(), vec![3.0, 0.0, 6.0, 0.0])), "{}", slot.name());
        assert_eq!(slot.gate(1, &active), None, "{}", slot.name());
    }
    assert_eq!([second.gate(0, &active), norm.gate(0, &active)], [None, None]);

    // The stack that is kept, and then the run of it, have the tensors they had.
    let before: Vec<_> = slots.parameters();
    let kept = |stack: usize| {
        let mut slots = slots.clone();
        slots.all().iter_mut().for_each(|slot| slot.keep_only(stack));
        slots
    };
    assert_eq!(kept(0).parameters(), before);
    assert_eq!(kept(1).parameters().len(), 7, "two weights with their biases, a norm's and a table");
    assert_eq!(kept(1).first.stacks(), 1);
    let mut run = kept(0);
    run.all().iter_mut().for_each(|slot| slot.keep_run(1));
    assert_eq!(run.first.alphas(0).unwrap(), [12.0]);
    let gate = Slot::Embedding(&mut run.table).gate(0, &Active::All);
    assert_eq!(gate, Some(((2, vec![12.0_f64.to_bits()]), vec![6.0, 6.0])));

    // A merge is each slot's own.
    let mut merged = slots.clone();
    merged.all().iter_mut().for_each(|slot| slot.merge(0, 1, &Active::All));
    let (weight, _) = slots.first.merged(0, 1, &Active::All);
    assert_eq!(values(&merged.first.base().0), values(&weight));
    assert_eq!(values(&merged.table.base()), values(&slots.table.merged(0, 1, &Active::All)));
    let ((gamma, beta), (wanted, bias)) = (merged.norm.base(), slots.norm.merged(0, 1));
    assert_eq!((values(&gamma), beta.map(|b| values(&b))), (values(&wanted), bias.map(|b| values(&b))));
    assert_ne!(values(&wanted), values(&slots.norm.base().0));

    // Without stacks they are the base, which a pass without runs goes through.
    slots.all().iter_mut().for_each(Slot::detach);
    assert_eq!((slots.first.stacks(), slots.second.stacks()), (0, 0));
    let (bare, fresh) = (Pass::of(vec![]), Slots::new());
    let ids = || Tensor::<2, Int>::from_data(TensorData::new(vec![3i64, 0], [2, 1]), &place().device);
    let through = |slots: &Slots| {
        let x = slots.first.forward(slots.table.forward(ids(), &bare), &bare);
        values(&slots.norm.forward(x, &bare))
    };
    assert_eq!(through(&slots), through(&fresh));
}

/// Ba et al. (2016) and Zhang and Sennrich (2019), number by number on the host: of a frozen norm, of one with copies, and of the sum with a
/// residual.
#[test]
fn a_norm_is_its_formula() {
    let (rows, seq, epsilon) = (2, 3, 0.1); // far above rounding, so that its place shows
    let drawn = |name: &str| drawn(name, [rows, seq, D]);
    let (x, residual) = (drawn("x"), drawn("residual"));
    let (gamma, beta) = (self::drawn("gamma", [D]), self::drawn("beta", [D]));
    let host = |x: &[f64], gamma: &[f64], beta: Option<&[f64]>| -> Vec<f64> {
        x.chunks(D)
            .flat_map(|x| {
                let mean = if beta.is_some() { x.iter().sum::<f64>() / D as f64 } else { 0.0 };
                let square = x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / D as f64;
                let shift = move |at: usize| beta.map_or(0.0, |beta| beta[at]);
                x.iter()
                    .enumerate()
                    .map(move |(at, x)| (x - mean) / (square + epsilon).sqrt() * gamma[at] + shift(at))
                    .collect::<Vec<_>>()
            })
            .collect()
    };
    let close = |found: Tensor<3>, wanted: Vec<f64>| {
        for (found, wanted) in values(&found).iter().zip(&wanted) {
            assert!((found - wanted).abs() < 1e-12, "{found} is not {wanted}"); // a few dozen operations on numbers near 1
        }
    };
    let layer = AdaptedNorm::new("norm", gamma.clone(), beta.clone(), epsilon);
    for (mut norm, has_mean) in [(layer, true), (AdaptedNorm::root_mean_square("norm", gamma.clone(), epsilon), false)]
    {
        let sum = x.clone() + residual.clone();
        let pass = Pass::evaluation(2);
        let after = |norm: &AdaptedNorm, pass: &Pass| {
            let input_grad = pass.input_grad("norm");
            norm.after(x.clone(), Some((residual.clone(), &input_grad)), None, pass)
        };
        let (gamma, beta) = (values(&gamma), values(&beta));
        let shift = has_mean.then_some(beta.as_slice());
        close(norm.forward(x.clone(), &Pass::of(vec![])), host(&values(&x), &gamma, shift));
        close(after(&norm, &Pass::of(vec![])), host(&values(&sum), &gamma, shift));
        attach(&mut [Slot::Norm(&mut norm)], &plan("full", 0, &[]), &place()).unwrap();
        close(norm.forward(x.clone(), &pass), host(&values(&x), &gamma, shift));
        close(after(&norm, &pass), host(&values(&sum), &gamma, shift));
    }
}

/// A pass finds the input whose gradient is lost because one of its readers is not in the loss.
#[test]
fn a_pass_finds_an_input_that_lost_its_gradient() {
    let slots = Slots::new();
    for (both, found) in [(true, false), (false, true)] {
        let pass = Pass::of(vec![]);
        let x = drawn("x", [1, 2, D]).autodiff().require_grad();
        let input_grad = pass.input_grad("attention");
        let y = slots.first.forward_among(&x, &pass, &input_grad);
        let z = slots.second.forward_among(&x, &pass, &input_grad);
        let loss = if both { y.sum() + z.sum() } else { y.sum() };
        let _ = loss.backward();
        let lost = pass.audit.check();
        assert_eq!(lost.is_err(), found, "{lost:?}");
        assert!(lost.is_ok() || lost.unwrap_err().to_string().contains("attention"));
    }
}

/// Stacks beside each other on maps that share an input, in any order and at any dropout: each computes on its rows what it computes alone
/// on one map, however the products are batched.
#[test]
fn batched_products_are_those_of_each_stack_and_map_alone() {
    let arrangements: [&[(&str, usize, f64)]; 6] = [
        &[("lora", 2, 0.5), ("lora", 2, 0.0)],
        &[("lora", 2, 0.0), ("lora", 2, 0.5), ("lora", 2, 0.5)],
        &[("lora", 2, 0.0), ("lora", 2, 0.0), ("lora", 3, 0.0)],
        &[("dora", 2, 0.0), ("dora", 2, 0.5), ("lora", 2, 0.0)],
        &[("lora", 2, 0.0), ("dora", 2, 0.0), ("lora", 2, 0.0)],
        &[("lora", 2, 0.5), ("full", 0, 0.0), ("lora", 2, 0.5), ("head_only", 0, 0.0)],
    ];
    let names = ["query", "key", "value"];
    for stacks in arrangements {
        let mut maps = names.map(|name| AdaptedLinear::new(name, drawn(name, [D, D]), Some(drawn("bias", [D]))));
        for (preset, rank, dropout) in stacks {
            let mut spec = (preset::find(preset).unwrap().spec)(*rank);
            spec.dropout = *dropout;
            let runs = vec![RunPlan { init_seed: 3, alpha: 6.0 }, RunPlan { init_seed: 4, alpha: 12.0 }];
            let targets = names.map(str::to_owned).into();
            let plan = StackPlan::new(spec.check(None).unwrap(), runs, targets);
            attach(&mut maps.iter_mut().map(Slot::Linear).collect::<Vec<_>>(), &plan, &place()).unwrap();
        }
        for (map, stack) in (0..3).flat_map(|map| (0..stacks.len()).map(move |stack| (map, stack))) {
            for mut param in maps[map].parameters(stack) {
                param.tensor.set(drawn(&format!("{map}.{stack}.{}", param.name), param.tensor.dims()));
            }
        }
        let rows = 4; // of each stack, two for each run
        let x = drawn("x", [rows * stacks.len(), 3, D]);
        let pass = |stacks: &[usize]| {
            let seeds = stacks.iter().flat_map(|stack| [100 + 2 * *stack as u64, 101 + 2 * *stack as u64]).collect();
            let bare = Pass::of(vec![StackPass::evaluation(2); stacks.len()]);
            [bare.clone(), bare.dropping(&DropoutClock { seeds, step: 3, micro: 1 }, &place())]
        };
        let all: Vec<usize> = (0..stacks.len()).collect();
        for training in [0, 1] {
            let together = &pass(&all)[training];
            let input_grad = together.input_grad("attention");
            let y = AdaptedLinear::forward_all([&maps[0], &maps[1], &maps[2]], &x, together, &input_grad);
            for (map, stack) in (0..3).flat_map(|map| (0..stacks.len()).map(move |stack| (map, stack))) {
                let own = rows * stack..rows * (stack + 1);
                let alone = maps[map].only(stack).forward(x.clone().slice([own.clone()]), &pass(&[stack])[training]);
                for (found, wanted) in values(&y[map].clone().slice([own])).iter().zip(values(&alone)) {
                    // Sums of products in another order.
                    assert!((found - wanted).abs() < 1e-12, "{stacks:?}: stack {stack}: {found} is not {wanted}");
                }
            }
        }
    }
}

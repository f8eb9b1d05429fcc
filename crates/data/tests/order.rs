//! Epoch order: every row once, the same for the same seed, another for another, and little padding.

use data::order::epoch_order;
use proptest::prelude::*;

#[track_caller]
fn check(lengths: &[usize], batch: usize, seed: u64, epoch: u64) -> Vec<Vec<usize>> {
    let order = epoch_order(lengths, batch, seed, epoch);
    let mut rows: Vec<usize> = order.iter().flatten().copied().collect();
    rows.sort_unstable();
    assert_eq!(rows, (0..lengths.len()).collect::<Vec<_>>(), "every row occurs once");
    assert_eq!(order.len(), lengths.len().div_ceil(batch));
    assert!(order.iter().filter(|b| b.len() < batch).count() <= 1, "at most one short batch");
    assert_eq!(order, epoch_order(lengths, batch, seed, epoch), "equal arguments, equal order");
    order
}

fn padding(order: &[Vec<usize>], lengths: &[usize]) -> usize {
    let of_batch = |batch: &Vec<usize>| {
        let longest = batch.iter().map(|&r| lengths[r]).max().unwrap_or(0);
        batch.iter().map(|&r| longest - lengths[r]).sum::<usize>()
    };
    order.iter().map(of_batch).sum()
}

#[test]
fn seeds_and_epochs_differ() {
    let lengths: Vec<usize> = (0..1000).map(|i| 8 + (i * 7919) % 23).collect();
    let first = check(&lengths, 32, 0, 0);
    assert_ne!(first, check(&lengths, 32, 0, 1));
    assert_ne!(first, check(&lengths, 32, 1, 0));
}

#[test]
fn lengths_are_bucketed() {
    let lengths: Vec<usize> = (0..1000).map(|i| 8 + (i * 7919) % 23).collect();
    let bucketed = padding(&check(&lengths, 32, 3, 0), &lengths);
    let plain: Vec<Vec<usize>> = (0..1000).collect::<Vec<_>>().chunks(32).map(<[usize]>::to_vec).collect();
    assert!(bucketed * 10 < padding(&plain, &lengths), "{bucketed} padding tokens");
}

#[test]
fn no_rows() {
    assert!(check(&[], 4, 0, 0).is_empty());
}

proptest! {
    #[test]
    fn any_lengths(lengths in prop::collection::vec(1usize..40, 0..300), batch in 1usize..40, seed: u64, epoch: u64) {
        check(&lengths, batch, seed, epoch);
    }
}

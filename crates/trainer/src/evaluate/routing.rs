//! How the routers of a trained run spread tokens over their experts.

use std::collections::BTreeMap;

use models::network::Network;
use record::Routing;
use variants::{
    pass::Pass,
    routing::{RouterProbe, RouterSums, Spread},
};

use crate::{
    batch::{Padding, collate, forward, sampler::Sampler},
    calibrate::real_tokens,
    error::TrainError,
    model_cache::TokenizedTask,
    stop::Stop,
};

/// Rows of a pass, and how many passes look at most.
const ROWS: usize = 32;
const PASSES: usize = 8;

/// Means over the tokens of some rows of the first evaluation split, the same for every run, by map; `network` has the run alone, and `pad`
/// fills rows up.
pub fn of(
    network: &Network,
    task: &TokenizedTask,
    pad: u32,
    stop: Stop<'_>,
) -> Result<BTreeMap<String, Routing>, TrainError> {
    let set = &task.splits[0].set;
    let sampler = Sampler::new(set.clone(), task.info.objective.clone(), 0);
    let (place, sums) = (network.backbone.place(), RouterSums::default());
    for micro in 0..set.rows.len().div_ceil(ROWS).min(PASSES) {
        stop.check()?;
        let mut rows = sampler.rows(micro as u64, ROWS);
        rows.rows.retain(Option::is_some);
        // A batch that is at least one token long is never packed, so that every input has the shape of its rows.
        let batch = collate(network, &[vec![rows]], Padding { token: pad, bucket: 1, at_least: 1 });
        let probe = RouterProbe::new(sums.clone(), real_tokens(&batch, place));
        let pass = Pass { routers: Some(probe), ..Pass::evaluation(1) };
        let _ = forward::logits(network, &batch.upload(place), &pass);
    }
    let of_map = |(map, Spread { weights, load, entropy })| (map, Routing { weights, load, entropy });
    Ok(sums.means().into_iter().map(of_map).collect())
}

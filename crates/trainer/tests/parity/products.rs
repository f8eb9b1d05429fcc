//! What the fixtures of `scripts/oracle/products.py` set otherwise than their presets.

use variants::{
    delta::{self, DeltaSpec},
    spec::VariantSpec,
};

use crate::reference::Reference;

fn with(published: VariantSpec, delta: DeltaSpec) -> VariantSpec {
    VariantSpec { delta: Some(delta), ..published }
}

/// Both parts of two factors where they are large enough, at a factor that leaves some whole.
pub(crate) fn lokr(reference: &Reference, published: VariantSpec) -> VariantSpec {
    let decompose_factor = Some(reference.count("decompose_factor"));
    with(published, DeltaSpec::Kronecker(delta::kronecker::Spec { decompose_factor, decompose_both: true }))
}

/// PEFT's `mini`.
pub(crate) fn miss(reference: &Reference, published: VariantSpec) -> VariantSpec {
    let columns = Some(reference.count("columns"));
    with(published, DeltaSpec::ShardSharing(delta::shard_sharing::Spec { columns }))
}

pub(crate) fn molora(reference: &Reference, published: VariantSpec) -> VariantSpec {
    let (experts, down) = (reference.count("experts"), delta::routed_low_rank::Down::Own);
    with(published, DeltaSpec::RoutedLowRank(delta::routed_low_rank::Spec { experts, down }))
}

pub(crate) fn mov(reference: &Reference, published: VariantSpec) -> VariantSpec {
    let experts = reference.count("experts");
    with(published, DeltaSpec::RoutedGain(delta::routed_gain::Spec { experts, ..delta::routed_gain::Spec::default() }))
}

pub(crate) fn nola(reference: &Reference, published: VariantSpec) -> VariantSpec {
    let (bases, projection_seed) = (reference.count("bases"), reference.count("projection_seed") as u64);
    with(published, DeltaSpec::MixedBases(delta::mixed_bases::Spec { bases, projection_seed }))
}

pub(crate) fn vb_lora(reference: &Reference, published: VariantSpec) -> VariantSpec {
    let count = |key| reference.count(key);
    let (vectors, vector_length, top_k) = (count("vectors"), count("vector_length"), count("top_k"));
    let bank = delta::vector_bank::Spec { vectors, vector_length, top_k, ..delta::vector_bank::Spec::default() };
    with(published, DeltaSpec::VectorBank(bank))
}

pub(crate) fn randlora(reference: &Reference, published: VariantSpec) -> VariantSpec {
    let projection_seed = reference.count("projection_seed") as u64;
    with(published, DeltaSpec::RandomBases(delta::random_bases::Spec { projection_seed }))
}

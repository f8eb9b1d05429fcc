//! What the fixtures of `scripts/oracle/products.py` set otherwise than their presets.

use variants::{
    delta::{self, DeltaSpec},
    spec::VariantSpec,
};

use crate::reference::Reference;

fn with(published: VariantSpec, delta: DeltaSpec) -> VariantSpec {
    VariantSpec { delta: Some(delta), ..published }
}

//! An entry whose ranks are still to be chosen.

use std::collections::BTreeSet;

use models::{
    config::Config,
    modules::{Modules, Selected},
};
use serde_yaml::Mapping;
use variants::{error::AttachError, spec::VariantSpec};

use super::{Document, Entry, Report, compose, modules, source};
use crate::{bounds, matching::count::count};

/// What an entry trains at any rank: which ranks its maps take, and how many numbers train there.
pub(crate) struct Free<'a> {
    entry: &'a Entry,
    with: Mapping,
    /// The composition at some rank: what it is made of is the same at every one.
    spec: VariantSpec,
    config: Config,
    modules: Modules,
    selected: Selected,
    /// Shapes of the maps without a rank of their own, with a map of each.
    shapes: Vec<(String, [usize; 2])>,
}

/// Why it is not known what an entry trains.
pub(crate) enum Unknown {
    /// The model is still to be downloaded.
    Model,
    /// Its composition, model or maps are wrong, which is told with the other rules of the entry.
    Wrong,
}

/// The composition of an entry at some rank; what is wrong with it is told with the other rules of the entry.
pub(crate) fn composition(entry: &Entry) -> Option<VariantSpec> {
    compose(entry, &overrides(entry), SOME_RANK, &entry.at, &mut Report::default())
}

/// A rank like any other.
const SOME_RANK: usize = 8;

fn overrides(entry: &Entry) -> Mapping {
    let mut with = entry.with.clone();
    with.remove("rank");
    with
}

impl<'a> Free<'a> {
    pub(crate) fn new(document: &'a Document, entry: &'a Entry) -> Result<Self, Unknown> {
        let spec = composition(entry).ok_or(Unknown::Wrong)?;
        let model = if entry.gave.contains("model") { &entry.model } else { &document.model };
        let model = &model.as_ref().ok_or(Unknown::Wrong)?.value;
        let config = source::config(model).map_err(|_| Unknown::Wrong)?.ok_or(Unknown::Model)?;
        let modules = modules(document, entry, &spec, &mut Report::default());
        let targets = if entry.gave.contains("targets") { &entry.targets } else { &document.targets };
        let targets = &targets.as_ref().ok_or(Unknown::Wrong)?.value;
        let selected = modules.select(Some(targets), &config).map_err(|_| Unknown::Wrong)?;
        let has_own = |slot: &String| selected.own.get(slot).is_some_and(|own| own.rank.is_some());
        let mut met = BTreeSet::new();
        let shared = selected.maps.iter().filter(|(slot, map)| !has_own(slot) && met.insert(map.shape));
        let shapes = shared.map(|(slot, map)| (slot.clone(), map.shape)).collect();
        Ok(Self { entry, with: overrides(entry), spec, config, modules, selected, shapes })
    }

    /// The largest rank that may be tried: the widths of the maps bound it, or what a list of ranks may hold.
    pub(crate) fn most(&self) -> usize {
        let bounded = self.spec.delta.as_ref().is_some_and(variants::delta::DeltaSpec::rank_bounded);
        let narrowest = self.shapes.iter().map(|(_, [d_in, d_out])| *d_in.min(d_out)).min().filter(|_| bounded);
        narrowest.unwrap_or(usize::MAX).min(bounds::RANK.most as usize)
    }

    /// The largest width of the maps.
    pub(crate) fn widest(&self) -> usize {
        self.shapes.iter().flat_map(|(_, shape)| *shape).max().unwrap_or(1)
    }

    /// Why the maps do not take a rank.
    pub(crate) fn misfit(&self, rank: usize) -> Option<String> {
        let delta = self.spec.delta.as_ref()?;
        self.shapes.iter().find_map(|(slot, [d_in, d_out])| {
            let why = delta.misfit(rank, [*d_in, *d_out])?;
            Some(AttachError::Misfit { slot: slot.clone(), d_in: *d_in, d_out: *d_out, why }.to_string())
        })
    }

    /// Parameters that train at a rank, or why none do.
    pub(crate) fn count(&self, rank: usize) -> Result<usize, String> {
        let mut report = Report::default();
        let spec = compose(self.entry, &self.with, rank, &self.entry.at, &mut report).ok_or("its `with` is wrong")?;
        let variant = spec
            .check_beside(None, self.modules.roles())
            .map_err(|problems| problems.into_iter().next().map_or_else(String::new, |problem| problem.rule))?;
        count(&self.config, &variant, &self.selected)
    }
}

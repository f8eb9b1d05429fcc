//! What is met while a network gets the numbers of a folder: what is missing, too much or of another shape.

use std::collections::{BTreeMap, BTreeSet};

use models::{
    config::{Config, MapKind},
    network::Network,
};
use variants::host::values;

use super::{
    super::{
        WRAPPED,
        export::{PAIR, column_norms},
        layout::Matrix,
    },
    stored::Stored,
};

/// Rank and scale of the adapted maps.
pub(super) type Adapted = BTreeMap<String, (usize, f64)>;

/// What was met on the way.
#[derive(Default)]
pub(super) struct Found {
    pub(super) missing: Vec<String>,
    pub(super) wrong: Vec<String>,
    /// What the base has and the file need not have.
    pub(super) old: BTreeSet<&'static str>,
    /// Tensors of the head.
    pub(super) heads: usize,
    /// Those that the file lacks, and whether the base has them.
    pub(super) lacking: Vec<(String, bool)>,
    /// Largest `d_in` and `d_out` that a pair was cut to.
    widest: [usize; 2],
    /// Magnitudes of joined maps by their name in the file, with the maps' parts.
    pub(super) joined: BTreeMap<String, ([String; 3], Matrix)>,
}

impl Found {
    /// A map's part `[rows, cols]` of VeRA's pair.
    pub(super) fn of_pair(
        &mut self,
        [a, b]: &[Matrix; 2],
        short: &str,
        slot: &str,
        [rows, cols]: [usize; 2],
    ) -> Option<Matrix> {
        let (name, source, fits) = if short == "a" {
            self.widest[0] = self.widest[0].max(rows);
            (PAIR[0], a, a.shape[0] == cols && a.shape[1] >= rows)
        } else {
            self.widest[1] = self.widest[1].max(cols);
            (PAIR[1], b, b.shape[1] == rows && b.shape[0] >= cols)
        };
        if !fits {
            self.wrong.push(format!("`{name}` is {:?}, which has no part for `{slot}`", source.shape));
            return None;
        }
        Some(source.transposed().rows(0, rows).columns(0, cols))
    }

    /// Finds parts without an adapter whose magnitudes are not the base's.
    pub(super) fn check_joined(&mut self, network: &Network, adapted: &Adapted) {
        for (key, (parts, magnitude)) in &self.joined {
            let third = magnitude.shape[1] / 3;
            for (index, part) in parts.iter().enumerate().filter(|(_, part)| !adapted.contains_key(*part)) {
                let own = magnitude.columns(index * third, (index + 1) * third).values;
                // Exports put the base's norms there; another machine may sum their f32 in another order.
                let is_norm = |(found, norm): (&f64, f64)| (found - norm).abs() <= 1e-5 * norm;
                if !own.iter().zip(column_norms(network, part)).all(is_norm) {
                    self.wrong.push(format!(
                        "`{key}` changes `{part}`, which has no adapter, as after training in PEFT; give `--task`, and it is read as one map"
                    ));
                }
            }
        }
    }

    /// Holds the base's own tables, which PEFT saves with `save_embedding_layers`, against the base's.
    pub(super) fn check_tables(&mut self, network: &Network, stored: &Stored, notes: &mut Vec<String>) {
        let (config, word) = (network.backbone.config(), network.backbone.word());
        let mut found = Vec::new();
        for name in stored.unused() {
            let Some(table) = table_of(name, &config) else { continue };
            found.push(name);
            let own = if table == word.name() {
                word.base()
            } else if table == PROJECTION {
                network.backbone.base_output()
            } else {
                continue;
            };
            if stored.tensors[name].1 != values(&own) {
                self.wrong.push(format!(
                    "`{name}` is not the base's table, as after training it or adding words; only the base's own is read"
                ));
            }
        }
        if !found.is_empty() {
            notes.push(format!("tables of the base in the file, which are not read again: {}", found.join(", ")));
        }
    }

    /// What to say of it all.
    pub(super) fn report(
        mut self,
        config: &Config,
        stored: &Stored,
        pair: Option<&[Matrix; 2]>,
        notes: &mut Vec<String>,
    ) -> Result<(), String> {
        self.settle_head();
        // A pair that is drawn from a seed has no tensors of its own, and nothing is asked of it.
        if let Some([a, b]) = pair.filter(|_| self.wrong.is_empty() && self.widest != [0, 0])
            && [a.shape[1], b.shape[0]] != self.widest
        {
            self.wrong.push(format!(
                "`{}` is {:?} and `{}` {:?}, but the widest of the adapted maps is {:?}",
                PAIR[0], a.shape, PAIR[1], b.shape, self.widest
            ));
        }
        // With `bias="all"` PEFT saves the biases of a wrapped head three times.
        let is_copy = |name: &&str| name.contains(".original_module.") || name.contains(".modules_to_save.");
        let extra = stored.unused().into_iter().filter(|name| !is_copy(name) && table_of(name, config).is_none());
        self.wrong.extend(extra.map(|name| format!("`{name}` belongs to nothing in its configuration")));
        if !self.missing.is_empty() {
            self.wrong.push(format!("missing: {}", self.missing.join(", ")));
        }
        if !self.wrong.is_empty() {
            return Err(format!("{}; check that base and folder belong together", self.wrong.join("; ")));
        }
        if !self.old.is_empty() {
            let list: Vec<&str> = self.old.into_iter().collect();
            notes.push(format!("not in the file, so the base's own: {}", list.join(", ")));
        }
        Ok(())
    }

    /// A head is taken whole: of the file, or of the base.
    fn settle_head(&mut self) {
        let lacking = std::mem::take(&mut self.lacking);
        if lacking.len() == self.heads && lacking.iter().all(|(_, is_of_base)| *is_of_base) {
            self.old.extend((self.heads > 0).then_some("the head"));
        } else {
            self.missing.extend(lacking.into_iter().map(|(key, _)| key));
        }
    }
}

/// The table that has a name as its weight.
fn table_of(name: &str, config: &Config) -> Option<String> {
    let maps = config.maps();
    let is_table = |(_, map): &(&String, &models::config::Map)| map.kind == MapKind::Table;
    let means = |slot: &String| {
        [".weight", ".base_layer.weight"].iter().any(|end| name == format!("{WRAPPED}{}{end}", config.full(slot)))
    };
    let found = maps.iter().filter(is_table).map(|(slot, _)| slot).find(|slot| means(slot)).cloned();
    found.or_else(|| (name == format!("{WRAPPED}{PROJECTION}.weight")).then(|| PROJECTION.to_owned()))
}

/// A decoder's output projection.
const PROJECTION: &str = "lm_head";

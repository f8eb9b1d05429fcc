//! Whether adapters can be combined: those of one base, with maps of one shape.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use super::{foreign, member::Member};
use trainer::error::TrainError;

/// Refuses what is not of one base, and says what a reader should know of the rest.
pub(super) fn fit_together(members: &[Member], notes: &mut Vec<String>) -> Result<(), TrainError> {
    same_base(members, notes)?;
    known_maps(members)?;
    let names = same_shapes(members)?;
    for member in members {
        notes.extend(member.notes.iter().map(|note| format!("{}: {note}", member.shown)));
        let missing: Vec<String> =
            names.iter().filter(|name| !member.maps.contains_key(**name)).map(|name| format!("`{name}`")).collect();
        if !missing.is_empty() {
            notes.push(format!("{}: counts as zero on {}", member.shown, missing.join(", ")));
        }
        if !member.left_out.is_empty() {
            notes.push(format!(
                "{}: left out, since a LoRA of linear maps has no place for them: {}",
                member.shown,
                shortened(&member.left_out)
            ));
        }
    }
    Ok(())
}

/// The base is one by its hash, where both are known; names can only be compared.
fn same_base(members: &[Member], notes: &mut Vec<String>) -> Result<(), TrainError> {
    let mut hashes = members.iter().filter_map(|member| Some((member, member.hash.as_ref()?)));
    if let Some((first, hash)) = hashes.next()
        && let Some((other, found)) = hashes.find(|(_, found)| *found != hash)
    {
        let reason = format!(
            "was trained on a base with hash {found}, but {} on one with {hash}; updates of different weights cannot be added",
            first.shown
        );
        return Err(foreign(Path::new(&other.shown), reason));
    }
    let named: BTreeSet<&String> = members.iter().filter_map(|member| member.config.base.name.as_ref()).collect();
    if named.len() > 1 {
        let all: Vec<String> = named.into_iter().map(|name| format!("`{name}`")).collect();
        notes.push(format!(
            "the bases have different names ({}) and a PEFT folder has no hash to tell by: see that they are one",
            all.join(", ")
        ));
    }
    Ok(())
}

/// Every map is one of the base's, where one of the bases is at hand.
fn known_maps(members: &[Member]) -> Result<(), TrainError> {
    let Some((first, known)) = members.iter().find_map(|member| Some((member, member.known.as_ref()?))) else {
        return Ok(());
    };
    for member in members {
        if let Some(map) = member.maps.keys().find(|map| !known.contains(*map)) {
            let reason = format!(
                "adapts `{map}`, which the base of {} does not have; they are adapters of different models",
                first.shown
            );
            return Err(foreign(Path::new(&member.shown), reason));
        }
    }
    Ok(())
}

/// Every map has one shape in all adapters; their names.
fn same_shapes(members: &[Member]) -> Result<BTreeSet<&String>, TrainError> {
    let mut shapes: BTreeMap<&String, (&Member, (usize, usize))> = BTreeMap::new();
    for member in members {
        for (name, update) in &member.maps {
            let (first, shape) = *shapes.entry(name).or_insert((member, update.shape()));
            if shape != update.shape() {
                let list = <[usize; 2]>::from;
                let reason = format!(
                    "`{name}` is {:?}, but in {} it is {:?}; they are adapters of different models",
                    list(update.shape()),
                    first.shown,
                    list(shape)
                );
                return Err(foreign(Path::new(&member.shown), reason));
            }
        }
    }
    Ok(shapes.into_keys().collect())
}

/// The first few of many.
fn shortened(all: &[String]) -> String {
    const SHOWN: usize = 4;
    let more = all.len().saturating_sub(SHOWN);
    let shown = all[..all.len() - more].join(", ");
    if more > 0 { format!("{shown} and {more} more") } else { shown }
}

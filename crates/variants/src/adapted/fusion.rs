//! A map that computes several in one, and slots for each of them.

use crate::slot::StackPlan;

/// How a map that computes several in one (GPT-2's query, key and value) relates to slots for each of them.
///
/// A stack uses the parts if it adapts or trains one of them, and the fused map otherwise: all that it adapts or copies is on one side.
#[derive(Clone, Debug)]
pub(super) enum Fusion {
    /// The fused map, with the names of its parts.
    Fused(Vec<String>),
    /// A part, with the names of all parts.
    Part(Vec<String>),
}

impl Fusion {
    /// Whether a stack with this plan uses the slot.
    pub(super) fn is_used(&self, plan: &StackPlan) -> bool {
        let named = |part: &String| plan.targets.contains(part) || plan.fully_trained.contains(part);
        let divided = |parts: &[String]| parts.iter().any(named);
        match self {
            Self::Fused(parts) => !divided(parts),
            Self::Part(parts) => divided(parts),
        }
    }
}

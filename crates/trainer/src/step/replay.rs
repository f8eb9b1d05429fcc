//! Recording and replay: a device that records kernels ([`kernels::graph`]) computes a step of a known layout by replaying it.

use std::collections::HashMap;

use burn::tensor::{Device, Tensor};
use kernels::{graph::Graph, memory, ops};

use super::{inputs::DeviceInputs, layout::StepLayout};

/// Recorded steps of one cohort, by layout.
#[derive(Debug, Default)]
pub struct Recordings {
    by_layout: HashMap<StepLayout, Recording>,
    /// Why a step could not be recorded, if one could not.
    pub refused: Option<String>,
}

/// A step as a device replays it.
#[derive(Debug)]
enum Recording {
    /// Run once, kernel by kernel, which chose and compiled its kernels.
    Seen,
    /// Recorded; the inputs and results are the tensors that a replay reads and writes.
    Ready { graph: Box<Graph>, inputs: DeviceInputs, results: Tensor<1> },
    /// The device cannot record it; it is run kernel by kernel.
    Refused,
}

/// The device's half of a step.
type Compute<'a> = dyn FnMut(&StepLayout, &DeviceInputs) -> Tensor<1> + 'a;

/// Records work without running it, in the memory of another recording where there is one, or says why the device cannot.
type Record<'a> = dyn FnMut(Option<&Graph>, &mut dyn FnMut() -> Tensor<1>) -> Result<(Graph, Tensor<1>), String> + 'a;

impl Recordings {
    /// Computes a step. On a device that records, the very first step is run as it is, which loads and compiles what its kernels need;
    /// any later one is recorded where its layout is new, and replayed.
    pub fn run(
        &mut self,
        device: &Device,
        layout: StepLayout,
        inputs: DeviceInputs,
        compute: &mut Compute<'_>,
    ) -> Tensor<1> {
        if !Graph::is_supported(device) {
            return compute(&layout, &inputs);
        }
        self.run_or_replay(layout, inputs, compute, &mut |other, work| {
            // What the allocator keeps from the run kernel by kernel would lie beside the recording's own memory.
            memory::release(device);
            Graph::record(device, other, work)
        })
    }

    /// Computes a step on a device that records by `record`.
    pub(super) fn run_or_replay(
        &mut self,
        layout: StepLayout,
        inputs: DeviceInputs,
        compute: &mut Compute<'_>,
        record: &mut Record<'_>,
    ) -> Tensor<1> {
        let (results, recording) = match self.by_layout.remove(&layout) {
            None if self.by_layout.is_empty() => (compute(&layout, &inputs), Recording::Seen),
            Some(Recording::Refused) => (compute(&layout, &inputs), Recording::Refused),
            seen @ (None | Some(Recording::Seen)) => match record(self.any(), &mut || compute(&layout, &inputs)) {
                Ok((mut graph, results)) => {
                    graph.replay();
                    let copy = ops::snapshot(results.clone());
                    (copy, Recording::Ready { graph: Box::new(graph), inputs, results })
                }
                // Perhaps a library had to load something for a new shape: it has, when the shape comes again.
                Err(_) if seen.is_none() => (compute(&layout, &inputs), Recording::Seen),
                Err(reason) => {
                    self.refused = Some(reason);
                    (compute(&layout, &inputs), Recording::Refused)
                }
            },
            Some(Recording::Ready { mut graph, inputs: mut places, results }) => {
                places.replace(inputs);
                graph.replay();
                (ops::snapshot(results.clone()), Recording::Ready { graph, inputs: places, results })
            }
        };
        self.by_layout.insert(layout, recording);
        results
    }

    /// A recording, where there is one.
    fn any(&self) -> Option<&Graph> {
        self.by_layout.values().find_map(|recording| match recording {
            Recording::Ready { graph, .. } => Some(graph.as_ref()),
            Recording::Seen | Recording::Refused => None,
        })
    }
}

//! The way back through a graph: from the gradient in a result to those in everything that it was made from.

use std::collections::BTreeMap;

use super::graph::{Graph, Value};
use super::ops::pointwise;
use crate::error::{Error, Result};

impl Graph {
    /// Appends the steps that make the gradients of everything that `of` was made from, `gradient` being the one in
    /// `of`. Gradients of a value that is used more than once are added up in the reverse order of its uses.
    ///
    /// # Errors
    /// [`Error::Bug`] where an op's gradients do not fit its inputs.
    pub fn backward(&mut self, of: Value, gradient: Value) -> Result<BTreeMap<Value, Value>> {
        self.backward_of_all([(of, gradient)])
    }

    /// The same from several results, each with the gradient in it: what a loss of more than one part begins from.
    ///
    /// # Errors
    /// As [`Graph::backward`].
    pub fn backward_of_all(&mut self, all: impl IntoIterator<Item = (Value, Value)>) -> Result<BTreeMap<Value, Value>> {
        let mut gradients: BTreeMap<Value, Value> = all.into_iter().collect();
        for node in std::mem::take(&mut self.nodes).into_iter().rev() {
            let Some(gradient) = gradients.remove(&node.output) else { continue };
            let wanted: Vec<bool> = node.inputs.iter().map(|v| self.wants_gradient(*v)).collect();
            let parts = (node.backward)(self, gradient, &wanted)?;
            if parts.len() != wanted.len() {
                let problem = format!("{} gradients of {} inputs at {}", parts.len(), wanted.len(), node.label);
                return Err(Error::Bug { place: "device graph", problem });
            }
            for ((input, part), wanted) in node.inputs.iter().zip(parts).zip(wanted) {
                let (Some(part), true) = (part, wanted) else { continue };
                if self.shape(part).len() != self.shape(*input).len() {
                    let (found, expected) = (self.shape(part), self.shape(*input));
                    let problem = format!("a gradient {found} of an input {expected} at {}", node.label);
                    return Err(Error::Bug { place: "device graph", problem });
                }
                let sum = match gradients.get(input) {
                    None => part,
                    Some(&other) => pointwise::add(self, &node.label, other, part)?,
                };
                gradients.insert(*input, sum);
            }
        }
        Ok(gradients)
    }
}

//! Runs that are started without waiting for them, so that a device works on one while the next is made ready.

use std::sync::Arc;

use graphc_ir::Tensor;

use super::cache::Specialization;
use super::{Outputs, Session};
use crate::error::Result;
use crate::executor;

/// A run that [`Session::start`] started, to be finished by the same session.
#[derive(Debug)]
pub struct Started {
    specialization: Arc<Specialization>,
    run: executor::Started,
}

impl Session {
    /// Starts a run as [`Session::run`] makes it, on a GPU without waiting for its results; elsewhere it is over when this
    /// returns. Runs happen in the order in which they are started, each with the state that those before left, and values
    /// of state that are asked for are those after all of them.
    ///
    /// A check that fails on a GPU is told by [`Session::finish`]. That run leaves the state as it was, and runs that were
    /// started after it go on from there.
    ///
    /// # Errors
    /// Those of [`Session::run`] that can be told without waiting.
    pub fn start<'f>(
        &mut self,
        name: &str,
        feeds: impl IntoIterator<Item = (&'f str, &'f Tensor)>,
    ) -> Result<Started> {
        let feeds: Vec<_> = feeds.into_iter().collect();
        let specialization = self.specialization(name, &feeds)?;
        self.check_state(&specialization)?;
        let outputs = specialization.new_outputs()?;
        let Session { module, executor, state, .. } = self;
        let function = &module.functions[specialization.function];
        let run = executor.start(&specialization.code, function, &feeds, outputs, state);
        match run {
            Ok(run) => Ok(Started { specialization, run }),
            Err(e) => Err(self.located(&specialization, &feeds, e)),
        }
    }

    /// Waits for a run and gives its outputs. On a GPU they are kept for the last three runs of a function that were
    /// started, so that two may be under way while a third is finished.
    ///
    /// # Errors
    /// [`crate::Error::Data`] for a check of the model that fails, [`crate::Error::Usage`] if too many runs were started
    /// since, [`crate::Error::Device`] if the device is lost.
    pub fn finish(&self, started: Started) -> Result<Outputs> {
        let Started { specialization, run } = started;
        let outputs = self.executor.finish(&specialization.code, run, || specialization.new_outputs())?;
        Ok(self.named(&specialization, outputs))
    }
}

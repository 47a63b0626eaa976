//! What is measured: losses and metrics, on the data that is trained on and on another.

use graphc::ir::module::OutputMark;
use graphc::{Function, Outputs, Session};

use super::dataset::{Batch, BatchSize, Dataset, batch_size};
use super::spec::DataSpec;
use super::{EVALUATE, STEP, check_batches};
use crate::exit::{Failure, Result};

/// Outputs of a function that are averaged.
pub struct Marked(Vec<String>, usize);

impl Marked {
    /// The losses, of which there is at least one in `train_step`, then the metrics.
    pub fn of(name: &str, function: &Function) -> Result<Marked> {
        let with = |mark| {
            let marked = function.outputs.iter().filter(move |o| o.mark == Some(mark));
            marked.map(|o| o.name.clone()).collect::<Vec<_>>()
        };
        let losses = with(OutputMark::Loss);
        let count = losses.len();
        if count == 0 && name == STEP {
            return Err(Failure::data(format!("function `{name}` has no output that is marked as a loss")));
        }
        let all = [losses, with(OutputMark::Metric)].concat();
        for (output, value) in function.outputs.iter().zip(function.output_values()) {
            let ty = function.graph.ty(*value);
            if all.contains(&output.name) && (ty.rank() != 0 || !ty.dtype.is_float()) {
                return Err(Failure::data(format!(
                    "output `{}` of function `{name}` is marked, so it must be one float, but it is {ty}",
                    output.name
                )));
            }
        }
        Ok(Marked(all, count))
    }

    /// Adds a batch's values, weighted with its rows.
    pub fn add(&self, sums: &mut Vec<f64>, outputs: &Outputs, rows: usize) {
        sums.resize(self.0.len(), 0.0);
        for (sum, name) in sums.iter_mut().zip(&self.0) {
            *sum += outputs[name.as_str()].get(0).as_f64() * rows as f64;
        }
    }

    /// Names and averages.
    pub fn averages<'a>(&'a self, sums: &[f64], rows: usize) -> impl Iterator<Item = (&'a str, f64)> {
        self.0.iter().zip(sums).map(move |(name, sum)| (name.as_str(), sum / rows as f64))
    }

    /// A loss that is not a number any more.
    pub fn broken(&self, outputs: &Outputs) -> Option<String> {
        let mut losses = self.0[..self.1].iter().map(|n| (n, outputs[n.as_str()].get(0).as_f64()));
        let broken = losses.find(|(_, value)| !value.is_finite());
        broken.map(|(name, value)| format!("`{name}` is {value}"))
    }
}

/// The rows of `--test`.
pub struct Test {
    data: Dataset,
    marked: Marked,
    size: BatchSize,
}

impl Test {
    /// Reads the rows.
    pub fn load(spec: &DataSpec, evaluate: &Function) -> Result<Test> {
        let size = batch_size(EVALUATE, evaluate)?;
        let data = Dataset::load(spec, EVALUATE, evaluate)?;
        Ok(Test { data, marked: Marked::of(EVALUATE, evaluate)?, size })
    }

    /// Whether `evaluate` takes the batches that the rows make.
    pub fn check_batches(&self, batch: usize) -> Result<()> {
        check_batches(EVALUATE, self.size, self.batch(batch), self.data.rows())
    }

    fn batch(&self, batch: usize) -> usize {
        match self.size {
            BatchSize::Fixed(n) => n,
            BatchSize::Any => batch,
        }
    }

    /// Names and averages over all rows.
    pub fn averages(&self, session: &Session, batch: usize) -> Result<Vec<(&str, f64)>> {
        let sums = self.sums(session, batch)?;
        Ok(self.marked.averages(&sums, self.data.rows()).collect())
    }

    fn sums(&self, session: &Session, batch: usize) -> Result<Vec<f64>> {
        let rows: Vec<usize> = (0..self.data.rows()).collect();
        let mut sums = vec![0.0; self.marked.0.len()];
        let size = self.batch(batch);
        let mut batch = Batch::default();
        for rows in rows.chunks(size) {
            let outputs = session.run_shared(EVALUATE, self.data.batch(rows, &mut batch))?;
            self.marked.add(&mut sums, &outputs, rows.len());
        }
        Ok(sums)
    }
}

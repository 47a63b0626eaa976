//! How far a training has come, kept in the module so that it can go on to the same bits.

use graphc::Module;
use graphc::ir::module::Meta;

use crate::exit::{Failure, Result};

/// Key of the record in a module's `meta`.
const KEY: &str = "training";

/// Where a training stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// Seed of the order of rows.
    pub seed: u64,
    /// Rows of a batch.
    pub batch: usize,
    /// Rows of the data set.
    pub rows: usize,
    /// How many epochs there shall be.
    pub epochs: u64,
    /// Epochs that are done.
    pub epoch: u64,
    /// Batches of the next epoch that are done.
    pub step: usize,
    /// Sums of the losses and metrics of those batches, weighted with their rows.
    pub sums: Vec<f64>,
}

impl Record {
    /// Writes the record into a module.
    pub fn write(&self, module: &mut Module) {
        let int = |v: usize| Meta::Int(i64::try_from(v).unwrap_or(i64::MAX));
        let entries = [
            // A seed may be larger than the integers of a file.
            ("seed", Meta::Text(self.seed.to_string())),
            ("batch", int(self.batch)),
            ("rows", int(self.rows)),
            ("epochs", int(self.epochs as usize)),
            ("epoch", int(self.epoch as usize)),
            ("step", int(self.step)),
            ("sums", Meta::List(self.sums.iter().map(|s| Meta::Real(*s)).collect())),
        ];
        if let Meta::Map(map) = &mut module.meta {
            map.insert(KEY.into(), Meta::Map(entries.into_iter().map(|(k, v)| (k.to_owned(), v)).collect()));
        }
    }

    /// The record of a module, if it has one.
    pub fn read(module: &Module) -> Result<Option<Record>> {
        let Some(meta) = module.meta.get(KEY) else { return Ok(None) };
        let whole = |key: &str| match meta.get(key) {
            Some(Meta::Int(v)) => u64::try_from(*v).ok(),
            _ => None,
        };
        let record = || {
            let Some(Meta::Text(seed)) = meta.get("seed") else { return None };
            let Some(Meta::List(sums)) = meta.get("sums") else { return None };
            let number = |m: &Meta| match m {
                Meta::Real(v) => Some(*v),
                Meta::Int(v) => Some(*v as f64),
                _ => None,
            };
            Some(Record {
                seed: seed.parse().ok()?,
                batch: whole("batch")?.try_into().ok().filter(|b| *b > 0)?,
                rows: whole("rows")?.try_into().ok()?,
                epochs: whole("epochs")?,
                epoch: whole("epoch")?,
                step: whole("step")?.try_into().ok()?,
                sums: sums.iter().map(number).collect::<Option<_>>()?,
            })
        };
        record().map(Some).ok_or_else(|| {
            Failure::data(format!(
                "the record of training in `meta.{KEY}` is damaged; remove it to train anew"
            ))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_survive() {
        let record = Record {
            seed: u64::MAX,
            batch: 30,
            rows: 898,
            epochs: 80,
            epoch: 3,
            step: 17,
            sums: vec![0.1, 3.0],
        };
        let mut module = Module::default();
        assert_eq!(Record::read(&module).unwrap(), None);
        record.write(&mut module);
        assert_eq!(Record::read(&module).unwrap(), Some(record));
    }

    #[test]
    fn damage_is_told() {
        for (key, value) in
            [("batch", Meta::Int(0)), ("step", Meta::Int(-1)), ("seed", Meta::Int(3)), ("sums", Meta::Null)]
        {
            let record =
                Record { seed: 0, batch: 1, rows: 1, epochs: 1, epoch: 0, step: 0, sums: Vec::new() };
            let mut module = Module::default();
            record.write(&mut module);
            let Meta::Map(meta) = &mut module.meta else { panic!("meta is a map") };
            let Some(Meta::Map(entries)) = meta.get_mut(KEY) else { panic!("there is a record") };
            entries.insert(key.into(), value);
            assert!(Record::read(&module).is_err(), "{key}");
        }
    }
}

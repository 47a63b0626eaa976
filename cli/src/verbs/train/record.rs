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
    /// What tells the data from others; records of former versions lack it.
    pub data: Option<u64>,
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
    /// Batches of an epoch.
    fn batches(&self) -> u64 {
        self.rows.div_ceil(self.batch) as u64
    }

    /// Steps that were made, of all epochs.
    pub fn steps(&self) -> u64 {
        self.epoch.saturating_mul(self.batches()).saturating_add(self.step as u64)
    }

    /// The epoch and the batch of a step, all counted from 1.
    pub fn place_of(&self, step: u64) -> (u64, u64) {
        let before = step.saturating_sub(1);
        (before / self.batches().max(1) + 1, before % self.batches().max(1) + 1)
    }

    /// Goes on to the next epoch, and gives the sums of the one that is done.
    pub fn end_epoch(&mut self) -> Vec<f64> {
        (self.epoch, self.step) = (self.epoch + 1, 0);
        std::mem::take(&mut self.sums)
    }

    /// Writes the record into a module.
    pub fn write(&self, module: &mut Module) {
        let int = |v: usize| Meta::Int(i64::try_from(v).unwrap_or(i64::MAX));
        let data = self.data.map(|d| ("data", Meta::Text(format!("{d:016x}"))));
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
            let entries = entries.into_iter().chain(data);
            map.insert(KEY.into(), Meta::Map(entries.map(|(k, v)| (k.to_owned(), v)).collect()));
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
                // A metric need not be finite, and a file has texts for what is not.
                Meta::Text(text) => match text.as_str() {
                    "nan" => Some(f64::NAN),
                    "inf" => Some(f64::INFINITY),
                    "-inf" => Some(f64::NEG_INFINITY),
                    _ => None,
                },
                _ => None,
            };
            let data = match meta.get("data") {
                None => None,
                Some(Meta::Text(hash)) => Some(u64::from_str_radix(hash, 16).ok()?),
                Some(_) => return None,
            };
            Some(Record {
                data,
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
    use graphc::ir::wire;

    #[test]
    fn records_survive() {
        let record = Record {
            seed: u64::MAX,
            batch: 30,
            rows: 898,
            data: Some(u64::MAX / 3),
            epochs: 80,
            epoch: 3,
            step: 17,
            sums: vec![0.1, 3.0, f64::INFINITY, f64::NEG_INFINITY],
        };
        let mut module = Module::default();
        assert_eq!(Record::read(&module).unwrap(), None);
        record.write(&mut module);
        assert_eq!(Record::read(&module).unwrap(), Some(record.clone()));
        // As a file, too, which has no numbers for some of these.
        let text = wire::encode(&module, &wire::EncodeOptions::default()).unwrap();
        let module = wire::decode(text.as_bytes(), &wire::DecodeOptions::default()).unwrap();
        assert_eq!(Record::read(&module).unwrap(), Some(record.clone()));
        let mut module = module;
        Record { sums: vec![f64::NAN], ..record }.write(&mut module);
        let text = wire::encode(&module, &wire::EncodeOptions::default()).unwrap();
        let module = wire::decode(text.as_bytes(), &wire::DecodeOptions::default()).unwrap();
        assert!(Record::read(&module).unwrap().unwrap().sums[0].is_nan());
    }

    #[test]
    fn places_of_steps() {
        let mut record =
            Record { seed: 0, batch: 4, rows: 10, data: None, epochs: 9, epoch: 2, step: 1, sums: vec![1.0] };
        assert_eq!(record.steps(), 7);
        assert_eq!((record.place_of(7), record.place_of(6), record.place_of(1)), ((3, 1), (2, 3), (1, 1)));
        assert_eq!(record.end_epoch(), [1.0]);
        assert_eq!((record.steps(), record.sums.len()), (9, 0));
    }

    #[test]
    fn damage_is_told() {
        for (key, value) in [
            ("batch", Meta::Int(0)),
            ("step", Meta::Int(-1)),
            ("seed", Meta::Int(3)),
            ("sums", Meta::Null),
            ("data", Meta::Int(1)),
        ] {
            let record = Record {
                seed: 0,
                batch: 1,
                rows: 1,
                data: None,
                epochs: 1,
                epoch: 0,
                step: 0,
                sums: Vec::new(),
            };
            let mut module = Module::default();
            record.write(&mut module);
            let Meta::Map(meta) = &mut module.meta else { panic!("meta is a map") };
            let Some(Meta::Map(entries)) = meta.get_mut(KEY) else { panic!("there is a record") };
            entries.insert(key.into(), value);
            assert!(Record::read(&module).is_err(), "{key}");
        }
    }
}

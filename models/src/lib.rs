//! Builders of the shipped models and the JSON files that they write.

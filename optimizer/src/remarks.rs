//! What the passes did and why they did not do more.

/// One remark.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remark {
    /// The pass or rule.
    pub pass: &'static str,
    /// Whether something was done, or was not.
    pub applied: bool,
    /// The sentence.
    pub text: String,
}

/// Collects remarks if someone wants them.
#[derive(Clone, Debug, Default)]
pub struct Remarks {
    enabled: bool,
    list: Vec<Remark>,
}

impl Remarks {
    /// A collector.
    pub fn enabled() -> Remarks {
        Remarks { enabled: true, list: Vec::new() }
    }

    /// Something was done.
    pub fn applied(&mut self, pass: &'static str, text: impl FnOnce() -> String) {
        self.push(pass, true, text);
    }

    /// Something was not done.
    pub fn missed(&mut self, pass: &'static str, text: impl FnOnce() -> String) {
        self.push(pass, false, text);
    }

    fn push(&mut self, pass: &'static str, applied: bool, text: impl FnOnce() -> String) {
        if self.enabled {
            self.list.push(Remark { pass, applied, text: text() });
        }
    }

    /// The remarks in order.
    pub fn list(&self) -> &[Remark] {
        &self.list
    }
}

//! What the values of a body are called where several elements are computed at once.

use graphc_ir::program::{Body, InstOp, View};

use crate::place::VECTOR;

/// Names of values. An invocation may compute several elements: four neighbours along the last dim, each of which is a
/// variable of its own, and that again for several coordinates, whose variables have a tag.
#[derive(Clone, Debug, Default)]
pub struct Names {
    /// Whether four neighbours are computed, and which values differ between them, by instruction.
    differs: Option<Vec<bool>>,
    /// The tag, and which values have it.
    tag: Option<(String, Vec<bool>)>,
}

impl Names {
    /// For one element.
    pub fn single() -> Names {
        Names::default()
    }

    /// For four neighbours along the last dim, of which `view` and `index` tell how the loads of a port and the coordinates
    /// of an instruction change. What the kernel made differs between neighbours; leaves and what is `fixed` do not.
    pub fn neighbours<'a>(
        body: &Body,
        view: impl Fn(usize) -> &'a View,
        index: impl Fn(usize) -> i64,
        fixed: impl Fn(usize) -> bool,
    ) -> Names {
        let mut differs: Vec<bool> = Vec::with_capacity(body.insts.len());
        for (i, inst) in body.insts.iter().enumerate() {
            let own = !fixed(i)
                && match &inst.op {
                    InstOp::Acc => true,
                    InstOp::Load(port) => {
                        let view = view(*port);
                        view.strides.last().is_some_and(|s| *s != 0) || view.guard.is_some()
                    }
                    InstOp::Index(_) => index(i) != 0,
                    InstOp::Fold(..) => false,
                    _ => inst.args.iter().any(|r| differs[r.index()]),
                };
            differs.push(own);
        }
        Names { differs: Some(differs), tag: None }
    }

    /// The same with a tag on some values.
    pub fn tagged(&self, tag: String, which: Vec<bool>) -> Names {
        Names { tag: Some((tag, which)), ..self.clone() }
    }

    /// Elements that are computed at once.
    pub fn width(&self) -> usize {
        if self.differs.is_some() { VECTOR } else { 1 }
    }

    /// The elements for which a value has a variable.
    pub fn lanes(&self, inst: usize) -> usize {
        if self.differs.as_ref().is_some_and(|d| d[inst]) { VECTOR } else { 1 }
    }

    /// The variable of a value for an element.
    pub fn of(&self, inst: usize, lane: usize) -> String {
        let tag = match &self.tag {
            Some((tag, which)) if which[inst] => tag,
            _ => "",
        };
        if self.lanes(inst) > 1 { format!("v{inst}{tag}_{lane}") } else { format!("v{inst}{tag}") }
    }
}

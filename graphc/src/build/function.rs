//! One function under construction.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::fmt;

use graphc_ir::builder::Builder;
use graphc_ir::dim::Dim;
use graphc_ir::error::{Error, Result};
use graphc_ir::expr::{Expr, Scope};
use graphc_ir::fail;
use graphc_ir::graph::ValueId;
use graphc_ir::module::{OutputDecl, OutputMark, StateDecl};
use graphc_ir::ops::{Op, RandomBits};
use graphc_ir::origin::Origins;
use graphc_ir::tensor::Tensor;
use graphc_ir::types::TensorType;
use graphc_ir::wire::suggest::closest;

/// Builds one function of a module, given to the closure of
/// [`ModuleBuilder::function`](super::ModuleBuilder::function).
///
/// Calls that name something return a `Result`; arithmetic does not: its first error is kept and
/// returned by the next call, at the latest when the function is finished.
pub struct FunctionBuilder<'b> {
    pub(super) state: &'b [StateDecl],
    /// Positions of the state variables by name; looked up only, as all sets of names here.
    places: HashMap<&'b str, usize>,
    pub(super) scope: Scope<'b>,
    draft: RefCell<Draft>,
}

/// What the function has beside its graph.
#[derive(Default)]
pub(super) struct Draft {
    pub inputs: Vec<String>,
    pub outputs: Vec<(OutputDecl, ValueId)>,
    pub updates: Vec<(usize, ValueId)>,
    pub differentiated: bool,
    names: HashSet<String>,
    input_names: HashSet<String>,
    output_names: HashSet<String>,
    updated: HashSet<usize>,
}

impl fmt::Debug for FunctionBuilder<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let draft = self.draft.borrow();
        f.debug_struct("FunctionBuilder").field("inputs", &draft.inputs).finish_non_exhaustive()
    }
}

impl<'b> FunctionBuilder<'b> {
    pub(super) fn new(state: &'b [StateDecl], b: &'b mut Builder) -> FunctionBuilder<'b> {
        // Of two variables with one name the first counts.
        let places = state.iter().enumerate().rev().map(|(i, s)| (s.name.as_str(), i)).collect();
        FunctionBuilder { state, places, scope: Scope::new(b), draft: RefCell::default() }
    }

    /// The draft, or the first error: what the closure returned may be a consequence of it.
    pub(super) fn finish(self, built: Result<()>) -> Result<Draft> {
        self.scope.finish()?;
        built?;
        Ok(self.draft.into_inner())
    }

    /// Declares the next input by name and type, such as `f.input("x", "f32[B,784]")`.
    ///
    /// # Errors
    /// A name that is taken, or a type that cannot be read.
    pub fn input(&self, name: &str, ty: &str) -> Result<Expr<'_>> {
        if self.draft.borrow().input_names.contains(name) {
            fail!("two inputs are named `{name}`");
        }
        let ty = TensorType::parse(ty).map_err(|e| e.at(format!("input `{name}`")))?;
        let value = self.build_named(name, |b| b.input(ty))?;
        let mut draft = self.draft.borrow_mut();
        draft.inputs.push(name.into());
        draft.input_names.insert(name.into());
        Ok(value)
    }

    /// The value of a state variable before the run.
    ///
    /// # Errors
    /// An unknown name.
    pub fn state(&self, name: &str) -> Result<Expr<'_>> {
        let index = self.state_index(name)?;
        self.build_named(name, |b| b.state(index, self.state[index].ty.clone()))
    }

    pub(super) fn state_index(&self, name: &str) -> Result<usize> {
        self.places.get(name).copied().ok_or_else(|| {
            let error = Error::new(format!("there is no state `{name}`"));
            match closest(name, self.state.iter().map(|s| s.name.as_str())) {
                Some(near) => error.help(format!("did you mean `{near}`?")),
                None => error.help("declare it before the functions"),
            }
        })
    }

    fn build_named(&self, name: &str, f: impl FnOnce(&mut Builder) -> Result<ValueId>) -> Result<Expr<'_>> {
        let id = self.scope.build(|b| {
            b.set_origins(Origins::named(name));
            let id = f(b);
            b.set_origins(Origins::default());
            id
        })?;
        Ok(self.scope.expr(id))
    }

    /// A constant.
    ///
    /// # Errors
    /// The first error of the expressions so far.
    pub fn constant(&self, value: Tensor) -> Result<Expr<'_>> {
        let id = self.scope.build(|b| b.constant(value))?;
        Ok(self.scope.expr(id))
    }

    /// An operation with one result, such as `f.op(Softmax { axis: 1 }, &[x])`.
    ///
    /// # Errors
    /// Operands that the operation does not take.
    pub fn op(&self, op: impl Into<Op>, ins: &[Expr<'_>]) -> Result<Expr<'_>> {
        Ok(self.op_many(op, ins)?[0])
    }

    /// The results of an operation.
    ///
    /// # Errors
    /// Operands that the operation does not take.
    pub fn op_many(&self, op: impl Into<Op>, ins: &[Expr<'_>]) -> Result<Vec<Expr<'_>>> {
        let ins: Vec<ValueId> = ins.iter().map(|e| e.id()).collect();
        let outs = self.scope.build(|b| b.op(op, &ins))?;
        Ok(outs.into_iter().map(|id| self.scope.expr(id)).collect())
    }

    /// Names a value. The nodes without a name that it is computed by get the name as well, for
    /// messages; in files they are told apart by their operation.
    ///
    /// # Errors
    /// A name given before.
    pub fn name<'s>(&'s self, name: &str, value: Expr<'s>) -> Result<Expr<'s>> {
        let mut draft = self.draft.borrow_mut();
        if !draft.names.insert(name.into()) {
            fail!("two values are named `{name}`");
        }
        let origin = Origins::named(name);
        self.scope.build(|b| {
            let mut next = vec![value.id()];
            let mut top = true;
            while let Some(v) = next.pop() {
                let id = b.graph().value(v).node;
                if b.graph().origins(id).is_empty() {
                    next.extend(&b.graph().node(id).ins);
                } else if !top {
                    continue;
                }
                b.add_origin(v, &origin);
                top = false;
            }
            Ok(())
        })?;
        Ok(value)
    }

    /// `count` keys derived from a key, so that each draw has its own. Whoever derives keys from a
    /// state variable also updates it by one of them.
    ///
    /// # Errors
    /// If `key` is not u32`[2]`.
    pub fn split_key(&self, key: Expr<'_>, count: usize) -> Result<Vec<Expr<'_>>> {
        let two = Dim::from(2usize);
        let ids = self.scope.build(|b| {
            let bits = b.op1(RandomBits { dims: vec![count.into(), two.clone()] }, &[key.id()])?;
            (0..count)
                .map(|i| {
                    let row = b.slice_axis(bits, 0, &i.into(), &(i + 1).into())?;
                    b.reshape(row, std::slice::from_ref(&two))
                })
                .collect::<Result<Vec<_>>>()
        })?;
        Ok(ids.into_iter().map(|id| self.scope.expr(id)).collect())
    }

    /// Gradients of a rank-0 loss with respect to inputs and state.
    ///
    /// # Errors
    /// Those of [`graphc_optimizer::grad::gradients`].
    pub fn gradients(&self, loss: Expr<'_>, wrt: &[Expr<'_>]) -> Result<Vec<Expr<'_>>> {
        let wrt: Vec<ValueId> = wrt.iter().map(|e| e.id()).collect();
        let ids = self.scope.build(|b| graphc_optimizer::grad::gradients(b, loss.id(), &wrt))?;
        self.draft.borrow_mut().differentiated = true;
        Ok(ids.into_iter().map(|id| self.scope.expr(id)).collect())
    }

    /// Where values are built: its methods write loops, branches and calls as closures.
    pub fn scope(&self) -> &Scope<'b> {
        &self.scope
    }

    /// The derivatives of values along tangents of inputs and state, by forward mode: pairs of a value and its
    /// tangent. Use these values rather than the given ones, and loops are run once.
    ///
    /// # Errors
    /// Those of [`graphc_optimizer::grad::jvp`].
    pub fn jvp<'s>(
        &'s self,
        of: &[Expr<'s>],
        wrt: &[Expr<'s>],
        tangents: &[Expr<'s>],
    ) -> Result<Vec<(Expr<'s>, Expr<'s>)>> {
        let [of, wrt, tangents] = [of, wrt, tangents].map(ids);
        self.pairs(|b| graphc_optimizer::grad::jvp(b, &of, &wrt, &tangents))
    }

    /// The gradient of a rank-0 loss with the products of its Hessian and vectors: pairs for each of `wrt`.
    ///
    /// # Errors
    /// Those of [`graphc_optimizer::grad::hvp`].
    pub fn hvp<'s>(
        &'s self,
        loss: Expr<'s>,
        wrt: &[Expr<'s>],
        vectors: &[Expr<'s>],
    ) -> Result<Vec<(Expr<'s>, Expr<'s>)>> {
        let [wrt, vectors] = [wrt, vectors].map(ids);
        self.pairs(|b| graphc_optimizer::grad::hvp(b, loss.id(), &wrt, &vectors))
    }

    /// The Jacobian of a value, for small functions: its dims, then those of `wrt`.
    ///
    /// # Errors
    /// Those of [`graphc_optimizer::grad::jacobian`].
    pub fn jacobian<'s>(&'s self, of: Expr<'s>, wrt: Expr<'s>) -> Result<Expr<'s>> {
        let id = self.scope.build(|b| graphc_optimizer::grad::jacobian(b, of.id(), wrt.id()))?;
        self.draft.borrow_mut().differentiated = true;
        Ok(self.scope.expr(id))
    }

    /// The Hessian of a rank-0 loss, for small functions: the dims of `wrt`, twice.
    ///
    /// # Errors
    /// Those of [`graphc_optimizer::grad::hessian`].
    pub fn hessian<'s>(&'s self, loss: Expr<'s>, wrt: Expr<'s>) -> Result<Expr<'s>> {
        let id = self.scope.build(|b| graphc_optimizer::grad::hessian(b, loss.id(), wrt.id()))?;
        self.draft.borrow_mut().differentiated = true;
        Ok(self.scope.expr(id))
    }

    fn pairs<'s>(
        &'s self,
        f: impl FnOnce(&mut Builder) -> Result<Vec<(ValueId, ValueId)>>,
    ) -> Result<Vec<(Expr<'s>, Expr<'s>)>> {
        let pairs = self.scope.build(f)?;
        self.draft.borrow_mut().differentiated = true;
        Ok(pairs.into_iter().map(|(a, b)| (self.scope.expr(a), self.scope.expr(b))).collect())
    }

    /// Declares the next output.
    ///
    /// # Errors
    /// A name that is taken.
    pub fn output(&self, name: &str, value: Expr<'_>) -> Result<()> {
        self.push_output(name, None, value)
    }

    /// Declares the next output as a loss, which evaluations average.
    ///
    /// # Errors
    /// A name that is taken.
    pub fn loss(&self, name: &str, value: Expr<'_>) -> Result<()> {
        self.push_output(name, Some(OutputMark::Loss), value)
    }

    /// Declares the next output as a metric, which evaluations average.
    ///
    /// # Errors
    /// A name that is taken.
    pub fn metric(&self, name: &str, value: Expr<'_>) -> Result<()> {
        self.push_output(name, Some(OutputMark::Metric), value)
    }

    fn push_output(&self, name: &str, mark: Option<OutputMark>, value: Expr<'_>) -> Result<()> {
        let mut draft = self.draft.borrow_mut();
        if !draft.output_names.insert(name.into()) {
            fail!("two outputs are named `{name}`");
        }
        draft.outputs.push((OutputDecl { name: name.into(), mark }, value.id()));
        Ok(())
    }

    /// Assigns a state variable at the end of a run. All updates of a function are one parallel
    /// assignment: each sees the old values.
    ///
    /// # Errors
    /// An unknown name, a variable that is updated already, or a value of another type.
    pub fn update(&self, name: &str, value: Expr<'_>) -> Result<()> {
        let index = self.state_index(name)?;
        let mut draft = self.draft.borrow_mut();
        if draft.updated.contains(&index) {
            fail!("`{name}` is updated twice");
        }
        let id = value.id();
        let wanted = &self.state[index].ty;
        self.scope.build(|b| {
            if b.ty(id) != wanted {
                fail!("`{name}` is {wanted}, but is updated by {}", b.ty(id));
            }
            Ok(())
        })?;
        draft.updates.push((index, id));
        draft.updated.insert(index);
        Ok(())
    }
}

fn ids(values: &[Expr<'_>]) -> Vec<ValueId> {
    values.iter().map(|e| e.id()).collect()
}

//! The pool of values that a random graph is grown from.

use graphc_ir::dim::Symbol;
use graphc_ir::error::{Error, Result};
use graphc_ir::module::{StateDecl, StateRole};
use graphc_ir::ops::attr::Real;
use graphc_ir::ops::{Iota, Normal, TruncatedNormal, Uniform};
use graphc_ir::stage::has_constant_zero;
use graphc_ir::{Binding, Builder, DType, Dim, Scalar, ScalarFn, Tensor, TensorType, ValueId};

use super::prng::Prng;
use super::{Config, branches, elementwise, images, layers, literals, movement, scans, sequences};

/// The batch that sizes are estimated with.
const ASSUMED_BATCH: usize = 6;
/// Bodies in each other.
const MAX_DEPTH: usize = 2;
/// Inputs that a function has at most.
const MAX_INPUTS: usize = 6;

/// A value of the pool and what is known of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Value {
    pub id: ValueId,
    /// The magnitude of no element exceeds it.
    pub bound: f64,
    /// All devices agree on its bits.
    pub exact: bool,
}

/// What an input is filled with.
#[derive(Clone, Copy, Debug)]
pub(super) enum Fill {
    /// Reals in -2..2 without structure.
    Reals,
    /// Multiples of 1/8 in -2..=2: ties and zeros occur, and f16 holds them.
    Grid,
    /// Integers in -8..=8, or 0..=8.
    Ints,
    /// Any words.
    Words,
}

/// An input of the function.
#[derive(Clone, Debug)]
pub(super) struct InputSpec {
    pub name: String,
    pub ty: TensorType,
    pub fill: Fill,
}

impl Fill {
    pub fn tensor(self, ty: &TensorType, binding: &Binding, prng: &mut Prng) -> Result<Tensor> {
        let shape =
            ty.dims.iter().map(|d| d.bind_size(binding)).collect::<std::result::Result<Vec<_>, _>>()?;
        let lowest = if ty.dtype.is_signed_int() { -8 } else { 0 };
        Ok(Tensor::from_fn(ty.dtype, &shape, |_| match self {
            Fill::Reals => Scalar::F(prng.real(-2.0, 2.0)),
            Fill::Grid => Scalar::F(prng.below(33) as f64 / 8.0 - 2.0),
            Fill::Ints => Scalar::I(lowest + prng.below((9 - lowest) as usize) as i128),
            Fill::Words => Scalar::I(i128::from(prng.word() as u32)),
        }))
    }
}

/// Where a move takes place: a body has no inputs or state of its own making.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Function,
    Body,
}

/// Grows a graph.
pub(super) struct Generator {
    pub prng: Prng,
    pub b: Builder,
    /// The float type of the arithmetic.
    pub float: DType,
    pub inputs: Vec<InputSpec>,
    pub state: Vec<StateDecl>,
    pub state_values: Vec<ValueId>,
    /// The symbol `B`, if there is one.
    pub batch: Option<Dim>,
    pub least_batch: usize,
    place: Place,
    /// Bodies around this one.
    depth: usize,
    has_state: bool,
    grid: f64,
    sizes: Vec<usize>,
    /// No value has more elements for a `B` of [`ASSUMED_BATCH`].
    max_elements: usize,
    pool: Vec<Value>,
}

impl Generator {
    pub fn new(mut prng: Prng, config: &Config, gradients: bool) -> Result<Generator> {
        let drawn = if prng.chance(0.75) { DType::F32 } else { DType::F64 };
        let mut sizes: Vec<usize> = (0..3).map(|_| prng.pick(&config.sizes)).collect();
        if prng.chance(config.empty) {
            sizes.push(0);
        }
        let batch = prng.chance(config.symbolic).then(|| Symbol::new("B")).transpose()?;
        let least_batch = prng.below(3);
        let mut b = Builder::new();
        if let Some(symbol) = batch.as_ref().filter(|_| least_batch > 0) {
            b.bounds_mut().declare(symbol, least_batch as i64);
        }
        let has_state = prng.chance(config.state);
        let mut g = Generator {
            prng,
            b,
            float: config.float.unwrap_or(drawn),
            inputs: Vec::new(),
            state: Vec::new(),
            state_values: Vec::new(),
            batch: batch.map(Dim::from),
            least_batch,
            place: Place::Function,
            depth: 0,
            has_state,
            // At ties and zeros gradients depend on what is equal, so they are rare there.
            grid: if gradients { 0.05 } else { 0.4 },
            sizes,
            max_elements: config.max_elements,
            pool: Vec::new(),
        };
        let mut dims = g.dims(1, 3);
        // Symbols enter through inputs: the first one binds `B`.
        if let Some(batch) = &g.batch {
            dims[0] = batch.clone();
        }
        g.input(g.float, dims)?;
        Ok(g)
    }

    /// A generator for the body of a loop, with the facts of the sizes but an empty pool.
    pub fn body(&mut self) -> Generator {
        Generator {
            prng: Prng::new(self.prng.word()),
            b: Builder::with_infer(self.b.graph().infer().clone()),
            float: self.float,
            inputs: Vec::new(),
            state: Vec::new(),
            state_values: Vec::new(),
            batch: self.batch.clone(),
            least_batch: self.least_batch,
            place: Place::Body,
            depth: self.depth + 1,
            has_state: false,
            grid: self.grid,
            sizes: self.sizes.clone(),
            max_elements: self.max_elements,
            pool: Vec::new(),
        }
    }

    /// One move.
    pub fn random_move(&mut self, place: Place) -> Result<()> {
        let tables: &[&[Move]] = match place {
            Place::Function => &[
                elementwise::MOVES,
                literals::MOVES,
                movement::MOVES,
                layers::MOVES,
                images::MOVES,
                scans::MOVES,
                branches::MOVES,
                sequences::MOVES,
            ],
            Place::Body if self.depth < MAX_DEPTH => {
                &[elementwise::MOVES, literals::MOVES, movement::MOVES, scans::MOVES, branches::MOVES]
            }
            Place::Body => &[elementwise::MOVES, literals::MOVES, movement::MOVES],
        };
        let moves = || tables.iter().flat_map(|t| t.iter());
        let mut at = self.prng.below(moves().map(|m| m.weight).sum());
        for m in moves() {
            if at < m.weight {
                return (m.apply)(self);
            }
            at -= m.weight;
        }
        Ok(())
    }

    /// Puts a value into the pool.
    pub fn push(&mut self, id: ValueId, bound: f64, exact: bool) -> Value {
        let value = Value { id, bound, exact };
        match self.pool.iter_mut().find(|v| v.id == id) {
            // A node that existed already: both facts hold.
            Some(known) => {
                known.bound = known.bound.min(bound);
                known.exact |= exact;
            }
            None => self.pool.push(value),
        }
        value
    }

    /// The value with its bound and exactness, of another id.
    pub fn push_like(&mut self, id: ValueId, v: Value) -> Value {
        self.push(id, v.bound, v.exact)
    }

    /// Values that no node uses, but for inputs and state.
    pub fn unused(&self) -> Vec<ValueId> {
        let uses = self.b.graph().use_counts();
        let source = |v: ValueId| self.b.graph().def(v).ins.is_empty();
        self.pool.iter().map(|v| v.id).filter(|v| uses[v.index()] == 0 && !source(*v)).collect()
    }

    /// Float inputs and state variables of the arithmetic's type.
    pub fn leaves(&self) -> Vec<ValueId> {
        let all = self.b.graph().inputs().iter().chain(&self.state_values);
        all.copied().filter(|v| self.b.ty(*v).dtype == self.float).collect()
    }

    /// A value of the pool, one that nothing uses yet rather than another.
    pub fn any(&mut self, fits: impl Fn(&TensorType, &Value) -> bool) -> Option<Value> {
        let found: Vec<Value> = self.pool.iter().copied().filter(|v| fits(self.b.ty(v.id), v)).collect();
        if found.is_empty() {
            return None;
        }
        let uses = self.b.graph().use_counts();
        let fresh: Vec<Value> = found.iter().copied().filter(|v| uses[v.id.index()] == 0).collect();
        let from = if !fresh.is_empty() && self.prng.chance(0.6) { fresh } else { found };
        Some(self.prng.pick(&from))
    }

    /// A value of the arithmetic's float type.
    pub fn float(&mut self, fits: impl Fn(&TensorType) -> bool) -> Result<Value> {
        let float = self.float;
        if let Some(v) = self.any(|t, _| t.dtype == float && fits(t)) {
            return Ok(v);
        }
        for _ in 0..20 {
            let dims = self.dims(1, 3);
            if fits(&TensorType::new(float, dims.clone())) {
                return self.fresh(float, dims);
            }
        }
        Err(Error::new("no random shape fits the move"))
    }

    /// An exact value of a type.
    pub fn exact(&mut self, dtype: DType) -> Result<Value> {
        if self.prng.chance(0.8)
            && let Some(v) = self.any(|t, v| t.dtype == dtype && v.exact)
        {
            return Ok(v);
        }
        let dims = self.dims(0, 3);
        self.fresh(dtype, dims)
    }

    /// A value of this type and these dims: from the pool, repeated, or new.
    pub fn partner(&mut self, dtype: DType, dims: &[Dim], exact: bool) -> Result<Value> {
        let fits = |t: &TensorType, v: &Value| t.dtype == dtype && (v.exact || !exact);
        let choice = self.prng.unit();
        if choice < 0.5
            && let Some(v) = self.any(|t, v| fits(t, v) && t.dims == dims)
        {
            return Ok(v);
        }
        if choice < 0.75
            && let Some(v) = self.any(|t, v| fits(t, v) && repeats_to(&t.dims, dims))
        {
            return self.fit(v, dims);
        }
        if choice < 0.85
            && !exact
            && dtype.is_compute_float()
            && let Some(v) = self.any(|t, v| fits(t, v) && !t.dims.is_empty())
        {
            return self.fit(v, dims);
        }
        self.fresh(dtype, dims.to_vec())
    }

    /// The value with these dims: repeated by numpy's rule if that works, else its mean repeated.
    pub fn fit(&mut self, v: Value, dims: &[Dim]) -> Result<Value> {
        let ty = self.b.ty(v.id).clone();
        if ty.dims == dims {
            return Ok(v);
        }
        if repeats_to(&ty.dims, dims) {
            let id = self.b.broadcast_to(v.id, dims)?;
            return Ok(self.push_like(id, v));
        }
        let axes: Vec<usize> = (0..ty.rank()).collect();
        let sum = self.b.sum(v.id, &axes)?;
        let count = self.elements(&ty).max(1) as f64;
        let share = self.b.full_like(sum, 1.0 / count)?;
        let mean = self.b.map(ScalarFn::Mul, &[sum, share])?;
        // The batch may exceed what its elements were counted with.
        let mean = self.push(mean, v.bound * 4.0, false);
        let id = self.b.broadcast_to(mean.id, dims)?;
        Ok(self.push_like(id, mean))
    }

    /// The value with its magnitude brought below `limit`.
    pub fn tame(&mut self, v: Value, limit: f64) -> Result<Value> {
        if v.bound <= limit {
            return Ok(v);
        }
        if limit >= 1.0 && self.prng.chance(0.3) {
            let id = self.b.map(ScalarFn::Tanh, &[v.id])?;
            return Ok(self.push(id, 1.0, false));
        }
        // A power of two keeps the bits of what is exact.
        let scale = 2f64.powi((limit / v.bound).log2().floor() as i32);
        let factor = self.b.full_like(v.id, scale)?;
        let id = self.b.map(ScalarFn::Mul, &[v.id, factor])?;
        Ok(self.push(id, v.bound * scale, v.exact))
    }

    /// A new source: an input, a parameter, a constant, a draw or coordinates.
    pub fn fresh(&mut self, dtype: DType, dims: Vec<Dim>) -> Result<Value> {
        let ty = TensorType::new(dtype, dims);
        let fixed = ty.shape();
        let choice = self.prng.unit();
        let function = self.place == Place::Function;
        if function && choice < 0.45 && self.inputs.len() < MAX_INPUTS {
            return self.input(dtype, ty.dims);
        }
        if function && self.has_state && choice < 0.7 && fixed.is_some() && dtype == self.float {
            let read = self.declare_state(StateRole::Param, ty)?;
            return Ok(self.push(read, 8.0, true));
        }
        if choice < 0.8 && dtype == self.float {
            let key = self.key()?;
            let (id, bound, exact) = if self.prng.chance(0.5) {
                let op = Uniform { dtype, dims: ty.dims, lo: Real(0.0), hi: Real(1.0) };
                (self.b.op1(op, &[key])?, 1.0, true)
            } else if choice > 0.7 {
                let (mean, std) = (Real(0.25), Real(0.5));
                let op = TruncatedNormal { dtype, dims: ty.dims, mean, std, lo: Real(-1.0), hi: Real(1.5) };
                (self.b.op1(op, &[key])?, 1.5, false)
            } else {
                let op = Normal { dtype, dims: ty.dims, mean: Real(0.25), std: Real(0.5) };
                (self.b.op1(op, &[key])?, 4.0, false)
            };
            return Ok(self.push(id, bound, exact));
        }
        match fixed {
            Some(shape) if choice < 0.95 || ty.rank() == 0 => {
                let fill = self.fill(dtype);
                let value =
                    fill.tensor(&TensorType::fixed(dtype, &shape), &Binding::new(), &mut self.prng)?;
                let id = self.b.constant(value)?;
                Ok(self.push(id, if dtype.is_float() { 2.0 } else { 8.0 }, true))
            }
            _ if dtype != DType::Bool && ty.rank() > 0 => {
                let axis = self.prng.below(ty.rank());
                self.iota(dtype, ty.dims, axis)
            }
            _ => {
                let one = self.b.constant(Tensor::scalar(dtype, Scalar::I(1)))?;
                let id = self.b.broadcast(one, &ty.dims, &[])?;
                Ok(self.push(id, 1.0, true))
            }
        }
    }

    /// Coordinates along an axis, or ones where 8 bits might not hold those.
    pub fn iota(&mut self, dtype: DType, dims: Vec<Dim>, axis: usize) -> Result<Value> {
        let size = self.elements(&TensorType::new(DType::Bool, vec![dims[axis].clone()]));
        if matches!(dtype, DType::I8 | DType::U8) && size > 100 {
            let one = self.b.constant(Tensor::scalar(dtype, Scalar::I(1)))?;
            let id = self.b.broadcast(one, &dims, &[])?;
            return Ok(self.push(id, 1.0, true));
        }
        let id = self.b.op1(Iota { dtype, dims, axis }, &[])?;
        Ok(self.push(id, (size as f64).max(64.0), true))
    }

    fn fill(&mut self, dtype: DType) -> Fill {
        match dtype {
            t if t.is_float() && self.prng.chance(self.grid) => Fill::Grid,
            t if t.is_float() => Fill::Reals,
            _ => Fill::Ints,
        }
    }

    fn input(&mut self, dtype: DType, dims: Vec<Dim>) -> Result<Value> {
        let fill = self.fill(dtype);
        let ty = TensorType::new(dtype, dims);
        let id = self.declare_input(ty, fill)?;
        Ok(self.push(id, if dtype.is_float() { 2.0 } else { 8.0 }, true))
    }

    fn declare_input(&mut self, ty: TensorType, fill: Fill) -> Result<ValueId> {
        let name = format!("x{}", self.inputs.len());
        let id = self.b.input(ty.clone())?;
        self.inputs.push(InputSpec { name, ty, fill });
        Ok(id)
    }

    /// A random key: of the state, an input, or a constant. Never one that was used: two draws with
    /// one key are not independent.
    pub fn key(&mut self) -> Result<ValueId> {
        let ty = TensorType::fixed(DType::U32, &[2]);
        if self.place == Place::Function && self.has_state && self.prng.chance(0.3) {
            return self.declare_state(StateRole::Key, ty);
        }
        if self.place == Place::Function && self.inputs.len() < MAX_INPUTS && self.prng.chance(0.2) {
            return self.declare_input(ty, Fill::Words);
        }
        let words = [self.prng.word() as u32, self.prng.word() as u32];
        self.b.constant(Tensor::from_slice(&[2], &words))
    }

    /// A size from the graph's few, so that shapes meet.
    pub fn size(&mut self) -> Dim {
        Dim::from(self.prng.pick(&self.sizes))
    }

    /// Dims of a rank in `least..=most`; the first one is perhaps `B`.
    pub fn dims(&mut self, least: usize, most: usize) -> Vec<Dim> {
        let rank = least + self.prng.below(most - least + 1);
        let mut dims: Vec<Dim> = (0..rank).map(|_| self.size()).collect();
        if let Some(batch) = self.batch.clone().filter(|_| rank > 0)
            && self.prng.chance(0.5)
        {
            dims[0] = batch;
        }
        // Large sizes do not stand beside each other more often than fits.
        let least = self.sizes.iter().copied().filter(|s| *s > 0).min().unwrap_or(1);
        for axis in 0..rank {
            if !self.small(&dims) && dims[axis].as_const().is_some() {
                dims[axis] = Dim::from(least.min(7));
            }
        }
        dims
    }

    /// Number of elements for the batch that is assumed.
    pub fn elements(&self, ty: &TensorType) -> usize {
        let mut binding = Binding::new();
        let symbols = ty.dims.iter().flat_map(Dim::symbols);
        symbols.for_each(|s| drop(binding.set(&s, ASSUMED_BATCH as i64, "an estimate")));
        ty.dims.iter().map(|d| d.bind_size(&binding).unwrap_or(usize::MAX)).fold(1, usize::saturating_mul)
    }

    /// Whether a value of these dims is small enough.
    pub fn small(&self, dims: &[Dim]) -> bool {
        self.elements(&TensorType::new(DType::Bool, dims)) <= self.max_elements
    }

    /// The least that a dim can be.
    pub fn least(&self, dim: &Dim) -> usize {
        let least = dim.lower_bound(&self.b.graph().infer().bounds).unwrap_or(0);
        usize::try_from(least).unwrap_or(0)
    }

    /// Integers that may divide: no constants with a 0, though what is computed may be 0.
    pub fn divisor(&mut self, v: ValueId) -> Result<ValueId> {
        if !has_constant_zero(self.b.graph(), v) {
            return Ok(v);
        }
        let one = self.b.full_like(v, 1.0)?;
        self.b.map(ScalarFn::Or, &[v, one])
    }

    /// Integers in 0..n (n positive), of dims that are given or that the pool has.
    pub fn indices(&mut self, n: usize, dims: Option<&[Dim]>) -> Result<ValueId> {
        let dtype = self.prng.pick(&[DType::I32, DType::I64]);
        let source = match dims {
            Some(dims) => self.partner(dtype, dims, true)?,
            None => match self.any(|t, v| t.dtype == dtype && t.rank() <= 2 && v.exact) {
                Some(v) => v,
                None => {
                    let dims = self.dims(0, 2);
                    self.fresh(dtype, dims)?
                }
            },
        };
        let mask = self.b.full_like(source.id, 15.0)?;
        let positive = self.b.map(ScalarFn::And, &[source.id, mask])?;
        let n = self.b.full_like(source.id, n as f64)?;
        self.b.map(ScalarFn::Rem, &[positive, n])
    }
}

/// One way to add nodes.
pub(super) struct Move {
    pub weight: usize,
    pub apply: fn(&mut Generator) -> Result<()>,
}

/// Whether numpy's rule repeats one shape to another.
fn repeats_to(from: &[Dim], to: &[Dim]) -> bool {
    from.len() <= to.len()
        && from.iter().zip(&to[to.len() - from.len()..]).all(|(a, b)| a == b || *a == Dim::ONE)
}

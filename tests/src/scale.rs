//! Functions of any number of nodes, one for each way in which real graphs grow: what compiling them costs has to
//! grow with them, and no faster.

use std::sync::Arc;

use graphc_ir::error::Result;
use graphc_ir::module::{Function, Module, OutputDecl, StateDecl, StateRole};
use graphc_ir::ops::{Call, Concat, Iota, Linear, ReduceKind, Softmax};
use graphc_ir::scalar::ScalarFn;
use graphc_ir::{Builder, DType, Dim, Tensor, TensorType, ValueId, autodiff};

/// A family of functions that grow in one way.
pub struct Family {
    /// What it is.
    pub name: &'static str,
    /// A module whose only function `f` has about so many nodes.
    pub build: fn(usize) -> Result<Module>,
}

/// All families.
pub static FAMILIES: &[Family] = &[
    Family { name: "chain with gradient", build: chain },
    Family { name: "many outputs", build: outputs },
    Family { name: "many inputs", build: inputs },
    Family { name: "concat of one value", build: concat_of_one },
    Family { name: "concat of many", build: concat_of_many },
    Family { name: "slices of a concat", build: slices_of_concat },
    Family { name: "concat in concat", build: concat_in_concat },
    Family { name: "residual with gradient", build: residual },
    Family { name: "unrolled recurrent with gradient", build: recurrent },
    Family { name: "one value, many users", build: users },
    Family { name: "many constants", build: constants },
    Family { name: "many state variables", build: states },
    Family { name: "sums of columns", build: sums },
    Family { name: "coordinates", build: coordinates },
    Family { name: "comparisons of comparisons", build: comparisons },
    Family { name: "chains of movement", build: movement },
    Family { name: "many calls", build: calls },
    Family { name: "a dim of many symbols", build: dim_of_symbols },
    Family { name: "many symbols", build: symbols },
];

/// A function under construction.
#[derive(Default)]
struct Draft {
    b: Builder,
    inputs: Vec<String>,
    state: Vec<StateDecl>,
    outputs: Vec<ValueId>,
    updates: Vec<(usize, ValueId)>,
}

impl Draft {
    fn input(&mut self, shape: &[usize]) -> Result<ValueId> {
        self.symbolic(TensorType::fixed(DType::F32, shape))
    }

    fn symbolic(&mut self, ty: TensorType) -> Result<ValueId> {
        self.inputs.push(format!("x{}", self.inputs.len()));
        self.b.input(ty)
    }

    fn state(&mut self, shape: &[usize]) -> Result<ValueId> {
        let ty = TensorType::fixed(DType::F32, shape);
        let n: usize = shape.iter().product();
        let values: Vec<f32> = (0..n).map(|i| (i % 7) as f32 * 0.01).collect();
        let index = self.state.len();
        self.state.push(StateDecl {
            name: format!("p{index}"),
            role: StateRole::Param,
            ty: ty.clone(),
            init: Some(Arc::new(Tensor::from_slice(shape, &values))),
        });
        self.b.state(index, ty)
    }

    fn map(&mut self, f: ScalarFn, ins: &[ValueId]) -> Result<ValueId> {
        self.b.map(f, ins)
    }

    /// The sum of a value, and its gradients as outputs.
    fn gradients(&mut self, y: ValueId, wrt: &[ValueId]) -> Result<()> {
        let axes: Vec<usize> = (0..self.b.ty(y).rank()).collect();
        let loss = self.b.sum(y, &axes)?;
        let one = self.b.scalar(DType::F32, 1.0)?;
        let found = autodiff::backward(&mut self.b, &[(loss, one)], wrt)?;
        self.outputs.push(loss);
        self.outputs.extend(found.into_iter().flatten());
        Ok(())
    }

    fn finish(self) -> Result<Module> {
        let results: Vec<ValueId> =
            self.outputs.iter().copied().chain(self.updates.iter().map(|(_, v)| *v)).collect();
        let outputs =
            (0..self.outputs.len()).map(|i| OutputDecl { name: format!("y{i}"), mark: None }).collect();
        let updates = self.updates.iter().map(|(i, _)| *i).collect();
        let function = Function { inputs: self.inputs, outputs, updates, graph: self.b.finish(&results)? };
        let mut module = Module { state: self.state, ..Module::default() };
        module.functions.insert("f".into(), function);
        Ok(module)
    }
}

/// sin(sin(…)) and its gradient: a node, and two on the way back.
fn chain(n: usize) -> Result<Module> {
    let mut d = Draft::default();
    let x = d.input(&[3])?;
    let mut y = x;
    for _ in 0..n / 3 {
        y = d.map(ScalarFn::Sin, &[y])?;
    }
    d.gradients(y, &[x])?;
    d.finish()
}

/// sin(x · cᵢ), an output each.
fn outputs(n: usize) -> Result<Module> {
    let mut d = Draft::default();
    let x = d.input(&[4])?;
    for i in 0..n / 2 {
        let c = d.b.full_like(x, 1.0 + i as f64)?;
        let scaled = d.map(ScalarFn::Mul, &[x, c])?;
        let y = d.map(ScalarFn::Sin, &[scaled])?;
        d.outputs.push(y);
    }
    d.finish()
}

/// The sum of tanh of many inputs.
fn inputs(n: usize) -> Result<Module> {
    let mut d = Draft::default();
    let mut sum = d.input(&[4])?;
    for _ in 0..n / 3 {
        let x = d.input(&[4])?;
        let y = d.map(ScalarFn::Tanh, &[x])?;
        sum = d.map(ScalarFn::Add, &[sum, y])?;
    }
    d.outputs.push(sum);
    d.finish()
}

/// One value after itself, n times.
fn concat_of_one(n: usize) -> Result<Module> {
    let mut d = Draft::default();
    let x = d.input(&[2, 1])?;
    let x = d.map(ScalarFn::Sin, &[x])?;
    let y = d.b.op1(Concat { axis: 1 }, &vec![x; n])?;
    d.outputs.push(y);
    d.finish()
}

/// Many values one after another.
fn concat_of_many(n: usize) -> Result<Module> {
    let mut d = Draft::default();
    let x = d.input(&[2, 3])?;
    let mut parts = Vec::new();
    for i in 0..n / 2 {
        let c = d.b.full_like(x, 1.0 + i as f64)?;
        parts.push(d.map(ScalarFn::Mul, &[x, c])?);
    }
    let y = d.b.op1(Concat { axis: 1 }, &parts)?;
    let y = d.map(ScalarFn::Exp, &[y])?;
    d.outputs.push(y);
    d.finish()
}

/// A concat that is taken apart again.
fn slices_of_concat(n: usize) -> Result<Module> {
    let mut d = Draft::default();
    let x = d.input(&[3])?;
    let mut parts = Vec::new();
    for i in 0..n / 5 {
        let c = d.b.full_like(x, 1.0 + i as f64)?;
        let y = d.map(ScalarFn::Mul, &[x, c])?;
        parts.push(d.map(ScalarFn::Sin, &[y])?);
    }
    let all = d.b.op1(Concat { axis: 0 }, &parts)?;
    for i in 0..n / 5 {
        let y = d.b.slice_axis(all, 0, &Dim::from(3 * i), &Dim::from(3 * i + 2))?;
        let y = d.map(ScalarFn::Exp, &[y])?;
        d.outputs.push(y);
    }
    d.finish()
}

/// A concat of a concat of a concat, each one element longer.
fn concat_in_concat(n: usize) -> Result<Module> {
    let mut d = Draft::default();
    let x = d.input(&[1])?;
    let mut y = x;
    for _ in 0..n / 2 {
        let z = d.map(ScalarFn::Sin, &[y])?;
        y = d.b.op1(Concat { axis: 0 }, &[z, x])?;
    }
    d.outputs.push(y);
    d.finish()
}

/// h = h + relu(h · w + b), with weights of its own in each layer, and its gradients.
fn residual(n: usize) -> Result<Module> {
    let mut d = Draft::default();
    let mut h = d.input(&[4, 8])?;
    let mut params = Vec::new();
    for _ in 0..n / 16 {
        let (w, b) = (d.state(&[8, 8])?, d.state(&[8])?);
        let z = d.b.op1(Linear {}, &[h, w, b])?;
        let z = d.map(ScalarFn::Relu, &[z])?;
        h = d.map(ScalarFn::Add, &[h, z])?;
        params.extend([w, b]);
    }
    d.gradients(h, &params)?;
    d.finish()
}

/// h = tanh(xₜ · w + h · u) for slices of one input, and its gradients.
fn recurrent(n: usize) -> Result<Module> {
    let steps = n / 16;
    let mut d = Draft::default();
    let (x, mut h) = (d.input(&[2, 4 * steps.max(1)])?, d.input(&[2, 8])?);
    let (w, u) = (d.state(&[4, 8])?, d.state(&[8, 8])?);
    for t in 0..steps {
        let slice = d.b.slice_axis(x, 1, &Dim::from(4 * t), &Dim::from(4 * t + 4))?;
        let (a, b) = (d.b.matmul(slice, w)?, d.b.matmul(h, u)?);
        let z = d.map(ScalarFn::Add, &[a, b])?;
        h = d.map(ScalarFn::Tanh, &[z])?;
    }
    d.gradients(h, &[w, u])?;
    d.finish()
}

/// A sum of functions of one value.
fn users(n: usize) -> Result<Module> {
    let mut d = Draft::default();
    let x = d.input(&[5, 7])?;
    let x = d.map(ScalarFn::Exp, &[x])?;
    let mut sum = x;
    for i in 0..n / 3 {
        let c = d.b.full_like(x, 1.0 + i as f64)?;
        let y = d.map(ScalarFn::Max, &[x, c])?;
        sum = d.map(ScalarFn::Sub, &[y, sum])?;
    }
    d.outputs.push(sum);
    d.finish()
}

/// Constants of several elements, one after another.
fn constants(n: usize) -> Result<Module> {
    let mut d = Draft::default();
    let mut x = d.input(&[3])?;
    for i in 0..n / 2 {
        let c = d.b.constant(Tensor::from_slice(&[3], &[i as f32, 1.0, 2.0]))?;
        x = d.map(if i % 2 == 0 { ScalarFn::Sub } else { ScalarFn::Max }, &[x, c])?;
    }
    d.outputs.push(x);
    d.finish()
}

/// Many variables, each moved by a function of itself.
fn states(n: usize) -> Result<Module> {
    let mut d = Draft::default();
    let rate = d.input(&[])?;
    for _ in 0..n / 4 {
        let p = d.state(&[3])?;
        let g = d.map(ScalarFn::Sin, &[p])?;
        let step = d.map(ScalarFn::Mul, &[rate, g])?;
        let next = d.map(ScalarFn::Sub, &[p, step])?;
        d.updates.push((d.state.len() - 1, next));
    }
    d.finish()
}

/// Sums down the columns, each spread over the rows again.
fn sums(n: usize) -> Result<Module> {
    let mut d = Draft::default();
    let mut x = d.input(&[4, 5])?;
    for _ in 0..n / 4 {
        let s = d.b.sum(x, &[0])?;
        let s = d.map(ScalarFn::Sin, &[s])?;
        x = d.map(ScalarFn::Sub, &[x, s])?;
    }
    d.outputs.push(x);
    d.finish()
}

/// Coordinates and comparisons with them, which are computed again wherever they are used.
fn coordinates(n: usize) -> Result<Module> {
    let mut d = Draft::default();
    let x = d.input(&[6, 9])?;
    for i in 0..n / 6 {
        let at = d.b.op1(Iota { dtype: DType::F32, dims: vec![Dim::from(9usize)], axis: 0 }, &[])?;
        let limit = d.b.full_like(at, i as f64 + 0.5)?;
        let less = d.map(ScalarFn::Lt, &[at, limit])?;
        let kept = d.map(ScalarFn::Select, &[less, x, at])?;
        let y = d.b.sum(kept, &[i % 2])?;
        d.outputs.push(y);
    }
    d.finish()
}

/// (… ((x < y) = (x < y₁)) = …): booleans of booleans, used twice each.
fn comparisons(n: usize) -> Result<Module> {
    let mut d = Draft::default();
    let x = d.input(&[6])?;
    let zero = d.b.full_like(x, 0.0)?;
    let mut p = d.map(ScalarFn::Lt, &[x, zero])?;
    let mut q = d.map(ScalarFn::Gt, &[x, zero])?;
    for i in 0..n / 2 {
        let f = if i % 2 == 0 { ScalarFn::Ne } else { ScalarFn::Eq };
        (p, q) = (d.map(f, &[p, q])?, p);
    }
    let y = d.map(ScalarFn::Select, &[p, x, zero])?;
    d.outputs.push(y);
    d.finish()
}

/// Transposes and reshapes that give no view, with a function between.
fn movement(n: usize) -> Result<Module> {
    let mut d = Draft::default();
    let mut x = d.input(&[4, 6])?;
    for i in 0..n / 3 {
        x = d.b.transpose(x, &[1, 0])?;
        x = d.b.reshape(x, &[4usize, 6].map(Dim::from))?;
        if i % 8 == 7 {
            x = d.map(ScalarFn::Sin, &[x])?;
        }
    }
    d.outputs.push(x);
    d.finish()
}

/// One function called again and again.
fn calls(n: usize) -> Result<Module> {
    let ty = TensorType::fixed(DType::F32, &[3]);
    let mut body = Builder::new();
    let x = body.input(ty)?;
    let s = body.map(ScalarFn::Sin, &[x])?;
    let y = body.map(ScalarFn::Sub, &[x, s])?;
    let body = Arc::new(body.finish(&[y])?);
    let mut d = Draft::default();
    let mut x = d.input(&[3])?;
    for _ in 0..n / 2 {
        x = d.b.op1(Call { body: body.clone() }, &[x])?;
    }
    d.outputs.push(x);
    d.finish()
}

/// Inputs with dims of their own, up to the most that one dim may be made of.
fn dim_of_symbols(n: usize) -> Result<Module> {
    let mut d = Draft::default();
    let mut parts = Vec::new();
    let count = (n / 8).clamp(1, 100);
    for i in 0..count {
        let ty = TensorType::new(DType::F32, vec![Dim::symbol(&format!("D{i}"))?]);
        parts.push(d.symbolic(ty)?);
    }
    let mut x = d.b.op1(Concat { axis: 0 }, &parts)?;
    for _ in 0..n {
        x = d.map(ScalarFn::Sin, &[x])?;
    }
    d.outputs.push(x);
    d.finish()
}

/// Inputs with a dim of its own each, known to be at least 2, and a definition over it.
fn symbols(n: usize) -> Result<Module> {
    let mut d = Draft::default();
    let mut names = Vec::new();
    for i in 0..n / 10 {
        names.push(graphc_ir::dim::Symbol::new(&format!("D{i}"))?);
        d.b.bounds_mut().declare(&names[i], 2);
    }
    let mut sum = d.input(&[])?;
    for name in names.iter() {
        let x = d.symbolic(TensorType::new(DType::F32, vec![Dim::from(name.clone())]))?;
        let y = d.b.op1(Softmax { axis: 0 }, &[x])?;
        let y = d.b.reduce(ReduceKind::Max, y, &[0])?;
        sum = d.map(ScalarFn::Add, &[sum, y])?;
    }
    d.outputs.push(sum);
    let mut module = d.finish()?;
    module.symbols = names.iter().map(|name| (name.as_str().to_owned(), 2)).collect();
    Ok(module)
}

//! Builder calls for everyday use: numpy broadcasting, casts, products, means.

use std::sync::Arc;

use crate::builder::Builder;
use crate::dim::Dim;
use crate::dtype::DType;
use crate::error::Result;
use crate::graph::ValueId;
use crate::ops::{Broadcast, Cast, Const, Dot, Map};
use crate::scalar::ScalarFn;
use crate::tensor::Tensor;

impl Builder {
    /// A constant.
    pub fn constant(&mut self, value: Tensor) -> Result<ValueId> {
        self.op1(Const { value: Arc::new(value) }, &[])
    }

    /// A scalar function of operands, broadcast to one shape by numpy's rule: shapes are aligned at
    /// their ends, and a size of 1 repeats.
    pub fn map(&mut self, f: ScalarFn, ins: &[ValueId]) -> Result<ValueId> {
        let ins = self.broadcast_together(ins)?;
        self.op1(Map { f }, &ins)
    }

    /// Broadcasts operands to one shape by numpy's rule.
    pub fn broadcast_together(&mut self, ins: &[ValueId]) -> Result<Vec<ValueId>> {
        let rank = ins.iter().map(|v| self.ty(*v).rank()).max().unwrap_or(0);
        let one = Dim::from(1usize);
        let mut dims = vec![one.clone(); rank];
        for v in ins {
            let ty = self.ty(*v);
            let skip = rank - ty.rank();
            for (i, d) in ty.dims.iter().enumerate() {
                // Two sizes that differ and are not 1 are left to the operation's inference, which
                // proves, records or refuses their equality.
                if dims[skip + i] == one {
                    dims[skip + i] = d.clone();
                }
            }
        }
        ins.iter().map(|v| self.broadcast_to(*v, &dims)).collect()
    }

    /// Repeats `x` to `dims` by numpy's rule.
    pub fn broadcast_to(&mut self, x: ValueId, dims: &[Dim]) -> Result<ValueId> {
        let ty = self.ty(x).clone();
        if ty.rank() > dims.len() {
            fail!("{ty} has more axes than the {} it is broadcast to", dims.len());
        }
        let skip = dims.len() - ty.rank();
        let one = Dim::from(1usize);
        let stretched: Vec<usize> =
            (0..ty.rank()).filter(|i| ty.dims[*i] == one && dims[skip + i] != one).collect();
        if skip == 0 && stretched.is_empty() {
            return Ok(x);
        }
        let kept: Vec<usize> = (0..ty.rank()).filter(|i| !stretched.contains(i)).collect();
        let squeezed: Vec<Dim> = kept.iter().map(|i| ty.dims[*i].clone()).collect();
        let x = self.reshape(x, &squeezed)?;
        let axes: Vec<usize> = kept.iter().map(|i| skip + i).collect();
        // Kept sizes come from the operand, so that a mismatch is found where the shapes meet.
        let mut to = dims.to_vec();
        for (i, a) in kept.iter().zip(&axes) {
            to[*a] = ty.dims[*i].clone();
        }
        self.op1(Broadcast { dims: to, axes }, &[x])
    }

    /// Conversion, unless the type is that already.
    pub fn cast(&mut self, x: ValueId, to: DType) -> Result<ValueId> {
        if self.ty(x).dtype == to { Ok(x) } else { self.op1(Cast { to }, &[x]) }
    }

    /// Matrix product with numpy's rules: a vector is a row on the left and a column on the right,
    /// leading dims broadcast.
    pub fn matmul(&mut self, a: ValueId, b: ValueId) -> Result<ValueId> {
        let (mut ta, mut tb) = (self.ty(a).clone(), self.ty(b).clone());
        if ta.rank() == 0 || tb.rank() == 0 {
            fail!("matmul takes operands of rank 1 or more, but got {ta} and {tb}");
        }
        let (row, column) = (ta.rank() == 1, tb.rank() == 1);
        let one = Dim::from(1usize);
        if row {
            ta.dims.insert(0, one.clone());
        }
        if column {
            tb.dims.push(one.clone());
        }
        let (mut x, mut y) = (self.reshape(a, &ta.dims)?, self.reshape(b, &tb.dims)?);
        let rank = ta.rank().max(tb.rank());
        let mut lead = vec![one.clone(); rank - 2];
        for ty in [&ta, &tb] {
            let skip = rank - ty.rank();
            for (i, d) in ty.dims[..ty.rank() - 2].iter().enumerate() {
                if lead[skip + i] == one {
                    lead[skip + i] = d.clone();
                }
            }
        }
        let with_lead = |tail: &[Dim]| [&lead[..], tail].concat();
        x = self.broadcast_to(x, &with_lead(&ta.dims[ta.rank() - 2..]))?;
        y = self.broadcast_to(y, &with_lead(&tb.dims[tb.rank() - 2..]))?;
        let z = self.op1(Dot {}, &[x, y])?;
        let mut dims = self.ty(z).dims.clone();
        if column {
            dims.pop();
        }
        if row {
            dims.remove(rank - 2);
        }
        self.reshape(z, &dims)
    }

    /// Product of sizes as a rank-0 value. Its type is named, because a number of elements often does not fit the type of
    /// what is counted.
    ///
    /// # Errors
    /// A product that does not fit the type. Of symbols that is found when they are bound.
    pub fn count(&mut self, dims: &[Dim], dtype: DType) -> Result<ValueId> {
        let sizes: Option<Vec<i64>> = dims.iter().map(Dim::as_const).collect();
        if let Some(sizes) = sizes {
            return self.scalar(dtype, sizes.iter().fold(1i128, |n, s| n.saturating_mul((*s).into())));
        }
        if dtype.largest_count().is_some() {
            self.infer_mut().fits(&Dim::product_of(dims)?, dtype, "a number of elements")?;
        }
        let one = self.scalar(dtype, 1)?;
        let ones = self.broadcast(one, dims, &[])?;
        let axes: Vec<usize> = (0..dims.len()).collect();
        self.sum(ones, &axes)
    }

    /// [`Builder::count`] of the elements of a float value along axes, in its type.
    pub fn count_along(&mut self, x: ValueId, axes: &[usize]) -> Result<ValueId> {
        let ty = self.ty(x).clone();
        let dims: Vec<Dim> = axes.iter().filter_map(|a| ty.dims.get(*a).cloned()).collect();
        self.count(&dims, ty.dtype)
    }

    /// Integers in a type that counts: those of 8 and 16 bits as i32, which holds all of them. Sizes, coordinates and
    /// numbers of classes are compared with them there.
    pub fn counting(&mut self, x: ValueId) -> Result<ValueId> {
        let narrow = self.ty(x).dtype.is_int() && self.ty(x).dtype.size() < 4;
        if narrow { self.cast(x, DType::I32) } else { Ok(x) }
    }

    /// Arithmetic mean over axes, which vanish; NaN over nothing. Of f16 and bf16 it is computed in f32.
    pub fn mean(&mut self, x: ValueId, axes: &[usize]) -> Result<ValueId> {
        let dtype = self.ty(x).dtype;
        let x = if dtype.is_half() { self.cast(x, DType::F32)? } else { x };
        let sum = self.sum(x, axes)?;
        let n = self.count_along(x, axes)?;
        let mean = self.map(ScalarFn::Div, &[sum, n])?;
        self.cast(mean, dtype)
    }
}

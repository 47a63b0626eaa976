//! Random changes of images in training.

use graphc::build::ops::attr::Real;
use graphc::build::ops::{Iota, Map, Uniform};
use graphc::build::{DType, Expr, FunctionBuilder, ModuleBuilder, Result, StateRole, Tensor};
use graphc::ir::ScalarFn;

use super::dims;

/// Name of the state that holds the longest shift.
const SHIFT: &str = "shift";

/// Declares the longest shift of [`shifted`], in pixels, with its value.
pub fn declare_shift(m: &mut ModuleBuilder, pixels: f32) -> Result<()> {
    m.state_of(SHIFT, StateRole::Buffer, Tensor::from_slice(&[], &[pixels]))
}

/// Images f32`[B,C,size,size]`, each moved by a number of pixels from -shift to shift along both axes, with
/// zeros where it was not: what cropping an image that zeros surround gives.
///
/// A move is a product with a matrix of zeros and ones from the left, for rows, or from the right.
pub fn shifted<'s>(
    f: &'s FunctionBuilder<'_>,
    images: Expr<'s>,
    size: usize,
    keys: [Expr<'s>; 2],
) -> Result<Expr<'s>> {
    let shift = f.state(SHIFT)?;
    let index = |axis: usize| f.op(Iota { dtype: DType::F32, dims: dims(&[size, size]), axis }, &[]);
    let distance = index(1)? - index(0)?;
    let matrix = |key: Expr<'s>, distance: Expr<'s>| -> Result<Expr<'s>> {
        let one = [images.ty().dims[0].clone(), 1.into(), 1.into(), 1.into()];
        let draw = Uniform { dtype: DType::F32, dims: one.to_vec(), lo: Real(0.0), hi: Real(1.0) };
        let by = f.op(draw, &[key])? * (shift * 2.0 + 1.0);
        let by = by.op(Map { f: ScalarFn::Floor }, &[]) - shift;
        Ok(distance.eq(by).cast(DType::F32))
    };
    let [rows, columns] = keys;
    Ok(matrix(rows, distance)?.matmul(images).matmul(matrix(columns, -distance)?))
}

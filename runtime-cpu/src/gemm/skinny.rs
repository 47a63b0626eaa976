//! Products that are bound by reading one matrix once: few rows of A with a B that is not packed, or a
//! single column of B.
//!
//! Both are a few vectors times a matrix, a strip of its columns at a time. For a column of B the matrix
//! is A, and the vector is the column.

use std::ops::Range;

use super::driver::{Run, Sink};
use super::gemv::{Gemv, MAX_VECTORS};
use super::plan::Skinny;
use super::{BLOCK_ROWS, Element, TileCtx};

/// Sums of some rows and columns of C, in scratch.
struct Sums<T> {
    row0: usize,
    rows: usize,
    col0: usize,
    cols: usize,
    acc: *mut T,
    ld: usize,
}

impl<T: Element> Run<'_, T> {
    /// Computes some columns of the matrix for one product.
    ///
    /// # Safety
    /// As for [`super::gemm`]; the scratch has room for the sums, then for the vectors if they are
    /// copied.
    pub unsafe fn skinny(
        &self,
        skinny: &Skinny,
        thread: usize,
        product: usize,
        columns: Range<usize>,
        scratch: *mut T,
    ) {
        let k = self.problem.k;
        // SAFETY: offsets of products, columns and steps that the problem has.
        unsafe {
            let a = self.a.add(product * self.problem.a.batch_stride);
            let b = self.b.add(product * self.problem.b_batch_stride);
            let (mut x, matrix) = if skinny.column { (b, a) } else { (a, b) };
            let (mut x_stride, mut x_k_stride) = skinny.vector_strides;
            if skinny.copies_vectors() {
                let copy = scratch.add(skinny.sums::<T>());
                for i in 0..skinny.vectors {
                    for step in 0..k {
                        *copy.add(i * k + step) = *x.add(i * x_stride + step * x_k_stride);
                    }
                }
                (x, x_stride, x_k_stride) = (copy, k, 1);
            }
            let kernels = if skinny.dot { &self.kernels.dot_columns } else { &self.kernels.add_rows };
            let step = if skinny.dot { skinny.matrix_stride } else { 1 };
            let y_stride = skinny.sums_stride::<T>();
            for first in columns.clone().step_by(skinny.strip) {
                let len = skinny.strip.min(columns.end - first);
                for pass in (0..len).step_by(skinny.pass) {
                    for group in (0..skinny.vectors).step_by(MAX_VECTORS) {
                        let vectors = MAX_VECTORS.min(skinny.vectors - group);
                        kernels[vectors - 1](&Gemv {
                            k,
                            columns: skinny.pass.min(len - pass),
                            x: x.add(group * x_stride),
                            x_stride,
                            x_k_stride,
                            matrix: matrix.add((first + pass) * step),
                            matrix_stride: skinny.matrix_stride,
                            y: scratch.add(group * y_stride + pass),
                            y_stride,
                        });
                    }
                }
                let sums = if skinny.column {
                    Sums { row0: first, rows: len, col0: 0, cols: 1, acc: scratch, ld: 1 }
                } else {
                    let rows = skinny.vectors;
                    Sums { row0: 0, rows, col0: first, cols: len, acc: scratch, ld: y_stride }
                };
                self.finish(&sums, thread, product);
            }
        }
    }

    /// # Safety
    /// The sums lie in scratch, and their rows and columns in C.
    unsafe fn finish(&self, sums: &Sums<T>, thread: usize, batch: usize) {
        match self.sink {
            Sink::Output { c, bias, relu } => {
                for i in 0..sums.rows {
                    for j in 0..sums.cols {
                        let (row, col) = (sums.row0 + i, sums.col0 + j);
                        // SAFETY: the caller's promise; a bias that is not null has every column.
                        unsafe {
                            let mut value = *sums.acc.add(i * sums.ld + j);
                            if !bias.is_null() {
                                value = value + *bias.add(col);
                            }
                            if relu && value < T::default() {
                                value = T::default();
                            }
                            *c.c.add(batch * c.batch_stride + row * c.row_stride + col) = value;
                        }
                    }
                }
            }
            Sink::Chain(_) | Sink::Tile(..) => {
                let block_cols = self.kernels.columns;
                for i in (0..sums.rows).step_by(BLOCK_ROWS) {
                    for j in (0..sums.cols).step_by(block_cols) {
                        let block = TileCtx {
                            thread,
                            batch,
                            unit: 0,
                            row0: sums.row0 + i,
                            rows: BLOCK_ROWS.min(sums.rows - i),
                            col0: sums.col0 + j,
                            cols: block_cols.min(sums.cols - j),
                            acc: sums.acc.wrapping_add(i * sums.ld + j),
                            ld: sums.ld,
                        };
                        // SAFETY: the caller's promise.
                        unsafe { self.sink.finish(self.kernels, &block) };
                    }
                }
            }
        }
    }
}

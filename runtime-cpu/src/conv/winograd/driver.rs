//! The loops over blocks of tiles and panels of filters.

use super::MATRICES;
use super::plan::{Plan, plan};
use super::transform::{TileSums, Window};
use crate::KernelError;
use crate::conv::Problem;
use crate::conv::kernels::Kernels;
use crate::conv::plan::is_empty;
use crate::gemm::{self, BLOCK_ROWS, Element, Epilogue, Sink, Tile, TileCtx, finish_block, rows_of_tile};
use crate::isa::Isa;
use crate::memory::ALIGNMENT;
use crate::pool::{Pool, share};

/// A convolution under way; shared by the threads that compute parts of it.
struct Run<'a, T: Element> {
    products: &'static gemm::Kernels<T>,
    kernels: &'static Kernels<T>,
    problem: &'a Problem,
    plan: &'a Plan,
    x: *const T,
    filters: *const T,
    sink: Sink<'a, T>,
    /// Scratch of the parts, one after the other.
    parts: *mut T,
}

// SAFETY: threads read the images, the filters and the bias; each writes its own part of C and of the
// scratch.
unsafe impl<T: Element> Sync for Run<'_, T> {}

/// See [`super::conv`].
///
/// # Safety
/// As for [`super::conv`].
pub unsafe fn conv<T: Element>(
    pool: &Pool,
    isa: Isa,
    problem: &Problem,
    x: *const T,
    filters: *const T,
    epilogue: &Epilogue<'_, T>,
    scratch: &mut [u8],
) -> Result<(), KernelError> {
    if is_empty(problem) {
        return Ok(());
    }
    let plan = plan::<T>(isa, problem, pool.threads());
    let needed = plan.scratch_bytes();
    KernelError::check_scratch("a convolution by Winograd's algorithm", needed, scratch.len())?;
    let scratch = scratch.as_mut_ptr();
    let run = Run {
        products: T::kernels(isa),
        kernels: T::conv_kernels(isa),
        problem,
        plan: &plan,
        x,
        filters,
        sink: Sink::new(epilogue),
        parts: scratch.wrapping_add(scratch.align_offset(ALIGNMENT)).cast(),
    };
    // SAFETY: the caller's promise; parts are disjoint.
    pool.run(plan.split.parts(), &|index| unsafe { run.part(index) })?;
    Ok(())
}

/// A part's scratch, taken apart.
#[derive(Clone, Copy)]
struct Scratch<T> {
    zeros: *const T,
    windows: *mut T,
    sums: *mut T,
    pixels: *mut T,
}

/// The columns of one panel of filters.
#[derive(Clone, Copy)]
struct Panel<T> {
    filters: *const T,
    col0: usize,
    cols: usize,
}

impl<T: Element> Run<'_, T> {
    /// Computes part `index`.
    ///
    /// # Safety
    /// As for [`super::conv`]; no two threads compute the same part.
    unsafe fn part(&self, index: usize) {
        let Problem { cin, cout, .. } = *self.problem;
        let Plan { all_tiles, block, split, zeros, windows, sums, .. } = *self.plan;
        let columns = self.products.columns;
        let panels = share(cout.div_ceil(columns), split.columns, index % split.columns);
        let blocks = self.sink.share(all_tiles.div_ceil(block), split.rows, index / split.columns);
        let first = self.parts.wrapping_add(index * self.plan.each());
        let scratch = Scratch {
            zeros: first,
            windows: first.wrapping_add(zeros),
            sums: first.wrapping_add(zeros + windows),
            pixels: first.wrapping_add(zeros + windows + sums),
        };
        // SAFETY: the part's scratch begins with room for zeros; tiles and panels of the problem.
        unsafe {
            for channel in 0..cin {
                *first.add(channel) = T::default();
            }
            for block_index in blocks {
                let tile0 = block_index * block;
                let tiles = block.min(all_tiles - tile0);
                self.transform_windows(tile0, tiles, &scratch);
                for panel in panels.clone() {
                    let col0 = panel * columns;
                    let filters = self.filters.add(MATRICES * col0 * cin);
                    let panel = Panel { filters, col0, cols: columns.min(cout - col0) };
                    self.multiply(tiles, &panel, &scratch);
                    self.finish(tile0, tiles, &panel, &scratch, index);
                }
            }
        }
    }

    /// Transforms the windows of some tiles.
    ///
    /// # Safety
    /// As for [`Run::part`]; the tiles are at most a block.
    unsafe fn transform_windows(&self, tile0: usize, tiles: usize, scratch: &Scratch<T>) {
        let Problem { cin, geometry, transposed, image_stride, pixel_strides, .. } = *self.problem;
        let [_, height, width] = geometry.input.map(|size| size as isize);
        let [_, pad_h, pad_w] = geometry.pad.map(|pad| {
            // With turned filters the gradient reads from 2 pixels before its window's last one.
            if transposed { 2 - pad as isize } else { pad as isize }
        });
        let mut place = Place::of(tile0, self.plan.tiles);
        for tile in 0..tiles {
            let (y, x) = (2 * place.y as isize - pad_h, 2 * place.x as isize - pad_w);
            let image = self.x.wrapping_add(place.image * image_stride);
            let mut pixels = [scratch.zeros; 16];
            for i in 0..4 {
                let row = y + i as isize;
                if (0..height).contains(&row) {
                    let row = image.wrapping_add(row as usize * pixel_strides[1]);
                    for j in 0..4 {
                        let column = x + j as isize;
                        if (0..width).contains(&column) {
                            pixels[4 * i + j] = row.wrapping_add(column as usize * pixel_strides[2]);
                        }
                    }
                }
            }
            // SAFETY: pixels inside the image, or zeros, and the tile's row of the windows.
            unsafe {
                (self.kernels.window)(&Window {
                    pixels,
                    channels: cin,
                    to: scratch.windows.add(tile * self.plan.window_stride),
                    matrix_stride: self.plan.window_matrix,
                });
            }
            place.step(1, self.plan.tiles);
        }
    }

    /// Sums the products of transformed windows and filters, and transforms them back to pixels.
    ///
    /// # Safety
    /// As for [`Run::part`]; the windows of the tiles are transformed.
    unsafe fn multiply(&self, tiles: usize, panel: &Panel<T>, scratch: &Scratch<T>) {
        let Plan { block, window_stride, window_matrix, sums_matrix, .. } = *self.plan;
        let (cin, columns, lanes) = (self.problem.cin, self.products.columns, self.products.lanes);
        let vectors = panel.cols.div_ceil(lanes);
        let width = vectors * lanes;
        // SAFETY: rows below `tiles` of each matrix, and the two rows of pixels of the block.
        unsafe {
            for matrix in 0..MATRICES {
                let filters = panel.filters.add(matrix * cin * width);
                let mut tile = 0;
                while tile < tiles {
                    let rows = rows_of_tile(tiles - tile, self.products.rows);
                    let windows = scratch.windows.add(matrix * window_matrix + tile * window_stride);
                    let sums = scratch.sums.add(matrix * sums_matrix + tile * columns);
                    let windows = (windows.cast_const(), window_stride);
                    let product = Tile::product(cin, windows, (filters, width), (sums, columns));
                    self.products.tiles[rows - 1][vectors - 1][0](&product);
                    tile += rows;
                }
            }
            for tile in 0..tiles {
                let even = scratch.pixels.add(2 * tile * columns);
                let odd = even.add(2 * block * columns);
                (self.kernels.tile)(&TileSums {
                    from: scratch.sums.add(tile * columns),
                    matrix_stride: sums_matrix,
                    vectors,
                    to: [even, even.add(columns), odd, odd.add(columns)],
                });
            }
        }
    }

    /// Hands the pixels of a block's tiles to the epilogue.
    ///
    /// # Safety
    /// As for [`Run::part`]; the pixels are those of the tiles and the panel.
    unsafe fn finish(
        &self,
        tile0: usize,
        tiles: usize,
        panel: &Panel<T>,
        scratch: &Scratch<T>,
        thread: usize,
    ) {
        let [_, height, width] = self.problem.geometry.output;
        let columns = self.products.columns;
        let mut place = Place::of(tile0, self.plan.tiles);
        let mut tile = 0;
        while tile < tiles {
            let run = (tiles - tile).min(self.plan.tiles[1] - place.x);
            let (y, x) = (2 * place.y, 2 * place.x);
            let pixels = (2 * run).min(width - x);
            for i in 0..2.min(height - y) {
                for first in (0..pixels).step_by(BLOCK_ROWS) {
                    let offset = 2 * (i * self.plan.block + tile) + first;
                    let block = TileCtx {
                        thread,
                        batch: 0,
                        unit: self.sink.unit_of(self.plan.row_blocks(), 0, tile0 / self.plan.block),
                        row0: (place.image * height + y + i) * width + x + first,
                        rows: BLOCK_ROWS.min(pixels - first),
                        col0: panel.col0,
                        cols: panel.cols,
                        acc: scratch.pixels.wrapping_add(offset * columns),
                        ld: columns,
                    };
                    // SAFETY: the caller's promise.
                    unsafe { finish_block(self.products, &self.sink, &block) };
                }
            }
            place.step(run, self.plan.tiles);
            tile += run;
        }
    }
}

/// Which tile of which image.
#[derive(Clone, Copy)]
struct Place {
    image: usize,
    y: usize,
    x: usize,
}

impl Place {
    fn of(tile: usize, [height, width]: [usize; 2]) -> Place {
        Place { image: tile / width / height, y: tile / width % height, x: tile % width }
    }

    /// Goes on by some tiles, to the next row's first one at most.
    fn step(&mut self, tiles: usize, [height, width]: [usize; 2]) {
        self.x += tiles;
        if self.x == width {
            (self.x, self.y) = (0, self.y + 1);
        }
        if self.y == height {
            (self.y, self.image) = (0, self.image + 1);
        }
    }
}

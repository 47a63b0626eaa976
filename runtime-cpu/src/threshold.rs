//! The sizes at which kernels go another way.
//!
//! Each such number is declared with the macro `thresholds!`, which also enters it into a
//! list with the quantity that is compared with it. Tests read the list and try every kernel on both sides of
//! each entry, so a new threshold is tested by being written.

use crate::isa::Isa;
use crate::{conv, conv_grad, depthwise, exec, gemm, nest, tile, window};

/// A number that a quantity of a kernel's problem is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Threshold {
    /// Its module and its name in the code.
    pub name: &'static str,
    /// Which kernels look at it.
    pub kernels: Kernels,
    /// The axes whose product is compared with it.
    pub axes: &'static [Axis],
    /// The product of the axes at which it is crossed.
    pub value: usize,
}

/// Kernels that share their thresholds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kernels {
    /// Matrix products.
    Dot,
    /// Convolutions and their gradients in the image.
    Conv,
    /// Gradients of convolutions in the filters.
    FilterGrad,
    /// Convolutions with a group for each channel, and their gradients.
    Depthwise,
    /// Pools and their adjoints.
    Window,
    /// Elementwise work and folds.
    Nest,
    /// Gathers and sums by index.
    Gather,
    /// Places of extremes.
    ArgReduce,
}

/// One factor of the quantity that a threshold is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Axis {
    /// Rows of a result; positions of an image are such rows, too.
    Rows,
    /// Columns of a result: channels, for an image.
    Columns,
    /// Terms of each sum of a product.
    Depth,
    /// Images of a batch.
    Images,
    /// Positions along the innermost axis of an image.
    Width,
    /// Channels of the image that a convolution reads.
    Channels,
    /// Positions of a window along each axis of an image.
    Window,
    /// Functions that follow the sums.
    Links,
    /// Bytes of an element.
    Bytes,
}

/// Declares thresholds as constants and lists them for the tests:
/// `const UNPACKED_ROWS: usize = 48, of Dot [Rows];`. Where the code compares something that is only proportional
/// to the product of the axes, `at` says where that product crosses the threshold.
macro_rules! thresholds {
    (@at $name:ident) => { $name };
    (@at $name:ident $at:expr) => { $at };
    ($($(#[$doc:meta])* $vis:vis const $name:ident: usize = $value:expr,
        of $kernels:ident [$($axis:ident),+] $(at $at:expr)?;)+) => {
        $($(#[$doc])* $vis const $name: usize = $value;)+

        /// The thresholds of this module.
        pub(crate) const THRESHOLDS: &[crate::threshold::Threshold] = &[$(crate::threshold::Threshold {
            name: concat!(module_path!(), "::", stringify!($name)),
            kernels: crate::threshold::Kernels::$kernels,
            axes: &[$(crate::threshold::Axis::$axis),+],
            value: crate::threshold::thresholds!(@at $name $($at)?),
        }),+];
    };
}
pub(crate) use thresholds;

/// What is declared with [`thresholds!`].
fn declared() -> Vec<Threshold> {
    let lists = [
        gemm::THRESHOLDS,
        conv::THRESHOLDS,
        conv_grad::THRESHOLDS,
        depthwise::THRESHOLDS,
        window::THRESHOLDS,
        nest::ALL_THRESHOLDS,
        exec::THRESHOLDS,
        tile::THRESHOLDS,
    ];
    lists.into_iter().flatten().flat_map(|list| list.iter().copied()).collect()
}

/// All thresholds of the kernels of an instruction set: those that are declared, and the sizes of its register
/// tiles for elements of 4 bytes.
pub fn all(isa: Isa) -> Vec<Threshold> {
    let mut all = declared();
    let tile = gemm::tile_sizes(isa);
    for kernels in [Kernels::Dot, Kernels::Conv, Kernels::FilterGrad, Kernels::Depthwise, Kernels::Window] {
        let size = |name, axes, value| Threshold { name, kernels, axes, value };
        all.extend([
            size("lanes of a vector", &[Axis::Columns] as &[Axis], tile.lanes),
            size("columns of a register tile", &[Axis::Columns], tile.columns),
            size("rows of a register tile", &[Axis::Rows], tile.rows),
            size("lanes of a vector, along the sums", &[Axis::Depth], tile.lanes),
        ]);
    }
    all
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::{Path, PathBuf};

    use super::*;

    /// Sizes in the code that no kernel's way depends on: their reasons stand where they are declared.
    const OTHERS: &[&str] = &[
        // The instruction sets' register tiles, which `all` lists.
        "LANES",
        "VECTORS",
        "ROWS",
        "BLOCK_ROWS",
        "MAX_ROWS",
        "MAX_COLUMNS",
        "CHANNELS",
        // Hints for memory that is read ahead, at any distance.
        "PREFETCH_STEPS",
        "PREFETCH_PIXELS",
        // Numbers of a method: matrices and taps of Winograd's transforms.
        "MATRICES",
        "TAPS",
        "AT",
        // Memory and threads.
        "ALIGNMENT",
        "HEADER",
        "HUGE_ABOVE",
        "HUGE_PAGE",
        "MAX_THREADS",
        "MAX_DIMS",
        "UNUSED",
        // Measuring the machine.
        "STEPS",
        "REPEATS",
        "BYTES",
    ];

    fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                sources(&path, found);
            } else if path.extension().is_some_and(|e| e == "rs") && !path.ends_with("tests.rs") {
                found.push(path);
            }
        }
    }

    #[test]
    fn every_size_of_the_code_is_a_threshold_or_known_to_be_none() {
        let mut files = Vec::new();
        sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut files);
        let listed: Vec<&str> = declared().iter().map(|t| t.name).collect();
        let (mut missing, mut found) = (Vec::new(), 0);
        for file in &files {
            for line in fs::read_to_string(file).unwrap().lines() {
                let Some((before, after)) = line.split_once("const ") else { continue };
                let Some((name, value)) = after.split_once(": usize = ") else { continue };
                let declares = before.trim().is_empty() || before.trim_start().starts_with("pub");
                if !declares || name.contains(['$', '(', ' ']) {
                    continue;
                }
                if value.contains(", of ") || value.trim_end().ends_with(',') {
                    found += 1;
                    let suffix = format!("::{name}");
                    if !listed.iter().any(|known| known.ends_with(&suffix)) {
                        missing.push(format!(
                            "{}: {name} is declared, but its module is in no list",
                            file.display()
                        ));
                    }
                } else if !OTHERS.contains(&name) {
                    missing.push(format!("{}: declare {name} with `thresholds!`", file.display()));
                }
            }
        }
        assert!(missing.is_empty(), "{}", missing.join("\n"));
        assert_eq!(found, listed.len(), "each is listed once");
    }
}

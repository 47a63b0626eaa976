//! Images as tensors: brightness or colors from 0 to 1, resized to the input.

use std::io::Cursor;
use std::path::Path;

use graphc::ir::Scalar;
use graphc::{Tensor, TensorType};
use image::imageops::FilterType;
use image::{DynamicImage, ImageFormat, ImageReader};

use crate::array;
use crate::exit::{Failure, Result};

/// Wider or higher images are refused before they are decoded.
const MAX_SIDE: u32 = 1 << 14;

/// How an input takes an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Plane {
    channels: usize,
    height: usize,
    width: usize,
}

/// The shape of an input for one image: a symbolic first dim is a batch of 1. `None` if other dims are
/// symbolic.
pub fn image_shape(ty: &TensorType) -> Option<Vec<usize>> {
    let size = |(i, d): (usize, &graphc::Dim)| match d.as_const() {
        Some(v) => usize::try_from(v).ok(),
        None => (i == 0).then_some(1),
    };
    ty.dims.iter().enumerate().map(size).collect()
}

/// Reads an image for an input of this type, with these sizes: `[.., C, H, W]` with 1 (gray), 3 (RGB) or 4 (RGBA) channels,
/// `[H, W]`, or `[.., N]` with N = H·W or 3·H·W of the image, or the square of a side. Other sizes are
/// resized with a triangle filter.
pub fn tensor(path: &Path, name: &str, ty: &TensorType, shape: &[usize]) -> Result<Tensor> {
    let dtype = ty.dtype;
    let refused = |what: String| Failure::data(format!("{}: {what}", path.display()));
    if !dtype.is_float() {
        return Err(refused(format!(
            "an image is from 0 to 1, but input `{name}` is {dtype}; give an .npy file"
        )));
    }
    let batch = shape.first().copied().filter(|_| ty.dims.first().is_some_and(|d| d.as_const().is_none()));
    if let Some(batch) = batch.filter(|b| *b != 1) {
        return Err(refused(format!(
            "one image does not make a batch of {batch} for input `{name}`; make it a batch of 1"
        )));
    }
    let image = decode(array::read_file(path)?).map_err(refused)?;
    let plane = plane(shape, &image).ok_or_else(|| {
        refused(format!(
            "an image does not make input `{name}` of shape {shape:?}; it takes [..,C,H,W], [H,W] or [..,H*W]"
        ))
    })?;
    let (width, height) = (plane.width as u32, plane.height as u32);
    let image = if (image.width(), image.height()) == (width, height) {
        image
    } else {
        image.resize_exact(width, height, FilterType::Triangle)
    };
    // Interleaved and 16 bits wide: what 8-bit images hold is a multiple of 257 and stays exact.
    let pixels: Vec<u16> = match plane.channels {
        1 => image.to_luma16().into_raw(),
        3 => image.to_rgb16().into_raw(),
        _ => image.to_rgba16().into_raw(),
    };
    let area = plane.width * plane.height;
    Ok(Tensor::from_fn(dtype, shape, |i| {
        let (channel, at) = (i / area.max(1), i % area.max(1));
        Scalar::F(f64::from(pixels[at * plane.channels + channel]) / 65535.0)
    }))
}

/// The image of a file's bytes.
pub(crate) fn decode(bytes: Vec<u8>) -> std::result::Result<DynamicImage, String> {
    let mut reader = ImageReader::with_format(Cursor::new(bytes), ImageFormat::Png);
    let mut limits = image::Limits::default();
    // The pixels take at most 8 bytes each, and as much again when they are converted.
    limits.max_alloc =
        Some(graphc::memory::available().map_or(u64::MAX, |most| most as u64 / 4).min(1 << 30));
    limits.max_image_width = Some(MAX_SIDE);
    limits.max_image_height = Some(MAX_SIDE);
    reader.limits(limits);
    reader.decode().map_err(|e| format!("is no PNG image that can be read: {e}"))
}

fn plane(shape: &[usize], image: &DynamicImage) -> Option<Plane> {
    let (w, h) = (image.width() as usize, image.height() as usize);
    let plane = |channels, height, width| Some(Plane { channels, height, width });
    let batch_of_one = |leading: &[usize]| leading.iter().all(|d| *d == 1);
    match shape {
        [leading @ .., c @ (1 | 3 | 4), height, width]
            if batch_of_one(leading) && *height > 1 && *width > 1 =>
        {
            plane(*c, *height, *width)
        }
        [height, width] if *height > 1 && *width > 1 => plane(1, *height, *width),
        [leading @ .., n] if batch_of_one(leading) => {
            let side = n.isqrt();
            match *n {
                n if n == w * h => plane(1, h, w),
                n if n == 3 * w * h => plane(3, h, w),
                n if n > 0 && side * side == n => plane(1, side, side),
                _ => None,
            }
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use graphc::DType;

    use super::*;
    use image::{GrayImage, Luma, Rgb, RgbImage};

    fn written(image: &DynamicImage) -> tempfile::TempPath {
        let file = tempfile::Builder::new().suffix(".png").tempfile().unwrap();
        image.save_with_format(file.path(), ImageFormat::Png).unwrap();
        file.into_temp_path()
    }

    fn fixed(dtype: DType, shape: &[usize]) -> TensorType {
        TensorType::fixed(dtype, shape)
    }

    #[test]
    fn brightness_is_from_0_to_1() {
        let gray = GrayImage::from_fn(3, 2, |x, y| Luma([(x * 100 + y * 55) as u8]));
        let path = written(&gray.into());
        let expected = [0.0, 100.0, 200.0, 55.0, 155.0, 255.0].map(|v: f64| (v / 255.0) as f32);
        for shape in [&[1, 6][..], &[1, 1, 2, 3], &[2, 3], &[6]] {
            let t = tensor(&path, "x", &fixed(DType::F32, shape), shape).unwrap();
            assert_eq!(t.shape(), shape);
            assert_eq!(t.as_slice::<f32>(), expected);
        }
    }

    #[test]
    fn colors_come_first() {
        let path =
            written(&RgbImage::from_fn(2, 2, |x, y| Rgb([255, (x * 255) as u8, (y * 255) as u8])).into());
        let t = tensor(&path, "x", &fixed(DType::F32, &[1, 3, 2, 2]), &[1, 3, 2, 2]).unwrap();
        assert_eq!(t.as_slice::<f32>(), [1., 1., 1., 1., 0., 1., 0., 1., 0., 0., 1., 1.]);
    }

    #[test]
    fn other_sizes_are_resized() {
        let path = written(&GrayImage::from_pixel(5, 7, Luma([51])).into());
        let t = tensor(&path, "x", &fixed(DType::F64, &[1, 16]), &[1, 16]).unwrap();
        assert!(t.to_f64().iter().all(|v| (v - 0.2).abs() < 1e-3));
    }

    #[test]
    fn what_takes_no_image_is_refused() {
        let path = written(&GrayImage::new(5, 7).into());
        for (dtype, shape, part) in [
            (DType::I32, &[1, 35][..], "from 0 to 1"),
            (DType::F32, &[2, 2, 35], "does not make"),
            (DType::F32, &[1, 10], "does not make"),
        ] {
            let error = tensor(&path, "x", &fixed(dtype, shape), shape).unwrap_err().message;
            assert!(error.contains(part), "{error}");
        }
        let batched = TensorType::parse("f32[B,35]").unwrap();
        let error = tensor(&path, "x", &batched, &[2, 35]).unwrap_err().message;
        assert!(error.contains("a batch of 2"), "{error}");
        std::fs::write(&path, b"not an image").unwrap();
        let error = tensor(&path, "x", &fixed(DType::F32, &[1, 35]), &[1, 35]).unwrap_err().message;
        assert!(error.contains("no PNG image"), "{error}");
    }
}

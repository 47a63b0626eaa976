//! Aligned, zeroed blocks of bytes for arenas, packed weights and scratch.

use std::ptr::NonNull;

use thiserror::Error;

#[cfg(target_os = "linux")]
use crate::heap;

/// Alignment of every block, in bytes: one cache line, and one AVX-512 vector.
pub const ALIGNMENT: usize = 64;

/// Size in bytes above which a block is aligned to huge pages and asks for them.
const HUGE_ABOVE: usize = 4 << 20;

/// The system had no memory for a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("out of memory: the system refused a block of {bytes} bytes; use a smaller batch or free memory")]
pub struct OutOfMemory {
    /// The size asked for.
    pub bytes: usize,
}

/// A block of zeroed bytes, aligned to [`ALIGNMENT`].
///
/// Blocks above 4 MiB are aligned to 2 MiB and ask for huge pages where the system has them: kernels
/// that stream weights run 5 to 20 % faster, because they miss the translation buffer less often.
#[derive(Debug)]
pub struct Block {
    address: NonNull<u8>,
    bytes: usize,
    source: Source,
}

#[derive(Debug)]
enum Source {
    Empty,
    Heap,
    #[cfg(target_os = "linux")]
    Pages,
}

// SAFETY: a block owns its bytes as a `Box<[u8]>` does.
unsafe impl Send for Block {}
// SAFETY: shared access reads only.
unsafe impl Sync for Block {}

impl Block {
    /// Allocates `bytes` zeroed bytes.
    ///
    /// # Errors
    /// When the system refuses the memory; it never aborts the process.
    pub fn new(bytes: usize) -> Result<Block, OutOfMemory> {
        if bytes == 0 {
            let address =
                NonNull::without_provenance(const { std::num::NonZeroUsize::new(ALIGNMENT).unwrap() });
            return Ok(Block { address, bytes, source: Source::Empty });
        }
        #[cfg(target_os = "linux")]
        if bytes > HUGE_ABOVE {
            // Pages are mapped beside the heap, but count with it.
            if !heap::take(bytes) {
                return Err(OutOfMemory { bytes });
            }
            let Some(address) = pages::map(bytes) else {
                heap::give(bytes);
                return Err(OutOfMemory { bytes });
            };
            return Ok(Block { address, bytes, source: Source::Pages });
        }
        let layout = layout(bytes).ok_or(OutOfMemory { bytes })?;
        // SAFETY: the layout's size is not zero.
        let address =
            NonNull::new(unsafe { std::alloc::alloc_zeroed(layout) }).ok_or(OutOfMemory { bytes })?;
        Ok(Block { address, bytes, source: Source::Heap })
    }

    /// Size in bytes.
    pub fn len(&self) -> usize {
        self.bytes
    }

    /// Whether the block holds no byte.
    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Address of the first byte.
    pub fn as_ptr(&self) -> *const u8 {
        self.address.as_ptr()
    }

    /// Address of the first byte, for writing.
    pub fn as_mut_ptr(&mut self) -> *mut u8 {
        self.address.as_ptr()
    }

    /// The bytes.
    pub fn as_slice(&self) -> &[u8] {
        // SAFETY: the block owns `bytes` initialized bytes (it came zeroed).
        unsafe { std::slice::from_raw_parts(self.as_ptr(), self.bytes) }
    }

    /// The bytes, for writing.
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        // SAFETY: as in `as_slice`, and `self` is borrowed exclusively.
        unsafe { std::slice::from_raw_parts_mut(self.as_mut_ptr(), self.bytes) }
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        match self.source {
            Source::Empty => {}
            Source::Heap => {
                if let Some(layout) = layout(self.bytes) {
                    // SAFETY: allocated in `new` with the same layout, and freed only here.
                    unsafe { std::alloc::dealloc(self.address.as_ptr(), layout) };
                }
            }
            #[cfg(target_os = "linux")]
            Source::Pages => {
                pages::unmap(self.address, self.bytes);
                heap::give(self.bytes);
            }
        }
    }
}

fn layout(bytes: usize) -> Option<std::alloc::Layout> {
    std::alloc::Layout::from_size_align(bytes, ALIGNMENT).ok()
}

#[cfg(target_os = "linux")]
mod pages {
    use std::ptr::NonNull;

    const HUGE_PAGE: usize = 2 << 20;

    /// Maps fresh pages: they are zero, and get memory only when they are touched.
    pub fn map(bytes: usize) -> Option<NonNull<u8>> {
        let bytes = mapped(bytes)?;
        let reserved = bytes.checked_add(HUGE_PAGE)?;
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // SAFETY: a new anonymous mapping, at an address that the system chooses.
        let start = unsafe { libc::mmap(std::ptr::null_mut(), reserved, protection, flags, -1, 0) };
        if start == libc::MAP_FAILED {
            return None;
        }
        let start = start.cast::<u8>();
        let head = start.align_offset(HUGE_PAGE);
        let tail = reserved - head - bytes;
        // SAFETY: `head + bytes + tail` is the mapping made above; its ends are whole pages that
        // nothing refers to yet. Advice on the rest changes no content, and may be refused.
        unsafe {
            let address = start.add(head);
            if head > 0 {
                libc::munmap(start.cast(), head);
            }
            if tail > 0 {
                libc::munmap(address.add(bytes).cast(), tail);
            }
            libc::madvise(address.cast(), bytes, libc::MADV_HUGEPAGE);
            NonNull::new(address)
        }
    }

    pub fn unmap(address: NonNull<u8>, bytes: usize) {
        if let Some(bytes) = mapped(bytes) {
            // SAFETY: the mapping that `map` made for the same size, unmapped only here.
            unsafe { libc::munmap(address.as_ptr().cast(), bytes) };
        }
    }

    fn mapped(bytes: usize) -> Option<usize> {
        bytes.checked_next_multiple_of(HUGE_PAGE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_aligned_zeroed_and_writable() {
        for bytes in [1, 63, 64, 4096, HUGE_ABOVE, HUGE_ABOVE + 1, 9 << 20] {
            let mut block = Block::new(bytes).unwrap();
            assert_eq!(block.len(), bytes);
            let alignment = if bytes > HUGE_ABOVE && cfg!(target_os = "linux") { 2 << 20 } else { ALIGNMENT };
            assert_eq!(block.as_ptr() as usize % alignment, 0, "{bytes}");
            assert!(block.as_slice().iter().all(|&byte| byte == 0), "{bytes}");
            block.as_mut_slice().fill(7);
            assert_eq!(block.as_slice()[bytes - 1], 7);
        }
    }

    #[test]
    fn an_empty_block_is_a_block() {
        let mut block = Block::new(0).unwrap();
        assert!(block.is_empty());
        assert_eq!(block.as_ptr() as usize % ALIGNMENT, 0);
        assert_eq!(block.as_mut_slice(), &[] as &[u8]);
    }

    #[test]
    fn too_much_memory_is_an_error() {
        for bytes in [usize::MAX, isize::MAX as usize, 1 << 60] {
            assert_eq!(Block::new(bytes).unwrap_err(), OutOfMemory { bytes });
        }
    }
}

//! The heap of a program, counted and limited.
//!
//! A program that makes [`Heap`] its global allocator is refused what goes beyond [`set_limit`], whoever asks for it and however often.
//! What asks through `try_reserve`, [`crate::memory::Block`] or any other call that can fail gets its error;
//! where the language has no such call, [`exit_when_refused`] ends the process with a sentence and a code instead of a signal.
//!
//! The counters are the one global state of graphc: an allocator has no other place for them. No result depends on it.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};

static USED: AtomicUsize = AtomicUsize::new(0);
static LIMIT: AtomicUsize = AtomicUsize::new(usize::MAX);

thread_local! {
    /// Bytes of this thread's last request that was refused, and how many requests later that is forgotten.
    static REFUSED: Cell<(usize, u8)> = const { Cell::new((0, 0)) };
}

/// The system's allocator, with a count and a limit.
#[derive(Clone, Copy, Debug, Default)]
pub struct Heap;

/// Bytes that are taken now: large blocks, and everything else where [`Heap`] is the global allocator.
pub fn used() -> usize {
    USED.load(Ordering::Relaxed)
}

/// The most bytes that may be taken at once; `None` if there is no limit.
pub fn limit() -> Option<usize> {
    Some(LIMIT.load(Ordering::Relaxed)).filter(|limit| *limit != usize::MAX)
}

/// Sets the most bytes that may be taken at once; what is taken already stays.
pub fn set_limit(bytes: usize) {
    LIMIT.store(bytes, Ordering::Relaxed);
}

/// Counts bytes that are about to be taken, unless they go beyond the limit.
pub(crate) fn take(bytes: usize) -> bool {
    let used = USED.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes);
    if used > LIMIT.load(Ordering::Relaxed) {
        give(bytes);
        return false;
    }
    true
}

/// Counts bytes that were given back.
pub(crate) fn give(bytes: usize) {
    USED.fetch_sub(bytes, Ordering::Relaxed);
}

/// Between a refusal and the abort that it leads to, the standard library takes memory for its message.
const REMEMBERED: u8 = 64;

/// Remembers how a request ended: with no bytes refused, or so many.
fn note(refused: usize) {
    // A thread that is ending has nothing left to remember it in.
    let _ = REFUSED.try_with(|last| match (refused, last.get()) {
        (0, (_, 0)) => {}
        (0, (bytes, left)) => last.set((bytes, left - 1)),
        _ => last.set((refused, REMEMBERED)),
    });
}

/// Takes memory by `allocate`, unless the limit or the system refuses it.
fn allocate(bytes: usize, allocate: impl FnOnce() -> *mut u8) -> *mut u8 {
    if !take(bytes) {
        note(bytes);
        return std::ptr::null_mut();
    }
    let address = allocate();
    if address.is_null() {
        give(bytes);
        note(bytes);
    } else {
        note(0);
    }
    address
}

// SAFETY: memory comes from the system's allocator and goes back there with the layout it came with; refusals are null, which the trait allows.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's layout, passed on.
        allocate(layout.size(), || unsafe { System.alloc(layout) })
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's layout, passed on.
        allocate(layout.size(), || unsafe { System.alloc_zeroed(layout) })
    }

    unsafe fn dealloc(&self, address: *mut u8, layout: Layout) {
        // SAFETY: the caller's address and layout, passed on.
        unsafe { System.dealloc(address, layout) };
        give(layout.size());
    }

    unsafe fn realloc(&self, address: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let grows = size.saturating_sub(layout.size());
        // SAFETY: the caller's address, layout and size, passed on.
        let moved = allocate(grows, || unsafe { System.realloc(address, layout, size) });
        if !moved.is_null() {
            give(layout.size().saturating_sub(size));
        }
        moved
    }
}

/// From now on the process ends with this code, and a sentence on the standard error that tells the bytes, where memory that was
/// asked for without a way to fail is refused. Aborts for other reasons stay what they are.
#[cfg(unix)]
pub fn exit_when_refused(code: u8) {
    CODE.store(usize::from(code), Ordering::Relaxed);
    let handler = on_abort as extern "C" fn(libc::c_int);
    // SAFETY: the handler only does what a signal handler may: atomic and thread-local loads, `write`, `signal`, `raise`, `_exit`.
    unsafe { libc::signal(libc::SIGABRT, handler as *const () as libc::sighandler_t) };
}

/// Other systems have no such signal: there the process aborts.
#[cfg(not(unix))]
pub fn exit_when_refused(_: u8) {}

#[cfg(unix)]
static CODE: AtomicUsize = AtomicUsize::new(0);

/// The standard library aborts after an allocation that had no way to fail.
#[cfg(unix)]
extern "C" fn on_abort(_: libc::c_int) {
    let (refused, left) = REFUSED.try_with(Cell::get).unwrap_or_default();
    if left == 0 {
        // SAFETY: both may be called in a signal handler; the default action ends the process.
        unsafe {
            libc::signal(libc::SIGABRT, libc::SIG_DFL);
            libc::raise(libc::SIGABRT);
        }
        return;
    }
    let mut text = Sentence { bytes: [0; 256], length: 0 };
    text.add(b"error: out of memory: ");
    text.number(refused);
    text.add(b" bytes more than the ");
    text.number(used());
    text.add(b" in use were refused; use smaller dims or files, or raise --max-mem where it is the limit\n");
    // SAFETY: the bytes are the sentence's own; `_exit` runs nothing of this process any more.
    unsafe {
        libc::write(2, text.bytes.as_ptr().cast(), text.length);
        libc::_exit(CODE.load(Ordering::Relaxed) as libc::c_int);
    }
}

/// A short text that needs no heap.
#[cfg(unix)]
struct Sentence {
    bytes: [u8; 256],
    length: usize,
}

#[cfg(unix)]
impl Sentence {
    fn add(&mut self, part: &[u8]) {
        for byte in part.iter().take(self.bytes.len() - self.length) {
            self.bytes[self.length] = *byte;
            self.length += 1;
        }
    }

    fn number(&mut self, mut value: usize) {
        let mut digits = [0; 20];
        let mut at = digits.len();
        loop {
            at -= 1;
            digits[at] = b'0' + (value % 10) as u8;
            value /= 10;
            if value == 0 {
                break;
            }
        }
        self.add(&digits[at..]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    #[test]
    fn sentences_hold_numbers_and_end_at_their_room() {
        let mut s = Sentence { bytes: [0; 256], length: 0 };
        for value in [0, 7, 1234567890, usize::MAX] {
            s.length = 0;
            s.number(value);
            assert_eq!(std::str::from_utf8(&s.bytes[..s.length]), Ok(value.to_string().as_str()));
        }
        s.add(&[b'x'; 300]);
        assert_eq!(s.length, 256);
    }

    #[test]
    fn the_allocator_counts_what_it_gives() {
        let layout = Layout::from_size_align(1 << 16, 8).unwrap();
        // SAFETY: memory is given back with the size that it has by then.
        unsafe {
            let address = Heap.alloc(layout);
            assert!(!address.is_null() && used() >= 1 << 16);
            let address = Heap.realloc(address, layout, 1 << 20);
            assert!(!address.is_null() && used() >= 1 << 20);
            Heap.dealloc(address, Layout::from_size_align(1 << 20, 8).unwrap());
            let zeroed = Heap.alloc_zeroed(layout);
            assert_eq!(std::slice::from_raw_parts(zeroed, 1 << 16), [0; 1 << 16]);
            Heap.dealloc(zeroed, layout);
            let much = Layout::from_size_align(isize::MAX as usize - 63, 64).unwrap();
            assert!(Heap.alloc(much).is_null());
            assert_eq!(REFUSED.get(), (isize::MAX as usize - 63, REMEMBERED));
            for _ in 0..=REMEMBERED {
                Heap.dealloc(Heap.alloc(layout), layout);
            }
            assert_eq!(REFUSED.get().1, 0, "it is forgotten");
        }
    }
}

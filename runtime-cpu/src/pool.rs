//! A fork-join pool whose workers spin for a while before they sleep.
//!
//! A step of a model takes tens of microseconds, so waking a thread for each would cost more than the
//! step. A fork publishes one word, an epoch; spinning workers see it within a microsecond. A worker that got
//! no processor loses its share to the caller, who would otherwise wait for it.

use std::any::Any;
use std::cell::UnsafeCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle, Thread};
use std::time::{Duration, Instant};

use thiserror::Error;

use crate::isa::FlushDenormals;

/// The largest number of threads that a pool takes.
pub const MAX_THREADS: usize = 1024;

/// How long an idle worker spins before it sleeps.
const SPIN: Duration = Duration::from_micros(50);

/// Why a pool could not be made, or why a run of it failed.
#[derive(Debug, Error)]
pub enum PoolError {
    /// The number of threads is out of range.
    #[error("a pool takes 1 to {MAX_THREADS} threads, not {threads}")]
    Threads {
        /// The number asked for.
        threads: usize,
    },
    /// The system refused a thread.
    #[error("worker thread {index} could not be started: {source}; ask for fewer threads")]
    Spawn {
        /// Which worker, from 1.
        index: usize,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A part of a run panicked. The other parts may or may not have run; the pool stays usable.
    #[error("a parallel kernel panicked: {message}; its results are not valid")]
    Panicked {
        /// The message of the first panic seen.
        message: String,
    },
}

/// A pool of threads that runs one job, cut into parts, at a time.
///
/// Parts run with denormals flushed to zero, on the calling thread too. Which thread runs a part is
/// not defined, so a caller that wants results to be the same for any number of threads cuts a job by
/// its outputs only, or into a number of parts that depends on shapes alone.
#[derive(Debug)]
pub struct Pool {
    shared: Arc<Shared>,
    workers: Vec<Worker>,
    /// Taken by the one caller that may use the workers.
    busy: AtomicBool,
}

#[derive(Debug)]
struct Worker {
    thread: Thread,
    handle: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    /// Counts forks in the upper bits; the lower [`ACTIVE_BITS`] say how many threads take part.
    epoch: Padded<AtomicU64>,
    /// The next part of a job that is handed out dynamically.
    next: Padded<AtomicUsize>,
    job: UnsafeCell<Option<Job>>,
    /// One for each worker.
    lines: Vec<Padded<Line>>,
    panic: Mutex<Option<String>>,
}

/// What one worker and the caller tell each other.
#[derive(Debug, Default)]
struct Line {
    /// The last epoch that this worker, or the caller in its place, took part in.
    taken: AtomicU64,
    /// The last epoch that this worker took part in and finished.
    done: AtomicU64,
    asleep: AtomicBool,
}

/// Two cache lines, because processors fetch them in pairs.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Padded<T>(T);

type Body = dyn Fn(usize) + Sync;

#[derive(Clone, Copy, Debug)]
struct Job {
    body: *const Body,
    parts: usize,
    active: usize,
    dynamic: bool,
}

// SAFETY: `job` is written by the caller that holds `busy`, before it publishes an epoch, and read only
// by the workers that took this epoch's share before the caller did; it waits for all of them before it
// returns.
// The body it points to is `Sync`.
unsafe impl Sync for Shared {}
// SAFETY: as above; nothing in it is bound to a thread.
unsafe impl Send for Shared {}

const ACTIVE_BITS: u32 = 16;
const STOP: u64 = u64::MAX;

impl Pool {
    /// Makes a pool of `threads` threads; the caller of [`Pool::run`] is one of them.
    ///
    /// # Errors
    /// When `threads` is zero or above [`MAX_THREADS`], or the system refuses a thread.
    pub fn new(threads: usize) -> Result<Pool, PoolError> {
        if threads == 0 || threads > MAX_THREADS {
            return Err(PoolError::Threads { threads });
        }
        let shared = Arc::new(Shared {
            epoch: Padded::default(),
            next: Padded::default(),
            job: UnsafeCell::new(None),
            lines: (1..threads).map(|_| Padded::default()).collect(),
            panic: Mutex::new(None),
        });
        // Workers are pushed as they start, so that an early return stops and joins them.
        let mut pool =
            Pool { shared, workers: Vec::with_capacity(threads - 1), busy: AtomicBool::new(false) };
        for index in 1..threads {
            let shared = Arc::clone(&pool.shared);
            let handle = thread::Builder::new()
                .name(format!("graphc-worker-{index}"))
                .spawn(move || shared.work(index))
                .map_err(|source| PoolError::Spawn { index, source })?;
            pool.workers.push(Worker { thread: handle.thread().clone(), handle: Some(handle) });
        }
        Ok(pool)
    }

    /// How many threads take part in a run at most, the caller counted.
    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Calls `body` once with each of `0..parts`, on the threads of the pool, and waits for all.
    ///
    /// Parts are cut into one contiguous range a thread; above two parts a thread they are handed out
    /// one by one. When the pool is in use, by another thread or by a part of the same run, the parts
    /// run on the calling thread alone. Nothing is allocated unless a part panics.
    ///
    /// # Errors
    /// When a part panicked.
    pub fn run(&self, parts: usize, body: &(dyn Fn(usize) + Sync)) -> Result<(), PoolError> {
        let _flush = FlushDenormals::enable();
        let active = parts.min(self.threads());
        if active <= 1 || self.busy.swap(true, Ordering::Acquire) {
            return catch_unwind(AssertUnwindSafe(|| (0..parts).for_each(body)))
                .map_err(|payload| PoolError::panicked(payload.as_ref()));
        }
        self.fork_join(parts, active, body);
        let message = self.shared.first_panic().take();
        self.busy.store(false, Ordering::Release);
        message.map_or(Ok(()), |message| Err(PoolError::Panicked { message }))
    }

    /// Must be called by the holder of `busy` only.
    fn fork_join(&self, parts: usize, active: usize, body: &(dyn Fn(usize) + Sync)) {
        let shared = &*self.shared;
        // SAFETY: only the lifetime is left out; this function returns after the body's last use.
        let body = unsafe { std::mem::transmute::<&(dyn Fn(usize) + Sync), &'static Body>(body) };
        let job = Job { body, parts, active, dynamic: parts > 2 * self.threads() };
        shared.next.0.store(0, Ordering::Relaxed);
        // SAFETY: no worker reads the job now: the last run waited for all that took their share.
        unsafe { *shared.job.get() = Some(job) };
        let count = (shared.epoch.0.load(Ordering::Relaxed) >> ACTIVE_BITS) + 1;
        let epoch = count << ACTIVE_BITS | active as u64;
        // Sequentially consistent against `asleep`: either the worker sees this epoch before it
        // sleeps, or this thread sees that it is asleep.
        shared.epoch.0.store(epoch, Ordering::SeqCst);
        let (lines, workers) = (&shared.lines[..active - 1], &self.workers[..active - 1]);
        for (line, worker) in lines.iter().zip(workers) {
            if line.0.asleep.load(Ordering::SeqCst) && line.0.asleep.swap(false, Ordering::SeqCst) {
                worker.thread.unpark();
            }
        }
        shared.take_part(job, 0);
        for (index, line) in lines.iter().enumerate() {
            if line.0.take(epoch) {
                // It has not begun, and now it will not.
                shared.take_part(job, index + 1);
                continue;
            }
            let started = Instant::now();
            while line.0.done.load(Ordering::Acquire) != epoch {
                // A worker that got no processor cannot finish while this thread holds one.
                spin_or(started, thread::yield_now);
            }
        }
    }
}

impl Line {
    /// Takes the share of this line's worker in an epoch; `false` if someone has, or a later epoch came.
    fn take(&self, epoch: u64) -> bool {
        self.taken.fetch_max(epoch, Ordering::AcqRel) < epoch
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.epoch.0.store(STOP, Ordering::SeqCst);
        for worker in &mut self.workers {
            worker.thread.unpark();
            if let Some(handle) = worker.handle.take() {
                // Panics of parts are caught, so that a worker itself never ends in one.
                handle.join().ok();
            }
        }
    }
}

impl Shared {
    /// The life of worker `index`.
    fn work(&self, index: usize) {
        let _flush = FlushDenormals::enable();
        let line = &self.lines[index - 1].0;
        let mut seen = 0;
        loop {
            seen = self.await_epoch(line, seen);
            if seen == STOP {
                return;
            }
            let active = (seen & ((1 << ACTIVE_BITS) - 1)) as usize;
            if index < active && line.take(seen) {
                // SAFETY: this worker took its share, so the caller keeps the job until `done`.
                if let Some(job) = unsafe { *self.job.get() } {
                    self.take_part(job, index);
                }
                line.done.store(seen, Ordering::Release);
            }
        }
    }

    fn await_epoch(&self, line: &Line, seen: u64) -> u64 {
        let started = Instant::now();
        loop {
            let epoch = self.epoch.0.load(Ordering::Acquire);
            if epoch != seen {
                return epoch;
            }
            spin_or(started, || {
                // Set again before each sleep: a caller that woke this worker late, after it had
                // finished the epoch and slept again, has cleared it.
                line.asleep.store(true, Ordering::SeqCst);
                while self.epoch.0.load(Ordering::SeqCst) == seen {
                    thread::park();
                    line.asleep.store(true, Ordering::SeqCst);
                }
                line.asleep.store(false, Ordering::SeqCst);
            });
        }
    }

    fn take_part(&self, job: Job, thread: usize) {
        let result = catch_unwind(AssertUnwindSafe(|| {
            // SAFETY: the caller keeps the body alive until every active thread is done.
            let body = unsafe { &*job.body };
            if job.dynamic {
                loop {
                    let part = self.next.0.fetch_add(1, Ordering::Relaxed);
                    if part >= job.parts {
                        return;
                    }
                    body(part);
                }
            }
            (share(job.parts, job.active, thread)).for_each(body);
        }));
        if let Err(payload) = result {
            self.first_panic().get_or_insert_with(|| panic_message(payload.as_ref()));
        }
    }

    fn first_panic(&self) -> std::sync::MutexGuard<'_, Option<String>> {
        self.panic.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The contiguous share of `index` when `units` are dealt to `shares`; sizes differ by one at most.
pub(crate) fn share(units: usize, shares: usize, index: usize) -> std::ops::Range<usize> {
    let (each, left) = (units / shares, units % shares);
    let start = index * each + index.min(left);
    start..start + each + usize::from(index < left)
}

/// Pauses for a few dozen cycles, or calls `otherwise` when the time to spin is over.
fn spin_or(started: Instant, otherwise: impl FnOnce()) {
    for _ in 0..32 {
        std::hint::spin_loop();
    }
    if started.elapsed() > SPIN {
        otherwise();
    }
}

impl PoolError {
    /// The error of a kernel that panicked with this payload.
    pub(crate) fn panicked(payload: &(dyn Any + Send)) -> PoolError {
        PoolError::Panicked { message: panic_message(payload) }
    }
}

fn panic_message(payload: &(dyn Any + Send)) -> String {
    payload
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(pool: &Pool, parts: usize) -> Vec<usize> {
        let calls: Vec<AtomicUsize> = (0..parts).map(|_| AtomicUsize::new(0)).collect();
        pool.run(parts, &|part| {
            calls[part].fetch_add(1, Ordering::Relaxed);
        })
        .unwrap();
        calls.iter().map(|count| count.load(Ordering::Relaxed)).collect()
    }

    #[test]
    fn every_part_runs_once() {
        for threads in [1, 2, 3, 5] {
            let pool = Pool::new(threads).unwrap();
            assert_eq!(pool.threads(), threads);
            for parts in [0, 1, 2, 3, 4, 7, 100] {
                assert_eq!(counts(&pool, parts), vec![1; parts], "{threads} threads, {parts} parts");
            }
        }
    }

    #[test]
    fn shares_are_contiguous_and_even() {
        for (units, shares) in [(10, 3), (2, 2), (7, 7), (1000, 16)] {
            let ranges: Vec<_> = (0..shares).map(|index| share(units, shares, index)).collect();
            assert_eq!((ranges[0].start, ranges[shares - 1].end), (0, units));
            assert!(ranges.windows(2).all(|pair| pair[0].end == pair[1].start));
            assert!(ranges.iter().all(|range| range.len().abs_diff(units / shares) <= 1));
        }
    }

    #[test]
    fn workers_wake_up_after_they_slept() {
        let pool = Pool::new(2).unwrap();
        for _ in 0..20 {
            thread::sleep(Duration::from_millis(1));
            assert_eq!(counts(&pool, 2), [1, 1]);
        }
        for _ in 0..2000 {
            assert_eq!(counts(&pool, 2), [1, 1]);
        }
    }

    #[test]
    fn a_panic_is_an_error_and_the_pool_stays_usable() {
        let pool = Pool::new(3).unwrap();
        for guilty in 0..3 {
            let error = pool.run(3, &|part| assert_ne!(part, guilty, "part {part} is broken")).unwrap_err();
            assert!(error.to_string().contains(&format!("part {guilty} is broken")), "{error}");
            assert_eq!(counts(&pool, 50), vec![1; 50]);
        }
        let serial = Pool::new(1).unwrap().run(1, &|_| panic!("alone")).unwrap_err();
        assert_eq!(serial.to_string(), "a parallel kernel panicked: alone; its results are not valid");
    }

    #[test]
    fn nested_and_concurrent_runs_finish() {
        let pool = Pool::new(2).unwrap();
        let total = AtomicUsize::new(0);
        let add = |_| {
            total.fetch_add(1, Ordering::Relaxed);
        };
        thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| (0..100).for_each(|_| pool.run(2, &|_| pool.run(3, &add).unwrap()).unwrap()));
            }
        });
        assert_eq!(total.into_inner(), 3 * 100 * 2 * 3);
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn all_parts_flush_denormals() {
        let pool = Pool::new(2).unwrap();
        let flushed = AtomicUsize::new(0);
        pool.run(2, &|_| {
            if std::hint::black_box(f32::MIN_POSITIVE) * std::hint::black_box(0.5) == 0.0 {
                flushed.fetch_add(1, Ordering::Relaxed);
            }
        })
        .unwrap();
        assert_eq!(flushed.into_inner(), 2);
        assert_ne!(std::hint::black_box(f32::MIN_POSITIVE) * std::hint::black_box(0.5), 0.0);
    }

    #[test]
    fn thread_counts_out_of_range_are_errors() {
        for threads in [0, MAX_THREADS + 1] {
            assert!(
                matches!(Pool::new(threads), Err(PoolError::Threads { threads: given }) if given == threads)
            );
        }
    }
}

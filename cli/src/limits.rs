//! What a command may take: memory and time.

use std::io::{self, Write as _};
use std::time::{Duration, Instant};

use graphc::memory::{self, heap};

use crate::args::Global;
use crate::exit::{Exit, Failure, Result};

/// Sets the limit of the heap: what the system allows, or less if so asked. Memory that is refused where nothing can report it
/// ends the process with the code of a device that is not available.
pub fn memory(global: &Global) {
    if let Some(bytes) = memory::available().into_iter().chain(global.max_mem).min() {
        heap::set_limit(bytes);
    }
    heap::exit_when_refused(Exit::Device as u8);
}

/// The time that a command has.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    started: Instant,
    most: Option<Duration>,
}

/// Verbs that stop by themselves are given so much more time for what they are in.
const GRACE: Duration = Duration::from_secs(10);

impl Clock {
    /// A clock that starts now.
    pub fn start(global: &Global) -> Clock {
        Clock { started: Instant::now(), most: global.max_time.map(Duration::from_secs_f64) }
    }

    /// Whether the time is over.
    pub fn is_over(&self) -> bool {
        self.most.is_some_and(|most| self.started.elapsed() >= most)
    }

    /// Ends the process when the time is over, whatever it does then; `stops_by_itself` says that the verb looks at the clock too.
    /// Files are replaced as a whole, so that each is the former or the new one.
    pub fn watch(self, stops_by_itself: bool) -> Result<()> {
        let Some(most) = self.most else { return Ok(()) };
        let end = if stops_by_itself { most.saturating_add(most).saturating_add(GRACE) } else { most };
        self.after(end, move || {
            // There is nowhere left to say that the standard error is closed.
            let _ = writeln!(io::stderr(), "error: {}", stopped(most).message);
            std::process::exit(Exit::Stopped as i32);
        })
    }

    /// Calls a function when the time is over, on a thread of its own.
    pub fn at_end(self, call: impl FnOnce() + Send + 'static) -> Result<()> {
        match self.most {
            Some(most) => self.after(most, call),
            None => Ok(()),
        }
    }

    fn after(self, time: Duration, call: impl FnOnce() + Send + 'static) -> Result<()> {
        let wait = move || {
            std::thread::sleep(time.saturating_sub(self.started.elapsed()));
            call();
        };
        let thread = std::thread::Builder::new().name("clock".into()).spawn(wait);
        thread.map(drop).map_err(|e| Failure::new(Exit::Device, format!("no thread can watch the time: {e}")))
    }

    /// The end of a verb that looked at the clock.
    pub fn stopped(&self) -> Failure {
        stopped(self.most.unwrap_or_default())
    }
}

fn stopped(most: Duration) -> Failure {
    let message = format!("stopped after {most:?}, as --max-time says; files are as they were, or complete");
    Failure::new(Exit::Stopped, message)
}

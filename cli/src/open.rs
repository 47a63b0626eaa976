//! From the model's path to a session that can run.

use std::path::Path;
use std::time::{Duration, Instant};

use graphc::{Module, Session};

use crate::args::Global;
use crate::exit::{Failure, Result};
use crate::feeds::FeedArgs;
use crate::terminal::Terminal;

/// A session, and what it took to open it.
#[derive(Debug)]
pub struct Opened {
    /// The session.
    pub session: Session,
    /// Time to read the module and its weights.
    pub load: Duration,
}

/// Reads a module and puts it on the device; state may still be without values.
pub fn open(model: &Path, global: &Global, terminal: &Terminal) -> Result<Opened> {
    let started = Instant::now();
    let mut builder = Session::open(model)?;
    let load = started.elapsed();
    builder = builder.device(global.device);
    if let Some(threads) = global.threads {
        builder = builder.threads(threads);
    }
    for dim in &global.dims {
        builder = builder.dim(&dim.name, dim.size);
    }
    let session = builder.build()?;
    if let Some(adapter) = session.adapter() {
        terminal.note(&format!("device gpu: {adapter}"));
    }
    if let Some(note) = session.device_note() {
        terminal.warning(note);
    }
    Ok(Opened { session, load })
}

/// Gives state its values: those of `--state`, then those of `init` where there is none; the latter only if the
/// function, where one is given, reads such a variable.
pub fn set_state(
    session: &mut Session,
    function: Option<&str>,
    args: &FeedArgs,
    global: &Global,
    terminal: &Terminal,
) -> Result<()> {
    for (name, value) in args.state_values(session.module(), session.dims(), global.seed)? {
        session.set_state(&name, value)?;
    }
    if let Some(function) = function
        && session.unset_state_of(function)?.is_empty()
    {
        return Ok(());
    }
    let unset: Vec<String> = session.unset_state().iter().map(|n| format!("`{n}`")).collect();
    if unset.is_empty() {
        return Ok(());
    }
    session.init_missing(global.seed)?;
    let variables = if unset.len() > 6 {
        format!("{} state variables", unset.len())
    } else {
        format!("state {}", unset.join(", "))
    };
    let were = if unset.len() == 1 { "was" } else { "were" };
    terminal.note(&format!("{variables} had no value and {were} set by `init` with seed {}", global.seed));
    Ok(())
}

/// The function asked for, else the [default](default_function).
pub fn function_name(session: &Session, given: Option<&str>) -> Result<String> {
    match given {
        Some(name) => session.function(name).map(|_| name.to_owned()).map_err(Failure::from),
        None => default_function(session.module()),
    }
}

/// The only function of a module, else `predict`.
pub fn default_function(module: &Module) -> Result<String> {
    const DEFAULT: &str = "predict";
    match module.functions.keys().next() {
        Some(only) if module.functions.len() == 1 => Ok(only.clone()),
        _ if module.functions.contains_key(DEFAULT) => Ok(DEFAULT.into()),
        None => Err(Failure::data("the module has no functions")),
        _ => {
            let names: Vec<String> = module.functions.keys().map(|n| format!("`{n}`")).collect();
            Err(Failure::usage(format!("say which function with --fn; the module has {}", names.join(", "))))
        }
    }
}

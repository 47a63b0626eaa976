//! `graphc verify`: every level of compilation against the reference interpreter.

use std::path::PathBuf;

use graphc::ir::dim::Symbol;
use graphc::ir::wire::json::{Layout, object_document};
use graphc::verify::{Case, Culprit, Verdict, verify};
use graphc::{DType, Function, Module, Options, Session, Tensor};

use crate::args::Global;
use crate::exit::{Exit, Failure, Result};
use crate::feeds::FeedArgs;
use crate::limits::Clock;
use crate::open;
use crate::terminal::Terminal;
use crate::value::Recipe;

/// Options of `verify`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The model
    model: PathBuf,
    /// The function; every one if not given
    #[arg(long = "fn", value_name = "NAME")]
    function: Option<String>,
    #[command(flatten)]
    feeds: FeedArgs,
    /// Largest relative L2 error of floats [default: 1e-4; 1e-10 for functions of f64 alone, 2e-3 with f16, 2e-2 with bf16]
    #[arg(long, value_parser = tolerance, value_name = "ERROR")]
    tolerance: Option<f64>,
}

/// Size of dims that nothing tells: odd, and not 1, where mistakes hide.
const SIZE: usize = 3;

/// Larger sizes of such dims: next to powers of two, where kernels begin and end to share rows, to block and to vectorize. The
/// largest that [`WORK`] allows is taken of each list, of the second below half of the first.
const ABOVE: [usize; 22] = [
    4097, 4096, 2049, 2048, 1025, 1024, 513, 512, 257, 256, 129, 128, 97, 96, 65, 64, 49, 48, 33, 32, 17, 16,
];
const BELOW: [usize; 12] = [2047, 1023, 511, 255, 127, 95, 63, 60, 47, 31, 15, 12];

/// Operations of a function, and elements of all its values, up to which a size is not too large for the interpreter, which runs
/// most levels: a second or so for all of them.
const WORK: f64 = 1.6e7;

fn tolerance(text: &str) -> std::result::Result<f64, String> {
    match text.parse::<f64>() {
        Ok(t) if t >= 0.0 && t.is_finite() => Ok(t),
        _ => Err("give a number from 0 on".into()),
    }
}

/// Runs the verb.
pub fn run(args: &Args, global: &Global, clock: Clock, terminal: &mut Terminal) -> Result<()> {
    let mut session = open::open(&args.model, global, terminal)?.session;
    set_state(&mut session, args, global, terminal)?;
    let names: Vec<String> = match &args.function {
        Some(name) => vec![open::function_name(&session, Some(name))?],
        None => session.module().functions.keys().cloned().collect(),
    };
    let module = session.snapshot()?;
    let mut wrong = 0;
    let cases = Cases { args, global, session: &session, module: &module };
    for name in &names {
        for (feeds, sizes) in cases.of(name)? {
            let verdicts = cases.judge(name, &feeds, &sizes)?;
            wrong += verdicts.iter().filter(|v| v.culprit.is_some()).count();
            for verdict in &verdicts {
                let line =
                    if global.json { json(name, verdict, &sizes) } else { text(name, verdict, &sizes) };
                terminal.print(&line)?;
            }
            if clock.is_over() {
                terminal.flush()?;
                return Err(clock.stopped());
            }
        }
    }
    match wrong {
        0 => Ok(()),
        _ => {
            terminal.flush()?;
            let levels = if wrong == 1 { "level differs" } else { "levels differ" };
            Err(Failure::new(
                Exit::Failed,
                format!("{}: {wrong} {levels} from the definition", args.model.display()),
            ))
        }
    }
}

/// Gives state its values as other verbs do, and what has none after that a random one: any value serves a comparison.
fn set_state(session: &mut Session, args: &Args, global: &Global, terminal: &Terminal) -> Result<()> {
    if let Err(e) = open::set_state(session, args.function.as_deref(), &args.feeds, global, terminal)
        && (e.exit != Exit::Data || session.unset_state().is_empty())
    {
        return Err(e);
    }
    let unset: Vec<String> = session.unset_state().into_iter().map(str::to_owned).collect();
    // Dims that nothing tells get a size, each symbol one.
    let mut dims = session.dims().clone();
    for decl in session.module().state.iter().filter(|s| unset.contains(&s.name)) {
        for symbol in decl.ty.dims.iter().flat_map(graphc::Dim::symbols) {
            if dims.get(symbol.as_str()).is_none() {
                let least = session.module().symbols.get(symbol.as_str()).copied().unwrap_or(0);
                let size = least.max(SIZE as i64);
                dims.set(&symbol, size, "verify").map_err(|e| Failure::data(e.to_string()))?;
            }
        }
    }
    for name in &unset {
        let Some(decl) = session.module().state.iter().find(|s| s.name == *name) else { continue };
        let size = |d: &graphc::Dim| d.bind_size(&dims).unwrap_or(SIZE);
        let shape: Vec<usize> = decl.ty.dims.iter().map(size).collect();
        graphc::memory::check_tensor(&format!("state `{name}`"), decl.ty.dtype, &shape)?;
        let value = Recipe::Random.tensor(name, decl.ty.dtype, &shape, global.seed);
        session.set_state(name, value)?;
    }
    if !unset.is_empty() {
        let names: Vec<String> = unset.iter().map(|n| format!("`{n}`")).collect();
        let (have, are) = if names.len() == 1 { ("has", "is") } else { ("have", "are") };
        let names = names.join(", ");
        terminal.note(&format!("state {names} {have} no value, and {are} compared with a random one"));
    }
    Ok(())
}

/// Feeds by name, and the sizes of all dims.
type Given = (Vec<(String, Tensor)>, Vec<(String, usize)>);

struct Cases<'a> {
    args: &'a Args,
    global: &'a Global,
    session: &'a Session,
    module: &'a Module,
}

impl Cases<'_> {
    /// What a function is compared on: small sizes, and if it has dims that nothing tells, two larger ones.
    fn of(&self, name: &str) -> Result<Vec<Given>> {
        let small = self.given(name, SIZE)?;
        let mut cases = Vec::new();
        let free = self.given(name, SIZE + 1).is_ok_and(|other| other.1 != small.1);
        if free {
            let above = ABOVE.iter().find_map(|size| self.larger(name, *size));
            let most = above.as_ref().map_or(0, |(size, _)| size / 2);
            let below = BELOW.iter().filter(|size| **size < most).find_map(|size| self.larger(name, *size));
            cases.extend(below.into_iter().chain(above).map(|(_, given)| given));
        }
        cases.insert(0, small);
        Ok(cases)
    }

    /// Feeds for dims of a size, unless the function does not take it, or it is too much work or memory.
    fn larger(&self, name: &str, size: usize) -> Option<(usize, Given)> {
        let function = self.session.function(name).ok()?;
        let sizes = self.session.symbols(name).ok()?;
        // Before anything is made, with every free dim of this size: what is told makes it no smaller.
        let work = self.work(function, &sizes, size)?;
        let given = (work <= WORK).then(|| self.given(name, size))?.ok()?;
        Some((size, given))
    }

    fn work(&self, function: &Function, symbols: &[String], size: usize) -> Option<f64> {
        let mut binding = self.session.dims().clone();
        for symbol in symbols.iter().filter(|s| self.session.dims().get(s).is_none()) {
            let symbol = Symbol::new(symbol).ok()?;
            binding.set(&symbol, i64::try_from(size).ok()?, "the size").ok()?;
        }
        let graph = function.graph.bind(&binding).ok()?;
        let values = graph.nodes().flat_map(|(_, n)| n.outs()).map(|v| graph.ty(v));
        let elements: f64 = values
            .map(|ty| ty.dims.iter().filter_map(|d| d.as_const()).map(|d| d as f64).product::<f64>())
            .sum();
        Some(elements + graphc::ir::interp::flops(&graph).unwrap_or(f64::INFINITY))
    }

    /// What is given of the inputs that the function has; the others are random, with dims that nothing tells of this size.
    fn given(&self, name: &str, size: usize) -> Result<Given> {
        let function = self.session.function(name)?;
        let mut given = self.args.feeds.clone();
        if self.args.function.is_none() {
            given.inputs.retain(|a| function.inputs.contains(&a.name));
        }
        let feeds = given.feeds_or_random(self.session, name, self.global.seed, size)?;
        let fed: Vec<(&str, &Tensor)> = feeds.iter().map(|(n, t)| (n.as_str(), t)).collect();
        let sizes = self.session.sizes(name, &fed, size)?;
        Ok((feeds, sizes))
    }

    fn judge(
        &self,
        name: &str,
        feeds: &[(String, Tensor)],
        sizes: &[(String, usize)],
    ) -> Result<Vec<Verdict>> {
        let Cases { args, global, module, .. } = self;
        let feeds: Vec<(&str, &Tensor)> = feeds.iter().map(|(n, t)| (n.as_str(), t)).collect();
        let dims: Vec<(&str, usize)> = sizes.iter().map(|(n, size)| (n.as_str(), *size)).collect();
        let tolerance = args.tolerance.unwrap_or_else(|| default_tolerance(module.functions.get(name)));
        let case = Case {
            module,
            function: name,
            feeds: &feeds,
            dims: &dims,
            tolerance,
            strict: args.tolerance.is_some(),
            device: global.device,
        };
        Ok(verify(&case, &Options::default())?)
    }
}

/// Of the coarsest float type in the function. A level may round the last bit of f16 and bf16 the other way.
fn default_tolerance(function: Option<&Function>) -> f64 {
    let Some(function) = function else { return 1e-4 };
    let tolerance = |v| match function.graph.ty(v).dtype {
        DType::Bf16 => 2f64.powi(-6),
        DType::F16 => 2f64.powi(-9),
        DType::F32 => 1e-4,
        _ => 1e-10,
    };
    function.graph.nodes().flat_map(|(_, n)| n.outs()).map(tolerance).fold(1e-10, f64::max)
}

fn text(name: &str, verdict: &Verdict, sizes: &[(String, usize)]) -> String {
    let sizes: Vec<String> = sizes.iter().map(|(s, size)| format!("{s}={size}")).collect();
    let with = if sizes.is_empty() { String::new() } else { format!(", with {}", sizes.join(", ")) };
    let Verdict { level, worst, culprit } = verdict;
    let of = if worst.name.is_empty() { String::new() } else { format!(" in {}", worst.name) };
    let Some(culprit) = culprit else {
        return format!("{name}: {level} agrees (relative error {:.2e}{of}{with})\n", worst.error);
    };
    let at = worst.index.map(|i| format!(", most at element {i}")).unwrap_or_default();
    format!(
        "{name}: {level} DIFFERS (relative error {:.2e}{of}{at}{with}); {}\n",
        worst.error,
        blame(culprit)
    )
}

fn blame(culprit: &Culprit) -> String {
    let pass = match culprit.pass {
        Some(pass) => format!("it appears with pass `{pass}`"),
        None => "it is there without any optional pass".into(),
    };
    match (&culprit.node, &culprit.deviation) {
        (Some(node), Some(d)) => format!("{pass}, first at {node} (relative error {:.2e})", d.error),
        _ => format!("{pass}; each node alone is right"),
    }
}

fn json(name: &str, verdict: &Verdict, sizes: &[(String, usize)]) -> String {
    object_document(Layout::Inline, |o| {
        o.string("function", name);
        o.string("level", verdict.level.name());
        o.bool("agrees", verdict.culprit.is_none());
        o.object("dims", Layout::Inline, |o| sizes.iter().for_each(|(s, size)| o.u64(s, *size as u64)));
        o.string("result", &verdict.worst.name);
        o.f64("error", verdict.worst.error);
        if let Some(culprit) = &verdict.culprit {
            match culprit.pass {
                Some(pass) => o.string("pass", pass),
                None => o.null("pass"),
            }
            match &culprit.node {
                Some(node) => o.string("node", node),
                None => o.null("node"),
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use graphc::build::ModuleBuilder;

    use super::*;

    #[test]
    fn the_tolerance_is_that_of_the_coarsest_type() {
        let of = |types: &[&str]| {
            let mut m = ModuleBuilder::new();
            m.function("f", |f| {
                for (i, ty) in types.iter().enumerate() {
                    let x = f.input(&format!("x{i}"), &format!("{ty}[2]"))?;
                    f.output(&format!("y{i}"), x)?;
                }
                Ok(())
            })
            .unwrap();
            let module = m.finish().unwrap();
            default_tolerance(module.functions.get("f"))
        };
        assert_eq!(of(&["f64"]), 1e-10);
        assert_eq!(of(&["f64", "f32"]), 1e-4);
        assert_eq!(of(&["f32", "f16"]), 2f64.powi(-9));
        assert_eq!(of(&["f16", "bf16", "f64"]), 2f64.powi(-6));
    }
}

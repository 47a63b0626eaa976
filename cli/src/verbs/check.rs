//! `graphc check`: what a model holds, and whether it is valid.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;

use graphc::ir::tensor::element_count;
use graphc::ir::text::visible;
use graphc::ir::wire;
use graphc::ir::wire::json::{Layout, ObjectWriter, object_document};
use graphc::memory::readable;
use graphc::{Function, Module, PlanInfo, Session};

use crate::args::Global;
use crate::exit::{Failure, Result};
use crate::open;
use crate::terminal::Terminal;

/// Options of `check`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The model
    model: PathBuf,
}

/// A function with its plan for some sizes, or why there is none.
struct Entry<'m> {
    name: &'m str,
    function: &'m Function,
    sizes: Vec<(String, usize)>,
    plan: std::result::Result<PlanInfo, Failure>,
}

/// Runs the verb.
pub fn run(args: &Args, global: &Global, terminal: &mut Terminal) -> Result<()> {
    let session = open::open(&args.model, global, terminal)?.session;
    let module = session.module();
    let entries = module.functions.iter().map(|(n, f)| entry(&session, n, f)).collect::<Result<Vec<_>>>()?;
    for warning in wire::warnings(module) {
        terminal.warning(&format!("{}: {warning}", args.model.display()));
    }
    if global.json {
        terminal.print(&json(&session, &entries))?;
    } else {
        terminal.print(&text(&args.model.display().to_string(), &session, &entries))?;
    }
    // Where other sizes may help, that there is no plan is only told.
    let hopeless = entries.into_iter().find(|e| e.sizes.is_empty() && e.plan.is_err());
    match hopeless.and_then(|e| Some((e.name, e.plan.err()?))) {
        Some((name, e)) => {
            terminal.flush()?;
            let message =
                format!("{}: function `{name}` can never run here: {}", args.model.display(), e.message);
            Err(Failure::new(e.exit, message))
        }
        None => Ok(()),
    }
}

/// Plans a function with the sizes that are given and the least ones for the others.
fn entry<'m>(session: &Session, name: &'m str, function: &'m Function) -> Result<Entry<'m>> {
    let known = |symbol: &String| session.dims().get(symbol).and_then(|v| usize::try_from(v).ok());
    let least =
        |symbol: &String| usize::try_from(function.graph.infer().bounds.lower(symbol)).unwrap_or(1).max(1);
    let symbols = session.symbols(name)?;
    let sizes: Vec<(String, usize)> =
        symbols.into_iter().map(|s| (s.clone(), known(&s).unwrap_or_else(|| least(&s)))).collect();
    let plan = session.plan(name, sizes.iter().map(|(s, v)| (s.as_str(), *v))).map_err(Failure::from);
    Ok(Entry { name, function, sizes, plan })
}

fn text(file: &str, session: &Session, entries: &[Entry<'_>]) -> String {
    let module = session.module();
    let producer = if module.producer.is_empty() {
        String::new()
    } else {
        format!(", by {}", visible(&module.producer))
    };
    let mut text = format!("{file}: a valid module{producer}\n");
    // Writing to a string cannot fail.
    let roles: Vec<String> = roles(module).iter().map(|(role, n)| format!("{n} {role}")).collect();
    if !roles.is_empty() {
        let _ = writeln!(text, "state: {} ({})", readable(state_bytes(module)), roles.join(", "));
    }
    let unset = session.unset_state();
    for s in &module.state {
        let unset = if unset.contains(&s.name.as_str()) { ", without a value" } else { "" };
        let _ = writeln!(text, "  {} {} {}{unset}", s.name, s.role.name(), s.ty);
    }
    for e in entries {
        let _ = writeln!(text, "function {}", interface(e.name, e.function, module));
        let sizes: Vec<String> = e.sizes.iter().map(|(s, v)| format!("{s}={v}")).collect();
        let with = if sizes.is_empty() { String::new() } else { format!("with {}: ", sizes.join(", ")) };
        match &e.plan {
            Ok(plan) => {
                let kernels: Vec<String> = plan.kernels.iter().map(|(k, n)| format!("{n} {k}")).collect();
                let flops = plan.flops.map(|f| format!(", {f:.0} FLOP")).unwrap_or_default();
                let _ = writeln!(
                    text,
                    "  {with}peak memory {}{flops}, {} steps ({})",
                    readable(plan.peak_bytes),
                    plan.steps,
                    kernels.join(", ")
                );
            }
            Err(reason) => {
                let other = if e.sizes.is_empty() { "" } else { "; give other sizes by --dim" };
                let _ = writeln!(text, "  {with}no plan: {reason}{other}");
            }
        }
    }
    text
}

fn interface(name: &str, function: &Function, module: &Module) -> String {
    let inputs: Vec<String> =
        function.inputs.iter().enumerate().map(|(i, n)| format!("{n} {}", function.input_type(i))).collect();
    let outputs = function.outputs.iter().zip(function.output_values());
    let outputs: Vec<String> =
        outputs.map(|(o, v)| format!("{} {}", o.name, function.graph.ty(*v))).collect();
    let updates: Vec<&str> = function.updates.iter().map(|i| module.state[*i].name.as_str()).collect();
    let updates =
        if updates.is_empty() { String::new() } else { format!(", updates {}", updates.join(", ")) };
    let count = function.graph.live_nodes().iter().filter(|l| **l).count();
    format!("{name}({}) -> ({}){updates}; {count} nodes", inputs.join(", "), outputs.join(", "))
}

fn roles(module: &Module) -> BTreeMap<&'static str, usize> {
    let mut roles = BTreeMap::new();
    for s in &module.state {
        *roles.entry(s.role.name()).or_default() += 1;
    }
    roles
}

fn state_bytes(module: &Module) -> usize {
    let bytes =
        |s: &graphc::StateDecl| Some(element_count(&s.ty.shape()?)?.saturating_mul(s.ty.dtype.size()));
    module.state.iter().filter_map(bytes).sum()
}

fn json(session: &Session, entries: &[Entry<'_>]) -> String {
    let (module, unset) = (session.module(), session.unset_state());
    object_document(Layout::Block, |o| {
        o.string("producer", &module.producer);
        o.array("state", Layout::Block, |a| {
            for s in &module.state {
                a.object(Layout::Inline, |o| {
                    o.string("name", &s.name);
                    o.string("role", s.role.name());
                    o.string("type", &s.ty.to_string());
                    o.bool("has_value", !unset.contains(&s.name.as_str()));
                });
            }
        });
        o.object("functions", Layout::Block, |o| {
            for e in entries {
                o.object(e.name, Layout::Block, |o| function_json(o, module, e));
            }
        });
    })
}

fn function_json(o: &mut ObjectWriter<'_>, module: &Module, e: &Entry<'_>) {
    let f = e.function;
    o.object("inputs", Layout::Inline, |o| {
        f.inputs.iter().enumerate().for_each(|(i, n)| o.string(n, &f.input_type(i).to_string()));
    });
    o.object("outputs", Layout::Inline, |o| {
        let outputs = f.outputs.iter().zip(f.output_values());
        outputs.for_each(|(d, v)| o.string(&d.name, &f.graph.ty(*v).to_string()));
    });
    o.array("updates", Layout::Inline, |a| f.updates.iter().for_each(|i| a.string(&module.state[*i].name)));
    o.object("dims", Layout::Inline, |o| e.sizes.iter().for_each(|(s, v)| o.u64(s, *v as u64)));
    match &e.plan {
        Ok(plan) => {
            o.u64("peak_bytes", plan.peak_bytes as u64);
            o.u64("steps", plan.steps as u64);
            o.object("kernels", Layout::Inline, |o| {
                plan.kernels.iter().for_each(|(k, n)| o.u64(k, *n as u64))
            });
            match plan.flops {
                Some(flops) => o.f64("flops", flops),
                None => o.null("flops"),
            }
        }
        Err(e) => o.string("no_plan", &e.message),
    }
}

//! `graphc show`: a function after a stage of compilation.

mod dot;
mod html;
mod text;

use std::path::PathBuf;

use clap::ValueEnum;
use graphc::ir::stage::Stage;

use crate::args::Global;
use crate::exit::Result;
use crate::open;
use crate::terminal::Terminal;

/// Options of `show`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The model
    model: PathBuf,
    /// The function; the only one if not given, else `predict`
    #[arg(long = "fn", value_name = "NAME")]
    function: Option<String>,
    /// The stage; from `bound` on, symbols need sizes by --dim
    #[arg(long, value_enum, default_value_t = Until::Built, value_name = "STAGE")]
    stage: Until,
    /// The form
    #[arg(long, value_enum, default_value_t = Format::Text, value_name = "FORMAT")]
    format: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Until {
    /// As in the file
    Built,
    /// Canonical, as it is differentiated
    Grad,
    /// Primitives, with symbolic dims
    Simplified,
    /// With numbers for dims
    Bound,
    /// With layouts chosen
    Layout,
    /// Grouped into clusters
    Fused,
    /// The steps that run, with their memory
    Program,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// One line a node
    Text,
    /// For Graphviz
    Dot,
    /// A page for a browser
    Html,
}

/// Runs the verb.
pub fn run(args: &Args, global: &Global, terminal: &mut Terminal) -> Result<()> {
    let session = open::open(&args.model, global, terminal)?.session;
    let name = open::function_name(&session, args.function.as_deref())?;
    let stage = match args.stage {
        Until::Built => Stage::Built,
        Until::Grad => Stage::Canonical,
        Until::Simplified => Stage::Simplified,
        // No layout but the file's is chosen yet, so that its stage is the one before.
        Until::Bound => Stage::Bound,
        Until::Layout => Stage::Layout,
        Until::Fused => Stage::Fused,
        Until::Program => {
            let dump = session.plan(&name, [])?.dump;
            return terminal.print(&match args.format {
                Format::Text => dump,
                Format::Dot => dot::program(&name, &dump),
                Format::Html => html::program(&name, &dump),
            });
        }
    };
    let graph = session.graph_at(&name, stage)?;
    let function = session.function(&name)?;
    terminal.print(&match args.format {
        Format::Text => text::function(&name, function, &graph, session.module()),
        Format::Dot => dot::graph(&name, &graph),
        Format::Html => html::graph(&name, stage, function, &graph, session.module()),
    })
}

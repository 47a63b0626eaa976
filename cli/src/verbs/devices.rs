//! `graphc devices`: what functions can run on.

use graphc::ir::wire::json::{Layout, object_document};

use crate::args::Global;
use crate::exit::Result;
use crate::terminal::Terminal;

/// Runs the verb.
pub fn run(global: &Global, terminal: &mut Terminal) -> Result<()> {
    let adapters = adapters();
    if global.json {
        for adapter in &adapters {
            terminal.print(&adapter.json())?;
        }
        return Ok(());
    }
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get());
    let mut text = format!("cpu: {threads} threads\nreference: the interpreter\n");
    for adapter in &adapters {
        text.push_str(&adapter.text());
    }
    if adapters.is_empty() {
        text.push_str(NONE);
    }
    terminal.print(&text)
}

#[cfg(feature = "gpu")]
const NONE: &str = "gpu: no adapter was found; install a Vulkan, Metal or DirectX 12 driver\n";
#[cfg(not(feature = "gpu"))]
const NONE: &str = "gpu: this build of graphc has no GPU runtime\n";

#[cfg(feature = "gpu")]
fn adapters() -> Vec<Adapter> {
    graphc::adapters().into_iter().map(Adapter).collect()
}

#[cfg(not(feature = "gpu"))]
fn adapters() -> Vec<Adapter> {
    Vec::new()
}

#[cfg(feature = "gpu")]
struct Adapter(graphc::AdapterInfo);

#[cfg(not(feature = "gpu"))]
enum Adapter {}

#[cfg(feature = "gpu")]
impl Adapter {
    fn text(&self) -> String {
        let a = &self.0;
        format!(
            "gpu: {a}\n  arrays of up to {}, {} in a shader; workgroups of {} invocations with {}\n  {}\n",
            graphc::memory::readable(usize::try_from(a.max_binding).unwrap_or(usize::MAX)),
            a.max_bindings,
            a.workgroup_size,
            graphc::memory::readable(a.workgroup_bytes as usize),
            if a.features.is_empty() { "no extensions".into() } else { a.features.join(", ") },
        )
    }

    fn json(&self) -> String {
        let a = &self.0;
        object_document(Layout::Inline, |o| {
            o.string("name", &a.name);
            o.string("backend", &a.backend);
            o.string("kind", &a.kind);
            o.string("driver", &a.driver);
            o.u64("max_binding_bytes", a.max_binding);
            o.u64("max_bindings", a.max_bindings.into());
            o.u64("workgroup_bytes", a.workgroup_bytes.into());
            o.u64("workgroup_size", a.workgroup_size.into());
        })
    }
}

#[cfg(not(feature = "gpu"))]
impl Adapter {
    fn text(&self) -> String {
        match *self {}
    }

    fn json(&self) -> String {
        match *self {}
    }
}

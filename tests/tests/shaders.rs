//! All shaders of the samples of operations and of the models, without a GPU: they parse, validate and translate for every
//! backend, and stay within what every adapter has.

use std::collections::HashSet;

use graphc_gpu::{Class, Code, GpuCaps, GpuTarget, ShaderText};
use graphc_ir::error::{Error, Result};
use graphc_ir::ops::Op;
use graphc_ir::{Binding, Function, Graph};
use graphc_optimizer::driver::{self, Options};
use graphc_optimizer::remarks::Remarks;
use graphc_tests::narrow::narrowed;
use graphc_tests::registry::{Case, applied, cases, differentiate};
use graphc_tests::vectors::{FUNCTION, module_of};
use naga::valid::{Capabilities, ValidationFlags, Validator};

/// Storage bindings that every adapter has.
const BINDINGS: usize = 8;
/// Bytes that the invocations of a workgroup share on every adapter.
const SHARED: u32 = 16_384;

/// Adds a function's shaders for adapters of any kind; the kinds differ in tiles alone.
fn shaders(function: &Function, binding: &Binding, into: &mut HashSet<ShaderText>) -> Result<()> {
    let (options, remarks) = (Options::default(), &mut Remarks::default());
    let graph = driver::optimize(function, &options, remarks)?;
    for class in [Class::Portable, Class::Software, Class::Nvidia] {
        let caps = GpuCaps { class, ..GpuCaps::portable() };
        let compiled = driver::compile(&graph, function, binding, &GpuTarget::new(&caps), &options, remarks)?;
        into.extend(Code::new(&compiled.main, &caps)?.shaders().iter().cloned());
        if let Some(prepare) = &compiled.prepare {
            into.extend(Code::new(&prepare.program, &caps)?.shaders().iter().cloned());
        }
    }
    Ok(())
}

/// What is wrong with a shader, if anything.
fn fault(shader: &ShaderText) -> std::result::Result<(), String> {
    let text = &shader.text;
    let module = naga::front::wgsl::parse_str(text).map_err(|e| e.emit_to_string(text))?;
    let mut validator = Validator::new(ValidationFlags::all(), Capabilities::empty());
    let info = validator.validate(&module).map_err(|e| e.emit_to_string(text))?;
    let spirv = naga::back::spv::Options::default();
    naga::back::spv::write_vec(&module, &info, &spirv, None).map_err(|e| format!("SPIR-V: {e}"))?;
    let metal = naga::back::msl::Options { fake_missing_bindings: true, ..Default::default() };
    let pipeline = naga::back::msl::PipelineOptions::default();
    naga::back::msl::write_string(&module, &info, &metal, &pipeline).map_err(|e| format!("Metal: {e}"))?;
    let hlsl = naga::back::hlsl::Options { fake_missing_bindings: true, ..Default::default() };
    let (mut out, pipeline) = (String::new(), naga::back::hlsl::PipelineOptions::default());
    let mut writer = naga::back::hlsl::Writer::new(&mut out, &hlsl, &pipeline);
    writer.write(&module, &info, None).map_err(|e| format!("HLSL: {e}"))?;
    drop(writer);
    let shared: u32 = module
        .global_variables
        .iter()
        .filter(|(_, v)| v.space == naga::AddressSpace::WorkGroup)
        .map(|(_, v)| module.types[v.ty].inner.size(module.to_ctx()))
        .sum();
    if shared > SHARED {
        return Err(format!("{shared} bytes are shared"));
    }
    let bindings = shader.written.len() + usize::from(shader.fails);
    if bindings > BINDINGS {
        return Err(format!("{bindings} arrays are bound"));
    }
    if shader.turns == usize::MAX {
        return Err("a loop does not say how often it turns".into());
    }
    if let Some(head) = text.split("for (").skip(1).find(|rest| !says_enough(rest)) {
        return Err(format!(
            "a loop turns more often than it says: {}",
            head.lines().next().unwrap_or_default()
        ));
    }
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    if let Some(word) = words.into_iter().find(|w| ["inf", "nan", "NaN", "inff"].contains(w)) {
        return Err(format!("`{word}` is no number of WGSL"));
    }
    Ok(())
}

/// Whether a loop says at least how often it turns, given the text behind its `for (`: `var x = A; x < B; x += C) { /* turns N */`.
/// Ends that are no numbers are as good as unknown.
fn says_enough(text: &str) -> bool {
    let number = |text: &str| text.trim().trim_end_matches('u').parse::<usize>().ok();
    let parts = || {
        let (head, body) = text.split_once(") {")?;
        let said = number(body.strip_prefix(" /* turns ")?.split(' ').next()?)?;
        let mut clauses = head.split(';');
        let first = number(clauses.next()?.split('=').nth(1)?).unwrap_or(0);
        let end = clauses.next()?.split('<').nth(1).and_then(number);
        let step = clauses.next()?.split("+=").nth(1).and_then(number).unwrap_or(1);
        Some((said, first, end, step))
    };
    let Some((said, first, end, step)) = parts() else { return false };
    end.is_none_or(|end| said >= end.saturating_sub(first).div_ceil(step))
}

fn check(shaders: &HashSet<ShaderText>) {
    let faults: Vec<String> =
        shaders.iter().filter_map(|s| fault(s).err().map(|e| format!("{e}\n{}", s.text))).collect();
    let shown = faults.iter().take(5).cloned().collect::<Vec<_>>().join("\n");
    assert!(faults.is_empty(), "{} of {} shaders:\n{shown}", faults.len(), shaders.len());
}

fn of_graph(graph: &Graph, into: &mut HashSet<ShaderText>) -> Result<()> {
    let names = |n: usize, what: &str| (0..n).map(|i| format!("{what}{i}")).collect::<Vec<_>>();
    let module =
        module_of(graph.clone(), names(graph.inputs().len(), "x"), names(graph.results().len(), "y"));
    shaders(module.function(FUNCTION)?, &Binding::new(), into)
}

#[test]
fn shaders_of_every_sample_and_its_gradients() {
    let of = |case: &Case, into: &mut HashSet<ShaderText>| -> Result<()> {
        let graph = applied(&case.sample.op, &case.types())?;
        if !case.sample.wrt.is_empty() {
            let gradient = differentiate(&graph, &case.sample.wrt, 7)?.gradient;
            of_graph(&narrowed(&gradient)?, into)?;
        }
        of_graph(&narrowed(&graph)?, into)
    };
    let mut all = HashSet::new();
    let mut refused = 0;
    for case in cases().iter().filter(|c| !matches!(c.sample.op, Op::Input(_) | Op::StateRead(_))) {
        match of(case, &mut all) {
            Ok(()) => {}
            Err(e) if e.to_string().contains("may not fit the 32 bits") => refused += 1,
            Err(e) => panic!("{}: {e}", case.describe()),
        }
    }
    assert!(refused <= 3 && all.len() > 500, "{refused} refused, {} shaders", all.len());
    check(&all);
}

#[test]
fn shaders_of_every_model() -> Result<()> {
    for model in graphc_models::MODELS {
        let module = (model.build)().map_err(|e| Error::new(e.to_string()))?;
        let mut all = HashSet::new();
        for function in module.functions.values() {
            let mut binding = Binding::new();
            for symbol in function.graph.inputs().iter().flat_map(|v| &function.graph.ty(*v).dims) {
                for symbol in symbol.symbols() {
                    binding.set(&symbol, 4, "the test")?;
                }
            }
            shaders(function, &binding, &mut all)?;
        }
        check(&all);
    }
    Ok(())
}

//! Shader modules without run-time checks, and pipelines that were kept: the only `unsafe` of this crate.

/// The variable that keeps the checks if it is `1`.
pub const CHECKED_VARIABLE: &str = "GRAPHC_GPU_CHECKED";

/// Compiles a shader of this crate. Accesses are not checked at run time, unless the environment asks for it.
pub fn module(device: &wgpu::Device, text: &str) -> wgpu::ShaderModule {
    let descriptor =
        wgpu::ShaderModuleDescriptor { label: None, source: wgpu::ShaderSource::Wgsl(text.into()) };
    if std::env::var_os(CHECKED_VARIABLE).is_some_and(|v| v == "1") {
        return device.create_shader_module(descriptor);
    }
    // SAFETY: the text was printed by `kernels/` from a verified Program, and with it
    // - every index of an array is that of a view at coordinates inside the domain, which the verifier found inside the
    //   buffer, or inside the view's guard; invocations beyond the domain return first, or repeat its last coordinate;
    // - indices that are data are compared with the length of their axis before they are used;
    // - arrays are bound whole, with at least as many words as the buffer has elements, or in a window with every word that
    //   the views of the piece's ports reach (`code/pieces.rs`);
    // - every loop has a number of iterations that is a constant of the text (`wgsl/turns.rs`);
    // - divisors of integers are constants above 0, or compared with 0 before.
    unsafe { device.create_shader_module_trusted(descriptor, wgpu::ShaderRuntimeChecks::unchecked()) }
}

/// A cache of pipelines with what an earlier one held, if there is that.
///
/// # Errors
/// What wgpu has against the data, such as that they are another adapter's.
pub fn pipeline_cache(device: &wgpu::Device, data: Option<&[u8]>) -> Result<wgpu::PipelineCache, String> {
    let descriptor = wgpu::PipelineCacheDescriptor { label: Some("graphc"), data, fallback: true };
    let scope = device.push_error_scope(wgpu::ErrorFilter::Validation);
    // SAFETY: the data come from a file that only `cache.rs` writes, whole or not at all, in a folder that the user named for
    // it, and hash to what the file says; its name has the adapter's identity. wgpu compares the header with the adapter and the
    // driver's version, and starts with an empty cache or fails if they differ.
    let cache = unsafe { device.create_pipeline_cache(&descriptor) };
    match pollster::block_on(scope.pop()) {
        Some(e) => Err(e.to_string()),
        None => Ok(cache),
    }
}

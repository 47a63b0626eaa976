//! Convolutions and pools. Kernels see images and filters with their channels last: whatever order a graph
//! has them in is the views' business.

use graphc_ir::TensorType;
use graphc_ir::error::{Error, Result};
use graphc_ir::graph::{Graph, ValueId};
use graphc_ir::ops::{Geometry, Layout, Op};
use graphc_ir::origin::Origins;
use graphc_ir::program::{Body, BufferKind, Conv, ConvRole, Form, Kernel, Pool, PoolKind, Port, View};

use super::anchored::Epilogue;
use super::dot::port;
use super::{Lowering, Source, view};
use crate::fuse::anchor;

impl Lowering<'_> {
    pub(crate) fn conv(&mut self, body: &Graph, epilogue: Epilogue<'_>, origins: Origins) -> Result<()> {
        let (ins, outs) = types(body, &epilogue);
        let (role, geometry) = match &epilogue.anchor.op {
            Op::Conv(o) => (ConvRole::Forward, o.geometry(&ins, &outs)?),
            Op::ConvInputGrad(o) => (ConvRole::InputGrad, o.geometry(&ins, &outs)?),
            Op::ConvFilterGrad(o) => (ConvRole::FilterGrad, o.geometry(&ins, &outs)?),
            other => return Err(Error::new(format!("`{}` is no convolution", other.name()))),
        };
        let layout = geometry.layout;
        let geometry = Geometry { layout: Layout::ChannelsLast, ..geometry };
        let image = self.image(epilogue.operands[0], layout, &origins);
        let second = epilogue.operands[1];
        let other = match role {
            ConvRole::FilterGrad => self.image(second, layout, &origins),
            ConvRole::Forward | ConvRole::InputGrad => self.filters(second, layout),
        };
        let mut reads = vec![port(image), port(other)];
        reads.extend(epilogue.reads);
        if role != ConvRole::FilterGrad {
            let staged = self.options.staging && self.stable[second.index()];
            let bare = Conv { role, geometry: geometry.clone(), body: Body::default() };
            let (program, question) = self.question(Kernel::Conv(bare.into()), &reads, &origins);
            let form = self.target.operand_form(program, &question, staged);
            if let Form::Filters { .. } = form {
                reads[1] = self.repack_filters(second, form, &geometry, reads[1].clone(), &origins);
            }
        }
        let writes = self.epilogue_writes(epilogue.writes);
        let kernel = Kernel::Conv(Conv { role, geometry, body: epilogue.body }.into());
        self.push(kernel, reads, writes, origins);
        Ok(())
    }

    pub(crate) fn pool(&mut self, body: &Graph, epilogue: Epilogue<'_>, origins: Origins) -> Result<()> {
        let (ins, outs) = types(body, &epilogue);
        let (kind, geometry) = match &epilogue.anchor.op {
            Op::MaxPool(o) => (PoolKind::Max { winner: epilogue.winner.is_some() }, o.geometry(&ins, &outs)?),
            Op::WindowScatter(o) => (PoolKind::Scatter, o.geometry(&ins, &outs)?),
            Op::WindowGather(o) => (PoolKind::Gather, o.geometry(&ins, &outs)?),
            Op::AvgPool(o) => (PoolKind::Mean { count_pad: o.count_pad }, o.geometry(&ins, &outs)?),
            Op::AvgPoolGrad(o) => (PoolKind::MeanGrad { count_pad: o.count_pad }, o.geometry(&ins, &outs)?),
            other => return Err(Error::new(format!("`{}` is no pool", other.name()))),
        };
        let mut reads = Vec::new();
        for v in &epilogue.operands {
            reads.push(port(self.image(*v, geometry.layout, &origins)));
        }
        reads.extend(epilogue.reads);
        let mut writes = self.epilogue_writes(epilogue.writes);
        writes.extend(epilogue.winner.map(|(v, view)| Port { buffer: self.result(v), view }));
        let geometry = Geometry { layout: Layout::ChannelsLast, ..geometry };
        let kernel = Kernel::Pool(Pool { kind, geometry, body: epilogue.body }.into());
        self.push(kernel, reads, writes, origins);
        Ok(())
    }

    /// An image with its channels last and next to each other in memory; copied at most once if they are
    /// not.
    fn image(&mut self, v: ValueId, layout: Layout, origins: &Origins) -> Source {
        let shape = self.shape(v);
        let order = anchor::images(layout, shape.len());
        let sizes: Vec<usize> = order.iter().map(|a| shape[*a]).collect();
        let source = self.unguarded(v);
        let last = view::transpose(&source.view, &order);
        let channels = sizes.len() - 1;
        if last.strides[channels] == 1 || sizes[channels] <= 1 {
            return Source { buffer: source.buffer, view: last };
        }
        let view = View::dense(&sizes);
        // Views of a broadcast are alike whatever their sizes are.
        let key = (source.buffer, last.clone(), sizes.clone());
        if let Some(buffer) = self.images.get(&key) {
            return Source { buffer: *buffer, view };
        }
        let buffer = self.temp(self.graph.ty(v).dtype, &sizes);
        let from = Source { buffer: source.buffer, view: last };
        self.copy_into(&from, &sizes, Port { buffer, view: view.clone() }, origins.clone());
        self.images.insert(key, buffer);
        Source { buffer, view }
    }

    /// Filters with their channels last.
    fn filters(&mut self, v: ValueId, layout: Layout) -> Source {
        let source = self.unguarded(v);
        let order = anchor::filters(layout, self.shape(v).len());
        Source { buffer: source.buffer, view: view::transpose(&source.view, &order) }
    }

    /// Filters in a form of the device, made at most once.
    fn repack_filters(
        &mut self,
        v: ValueId,
        form: Form,
        geometry: &Geometry,
        source: Port,
        origins: &Origins,
    ) -> Port {
        let Form::Filters { form: which, .. } = form else { return source };
        let (inputs, outputs) = (geometry.channels / geometry.groups, geometry.outputs);
        let kernel = geometry.window.kernel.clone();
        let shape = [&kernel[..], &[inputs, outputs]].concat();
        let view = View::dense(&shape);
        if let Some(buffer) = self.filters.get(&(v, which)) {
            return Port { buffer: *buffer, view };
        }
        let buffer = self.declare(self.graph.ty(v).dtype, shape, form, BufferKind::Temp);
        let kernel = Kernel::RepackFilters { kernel, inputs, outputs, groups: geometry.groups };
        self.push(kernel, vec![source], vec![Port { buffer, view: view.clone() }], origins.clone());
        self.filters.insert((v, which), buffer);
        Port { buffer, view }
    }
}

/// Types of the operands and results of a cluster's anchor.
fn types(body: &Graph, epilogue: &Epilogue<'_>) -> (Vec<TensorType>, Vec<TensorType>) {
    let node = epilogue.anchor;
    let ty = |v: ValueId| body.ty(v).clone();
    (node.ins.iter().map(|v| ty(*v)).collect(), node.outs().map(ty).collect())
}

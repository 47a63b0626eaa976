//! Images and filters: which axis is what.

use std::ops::Range;

use crate::attr_enum;
use crate::dim::Dim;
use crate::error::Result;
use crate::types::TensorType;

attr_enum! {
    /// Order of the axes of images and filters.
    Layout {
        /// Images [N, C, s1..sd], filters [O, C / groups, k1..kd].
        ChannelsFirst = "channels_first",
        /// Images [N, s1..sd, C], filters [k1..kd, C / groups, O].
        ChannelsLast = "channels_last",
    }
}

impl Layout {
    /// Axis of the channels of images of a rank.
    pub fn channel_axis(self, rank: usize) -> usize {
        match self {
            Layout::ChannelsFirst => 1,
            Layout::ChannelsLast => rank - 1,
        }
    }

    /// Spatial axes of images of a rank.
    pub fn spatial_axes(self, rank: usize) -> Range<usize> {
        match self {
            Layout::ChannelsFirst => 2..rank,
            Layout::ChannelsLast => 1..rank - 1,
        }
    }

    /// Spatial axes of filters of a rank.
    pub fn kernel_axes(self, rank: usize) -> Range<usize> {
        match self {
            Layout::ChannelsFirst => 2..rank,
            Layout::ChannelsLast => 0..rank - 2,
        }
    }

    /// Takes an image's dims apart.
    pub(crate) fn image(self, ty: &TensorType) -> Result<Image> {
        if !(3..=5).contains(&ty.rank()) {
            fail!(
                "images have 1, 2 or 3 spatial dims besides batch and channels, so rank 3 to 5, but got {ty}"
            );
        }
        Ok(Image {
            batch: ty.dims[0].clone(),
            channels: ty.dims[self.channel_axis(ty.rank())].clone(),
            spatial: ty.dims[self.spatial_axes(ty.rank())].to_vec(),
        })
    }

    /// Takes the dims of filters apart.
    pub(crate) fn filters(self, ty: &TensorType) -> Result<Filters> {
        if !(3..=5).contains(&ty.rank()) {
            fail!(
                "filters have 1, 2 or 3 spatial dims besides two of channels, so rank 3 to 5, but got {ty}"
            );
        }
        let (outputs, inputs) = match self {
            Layout::ChannelsFirst => (0, 1),
            Layout::ChannelsLast => (ty.rank() - 1, ty.rank() - 2),
        };
        let size = |d: &Dim| d.as_const().and_then(|k| usize::try_from(k).ok());
        let kernel: Option<Vec<usize>> = ty.dims[self.kernel_axes(ty.rank())].iter().map(size).collect();
        let Some(kernel) = kernel else {
            fail!("the spatial sizes of filters are numbers, but got {ty} ({})", self.name());
        };
        Ok(Filters { outputs: ty.dims[outputs].clone(), inputs: ty.dims[inputs].clone(), kernel })
    }
}

/// Dims of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Image {
    pub batch: Dim,
    pub channels: Dim,
    pub spatial: Vec<Dim>,
}

impl Image {
    /// In the order of the axes.
    pub fn dims(&self, layout: Layout) -> Vec<Dim> {
        let (batch, channels) = ([self.batch.clone()], [self.channels.clone()]);
        match layout {
            Layout::ChannelsFirst => [&batch[..], &channels, &self.spatial].concat(),
            Layout::ChannelsLast => [&batch[..], &self.spatial, &channels].concat(),
        }
    }
}

/// Dims of filters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Filters {
    pub outputs: Dim,
    /// Channels that each filter reads: those of one group.
    pub inputs: Dim,
    pub kernel: Vec<usize>,
}

impl Filters {
    /// In the order of the axes.
    pub fn dims(&self, layout: Layout) -> Vec<Dim> {
        let (outputs, inputs) = ([self.outputs.clone()], [self.inputs.clone()]);
        let kernel: Vec<Dim> = self.kernel.iter().map(|k| Dim::from(*k)).collect();
        match layout {
            Layout::ChannelsFirst => [&outputs[..], &inputs, &kernel].concat(),
            Layout::ChannelsLast => [&kernel[..], &inputs, &outputs].concat(),
        }
    }
}

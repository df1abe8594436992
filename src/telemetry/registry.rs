//! The definition of a metric family, and how it becomes a registered family.
//! Names no metric. Used once, at the start of the process.

use crate::model::named_enum::named_enum;
use prometheus::core::Collector;
use prometheus::{
    Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry, Result,
};

named_enum! {
    /// The Prometheus type of a metric family.
    pub enum MetricKind {
        Counter = "counter",
        Gauge = "gauge",
        Histogram = "histogram",
    }
}

/// All facts about one metric family.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct MetricDefinition {
    pub name: &'static str,
    pub kind: MetricKind,
    pub labels: &'static [&'static str],
    /// Upper bounds of a histogram's buckets; empty for the other kinds.
    pub buckets: &'static [f64],
    /// The maximum number of label combinations.
    pub series_max: usize,
    pub help: &'static str,
}

impl MetricDefinition {
    fn opts(&self) -> Opts {
        Opts::new(self.name, self.help)
    }

    /// Returns the options of a histogram with these further bounds.
    fn histogram_opts(&self, more: &[f64]) -> HistogramOpts {
        let mut bounds = [self.buckets, more].concat();
        bounds.sort_unstable_by(f64::total_cmp);
        bounds.dedup();
        HistogramOpts::new(self.name, self.help).buckets(bounds)
    }
}

/// A type of the prometheus crate that can be made from a definition.
pub(super) trait Family: Collector + Clone + 'static {
    const KIND: MetricKind;

    fn new(definition: &MetricDefinition, more: &[f64]) -> Result<Self>;

    /// Makes the family and registers it. A histogram gets `more` bounds.
    fn register(registry: &Registry, definition: &MetricDefinition, more: &[f64]) -> Self {
        const ONCE: &str = "each name and each label is valid and registered once";
        let family = <Self as Family>::new(definition, more).expect(ONCE);
        registry.register(Box::new(family.clone())).expect(ONCE);
        family
    }
}

macro_rules! family {
    ($($Type:ident is $kind:ident: |$definition:ident, $more:pat_param| $new:expr;)+) => {
        $(impl Family for $Type {
            const KIND: MetricKind = MetricKind::$kind;

            fn new($definition: &MetricDefinition, $more: &[f64]) -> Result<Self> {
                $new
            }
        })+
    };
}

family! {
    IntCounter is Counter: |of, _| Self::with_opts(of.opts());
    IntCounterVec is Counter: |of, _| Self::new(of.opts(), of.labels);
    IntGauge is Gauge: |of, _| Self::with_opts(of.opts());
    IntGaugeVec is Gauge: |of, _| Self::new(of.opts(), of.labels);
    Gauge is Gauge: |of, _| Self::with_opts(of.opts());
    GaugeVec is Gauge: |of, _| Self::new(of.opts(), of.labels);
    Histogram is Histogram: |of, more| Self::with_opts(of.histogram_opts(more));
    HistogramVec is Histogram: |of, more| Self::new(of.histogram_opts(more), of.labels);
}

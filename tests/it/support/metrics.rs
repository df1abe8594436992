//! Reading `/metrics`.

/// One scrape.
pub struct Metrics {
    samples: Vec<(String, String, f64)>,
}

impl Metrics {
    /// Reads the text format of Prometheus.
    pub fn parse(text: &str) -> Self {
        let samples = text
            .lines()
            .filter(|line| !line.starts_with('#'))
            .filter_map(|line| {
                let (series, value) = line.rsplit_once(' ')?;
                let (name, labels) = series.split_once('{').unwrap_or((series, ""));
                let labels = labels.trim_end_matches('}');
                Some((name.to_owned(), labels.to_owned(), value.parse().ok()?))
            })
            .collect();
        Self { samples }
    }

    /// How many series there are.
    #[allow(dead_code, reason = "the benchmark counts them")]
    pub fn series(&self) -> usize {
        self.samples.len()
    }

    /// The sum of all series of this name that have these labels.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let wanted: Vec<String> = labels.iter().map(|(k, v)| format!("{k}=\"{v}\"")).collect();
        self.samples
            .iter()
            .filter(|(n, l, _)| n == name && wanted.iter().all(|w| l.contains(w.as_str())))
            .map(|(_, _, value)| value)
            .sum()
    }

    /// The same, of a counter of events.
    pub fn count(&self, name: &str, labels: &[(&str, &str)]) -> u64 {
        self.sum(name, labels) as u64
    }

    /// How many records ended this way.
    pub fn disposed(&self, disposition: &str) -> u64 {
        self.count(
            "ringback_dispositions_total",
            &[("disposition", disposition)],
        )
    }
}

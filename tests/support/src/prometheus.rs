//! A scrape in Prometheus' text format, read into numbers. A line that is neither comment nor sample is a failure.

use std::collections::BTreeMap;

/// All samples of one scrape: `name{labels}` as written, labels in sorted order, with its value.
#[derive(Debug, Clone, Default)]
pub struct Scrape {
    samples: Vec<Sample>,
}

/// One line of a scrape.
#[derive(Debug, Clone)]
pub struct Sample {
    /// The metric's name.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its value.
    pub value: f64,
}

impl Scrape {
    /// Reads the text of `/stats/prometheus`.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        Self { samples: lines.map(|line| sample(line).unwrap_or_else(|| panic!("no sample: {line:?}"))).collect() }
    }

    /// Every sample.
    #[must_use]
    pub fn samples(&self) -> &[Sample] {
        &self.samples
    }

    /// The sum over all samples of `name` whose labels include `labels`; 0 when there is none.
    #[must_use]
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let fits = |sample: &&Sample| {
            sample.name == name
                && labels.iter().all(|(key, value)| sample.labels.get(*key).is_some_and(|have| have == value))
        };
        self.samples.iter().filter(fits).map(|sample| sample.value).sum()
    }

    /// Whether a metric of this name was written at all.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.samples.iter().any(|sample| sample.name == name)
    }
}

fn sample(line: &str) -> Option<Sample> {
    let (name, rest) = match line.split_once('{') {
        Some((name, rest)) => (name, rest),
        None => {
            let (name, value) = line.split_once(' ')?;
            return Some(Sample { name: name.to_owned(), labels: BTreeMap::new(), value: value.trim().parse().ok()? });
        }
    };
    let mut labels = BTreeMap::new();
    let mut rest = rest;
    while !rest.starts_with('}') {
        let (key, after) = rest.split_once("=\"")?;
        let mut value = String::new();
        let mut chars = after.char_indices();
        let end = loop {
            match chars.next()? {
                (_, '\\') => match chars.next()?.1 {
                    'n' => value.push('\n'),
                    other => value.push(other),
                },
                (at, '"') => break at,
                (_, other) => value.push(other),
            }
        };
        labels.insert(key.trim_start_matches([',', ' ']).to_owned(), value);
        rest = after.get(end + 1..)?;
        rest = rest.strip_prefix(',').unwrap_or(rest);
    }
    let value = rest.strip_prefix('}')?.trim().split(' ').next()?.parse().ok()?;
    Some(Sample { name: name.to_owned(), labels, value })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_and_values_are_read_as_written() {
        let scrape = Scrape::parse("# TYPE a counter\na{x=\"1\",y=\"q\\\"}\"} 3\na{x=\"2\"} 4\nb{} 5\nc 1.5e3\n");
        assert_eq!(scrape.sum("a", &[]), 7.0);
        assert_eq!(scrape.sum("a", &[("y", "q\"}")]), 3.0);
        assert_eq!((scrape.sum("b", &[]), scrape.sum("c", &[])), (5.0, 1500.0));
        assert!(!scrape.has("d"));
    }
}

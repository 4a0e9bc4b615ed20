//! From attested facts to a name.
//!
//! In comes a template such as `ns/{namespace}/sa/{serviceaccount}`, read once, and the facts of a pod; out comes
//! a SPIFFE ID. A segment is a literal or one placeholder, never a mixture, and what a placeholder stands for
//! is checked as one segment: a fact can neither add a level nor take one away. Refused are templates without
//! `{namespace}` or without `{serviceaccount}`: two accounts would share a name, and `{pod}` does not tell them
//! apart, since a pod's name is free again when the pod is gone. With both there, and each in a segment of its
//! own, two accounts of one cluster never do. That two clusters do not either is checked by
//! [`Clusters`](super::Clusters).

use std::fmt;

use identity::{IdError, SpiffeId, TrustDomain};

use super::TokenEvidence;
use super::refusal::Refusal;

/// A name with gaps, without leading slash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template(Vec<Segment>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Segment {
    Literal(String),
    Fact(Fact),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fact {
    Cluster,
    Namespace,
    ServiceAccount,
    Pod,
    Node,
}

impl Template {
    /// Reads a template of at most 1024 bytes and 16 segments.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        if text.len() > MAX_TEMPLATE {
            return Err(TemplateError::TooLong);
        }
        let segments = text.split('/').map(segment).collect::<Result<Vec<_>, _>>()?;
        if segments.len() > MAX_SEGMENTS {
            return Err(TemplateError::TooLong);
        }
        let count = |fact| segments.iter().filter(|segment| **segment == Segment::Fact(fact)).count();
        if [Fact::Cluster, Fact::Namespace, Fact::ServiceAccount, Fact::Pod, Fact::Node].iter().any(|f| count(*f) > 1) {
            return Err(TemplateError::Twice);
        }
        if count(Fact::Namespace) == 0 || count(Fact::ServiceAccount) == 0 {
            return Err(TemplateError::Ambiguous);
        }
        Ok(Self(segments))
    }

    /// The name of a pod with these facts.
    pub fn name(&self, trust_domain: &TrustDomain, facts: &TokenEvidence) -> Result<SpiffeId, Refusal> {
        let segments = self.0.iter().map(|segment| match segment {
            Segment::Literal(literal) => Ok(literal.as_str()),
            Segment::Fact(Fact::Cluster) => Ok(facts.cluster.as_str()),
            Segment::Fact(Fact::Namespace) => Ok(facts.namespace.as_str()),
            Segment::Fact(Fact::ServiceAccount) => Ok(facts.service_account.as_str()),
            Segment::Fact(Fact::Pod) => Ok(facts.pod_name.as_str()),
            Segment::Fact(Fact::Node) => facts.node.as_deref().ok_or(Refusal::NoNode),
        });
        let segments = segments.collect::<Result<Vec<_>, _>>()?;
        SpiffeId::from_segments(trust_domain, segments).map_err(Refusal::Name)
    }

    /// Whether some pod of one cluster and some pod of the other could have one name.
    pub(super) fn meets(&self, cluster: &str, other: &Self, other_cluster: &str) -> bool {
        let fixed = |segment: &Segment, cluster: &str| match segment {
            Segment::Literal(literal) => Some(literal.clone()),
            Segment::Fact(Fact::Cluster) => Some(cluster.to_owned()),
            Segment::Fact(_) => None,
        };
        self.0.len() == other.0.len()
            && self.0.iter().zip(&other.0).all(|(one, two)| {
                match (fixed(one, cluster), fixed(two, other_cluster)) {
                    (Some(one), Some(two)) => one == two,
                    // Whatever stands in a gap may be what the other has there.
                    _ => true,
                }
            })
    }
}

impl Default for Template {
    /// `ns/{namespace}/sa/{serviceaccount}`, as Istio names workloads.
    fn default() -> Self {
        let literal = |text: &str| Segment::Literal(text.to_owned());
        Self(vec![literal("ns"), Segment::Fact(Fact::Namespace), literal("sa"), Segment::Fact(Fact::ServiceAccount)])
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, segment) in self.0.iter().enumerate() {
            let gap = if index == 0 { "" } else { "/" };
            match segment {
                Segment::Literal(literal) => write!(f, "{gap}{literal}")?,
                Segment::Fact(fact) => write!(f, "{gap}{{{}}}", word(*fact))?,
            }
        }
        Ok(())
    }
}

/// What is wrong with a template. Displays as a sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TemplateError {
    /// More than 1024 bytes or 16 segments.
    TooLong,
    /// A literal that is no path segment; a slash at either end included.
    Literal(IdError),
    /// A placeholder that does not exist, or one that is only part of a segment.
    Placeholder(String),
    /// A placeholder stands twice.
    Twice,
    /// `{namespace}` or `{serviceaccount}` is missing.
    Ambiguous,
}

impl fmt::Display for TemplateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong => write!(f, "the template is longer than {MAX_TEMPLATE} bytes or {MAX_SEGMENTS} segments"),
            Self::Literal(error) => write!(f, "the template makes no SPIFFE ID: {error}"),
            Self::Placeholder(segment) => write!(
                f,
                "the segment `{segment}` is neither a literal nor one of {{namespace}}, {{serviceaccount}}, {{pod}}, {{node}} and {{cluster}} alone"
            ),
            Self::Twice => f.write_str("a placeholder stands twice in the template"),
            Self::Ambiguous => f.write_str(
                "the template gives one name to several accounts; it needs both {namespace} and {serviceaccount}",
            ),
        }
    }
}

impl std::error::Error for TemplateError {}

fn segment(text: &str) -> Result<Segment, TemplateError> {
    if text.contains(['{', '}']) {
        let fact = FACTS.iter().find(|fact| text == format!("{{{}}}", word(**fact)));
        return fact.map(|fact| Segment::Fact(*fact)).ok_or_else(|| TemplateError::Placeholder(text.to_owned()));
    }
    check_segment(text).map_err(TemplateError::Literal)?;
    Ok(Segment::Literal(text.to_owned()))
}

/// By the one reader of names that there is.
fn check_segment(text: &str) -> Result<(), IdError> {
    let any = TrustDomain::parse("any")?;
    SpiffeId::from_segments(&any, [text]).map(drop)
}

fn word(fact: Fact) -> &'static str {
    match fact {
        Fact::Cluster => "cluster",
        Fact::Namespace => "namespace",
        Fact::ServiceAccount => "serviceaccount",
        Fact::Pod => "pod",
        Fact::Node => "node",
    }
}

const FACTS: [Fact; 5] = [Fact::Cluster, Fact::Namespace, Fact::ServiceAccount, Fact::Pod, Fact::Node];

const MAX_TEMPLATE: usize = 1024;
const MAX_SEGMENTS: usize = 16;

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::SystemTime;

    fn facts(namespace: &str, account: &str, node: Option<&str>) -> TokenEvidence {
        TokenEvidence {
            cluster: "east".into(),
            namespace: namespace.into(),
            service_account: account.into(),
            pod_name: "web-0".into(),
            pod_uid: "u".into(),
            node: node.map(str::to_owned),
            jti_hash: [0; 32],
            until: SystemTime::UNIX_EPOCH,
            reviewed: false,
        }
    }

    fn name(template: &str, facts: &TokenEvidence) -> Result<String, Refusal> {
        let domain = TrustDomain::parse("example.org").unwrap();
        Template::parse(template).unwrap().name(&domain, facts).map(|id| id.as_str().to_owned())
    }

    #[test]
    fn every_gap_is_filled_with_its_fact() {
        let pod = facts("shop", "web", Some("node-1"));
        assert_eq!(name(&Template::default().to_string(), &pod).unwrap(), "spiffe://example.org/ns/shop/sa/web");
        assert_eq!(
            name("k8s/{cluster}/{namespace}/{serviceaccount}/{pod}/{node}", &pod).unwrap(),
            "spiffe://example.org/k8s/east/shop/web/web-0/node-1"
        );
    }

    #[test]
    fn a_fact_that_is_no_segment_makes_no_name() {
        for bad in ["a/b", "..", ".", "", "a%2fb", "é", "a b"] {
            let refused = name("ns/{namespace}/sa/{serviceaccount}", &facts("shop", bad, None)).unwrap_err();
            assert_eq!(refused.reason(), "template_name", "{bad}");
        }
        let refused = name("{node}/{namespace}/{serviceaccount}", &facts("shop", "web", None));
        assert_eq!(refused, Err(Refusal::NoNode));
    }

    #[test]
    fn templates_that_do_not_tell_accounts_apart_are_refused() {
        for text in ["ns/all", "ns/{namespace}", "sa/{serviceaccount}", "{namespace}/{pod}", "{cluster}/{node}/{pod}"] {
            assert_eq!(Template::parse(text), Err(TemplateError::Ambiguous), "{text}");
        }
    }

    #[test]
    fn segments_are_literals_or_placeholders() {
        use TemplateError as E;
        let refuse = |text: &str| Template::parse(text).unwrap_err();
        let ends = "{namespace}/{serviceaccount}";
        for text in [
            "",
            "/",
            "/ns/{namespace}/{serviceaccount}",
            "{namespace}//{serviceaccount}",
            "{namespace}/{serviceaccount}/",
        ] {
            assert_eq!(refuse(text), E::Literal(IdError::EmptySegment), "{text}");
        }
        assert_eq!(refuse(&format!("../{ends}")), E::Literal(IdError::DotSegment));
        assert_eq!(refuse(&format!("a%2fb/{ends}")), E::Literal(IdError::PercentEncoding));
        for segment in ["{pod}-x", "x{pod}", "{pod}{node}", "{Pod}", "{}", "{", "}", "{{pod}}", "{ pod }", "{label}"] {
            assert_eq!(refuse(&format!("{segment}/{ends}")), E::Placeholder(segment.into()));
        }
        assert_eq!(refuse(&format!("{{pod}}/{{pod}}/{ends}")), E::Twice);
        assert_eq!(refuse(&"a/".repeat(600)), E::TooLong);
        assert_eq!(refuse(&format!("{}{ends}", "a/".repeat(15))), E::TooLong);
    }

    #[test]
    fn clusters_meet_where_nothing_keeps_them_apart() {
        let meets = |one: &str, two: &str| {
            let (one, two) = (Template::parse(one).unwrap(), Template::parse(two).unwrap());
            let there = one.meets("east", &two, "west");
            assert_eq!(there, two.meets("west", &one, "east"));
            there
        };
        let plain = "ns/{namespace}/sa/{serviceaccount}";
        assert!(meets(plain, plain));
        assert!(meets(plain, "{namespace}/a/sa/{serviceaccount}".replace("/a/", "/{pod}/").as_str()));
        assert!(!meets("{cluster}/{namespace}/{serviceaccount}", "{cluster}/{namespace}/{serviceaccount}"));
        assert!(!meets("{cluster}/{namespace}/{serviceaccount}", "west/{namespace}/{serviceaccount}"));
        assert!(meets("{cluster}/{namespace}/{serviceaccount}", "east/{namespace}/{serviceaccount}"));
        assert!(!meets(plain, "west/ns/{namespace}/sa/{serviceaccount}"));
        assert!(meets("{cluster}/{namespace}/{serviceaccount}", "{namespace}/{pod}/{serviceaccount}"));
    }

    fn dns() -> impl Strategy<Value = String> {
        "[a-z0-9]([a-z0-9-]{0,8}[a-z0-9])?"
    }

    proptest! {
        #[test]
        fn two_accounts_never_have_one_name(
            (a, b, c, d) in (dns(), dns(), dns(), dns()),
            template in prop::sample::select(vec![
                "ns/{namespace}/sa/{serviceaccount}",
                "{serviceaccount}/{namespace}",
                "{cluster}/x/{namespace}/{serviceaccount}/{pod}",
            ]),
        ) {
            let (one, two) = (name(template, &facts(&a, &b, None)).unwrap(), name(template, &facts(&c, &d, None)).unwrap());
            prop_assert_eq!(one == two, (a, b) == (c, d));
        }

        #[test]
        fn a_template_is_written_as_it_is_read(text in "([a-z{}]{1,12}/){0,4}\\{namespace\\}/\\{serviceaccount\\}") {
            if let Ok(template) = Template::parse(&text) {
                prop_assert_eq!(template.to_string(), text);
            }
        }
    }
}
